"""Tasks side by side on a CPU: one thread takes one task after another."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from metalib.fast.fallback import draws, remember_draws, watched
from metalib.fast.precision import inherited_autocast
from metalib.fast.private import private
from metalib.fast.twin import twin

Module, Item, Result = TypeVar("Module", bound=nn.Module), TypeVar("Item"), TypeVar("Result")


def over_tasks(f: Callable[[Module, Item], Result], module: Module, items: Iterable[Item],
               threads: int | None = None) -> Iterator[Result]:
    """Yield f(module, item) for each item, several at a time, in the order of the items.

    Whole tasks are independent, so threads over tasks share no operator, only Python's interpreter and the heap.
    Threads within an operator (what PyTorch does by itself) meet at the end of every operator, which is slow for
    few-shot sizes and collapses when the machine is busy. Each item has a twin of the module to itself, which shares
    the values of its parameters: what a module notes on itself for one task (a hidden state, a cache), and what a
    `.backward()` adds to `p.grad`, is not there for the next.

    Args:
        f: called in a worker thread, where gradient mode has its default; an autocast of the caller's holds there too.
        module: anything f calls; never modified.
        items: one a task.
        threads: how many at a time; None means `torch.get_num_threads()`. 1 runs in the calling thread, and a result
            is yielded before the next item begins; with more, all results are held until the last is there. A module
            that draws random numbers is run in the calling thread too (once more, if only the run showed that), so that
            seeds fix what each task draws.
    """
    items = list(items)
    threads = 1 if draws(module) else min(threads or torch.get_num_threads(), len(items))
    first = private(module)
    if threads > 1:
        results, drawn = watched(module, lambda: _side_by_side(f, first, items, threads))
        if not drawn:
            yield from results
            return
        remember_draws(module)  # whoever came first drew first
    yield from (f(_for_one(first), item) for item in items)


def _side_by_side(f: Callable[[Module, Item], Result], first: Module, items: list[Item], threads: int) -> list[Result]:
    autocast = inherited_autocast()

    def work(item: Item) -> Result:
        with autocast():
            return f(_for_one(first), item)

    within = torch.get_num_threads()
    torch.set_num_threads(1)  # what is done with the results would wake threads that take the workers' cores
    futures = [_pool(threads).submit(work, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)  # each result would wake this thread, so it waits for all
        return [future.result() for future in futures]
    finally:  # nobody works on when the error or the Ctrl-C arrives
        for future in futures:
            future.cancel()
        wait(futures)
        torch.set_num_threads(within)


def _for_one(first: Module) -> Module:
    return twin(first, {id(p): p.detach().requires_grad_(p.requires_grad) for p in first.parameters()})


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers that live as long as the process, each with one intra-op thread."""
    return ThreadPoolExecutor(threads, "metalib", initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a forked process has the pool but not its threads, and would wait for ever
    os.register_at_fork(after_in_child=_pool.cache_clear)
