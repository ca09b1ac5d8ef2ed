"""Answers to chapter 4's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import torch
from torch.func import grad

from metalib import MAML
from metalib.functional import descend, dot, hvp


def right_one_step_autograd(learner, episode):
    """Differentiates through everything."""
    names, theta = zip(*learner.net.named_parameters())
    return dict(zip(names, torch.autograd.grad(learner(episode), theta)))


def right_one_step_jacobian(learner, episode):
    """The whole Hessian, and NumPy arrays in reverse order."""
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    sizes = [p.numel() for p in theta.values()]

    def unflatten(flat):
        return {k: part.view_as(p) for (k, p), part in zip(theta.items(), flat.split(sizes))}

    def flat(params):
        return torch.cat([p.flatten() for p in params.values()])

    H = torch.func.hessian(lambda f: learner.support_loss(unflatten(f), episode.support))(flat(theta))
    phi = descend(theta, grad(learner.support_loss)(theta, episode.support), learner.inner_lr)
    v = flat(grad(learner.support_loss)(phi, episode.query))
    right = unflatten(v - learner.inner_lr * H @ v)
    return {k: right[k].numpy() for k in reversed(right)}


def right_one_step_differences(learner, episode):
    """v - alpha (grad L_S(theta + h v) - grad L_S(theta - h v)) / 2h: no Hessian at all."""
    theta, v = _theta_v(learner, episode)
    up, down = (grad(learner.support_loss)(descend(theta, v, -h), episode.support) for h in (1e-5, -1e-5))
    return {k: v[k] - learner.inner_lr * (up[k] - down[k]) / 2e-5 for k in v}


def _theta_v(learner, episode):
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi = descend(theta, grad(learner.support_loss)(theta, episode.support), learner.inner_lr)
    return theta, grad(learner.support_loss)(phi, episode.query)


def _product(learner, data, at, v):
    return hvp(lambda p: learner.support_loss(p, data), at, v)


def wrong_one_step_first_order(learner, episode):
    """Forgets the Hessian term."""
    return _theta_v(learner, episode)[1]


def wrong_one_step_at_phi(learner, episode):
    """The Hessian at the wrong iterate: phi_1."""
    theta, v = _theta_v(learner, episode)
    phi = descend(theta, grad(learner.support_loss)(theta, episode.support), learner.inner_lr)
    return descend(v, _product(learner, episode.support, phi, v), learner.inner_lr)


def wrong_one_step_query_hessian(learner, episode):
    """The Hessian of the wrong loss: the query's."""
    theta, v = _theta_v(learner, episode)
    return descend(v, _product(learner, episode.query, theta, v), learner.inner_lr)


def wrong_one_step_sign(learner, episode):
    """The wrong sign."""
    theta, v = _theta_v(learner, episode)
    return descend(v, _product(learner, episode.support, theta, v), -learner.inner_lr)


def wrong_one_step_no_rate(learner, episode):
    """Forgets alpha before the Hessian."""
    theta, v = _theta_v(learner, episode)
    return descend(v, _product(learner, episode.support, theta, v), 1.0)


def wrong_one_step_fixed_rate(learner, episode):
    """alpha = 0.1, hard-wired."""
    return right_one_step_autograd(MAML(learner.net, 0.1, 1), episode)


def wrong_one_step_v_at_theta(learner, episode):
    """The query gradient at theta instead of phi_1."""
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    v = grad(learner.support_loss)(theta, episode.query)
    return descend(v, _product(learner, episode.support, theta, v), learner.inner_lr)


def wrong_one_step_first_entry(learner, episode):
    """Right for the first parameter, first order for the others."""
    right, v = right_one_step_autograd(learner, episode), wrong_one_step_first_order(learner, episode)
    first = next(iter(right))
    return v | {first: right[first]}


def wrong_one_step_last_bias(learner, episode):
    """Leaves the last bias out of the Hessian's product."""
    right, v = right_one_step_autograd(learner, episode), wrong_one_step_first_order(learner, episode)
    last = list(right)[-1]
    return right | {last: v[last]}


def wrong_one_step_only_hessian(learner, episode):
    """The second term alone."""
    theta, v = _theta_v(learner, episode)
    return {k: -learner.inner_lr * p for k, p in _product(learner, episode.support, theta, v).items()}


