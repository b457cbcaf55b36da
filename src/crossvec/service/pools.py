"""pools — where numbers are worked on: threads beside the event loop, as many as there is work for.

In    a function
Out   what it returns, awaited
Uses  torch

A translation is one product on one core, so many run side by side, a thread each. A model on this machine uses all cores for
one batch, and its tokenizer may not be shared between threads, so each has a lane of its own, one batch after the other; a
model behind an endpoint only waits, and may do so many times at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

__all__ = ["Pool", "lane", "side_by_side"]

T = TypeVar("T")

WAITING = 16  # calls of one endpoint at once


class Pool:
    """Threads that run one function each."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads

    async def run(self, function: Callable[..., T], *given: Any) -> T:
        """Return what a function returns, without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *given)


def side_by_side(threads: int) -> Pool:
    """Return threads that share the cores, one core each."""
    return Pool(ThreadPoolExecutor(threads, "translate", torch.set_num_threads, (1,)))


def lane(waits: bool) -> Pool:
    """Return the one thread that a model on this machine runs in, or several for one that `waits` for its endpoint."""
    return Pool(ThreadPoolExecutor(WAITING if waits else 1, "embed", torch.set_num_threads, (torch.get_num_threads(),)))
