"""engines — who works on the pieces: this process, one after the other, or Ray's workers on this machine or on a cluster.

In    a task, items
Out   each item with its result, in the order in which they end
Uses  ray, once it is asked for; scale

A task of Ray's is one item: a worker that dies, with its machine or alone, is replaced and the item done again. No row that is
carried passes through Ray's object store, so a worker's memory is its own; the pool of a search is there once a machine.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from crossvec.errors import CrossvecError, MissingExtraError, UnfinishedError, UsageError
from crossvec.scale import Engine

__all__ = ["NAMES", "Here", "Ray", "choose", "session"]

NAMES = ("local", "ray")

RETRIES = 5
"""How many workers may be lost over one item before it is held to be the item's fault."""

PATIENCE = 5.0
"""Seconds to wait for a cluster to answer; Ray itself would try for minutes."""

OBJECT_STORE = 128 << 20
"""Bytes of Ray's object store on this machine: only what all workers share goes there, a translator or the pool of a search."""

START = "start one with `ray start --head`, which prints its address; or leave --ray-address out to work here"
JOIN = "run this on a machine of the cluster; if it has a token: copy ~/.ray/auth_token, export RAY_AUTH_MODE=token"

PLACE = re.compile(r"(?P<host>[^:/\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Here:
    """This process: one item after the other, with all threads."""

    workers: int = 1

    def map(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Yield each item with what the task returned for it."""
        return ((item, task(item)) for item in items)


@dataclass(frozen=True)
class Ray:
    """Workers of Ray: `workers` of them with a core each, None for all cores there are.

    `address` is a cluster's HOST:PORT, or "auto" for the one this machine belongs to; None starts one here for the time of the
    work. `memory` bytes are reserved for each worker, where given. `gpus` are a worker's share of GPUs, `shared` the bytes that
    a task brings for all workers of a machine.
    """

    address: str | None = None
    asked: int | None = None
    memory: int | None = None
    gpus: float = 0.0
    shared: int = 0

    @property
    def workers(self) -> int:
        """How many items are worked on at a time: what was asked for, or this machine's cores."""
        return self.asked or _cores()

    def map(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Yield each item with what the task returned for it, in the order in which they end."""
        todo = list(items)
        if not todo:
            return
        with _cluster(self) as ray:
            room = self.asked or max(1, int(ray.cluster_resources().get("CPU", 1)))
            options: dict[str, Any] = {"num_cpus": 1, "num_gpus": self.gpus, "max_retries": RETRIES}
            if self.memory:
                _check_memory(ray, self.memory)
                options["memory"] = self.memory
            one = ray.remote(**options)(_one)
            shared, coming = ray.put(task), iter(todo)
            flying: dict[Any, Any] = {}
            # One waits for the first worker that is free; no more, since each costs memory. On a cluster of others Ray does not
            # hold us to a number of workers, so there none waits.
            most = room + (not (self.asked and self.address))
            while True:
                while len(flying) < most and (item := next(coming, None)) is not None:
                    flying[one.remote(shared, item)] = item
                if not flying:
                    return
                (ready,), _ = ray.wait(list(flying), num_returns=1)
                item = flying.pop(ready)
                yield item, _result(ray, ready, item)


@contextmanager
def session(engine: Engine) -> Iterator[None]:
    """Keep the workers between one `map` and the next."""
    if isinstance(engine, Ray):
        with _cluster(engine):
            yield
    else:
        yield


def choose(
    name: str, address: str | None, workers: int | None, memory: int | None = None, gpus: float = 0.0, shared: int = 0
) -> Engine:
    """Return the engine of this name; raises UsageError when the other words do not go with it or the address is none."""
    if name == "local":
        for word, value in (("--ray-address", address), ("--workers", workers)):
            if value is not None:
                raise UsageError(f"{word} is for workers of Ray", "add --engine ray")
        return Here()
    if name not in NAMES:
        raise UsageError(f"there is no engine {name!r}", f"use one of {', '.join(NAMES)}")
    if address not in (None, "auto") and not PLACE.fullmatch(str(address)):
        hint = "run this on a machine of the cluster and give the head's HOST:6379, or auto"
        raise UsageError(f"{address!r} is no address of a Ray cluster", hint)
    _import()
    return Ray(address, workers, memory, gpus, shared)


def _one(task: Callable[[Any], Any], item: Any) -> Any:
    return task(item)


def _import() -> Any:
    # Before the import, which reads it: nothing is told to anybody unless the user has asked for it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--engine ray needs Ray, which is not installed", "pip install 'crossvec[ray]'") from None
    return ray


@contextmanager
def _cluster(engine: Ray) -> Iterator[Any]:
    """Give Ray, joined to the cluster or started here; what was started is stopped at the end.

    Ray writes what its workers report to stdout, where only results belong, and takes over the signal that ends a program.
    """
    ray = _import()
    if ray.is_initialized():
        yield ray
        return
    if engine.address not in (None, "auto"):
        _check_answer(str(engine.address))
    before = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if engine.address is None:
        options |= {"address": "local", "num_cpus": engine.workers, "object_store_memory": OBJECT_STORE + engine.shared}
    else:
        options |= {"address": engine.address}
        del options["include_dashboard"]
    with redirect_stdout(sys.stderr):
        try:
            ray.init(**options)
        except (
            Exception,
            SystemExit,
        ) as problem:  # Ray raises plain Exception too, and leaves where the place is none of its own
            ray.shutdown()
            where = engine.address or "a cluster on this machine"
            told = str(problem).strip().partition("\n")[0]
            if engine.address == "auto" and isinstance(problem, ConnectionError):
                raise UsageError("this machine belongs to no Ray cluster that runs", START) from None
            if isinstance(problem, (ConnectionError, ValueError, RuntimeError)):
                raise UsageError(f"Ray cannot join {where}: {told}", JOIN) from None
            raise UnfinishedError(f"Ray did not start {where}: {told}", "the machine may be too busy: try again") from None
        try:
            _restore(before)
            yield ray
        finally:
            ray.shutdown()


def _restore(handler: Any) -> None:
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:  # not in the main thread, where Ray does not touch it either
        pass


def _check_answer(address: str) -> None:
    match = PLACE.fullmatch(address)
    if match is None:
        raise UsageError(f"{address!r} is no address of a Ray cluster", "write HOST:PORT, or auto")
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), PATIENCE).close()
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"no Ray cluster answers at {address}: {reason}", START) from None


def _check_memory(ray: Any, memory: int) -> None:
    most = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if memory > most:
        raise UsageError(
            f"a worker of {memory / 2**30:.1f} GiB fits on no machine of the cluster, which has {most / 2**30:.1f} GiB at most",
            "give a smaller --memory",
        )


def _result(ray: Any, ready: Any, item: Any) -> Any:
    named = getattr(item, "name", item)
    again = "what is done stays done: give the workers more memory, or a smaller --memory, and run the same line again"
    try:
        return ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, CrossvecError):
            raise cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as error:
        raise UnfinishedError(f"{named} was lost with {RETRIES + 1} workers, one after the other", again) from error
    except ray.exceptions.RayError as error:
        raise UnfinishedError(f"the cluster was lost over {named}: {type(error).__name__}", again) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