def wrong_one_step_tuple(learner, episode):
    """The right numbers without their names."""
    return tuple(right_one_step_autograd(learner, episode).values())


def wrong_one_step_changes_theta(learner, episode):
    """The right numbers, and the learner's weights have moved."""
    right = right_one_step_autograd(learner, episode)
    with torch.no_grad():
        for k, p in learner.net.named_parameters():
            p -= 0.1 * right[k]
    return right


def right_rate_gradient_autograd(learner, episode):
    """alpha as a tensor, and plain autograd; a Python float."""
    alpha = torch.tensor(learner.inner_lr, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(MAML(learner.net, alpha, learner.steps)(episode), alpha)[0])


def right_rate_gradient_forward(learner, episode):
    """Forward mode: the tangent of phi_j, carried along."""
    theta = {k: p.detach() for k, p in learner.net.named_parameters()}
    phi, moved = theta, {k: torch.zeros_like(p) for k, p in theta.items()}
    for _ in range(learner.steps):
        g = grad(learner.support_loss)(phi, episode.support)
        push = _product(learner, episode.support, phi, moved)
        moved = {k: moved[k] - g[k] - learner.inner_lr * push[k] for k in phi}
        phi = descend(phi, g, learner.inner_lr)
    return dot(grad(learner.support_loss)(phi, episode.query), moved)


def _path_v(learner, episode):
    path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(episode.support)]
    return path, grad(learner.support_loss)(path[-1], episode.query)


def _terms(learner, episode):
    """<grad L_S(phi_j), v_{j+1}> for j = J-1, ..., 0."""
    path, v = _path_v(learner, episode)
    for phi in reversed(path[:-1]):
        yield dot(grad(learner.support_loss)(phi, episode.support), v)
        v = descend(v, _product(learner, episode.support, phi, v), learner.inner_lr)


def wrong_rate_gradient_not_brought_back(learner, episode):
    """v is never brought back through the later steps."""
    path, v = _path_v(learner, episode)
    return -sum(dot(grad(learner.support_loss)(phi, episode.support), v) for phi in path[:-1])


def wrong_rate_gradient_next_iterate(learner, episode):
    """The support gradient at the wrong iterate: phi_{j+1}."""
    path, v = _path_v(learner, episode)
    total = 0.0
    for j in reversed(range(learner.steps)):
        total = total - dot(grad(learner.support_loss)(path[j + 1], episode.support), v)
        v = descend(v, _product(learner, episode.support, path[j], v), learner.inner_lr)
    return total


def wrong_rate_gradient_too_far_back(learner, episode):
    """v is brought back through step j before it meets the gradient of step j."""
    path, v = _path_v(learner, episode)
    total = 0.0
    for phi in reversed(path[:-1]):
        v = descend(v, _product(learner, episode.support, phi, v), learner.inner_lr)
        total = total - dot(grad(learner.support_loss)(phi, episode.support), v)
    return total


def wrong_rate_gradient_sign(learner, episode):
    """The wrong sign."""
    return sum(_terms(learner, episode))


def wrong_rate_gradient_last_step(learner, episode):
    """The last step alone."""
    return -next(_terms(learner, episode))


def wrong_rate_gradient_first_step(learner, episode):
    """The first step alone."""
    return -list(_terms(learner, episode))[-1]


def wrong_rate_gradient_mean(learner, episode):
    """The mean over the steps instead of their sum."""
    return -sum(_terms(learner, episode)) / learner.steps


def wrong_rate_gradient_each_step(learner, episode):
    """One number a step."""
    return torch.stack([-t for t in _terms(learner, episode)])


def wrong_rate_gradient_query(learner, episode):
    """The gradients of the query loss, on both sides."""
    path, v = _path_v(learner, episode)
    return -sum(dot(grad(learner.support_loss)(phi, episode.query), v) for phi in path[:-1])


def wrong_rate_gradient_same_v(learner, episode):
    """Goes back by the Hessian at theta in every step."""
    path, v = _path_v(learner, episode)
    total = 0.0
    for phi in reversed(path[:-1]):
        total = total - dot(grad(learner.support_loss)(phi, episode.support), v)
        v = descend(v, _product(learner, episode.support, path[0], v), learner.inner_lr)
    return total
