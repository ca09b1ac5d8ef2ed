"""Checks for the exercises of chapter 6. A check raises AssertionError with a hint, or prints nothing."""

import torch

from metalib import MAML, Sinusoids, meta_gradient, mlp, seeded


def check_in_chunks(answer):
    """`answer(learner, episodes, size)` -> (name -> mean gradient, mean loss), at most `size` tasks at once."""
    torch.manual_seed(0)
    learner = MAML(mlp(1, (8,), 1, activation="tanh").double(), inner_lr=0.05, steps=2)
    episodes = Sinusoids(5, 5).sample(7, generator=seeded(0))
    expected_loss = float(meta_gradient(learner, episodes))
    expected = {k: p.grad.clone() for k, p in learner.named_parameters()}
    for size in (7, 3, 2, 1):
        got = answer(learner, episodes, size)
        assert isinstance(got, tuple) and len(got) == 2, "return a pair: (dict of gradients, mean loss)"
        grads, loss = got
        assert set(grads) == set(expected), f"the gradients are named {sorted(grads)}, expected {sorted(expected)}"
        far = max(float((grads[k] - g).norm() / g.norm()) for k, g in expected.items())
        assert far < 1e-10, (
            f"7 tasks in chunks of {size}: a gradient is {far:.1%} off. The last chunk may be smaller than the others: "
            "how much should it count? (And meta_gradient overwrites p.grad.)")
        assert abs(float(loss) - expected_loss) < 1e-10 * expected_loss, (
            f"7 tasks in chunks of {size}: the gradient is right, the loss is {float(loss):.4f} instead of "
            f"{expected_loss:.4f}")


def solution_in_chunks(learner, episodes, size):
    total, loss = {}, 0.0
    for part in episodes.split(size):
        share = part.tasks / episodes.tasks  # the last part may be smaller
        loss += share * float(meta_gradient(learner, part))
        for k, p in learner.named_parameters():
            total[k] = total.get(k, 0) + share * p.grad
    return total, loss


def wrong_in_chunks_1(learner, episodes, size):
    """The mean of the chunks' means: right only if the chunks are equal."""
    parts, total, loss = episodes.split(size), {}, 0.0
    for part in parts:
        loss += float(meta_gradient(learner, part)) / len(parts)
        for k, p in learner.named_parameters():
            total[k] = total.get(k, 0) + p.grad / len(parts)
    return total, loss


def wrong_in_chunks_2(learner, episodes, size):
    """Trusts p.grad to accumulate, as backward() would; meta_gradient overwrites it."""
    loss = sum(part.tasks / episodes.tasks * float(meta_gradient(learner, part)) for part in episodes.split(size))
    return {k: p.grad for k, p in learner.named_parameters()}, loss


def wrong_in_chunks_3(learner, episodes, size):
    """Drops the incomplete last chunk, as a data loader with drop_last does."""
    parts = [p for p in episodes.split(size) if p.tasks == size]
    total, loss = {}, 0.0
    for part in parts:
        loss += float(meta_gradient(learner, part)) / len(parts)
        for k, p in learner.named_parameters():
            total[k] = total.get(k, 0) + p.grad / len(parts)
    return total, loss
