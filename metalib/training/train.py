"""Meta-training: draw tasks, take the mean meta-gradient, step the slow weights; nothing finished is ever lost."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict

import torch

from metalib.episode import Episode, moved
from metalib.functional import derived, seeded
from metalib.learner import Learner, device_of, meta_gradient
from metalib.progress import progress
from metalib.tasks.protocol import Tasks, check_drawn
from metalib.training.config import History, TrainConfig, check, settings
from metalib.training.distributed import agree, average, on_rank_zero, rank, share, tasks_each
from metalib.training.identity import describe
from metalib.training.log import Log
from metalib.training.resume import begin, due, keep, restore, validate
from metalib.training.surroundings import callers_randomness, deferred_interrupt, own_randomness


def meta_train(learner: Learner, tasks: Tasks, config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
               val_tasks: Tasks | None = None) -> History:
    """Minimise the expected meta-loss over `tasks` with Adam, in place.

        theta <- Adam(theta, (1/T) sum_t dL_t/dtheta)

    The learner ends with the weights that did best on `val_tasks` if they are given, else with the last ones;
    `History.chosen` says which. Test classes play no part.

    With `checkpoint=`, the state is written before anything that may fail, validation included, and the next call goes
    on from there, bit for bit; what was not yet validated is then. The file belongs to a learner, its network, the
    tasks and the settings: another run is refused, with the names of what differs. `iterations` is not among them, so a
    run can be extended. (What was validated at its earlier end stays a candidate. With schedule="cosine" the rates of
    what is left follow the cosine over the new number, and a warning says so: the result is not that of one run of that
    length.) How a run is validated may change until the first validation.

    What a network or the tasks draw from the global generators of PyTorch, NumPy or Python, as dropout does, comes from
    a stream of its own in each meta-iteration; the caller's generators are left alone. What objects of your own
    remember is not in the file: a warning says so where they have changed.

    Inside `process_group()` every process calls it and takes its share of each meta-batch: the same run as one process
    computes, up to the order of a sum and to dropout's draws, so it may be resumed by another number of processes.
    Weights and checkpoint come from rank 0, which alone validates and writes; all end with the same weights and the
    same History.

    Raises:
        ValueError: a setting out of range, nothing to train, or a checkpoint of another run.
        FloatingPointError: the meta-loss, its gradient or the stepped weights are not finite. The learner keeps the
            weights from before, and so does the checkpoint.
        KeyboardInterrupt: (also for SIGTERM and SIGHUP) passed on after the training state was written.
    """
    check(config)
    agree({"iterations": config.iterations, "val_tasks": "none" if val_tasks is None else "given", **settings(config)})
    trained = [p for p in learner.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"{type(learner).__name__} has nothing to train: no parameter of it requires a gradient")
    optimizer = torch.optim.Adam(trained, lr=config.lr)
    generator, log = seeded(derived(config.seed, "train")), Log()
    parts = {"learner": learner, "tasks": tasks, "val_tasks": val_tasks}
    state = on_rank_zero(begin, config, parts, optimizer, generator, log)
    best, history = restore(state, config, learner, optimizer, generator)
    first = describe(parts, contents=False)

    def written() -> None:
        log.flush()
        on_rank_zero(keep, config, state["run"], parts, first, optimizer, generator, history, best)

    device, began, stop = device_of(learner), time.perf_counter() - history.seconds, False
    with (contextlib.closing(log), callers_randomness(), deferred_interrupt() as interrupted,
          progress(config.iterations, "meta-train", len(history.losses)) as bar):
        while True:
            i = len(history.losses)
            validated = bool(history.validations) and history.validations[-1][0] == i
            if due(config, val_tasks, i) and not validated and (i == config.iterations or not stop):
                best = on_rank_zero(validate, learner, val_tasks, config, history, best, log)
                written()
            if i == config.iterations or stop:
                break
            episodes = moved(share(_drawn(tasks, config, i, generator, device)), device)
            if "elapsed" in learner._buffers:
                learner.elapsed.fill_(i / config.iterations)
            loss = _gradient(learner, episodes, config, i)
            loss, stop = average(learner.parameters(), loss, interrupted())
            norm = _step(learner, optimizer, config, loss, i)
            history.losses.append(loss)
            history.seconds, i = time.perf_counter() - began, i + 1
            log.step(i, loss, norm, optimizer.param_groups[0]["lr"], history.seconds)
            if i % config.checkpoint_every == 0 or i == config.iterations or stop or due(config, val_tasks, i):
                written()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update()
    if stop and i < config.iterations:
        where = f"; call meta_train again to continue from {config.checkpoint}" if config.checkpoint else ""
        raise KeyboardInterrupt(f"stopped after meta-iteration {i}, whose weights the learner has{where}")
    end = best or {"iteration": i, "weights": learner.state_dict()}
    history.best_iteration, history.chosen = end["iteration"], "best on validation tasks" if best else "last"
    final = on_rank_zero(dict, {"weights": end["weights"], "history": asdict(history)})
    learner.load_state_dict(final["weights"])
    return History(**final["history"])


def training_episodes(tasks: Tasks, config: TrainConfig) -> Iterator[Episode]:
    """The meta-batches that `meta_train(learner, tasks, config)` draws, in order: what `audit` compares a test with."""
    generator = seeded(derived(config.seed, "train"))
    for i in range(config.iterations):
        with callers_randomness():
            episodes = _drawn(tasks, config, i, generator, torch.device("cpu"))
        yield episodes


def _drawn(tasks: Tasks, config: TrainConfig, i: int, generator: torch.Generator, device: torch.device) -> Episode:
    """The meta-batch of meta-iteration i, what the tasks draw for themselves included."""
    with own_randomness(derived(config.seed, f"draws/{i}"), device):
        return tasks.sample(config.meta_batch, generator=generator)


def _gradient(learner: Learner, episodes: Episode, config: TrainConfig, i: int) -> float:
    """Fill `p.grad`; the mean meta-loss."""
    check_drawn(episodes, tasks_each(config.meta_batch), "tasks")
    with own_randomness(derived(config.seed, f"iteration {i}, rank {rank()}"), device_of(learner)):
        return float(meta_gradient(learner, episodes, config.map, chunk=config.chunk, precision=config.precision,
                                   compile=config.compile))


def _step(learner: Learner, optimizer: torch.optim.Optimizer, config: TrainConfig, loss: float, i: int) -> float:
    """One step of the outer optimiser, undone if it is not finite; the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        cosine = 0.5 * (1 + math.cos(math.pi * i / config.iterations))
        group["lr"] = config.lr * (cosine if config.schedule == "cosine" else 1.0)
    trained = [p for p in learner.parameters() if p.requires_grad]
    norm = float(torch.nn.utils.clip_grad_norm_(trained, config.clip or math.inf))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise FloatingPointError(f"meta-loss {loss:g} with gradient norm {norm:g} at meta-iteration {i + 1}: "
                                 "the learner keeps the weights from before. Lower inner_lr or lr, or set clip=10")
    before, finite = [p.detach().clone() for p in trained], False
    try:
        optimizer.step()
        # The largest entry, not the norm: a sum of squares could overflow where no weight does.
        finite = math.isfinite(torch.nn.utils.get_total_norm([p.detach() for p in trained], math.inf))
    finally:  # also where the step itself was cut short
        if not finite:
            with torch.no_grad():
                for p, old in zip(trained, before):
                    p.copy_(old)
    if not finite:
        dtypes = ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in trained}))
        raise FloatingPointError(f"Adam's step of meta-iteration {i + 1} leaves {dtypes} weights that are not finite: "
                                 "the learner keeps the weights from before. Lower lr, or in float16 train in float32")
    return norm
