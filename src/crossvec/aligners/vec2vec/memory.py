"""memory — a training keeps the memory that one step frees for the next one.

In    nothing
Out   kept()                a context in which freed memory stays with the process; afterwards it goes back
Uses  the C library, where it is glibc

A step frees all its activations at its end. Left to itself glibc hands them back, and the next step asks for the same pages
again, each of which the system first has to find and fill with zeros: up to a fifth of a step's processor time.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

LARGEST = 32 * 2**20
"""Bytes up to which glibc lets a piece come from memory that it keeps: its own upper limit on 64 bits."""

TRIM, MAP = -1, -3
"""Names of glibc's settings (malloc.h): how much may lie free before it goes back, and from what size on memory is mapped."""


@contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory inside this context; other C libraries than glibc have their own ways, and are left to them."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MAP, LARGEST)
    libc.mallopt(TRIM, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(TRIM, 2 * LARGEST)  # what glibc itself comes to after a piece of LARGEST bytes was freed
        libc.malloc_trim(0)
