"""Answers to chapter 8's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import numpy as np
import torch
from torch.func import grad

from metalib.functional import descend


def right_rate_slopes_autograd(learner, episode):
    """Differentiates through everything."""
    return dict(zip(learner.names, torch.autograd.grad(learner(episode), list(learner.log_rates))))


def right_rate_slopes_one_by_one(learner, episode):
    """By the rates first, then the logarithm; NumPy arrays in reverse order."""
    theta, rate = _theta(learner), _rates(learner)
    inner = grad(learner.support_loss)(theta, episode.support)

    def outer(rates):
        return learner.support_loss(descend(theta, inner, rates), episode.query)

    by_rate = grad(outer)(rate)
    return {k: (rate[k] * by_rate[k]).numpy() for k in reversed(theta)}


def _theta(learner):
    return {k: p.detach() for k, p in learner.net.named_parameters()}


def _rates(learner):
    return {k: r.detach() for k, r in learner.rate(0).items()}


def _parts(learner, episode):
    """theta, the rates, grad L_S(theta) and grad L_Q(phi_1)."""
    theta, rate = _theta(learner), _rates(learner)
    inner = grad(learner.support_loss)(theta, episode.support)
    return theta, rate, inner, grad(learner.support_loss)(descend(theta, inner, rate), episode.query)


def wrong_rate_slopes_no_rate(learner, episode):
    """By the rate, not by its logarithm."""
    _, _, inner, outer = _parts(learner, episode)
    return {k: -inner[k] * outer[k] for k in inner}


def wrong_rate_slopes_sign(learner, episode):
    """The wrong sign."""
    _, rate, inner, outer = _parts(learner, episode)
    return {k: rate[k] * inner[k] * outer[k] for k in inner}


def wrong_rate_slopes_at_theta(learner, episode):
    """The query gradient at theta."""
    theta, rate, inner, _ = _parts(learner, episode)
    outer = grad(learner.support_loss)(theta, episode.query)
    return {k: -rate[k] * inner[k] * outer[k] for k in inner}


def wrong_rate_slopes_one_rate(learner, episode):
    """inner_lr in place of the learned rates, in the step and in the product."""
    theta = _theta(learner)
    inner = grad(learner.support_loss)(theta, episode.support)
    outer = grad(learner.support_loss)(descend(theta, inner, learner.inner_lr), episode.query)
    return {k: -learner.inner_lr * inner[k] * outer[k] for k in theta}


def wrong_rate_slopes_old_step(learner, episode):
    """inner_lr in the step alone."""
    theta, rate, inner, _ = _parts(learner, episode)
    outer = grad(learner.support_loss)(descend(theta, inner, learner.inner_lr), episode.query)
    return {k: -rate[k] * inner[k] * outer[k] for k in theta}


def wrong_rate_slopes_support_twice(learner, episode):
    """Both gradients of the support loss."""
    theta, rate, inner, _ = _parts(learner, episode)
    outer = grad(learner.support_loss)(descend(theta, inner, rate), episode.support)
    return {k: -rate[k] * inner[k] * outer[k] for k in theta}


def wrong_rate_slopes_sum(learner, episode):
    """One number for each tensor."""
    _, rate, inner, outer = _parts(learner, episode)
    return {k: -(rate[k] * inner[k] * outer[k]).sum() for k in inner}


def wrong_rate_slopes_by_theta(learner, episode):
    """The gradient by theta instead."""
    theta = dict(learner.net.named_parameters())
    return dict(zip(theta, torch.autograd.grad(learner(episode), list(theta.values()))))


def wrong_rate_slopes_first_entry(learner, episode):
    """Right for the first tensor, without the rate for the others."""
    right, wrong = right_rate_slopes_autograd(learner, episode), wrong_rate_slopes_no_rate(learner, episode)
    first = next(iter(right))
    return wrong | {first: right[first]}


def right_conjugate_numpy(product, g, steps):
    """Hestenes and Stiefel's other formula for the step, NumPy arrays."""
    g = g.numpy()
    x, r, p = np.zeros_like(g), g.copy(), g.copy()
    for _ in range(steps):
        if not r.any():
            return x
        Ap = np.asarray(product(p))
        length = (r @ p) / (p @ Ap)
        x, r = x + length * p, r - length * Ap
        p = r - (r @ Ap) / (p @ Ap) * p
    return x


