"""What training costs: the one formula that every comparison "at equal compute" is made with.

The unit is a pass: one example forward and backward through the network. A task of MAML with J inner steps costs

    3 J N K + N Q      second order: an inner step is a pass, and differentiating it costs two more
      J N K + N Q      first order
        N K + N Q      a metric learner, which passes support and query once
              N Q      joint training (J = 0)
        N K + N Q      ANIL, whose body runs once; its inner steps cost what a last layer costs, which is left out
      J (N K + N Q)    Reptile, or J times its minibatch
  (J + 3 c) N K + N Q  implicit MAML with c products with the Hessian, of three passes each

for N K support and N Q query examples. tests/test_cost.py holds it against PyTorch's count of the operations. A plain
Conv4's are up to 1.5 % fewer, because its first layer needs no gradient with respect to the image: at 5-way 1-shot with
Q = 5 and 16 channels, 39.7 passes instead of 40 with J = 1, and 98.6 instead of 100 with J = 5.
"""

from __future__ import annotations

from metalib import ANIL, MAML, ImplicitMAML, Reptile


def passes(support: int, query: int, *, steps: int, order: int = 2) -> int:
    """Passes that the meta-gradient of one task costs.

    Args:
        support: N K, examples of the support set.
        query: N Q, examples of the query set.
        steps: J, inner steps; 1 with `order=1` for a metric learner, 0 for joint training.
        order: 2 for the whole meta-gradient, 1 without second derivatives (FOMAML).

    Raises:
        ValueError: another order.
    """
    if order not in (1, 2):
        raise ValueError(f"order={order}: expected 1 or 2")
    return (3 if order == 2 else 1) * steps * support + query


def passes_of(learner: MAML, support: int, query: int) -> int:
    """Passes that one task costs a learner of the MAML family; its own `steps`, `order`, `batch`, `cg_steps` count."""
    if isinstance(learner, ANIL):
        return support + query
    if isinstance(learner, Reptile):
        return learner.steps * (learner.batch or support + query)
    if isinstance(learner, ImplicitMAML):
        return (learner.steps + 3 * learner.cg_steps) * support + query
    return passes(support, query, steps=learner.steps, order=learner.order)
