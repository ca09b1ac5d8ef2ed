"""Checks of chapter 4's code exercises: each accepts its solution and rejects the plausible wrong answers below it."""

import torch
from torch.func import grad

from metalib import MAML, Data, Episode, mlp
from metalib.functional import descend, dot, hvp, relative_error


def _problem(J, *, seed=0):
    """A smooth MAML learner with J inner steps, and one task for it."""
    g = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(24, 1, generator=g, dtype=torch.float64) - 2
    net = mlp(1, (8,), 1, activation="tanh").double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    y = torch.sin(2 * x + seed)
    return MAML(net, inner_lr=0.1, steps=J), Episode(Data(x[:8], y[:8]), Data(x[8:], y[8:]))


def _independent(learner, episode):
    """(d meta-loss / d theta, d meta-loss / d alpha) by plain autograd, the inner loop written out."""
    (sx, sy, _), (qx, qy, _) = episode
    theta = {k: p.detach().clone().requires_grad_() for k, p in learner.net.named_parameters()}
    alpha = torch.tensor(learner.inner_lr, dtype=torch.float64, requires_grad=True)

    def loss(phi, x, y):
        return (torch.func.functional_call(learner.net, phi, (x,)) - y).pow(2).mean()

    phi = theta
    for _ in range(learner.steps):
        g = torch.autograd.grad(loss(phi, sx, sy), list(phi.values()), create_graph=True)
        phi = {k: p - alpha * g_k for (k, p), g_k in zip(phi.items(), g, strict=True)}
    *grads, rate = torch.autograd.grad(loss(phi, qx, qy), [*theta.values(), alpha])
    return dict(zip(theta, grads, strict=True)), rate


def check_one_step(answer):
    """The one-step meta-gradient, from one Hessian-vector product."""
    for seed in (0, 1):
        learner, episode = _problem(1, seed=seed)
        got = answer(learner, episode)
        expected, _ = _independent(learner, episode)
        assert isinstance(got, dict) and set(got) == set(expected), \
            f"return a dict with the names of learner.net's parameters: {sorted(expected)}"
        for k in expected:
            shape = tuple(expected[k].shape)
            assert got[k].shape == shape, f"{k} has shape {tuple(got[k].shape)}, expected {shape}"
        error = relative_error(got, expected)
        first_order = wrong_one_step_1(learner, episode)
        assert relative_error(got, first_order) > 1e-6, "this is grad L_Q(phi_1): the Hessian term is missing (FOMAML)"
        assert error < 1e-10, (f"relative error {error:.1e}: check at which point the Hessian is taken, of which loss, "
                               "and the sign of its term")


def solution_one_step(learner, episode):
    support, query = episode
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi = descend(theta, grad(learner.support_loss)(theta, support), learner.inner_lr)  # phi_1
    v = grad(learner.support_loss)(phi, query)  # grad L_Q(phi_1)
    Hv = hvp(lambda p: learner.support_loss(p, support), theta, v)  # H_0 v, at theta
    return descend(v, Hv, learner.inner_lr)  # v - alpha H_0 v


def wrong_one_step_1(learner, episode):
    """Forgets the Hessian term."""
    support, query = episode
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi = descend(theta, grad(learner.support_loss)(theta, support), learner.inner_lr)
    return grad(learner.support_loss)(phi, query)


def wrong_one_step_2(learner, episode):
    """The Hessian at the wrong iterate: phi_1."""
    support, query = episode
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi = descend(theta, grad(learner.support_loss)(theta, support), learner.inner_lr)
    v = grad(learner.support_loss)(phi, query)
    return descend(v, hvp(lambda p: learner.support_loss(p, support), phi, v), learner.inner_lr)


def wrong_one_step_3(learner, episode):
    """The Hessian of the wrong loss: the query's."""
    support, query = episode
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi = descend(theta, grad(learner.support_loss)(theta, support), learner.inner_lr)
    v = grad(learner.support_loss)(phi, query)
    return descend(v, hvp(lambda p: learner.support_loss(p, query), theta, v), learner.inner_lr)


def wrong_one_step_4(learner, episode):
    """The wrong sign."""
    right, v = solution_one_step(learner, episode), wrong_one_step_1(learner, episode)
    return {k: 2 * v[k] - right[k] for k in v}


def check_rate_gradient(answer):
    """The derivative of the meta-loss with respect to the inner rate alpha, through J steps."""
    for J in (1, 2, 4):
        learner, episode = _problem(J, seed=J)
        expected = float(_independent(learner, episode)[1])
        got = answer(learner, episode)
        assert torch.is_tensor(got) and got.ndim == 0, "return a scalar tensor"
        error = abs(float(got) - expected) / abs(expected)
        assert error < 1e-9, (f"J = {J}: {float(got):.6f}, should be {expected:.6f}. Each step adds "
                              "-<grad L_S(phi_j), v>, v the gradient brought back as far as phi_{j+1}")


def solution_rate_gradient(learner, episode):
    support, query = episode
    path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(support)]
    v = grad(learner.support_loss)(path[-1], query)  # v_J
    total = torch.zeros((), dtype=torch.float64)
    for phi in reversed(path[:-1]):  # phi_{J-1}, ..., phi_0
        total = total - dot(grad(learner.support_loss)(phi, support), v)
        v = descend(v, hvp(lambda p: learner.support_loss(p, support), phi, v), learner.inner_lr)
    return total


def wrong_rate_gradient_1(learner, episode):
    """v is never brought back through the later steps."""
    support, query = episode
    path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(support)]
    v = grad(learner.support_loss)(path[-1], query)
    return -sum(dot(grad(learner.support_loss)(phi, support), v) for phi in path[:-1])


def wrong_rate_gradient_2(learner, episode):
    """The support gradient at the wrong iterate: phi_{j+1}."""
    support, query = episode
    path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(support)]
    v = grad(learner.support_loss)(path[-1], query)
    total = torch.zeros((), dtype=torch.float64)
    for j in reversed(range(learner.steps)):
        total = total - dot(grad(learner.support_loss)(path[j + 1], support), v)
        v = descend(v, hvp(lambda p: learner.support_loss(p, support), path[j], v), learner.inner_lr)
    return total


def wrong_rate_gradient_3(learner, episode):
    """v is brought back through step j before it meets the gradient of step j."""
    support, query = episode
    path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(support)]
    v = grad(learner.support_loss)(path[-1], query)
    total = torch.zeros((), dtype=torch.float64)
    for phi in reversed(path[:-1]):
        v = descend(v, hvp(lambda p: learner.support_loss(p, support), phi, v), learner.inner_lr)
        total = total - dot(grad(learner.support_loss)(phi, support), v)
    return total
