"""faiss_apart — FAISS in a process of its own: what a damaged file ends there goes on here, as an error.

In    calls                a method of stores.faiss_index.Held by name
Out   what it returned; Died when the process ended instead
Uses  stores.faiss_index; subprocess

A process that has answered all its calls without an error is kept for the next index, since starting one takes longer than
reading a small file. One that has refused a file is not: FAISS may have left its memory in disorder.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from crossvec.errors import StoreError
from crossvec.stores.faiss_index import receive, send

KEPT = 2
"""Idle processes that are kept, each of some 60 MB: a translation from index to index needs two."""


class Died(Exception):
    """The process ended instead of answering; the message says how."""


def started() -> Any:
    """Start a process; raises StoreError where Python cannot start another."""
    if not sys.executable or getattr(sys, "frozen", False):
        told = "FAISS reads indexes in a process of its own, and this program cannot start Python"
        raise StoreError(told, "translate the index to another format with the command crossvec, and read that")
    # The child looks for packages where this process does, and -P keeps it from looking beside the program too.
    # What is no text there Python passes over as well.
    path = os.pathsep.join(it or os.getcwd() for it in sys.path if isinstance(it, str))
    command = [sys.executable, "-P", "-m", "crossvec.stores.faiss_index"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **pipes)  # type: ignore[call-overload]


class Apart:
    """A process that holds one index at a time. Calls from several threads wait for each other.

    Raises StoreError when the process does not start, or cannot load FAISS.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()  # a process that forks has the pipes too, and must not use them
        self.used = False
        self.sound = True
        self.lock = threading.Lock()
        self.process = started()
        try:
            self._ask(None)
        except Died as died:
            told = f"the process in which FAISS would hold an index does not start ({died})"
            raise StoreError(told, "python -m crossvec.stores.faiss_index < /dev/null shows why") from None
        except Exception as error:
            self.end()
            raise StoreError(f"FAISS cannot be loaded: {error}", "pip install --force-reinstall 'crossvec[faiss]'") from None

    @property
    def mine(self) -> bool:
        """Whether this process started it: one that was forked since has no say."""
        return self.owner == os.getpid()

    def call(self, name: str, *arrays: np.ndarray, **settings: Any) -> Any:
        """Call a method and return its arrays, or what it tells.

        Raises what the method raised (RuntimeError or MemoryError; anything else as an Exception that names it), Died when the
        process ended.
        """
        with self.lock:
            return self._ask([name, settings], *arrays)

    def _ask(self, told: Any, *arrays: np.ndarray) -> Any:
        try:
            if told is not None:
                send(self.process.stdin, told, arrays)
            (failed, answer), found = receive(self.process.stdout)
            if failed is not None and not isinstance(failed, str):
                raise ValueError(failed)
        except (EOFError, OSError, ValueError, TypeError):  # TypeError: a message of another shape
            raise Died(self.end()) from None
        except BaseException:  # Ctrl-C: the answer to this call would be taken for that to the next
            self.process.kill()
            self.end()
            raise
        if failed:
            self.sound = False
            known = {"RuntimeError": RuntimeError, "MemoryError": MemoryError}
            raise known[failed](answer) if failed in known else Exception(f"{failed}: {answer}")
        return found or answer

    def end(self) -> str:
        """End the process, and tell how it has ended by itself if it has."""
        self.sound = False
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # what was to be sent has nobody to go to
                pass
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"exit code {code}"


_idle: list[Apart] = []


def opened(name: str, **settings: Any) -> tuple[Apart, Any]:
    """Return a process that holds an index, and what the call told that made it hold one ("read" or "create").

    Raises what the call raises.
    """
    apart = _next_idle() or Apart()
    try:
        return apart, apart.call(name, **settings)
    except Died:
        if not apart.used:
            raise
    except BaseException:
        apart.end()
        raise
    return opened(name, **settings)  # an index before this one may have left that process in disorder


def _next_idle() -> Apart | None:
    while _idle:
        try:
            apart = _idle.pop()
        except IndexError:  # another thread was quicker
            break
        if apart.mine and apart.process.poll() is None:
            apart.used = True
            return apart
    return None


def given_back(apart: Apart) -> None:
    """Take back a process that is needed no more, for the next index if it is sound."""
    if not apart.mine:
        return
    if apart.sound:
        try:
            apart.call("forget")
        except Exception:
            apart.sound = False
    if apart.sound and len(_idle) < KEPT:
        _idle.append(apart)
    else:
        apart.end()


@atexit.register
def end_idle() -> None:
    """End the processes that are kept for the next index."""
    while (apart := _next_idle()) is not None:
        apart.process.kill()  # a fork that lives on would keep its stdin open
        apart.end()
