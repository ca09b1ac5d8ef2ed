"""Several processes, one run: `torchrun` starts them, each takes its share of every meta-batch, one sum joins them.

    torchrun --nproc-per-node W script.py           # W copies of the script, told apart by their rank 0..W-1

    with process_group() as device:                 # in the script; started by plain `python`, this does nothing
        meta_train(learner.to(device), tasks, TrainConfig(meta_batch=4 * W))

Every process draws the same meta-batch with the same generator and works on its own T/W tasks, so W processes compute
what one process computes, up to the order of a sum:

    (1/T) sum_t g_t  =  (1/W) sum_r [ (W/T) sum_{t of rank r} g_t ]

`DistributedDataParallel` would not do this: it waits for gradients to arrive through the module's own backward pass,
and a meta-gradient never takes that way (its parameters are used functionally).
"""

import contextlib
import functools
import io
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from metalib.episode import count, rows


@contextlib.contextmanager
def process_group(device: str | torch.device = "cpu", *, timeout: float = 3600.0) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, for the length of a `with` block; without torchrun, do nothing.

    Yields the device of this process: on "cuda" each process of a machine has a GPU of its own (`LOCAL_RANK`) and the
    sums go through NCCL; on "cpu" they go through Gloo.

    Args:
        device: "cpu" or "cuda".
        timeout: seconds that a process waits for the others (while rank 0 validates, say) before it gives up.

    Raises:
        ValueError: more processes on this machine than GPUs.
    """
    device = torch.device(device)
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise ValueError(f"process {local} of this machine has no GPU (there are {count}): "
                             f"use --nproc-per-node {max(count, 1)}, or device='cpu'")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    wait = timedelta(seconds=timeout)
    store, r, W = next(rendezvous("env://", timeout=wait))
    # Gloo beside NCCL carries what is not on a GPU: errors, and the training state.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                            store=_unused(store, r, W, wait), rank=r, world_size=W, timeout=wait)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _unused(store: dist.Store, rank: int, world_size: int, wait: timedelta) -> dist.Store:
    """A part of torchrun's key-value store that no process of an earlier attempt has written to.

    torchrun keeps its store when it starts the processes again after a failure, so they would look each other up under
    the addresses of the dead (pytorch/pytorch#135712; seen with torch 2.13). Rank 0 therefore names a new part. The
    others ask for the name with a token of their own, which no answer to an earlier process can carry, and say that
    they have heard it.
    """
    store, token = dist.PrefixStore("metalib", store), uuid.uuid4().hex
    if rank != 0:
        store.set(f"asked/{rank}", token)
        store.wait([f"answer/{token}"], wait)
        name = store.get(f"answer/{token}").decode()
        store.set(f"{name}/heard/{rank}", "")
        return dist.PrefixStore(name, store)
    deaf, deadline = set(range(1, world_size)), time.monotonic() + wait.total_seconds()
    while deaf:
        for r in sorted(deaf):
            if store.check([f"asked/{r}"]):  # perhaps an earlier process: then this answer finds nobody
                store.set(f"answer/{store.get(f'asked/{r}').decode()}", token)
        deaf = {r for r in deaf if not store.check([f"{token}/heard/{r}"])}
        if deaf and time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(deaf)} of {world_size} did not start within {wait}")
        time.sleep(0.01)
    return dist.PrefixStore(token, store)


def rank() -> int:
    """Which of torchrun's processes this is: 0 writes and prints; 0 too when there is only one."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world_size() -> int:
    """W, how many processes work on this run; 1 without torchrun.

    Raises:
        RuntimeError: torchrun started several, but they have not joined: each would compute the whole run alone.
    """
    if dist.is_initialized():
        return dist.get_world_size()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RuntimeError(f"{os.environ['WORLD_SIZE']} processes were started, but they have not joined: "
                           "put the training inside `with process_group() as device:`")
    return 1


def tasks_each(meta_batch: int) -> int:
    """T/W, the tasks of each process.

    Raises:
        ValueError: the processes would have different numbers of tasks, and the mean of their means would be wrong.
    """
    T, W = meta_batch, world_size()
    if T % W:
        raise ValueError(f"meta_batch={T} tasks (of all processes together) cannot be shared equally by {W} processes: "
                         f"use meta_batch={W * (T // W + 1)}, or a number of processes that divides {T}")
    return T // W


def share(episodes: Any) -> Any:
    """The tasks of this process: r*T/W to (r+1)*T/W of a meta-batch of T. All of them without other processes."""
    n = tasks_each(count(episodes))
    return episodes if n == count(episodes) else rows(episodes, slice(rank() * n, (rank() + 1) * n))


def agree(settings: dict[str, Any]) -> None:
    """Nothing if all processes were given the same; each of them would else compute a part of another run.

    Raises:
        ValueError: on every process, naming what differs.
    """
    everyone: list[Any] = [None] * world_size()
    if len(everyone) == 1:
        return
    dist.all_gather_object(everyone, settings)
    for r, theirs in enumerate(everyone):
        if wrong := [f"{k}={v!r} on rank 0, {theirs[k]!r} on rank {r}" for k, v in everyone[0].items()
                     if theirs[k] != v]:
            raise ValueError(f"the processes of one run need the same settings: {'; '.join(wrong)}. A seed from the "
                             "clock, for example, differs: draw it once, and pass it to all of them")


@torch.no_grad()
def average(parameters: Iterable[Tensor], loss: float, stop: bool = False) -> tuple[float, bool]:
    """Average every `p.grad` and the meta-loss over the processes, in one all-reduce; with one process, do nothing.

    Args:
        parameters: the same on every process; those without a gradient are left alone.
        loss: the mean meta-loss of this process's tasks.
        stop: whether this process was asked to stop (Ctrl-C reaches one of them first).

    Returns:
        The mean meta-loss over all tasks, and whether any process was asked to stop. Every process gets the same.
    """
    W = world_size()
    if W == 1:
        return loss, stop
    grads = [p.grad for p in parameters if p.grad is not None]
    dtype = functools.reduce(torch.promote_types, (g.dtype for g in grads), torch.float32)
    parts = [g.to(dtype).flatten() for g in grads]
    flat = torch.cat([*parts, parts[0].new_tensor([loss, stop])])  # every gradient, the loss, the flag: one message
    dist.all_reduce(flat)
    flat /= W
    for g, mean in zip(grads, flat[:-2].split([g.numel() for g in grads])):
        g.copy_(mean.view_as(g))
    return float(flat[-2]), bool(flat[-1] > 0)


def on_rank_zero(f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)` runs on rank 0 alone; what it returns there is returned on every process, what it raises is raised.

    So a file that rank 0 cannot read or write stops all of them with the same message, instead of leaving the others
    to wait. The result consists of tensors and plain values; on the other processes its tensors are on the CPU.
    """
    if world_size() == 1:
        return f(*args)
    result, message = None, [None]
    if rank() == 0:
        try:
            result, file = f(*args), io.BytesIO()
            torch.save(result, file)
            message = [file.getvalue()]
        except Exception as error:
            message = [error]
    dist.broadcast_object_list(message, src=0)
    if isinstance(message[0], Exception):
        raise message[0]
    return result if rank() == 0 else torch.load(io.BytesIO(message[0]), map_location="cpu", weights_only=True)
