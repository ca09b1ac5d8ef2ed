"""Answers to chapter 5's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import torch

from metalib import MAML


def _losses(learner, episode, steps):
    """L_Q(phi_0), ..., L_Q(phi_steps)."""
    return [learner.task_loss(learner.predict(phi, episode.query.x), episode.query.y)
            for phi in learner.path(episode.support, steps)]


def right_multi_step_loss_stacked(learner, episode, weights):
    """Stacked losses, the weights as a tensor."""
    losses = torch.stack(_losses(learner, episode, len(weights))[1:])
    return (torch.as_tensor(weights, dtype=losses.dtype) * losses).sum()


def right_multi_step_loss_by_hand(learner, episode, weights):
    """The inner loop by hand, plain autograd, backwards order of the sum."""
    (sx, sy, _), (qx, qy, _) = episode
    phi, terms = dict(learner.net.named_parameters()), []
    for w in weights:
        inner = (torch.func.functional_call(learner.net, phi, (sx,)) - sy).pow(2).mean()
        g = torch.autograd.grad(inner, list(phi.values()), create_graph=True)
        phi = {k: p - learner.inner_lr * g_k for (k, p), g_k in zip(phi.items(), g)}
        terms.insert(0, w * torch.nn.functional.mse_loss(torch.func.functional_call(learner.net, phi, (qx,)), qy))
    return sum(terms, torch.zeros(()))


def wrong_multi_step_loss_late(learner, episode, weights):
    """Starts at phi_0, so every weight is one step late."""
    return sum(w * loss for w, loss in zip(weights, _losses(learner, episode, len(weights))))


def wrong_multi_step_loss_support(learner, episode, weights):
    """The support loss: what the inner loop minimises, not what the outer loop should."""
    path = learner.path(episode.support, len(weights))[1:]
    return sum(w * learner.support_loss(phi, episode.support) for w, phi in zip(weights, path))


def wrong_multi_step_loss_detached(learner, episode, weights):
    """Detaches the adapted weights, as one does to save memory: there is no meta-gradient left."""
    path = [{k: p.detach().requires_grad_() for k, p in phi.items()}
            for phi in learner.path(episode.support, len(weights))[1:]]
    return sum(w * learner.task_loss(learner.predict(phi, episode.query.x), episode.query.y)
               for w, phi in zip(weights, path))


def wrong_multi_step_loss_normalised(learner, episode, weights):
    """Divides by the sum of the weights: the same where they sum to 1."""
    return right_multi_step_loss_stacked(learner, episode, weights) / sum(weights)


def wrong_multi_step_loss_own_steps(learner, episode, weights):
    """The learner's own number of steps, whatever the number of weights."""
    return sum(w * loss for w, loss in zip(weights, _losses(learner, episode, None)[1:]))


def wrong_multi_step_loss_last(learner, episode, weights):
    """The last loss alone: MAML's."""
    return weights[-1] * _losses(learner, episode, len(weights))[-1]


def wrong_multi_step_loss_equal(learner, episode, weights):
    """Ignores the weights: the mean."""
    return torch.stack(_losses(learner, episode, len(weights))[1:]).mean()


def wrong_multi_step_loss_unweighted(learner, episode, weights):
    """Ignores the weights: the sum."""
    return sum(_losses(learner, episode, len(weights))[1:])


def wrong_multi_step_loss_reversed(learner, episode, weights):
    """The weights from the last step to the first."""
    return right_multi_step_loss_stacked(learner, episode, weights[::-1])


def wrong_multi_step_loss_mean(learner, episode, weights):
    """The mean of the weighted losses."""
    return right_multi_step_loss_stacked(learner, episode, weights) / len(weights)


def wrong_multi_step_loss_first_order(learner, episode, weights):
    """The right value, and a first-order gradient."""
    return right_multi_step_loss_stacked(MAML(learner.net, learner.inner_lr, order=1), episode, weights)


def wrong_multi_step_loss_float(learner, episode, weights):
    """A float."""
    return float(right_multi_step_loss_stacked(learner, episode, weights).detach())


def wrong_multi_step_loss_list(learner, episode, weights):
    """The terms, not their sum."""
    return [w * loss for w, loss in zip(weights, _losses(learner, episode, len(weights))[1:])]


def wrong_multi_step_loss_positive(learner, episode, weights):
    """Turns the weights positive."""
    return right_multi_step_loss_stacked(learner, episode, [abs(w) for w in weights])
