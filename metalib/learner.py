"""The protocol every family follows, and the one place where tasks are mapped over."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import vmap

from metalib.arguments import Recorded, check_whole
from metalib.episode import Data, Episode, check_episodes, count, is_tasks, one_task, parts, task_axis, tensors
from metalib.fast.compiled import check_backend, compiled
from metalib.fast.fallback import at_once_or_loop
from metalib.fast.parallel import over_tasks
from metalib.fast.precision import arithmetic
from metalib.fast.private import STATISTICS, call, private, read_only
from metalib.functional import Loss, Params, default_loss, gradient_and_value, scalar, transformed

TaskState = Any  # phi: a tensor, a dict of tensors or a tuple of them; never a closure, which could not leave vmap


class Learner(Recorded, nn.Module):
    """A function from a small data set to a predictor: f_phi with phi = A_theta(S).

        phi   = learner.adapt(support)        # A_theta(S)
        y_hat = learner.predict(phi, x)       # f_phi(x)
        loss  = learner(episode)              # L_Q(f_phi(x_Q), y_Q), the meta-loss of one task

    Tasks that are no support and query (an environment to act in) are read whole: `adapt(task)` explores one,
    `predict(phi, task)` acts in it and returns a dict, name -> what a metric of that name reads.

    All three see ONE task, without the task axis T. A subclass writes `adapt` and `predict`; theta is every parameter
    of the learner itself, so whatever is an `nn.Parameter` (a learned inner rate, say) is meta-learned.

    Args:
        loss: (prediction, y) -> scalar; None means cross-entropy for integer y and mean squared error for float y.

    Raises:
        TypeError: `loss` is not a function.

    Attributes:
        shares_weights: True promises that every task uses theta itself (a metric learner's encoder), never weights of
            its own. A meta-batch is then one flattened batch with one backward pass, where it pays.
        approximate: True declares that the meta-gradient is, on purpose, not the derivative of the meta-loss (an
            approximation of one's own): `certify_gradient` then does not hold finite differences against it.
        elapsed: the share of training that is done, 0 to 1, where a learner depends on it: one that makes itself a
            buffer `elapsed` of no axes, not persistent, has it set by `meta_train` before every meta-iteration.
    """

    shares_weights = False
    approximate = False

    def __init__(self, loss: Loss | None = None) -> None:
        super().__init__()
        if loss is not None and (isinstance(loss, type) or not callable(loss)):
            raise TypeError(f"loss={loss!r}: expected a function (prediction, y) -> scalar, such as F.mse_loss or "
                            "nn.CrossEntropyLoss() with its brackets, or None")
        self.loss = loss

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and the like on or off, as for any module; `eval()` is train(False).

        Layers with running statistics keep their mode, because theirs says something else: frozen or not. Freeze them
        with `.eval()` on the layer or on the network.
        """
        kept = [(m, m.training) for m in self.modules() if isinstance(m, STATISTICS)]
        super().train(mode)
        for m, training in kept:
            m.train(training)
        return self

    def adapt(self, support: Data) -> TaskState:
        """The task state phi = A_theta(S) for one support set; parameters and buffers stay untouched."""
        raise TypeError(f"{type(self).__name__} must define adapt(support) -> phi")

    def predict(self, phi: TaskState, x: Tensor) -> Tensor:
        """f_phi(x) for inputs x (M, ...): logits (M, N), regression outputs (M, D), or a `Normal` that is as sure as it
        says."""
        raise TypeError(f"{type(self).__name__} must define predict(phi, x) -> logits")

    def forward(self, episode: Episode) -> Tensor:
        """The meta-loss of one task: the query loss after adapting to the support set."""
        if not isinstance(episode, Episode):
            return self.task_loss(self.predict(self.adapt(episode), episode), episode)
        phi = self.adapt(episode.support)
        return self.task_loss(self.predict(phi, episode.query.x), episode.query.y)

    def task_loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """`loss` as given to the constructor, or the default for the type of y."""
        return (self.loss or default_loss)(prediction, y)

    def task_gradient(self, theta: Params, episode: Episode) -> tuple[Params, Tensor]:
        """(d meta-loss / d theta, meta-loss) of one task. The whole gradient is taken here, inside any map over tasks.

        The order matters: `vmap(grad(loss))` is right, while `grad(vmap(loss))`, or `.backward()` on a vmapped loss,
        silently returns wrong second-order gradients through PyTorch's batch, layer and instance norm
        (pytorch/functorch#534; shown wrong on torch 2.13 by tests/test_gradients.py). Outside every transform the
        gradient can be differentiated again only if theta requires gradients.
        """
        return gradient_and_value(lambda p: call(self, p, episode), theta,
                                  differentiable=transformed() or any(p.requires_grad for p in theta.values()))


def meta_gradient(learner: Learner, episodes: Episode, map: str = "auto", *, chunk: int | None = None,
                  threads: int | None = None, precision: str = "float32", compile: bool | str = False) -> Tensor:
    """Fill `p.grad` with the mean meta-gradient over a meta-batch, and return the mean meta-loss.

        p.grad = (1/T) sum_t dL_t/dp          for every parameter p that requires a gradient (others are left alone)

    Args:
        learner: the learner whose gradients are overwritten.
        episodes: a meta-batch, as `tasks.sample(T, generator=g)` returns it.
        map: how to go over the tasks. "vmap": all at once (one flattened batch where a learner `shares_weights`).
            "loop": one after another, the memory of one task. "auto": see `choose_map`; and where vmap cannot go
            (dropout, LSTM, in-place writes, `.item()`, an `if` on a tensor's value) the loop.
        chunk: with "vmap", at most this many tasks at once, to bound the memory.
        threads: with "loop" on a CPU, this many tasks at once, one thread each; None means `torch.get_num_threads()`.
            1 runs in the calling thread. The result does not depend on it, to the last bit (provided that with 1,
            `torch.get_num_threads()` is 1 as well: operators split over threads may sum in another order). A network
            that draws random numbers, as dropout does, runs in one thread, so that seeds fix them.
        precision: "float32". "tf32" lets a CUDA GPU round the factors of its products to 10 bits; elsewhere it does
            nothing. "bf16" runs products in bfloat16 (autocast). Both lose digits, which a second-order gradient
            needs: chapter 6 measures how many.
        compile: with "vmap", trace the whole meta-step once and run `torch.compile`'s version of it; a string names
            its backend. Costs seconds to minutes per shape of the episodes.

    Returns:
        The mean meta-loss, a detached scalar.

    Raises:
        ValueError: `map`, `precision` or `compile` is not one of those, `chunk` or `threads` is not positive, the
            episodes carry no task axis, the meta-loss is not one number, nothing requires a gradient, or a parameter
            has a gradient hook.
        TypeError: no `Learner`, or no `Episode` or other named tuple of tensors.
        RuntimeError: map="vmap" for a learner that vmap cannot go through, no weight of the learner is in the
            meta-loss, or inside `torch.inference_mode()`.
    """
    if not isinstance(learner, Learner) or not is_tasks(episodes):
        raise TypeError(f"meta_gradient({type(learner).__name__}, {type(episodes).__name__}): expected a Learner, such "
                        "as MAML(net), and an Episode, as tasks.sample(T, generator=g) returns it")
    way = "loop" if choose_map(learner, "vmap" if compile and map == "auto" else map) == "loop" else map
    if compile is not False:
        check_backend(compile, way)
    check_whole(1, chunk=1 if chunk is None else chunk, threads=1 if threads is None else threads)
    if isinstance(episodes, Episode) and (episodes.query.x.ndim != episodes.support.x.ndim
                                          or episodes.support.y.ndim < 2):
        raise ValueError(f"support.y has shape {tuple(episodes.support.y.shape)}, but a meta-batch has a leading "
                         "task axis: draw one with tasks.sample(n) or add it with y[None]")
    check_episodes(episodes)
    if torch.is_inference_mode_enabled():
        raise RuntimeError("meta_gradient inside torch.inference_mode(), which has no gradient: leave it for training")
    trained = {k: p for k, p in learner.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError(f"{type(learner).__name__} has no parameter that requires a gradient: nothing to meta-learn")
    if hooked := [k for k, p in trained.items() if p._backward_hooks or p._post_accumulate_grad_hooks]:
        raise ValueError(f"{hooked[0]} has a gradient hook, which would not be called: remove it (its handle has "
                         "remove()), and change p.grad after meta_gradient, or set TrainConfig(clip=)")
    theta = {k: p.detach() for k, p in trained.items()}
    T, device = count(episodes), tensors(episodes)[0].device.type

    def loop() -> tuple[Params, Tensor]:
        def one(copy: Learner, t: int) -> tuple[Params, Tensor]:
            with arithmetic(precision, device), read_only(copy):  # autocast belongs to a thread
                return copy.task_gradient(theta, one_task(episodes, t))

        grads, loss = {k: torch.zeros_like(p) for k, p in theta.items()}, 0.0
        workers = threads if device == "cpu" else 1
        for task_grads, task_loss in over_tasks(one, learner, range(T), workers):
            grads = {k: g.add_(task_grads[k], alpha=1 / T) for k, g in grads.items()}
            loss = loss + task_loss / T
        return grads, loss

    def at_once() -> tuple[Params, Tensor]:
        with arithmetic(precision, device):
            whole = (learner, theta, episodes, chunk)
            return (compiled(mean_gradient, *whole, backend=compile) if compile else mean_gradient)(*whole)

    with read_only(learner, weights=True):
        grads, loss = at_once_or_loop("meta-gradient", learner, "vmap" if compile else way, at_once, loop)
    for k, p in trained.items():
        p.grad = grads[k].detach()
    return loss.detach()


def mean_gradient(learner: Learner, theta: Params, episodes: Episode,
                  chunk: int | None = None) -> tuple[Params, Tensor]:
    """(mean of dL_t / d theta over the tasks, mean of L_t), all tasks at once or `chunk` of them at a time."""
    with read_only(mine := private(learner)):
        if not mine.shares_weights or type(mine).task_gradient is not Learner.task_gradient:
            per_task = vmap(mine.task_gradient, in_dims=(None, task_axis(episodes)), chunk_size=chunk)
            with torch.no_grad():  # nobody differentiates the meta-gradient
                grads, losses = per_task(theta, episodes)  # every entry with a leading T
            return {k: g.mean(0) for k, g in grads.items()}, losses.mean()
        leaves, total = {k: p.detach().requires_grad_() for k, p in theta.items()}, 0.0
        grads = {k: torch.zeros_like(p) for k, p in theta.items()}
        for part in parts(episodes, chunk or count(episodes)):
            losses = vmap(lambda episode: scalar(call(mine, leaves, episode)), in_dims=(task_axis(part),))(part)
            loss = losses.sum() / count(episodes)
            more = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            grads, total = {k: g + m for (k, g), m in zip(grads.items(), more, strict=True)}, total + loss.detach()
        return grads, total


def choose_map(learner: nn.Module, map: str) -> str:
    """The rule behind map="auto": "loop" for convolutions on a CPU, else "vmap".

    Measured on a CPU (results/ways.json; chapter 6 shows it): vmap turns a convolution with per-task weights into a
    grouped one, which is slower than the loop and holds all tasks in memory; for perceptrons it is several times
    faster. On a GPU no number has been measured yet: a loop is bound by launching kernels there, so "vmap" is the
    guess, and bench/gpu.py is the script that measures.

    Raises:
        ValueError: another map.
    """
    if map not in ("auto", "vmap", "loop"):
        raise ValueError(f"map={map!r}: expected 'auto', 'vmap' or 'loop'")
    if map != "auto":
        return map
    weights = list(learner.parameters())
    convolutional = any(p.ndim == 4 for p in weights)
    return "loop" if convolutional and weights[0].device.type == "cpu" else "vmap"


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))