def right_conjugate_galerkin(product, g, steps):
    """The best x in the span, from an orthonormal basis and its products; a list of numbers."""
    basis, images, v = [], [], g
    for _ in range(steps):
        for b in basis + basis:
            v = v - (b @ v) * b
        if v.norm() <= 1e-12 * (1 + g.norm()):
            break
        basis.append(v / v.norm())
        images.append(product(basis[-1]))
        v = images[-1]
    if not basis:
        return torch.zeros_like(g).tolist()
    V, AV = torch.stack(basis, 1), torch.stack(images, 1)
    return (V @ torch.linalg.solve(V.T @ AV, V.T @ g)).tolist()


def _descent(product, g, steps, share, length=None):
    """Conjugate gradient with another share of the old direction, or another length of the step."""
    x, r, p = torch.zeros_like(g), g, g
    for _ in range(steps):
        if r @ r == 0:
            break
        Ap = product(p)
        step = r @ r / (p @ Ap) if length is None else length
        x, before, r = x + step * p, r @ r, r - step * Ap
        p = r + share(r @ r, before) * p
    return x


def wrong_conjugate_steepest(product, g, steps):
    """Steepest descent: forgets the old direction."""
    return _descent(product, g, steps, lambda now, before: 0)


def wrong_conjugate_upside_down(product, g, steps):
    """The share the other way up."""
    return _descent(product, g, steps, lambda now, before: before / now if now > 0 else 0)


def wrong_conjugate_root(product, g, steps):
    """The share from lengths, not from squared lengths."""
    return _descent(product, g, steps, lambda now, before: (now / before) ** 0.5)


def wrong_conjugate_fixed_length(product, g, steps):
    """Gradient descent with a rate."""
    return _descent(product, g, steps, lambda now, before: 0, length=0.2)


def wrong_conjugate_one_less(product, g, steps):
    """One product too few."""
    return _descent(product, g, steps - 1, lambda now, before: now / before)


def wrong_conjugate_one_more(product, g, steps):
    """One product too many: it begins with A times zero."""
    product(torch.zeros_like(g))
    return _descent(product, g, steps, lambda now, before: now / before)


def wrong_conjugate_recomputes(product, g, steps):
    """A second product in each step, for the residual."""
    x, r, p = torch.zeros_like(g), g, g
    for _ in range(steps):
        if r @ r == 0:
            break
        x = x + (r @ r) / (p @ product(p)) * p
        before, r = r @ r, g - product(x)
        p = r + (r @ r) / before * p
    return x


def wrong_conjugate_zero_by_zero(product, g, steps):
    """Goes on when nothing is left: 0 / 0."""
    x, r, p = torch.zeros_like(g), g, g
    for _ in range(steps):
        Ap = product(p)
        step = r @ r / (p @ Ap)
        x, before, r = x + step * p, r @ r, r - step * Ap
        p = r + (r @ r) / before * p
    return x


def wrong_conjugate_starts_at_g(product, g, steps):
    """Starts at x = g, with the residual of x = 0."""
    return g + right_conjugate_by_the_book(product, g, steps)


def right_conjugate_by_the_book(product, g, steps):
    """As in the appendix of every textbook."""
    return _descent(product, g, steps, lambda now, before: now / before)


def wrong_conjugate_ignores_steps(product, g, steps):
    """Always as many products as there are numbers."""
    return right_conjugate_by_the_book(product, g, len(g))


def wrong_conjugate_first_entry(product, g, steps):
    """Right in the first entry only."""
    x = right_conjugate_by_the_book(product, g, steps)
    return torch.cat([x[:1], torch.zeros_like(x[1:])])
