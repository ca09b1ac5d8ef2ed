"""Checks for the exercises of chapter 5. A check raises AssertionError with a hint, or prints nothing."""

import torch
from torch import nn
from torch.func import grad

from metalib import MAML, Sinusoids, mlp, seeded


def check_multi_step_loss(answer):
    """`answer(learner, episode, weights)` -> the weighted sum of the query losses after 1, ..., J inner steps."""
    torch.manual_seed(0)
    learner = MAML(mlp(1, (8,), 1, activation="tanh").double(), inner_lr=0.05, steps=3)
    episode = Sinusoids(5, 5).sample(1, generator=seeded(0)).task(0)
    phi, losses = dict(learner.net.named_parameters()), []
    for _ in range(3):  # by hand, without learner.path
        g = grad(learner.support_loss)(phi, episode.support)
        phi = {k: p - 0.05 * g[k] for k, p in phi.items()}
        prediction = torch.func.functional_call(learner.net, phi, (episode.query.x,))
        losses.append(nn.functional.mse_loss(prediction, episode.query.y))
    for weights in ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.2, 0.3, 0.5)):
        got = torch.as_tensor(answer(learner, episode, weights))
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=True))
        assert got.ndim == 0, f"the loss has shape {tuple(got.shape)}: expected a scalar"
        assert got.requires_grad, "the loss has no gradient: return a tensor, not a float, and detach nothing"
        assert torch.allclose(got, expected), (
            f"with weights {weights} the loss is {got.item():.4f}, expected {expected.item():.4f}: weight j belongs "
            "to the *query* loss after j inner steps, j = 1 .. J; the loss before the first step has no weight")
        exact = torch.autograd.grad(expected, list(learner.parameters()), retain_graph=True)
        yours = torch.autograd.grad(got, list(learner.parameters()))
        assert all(torch.allclose(a, b) for a, b in zip(yours, exact, strict=True)), (
            "the loss is right and its gradient is not: something was detached on the way")


def solution_multi_step_loss(learner, episode, weights):
    path = learner.path(episode.support, len(weights))[1:]  # phi_1 .. phi_J; phi_0 = theta has no weight
    losses = [learner.task_loss(learner.predict(phi, episode.query.x), episode.query.y) for phi in path]
    return sum(w * loss for w, loss in zip(weights, losses, strict=True))


def wrong_multi_step_loss_1(learner, episode, weights):
    """Starts at phi_0, so every weight is one step late."""
    path = learner.path(episode.support, len(weights))
    return sum(w * learner.task_loss(learner.predict(phi, episode.query.x), episode.query.y)
               for w, phi in zip(weights, path, strict=False))


def wrong_multi_step_loss_2(learner, episode, weights):
    """The support loss: what the inner loop minimises, not what the outer loop should."""
    path = learner.path(episode.support, len(weights))[1:]
    return sum(w * learner.support_loss(phi, episode.support) for w, phi in zip(weights, path, strict=True))


def wrong_multi_step_loss_3(learner, episode, weights):
    """Detaches the adapted weights, as one does to save memory: there is no meta-gradient left."""
    path = learner.path(episode.support, len(weights))[1:]
    path = [{k: p.detach().requires_grad_() for k, p in phi.items()} for phi in path]
    anchor = 0 * sum(p.sum() for p in learner.parameters())
    return anchor + sum(w * learner.task_loss(learner.predict(phi, episode.query.x), episode.query.y)
                        for w, phi in zip(weights, path, strict=True))

