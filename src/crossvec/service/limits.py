"""limits — how much may be asked of the service: bytes and rows of a request, requests at once, seconds to send a body.

In    a request
Out   its body, or a Refusal: 408 too slow, 413 too large, 422 too many rows, 429 too many requests at once
Uses  refusal; starlette

The memory that clients can claim is bounded: `requests` bodies of `body` bytes each, as much again for what becomes of them in
the threads at work, and for one request to each model the tokens of its texts, some twenty times theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from crossvec.service.refusal import Refusal

__all__ = ["MIB", "Limits", "Room", "read_body"]

MIB = 1 << 20
RETRY_SECONDS = 1


@dataclass(frozen=True)
class Limits:
    """`body` in bytes; `rows`, or texts, a request; `requests` at once; `seconds` that a client may take to send a body."""

    body: int = 32 * MIB
    rows: int = 4096
    requests: int = 64
    seconds: float = 30.0

    def check_rows(self, rows: int, what: str = "rows") -> None:
        """Raise a Refusal for a request of no rows or too many."""
        if rows == 0:
            raise Refusal(422, "empty", f"there are no {what}", "send at least one")
        if rows > self.rows:
            raise Refusal(422, "too_many_rows", f"{rows:,} {what} are more than {self.rows:,}", "send them in parts")


class Room:
    """Counts the requests that are being worked on, and those given up; there is room for so many and no queue beyond."""

    def __init__(self, most: int) -> None:
        self.most, self.taken, self.cut_short = most, 0, 0

    @property
    def free(self) -> bool:
        """Whether another request would be let in."""
        return self.taken < self.most

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block runs; raises a Refusal when all are taken."""
        if not self.free:
            hint = f"wait {RETRY_SECONDS} s and ask again, or ask less at once"
            told = f"{self.most} requests are being worked on, which is as many as may be"
            raise Refusal(429, "too_many_requests", told, hint, {"Retry-After": str(RETRY_SECONDS)})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return a request's body; raises a Refusal as soon as it is known to be too large, or when it takes too long."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "compressed", "a compressed body is not read", "send it as it is; .npy is the smallest form")
    too_large = Refusal(
        413,
        "too_large",
        f"the body is larger than {limits.body / MIB:g} MiB",
        "send fewer rows at a time, as .npy rather than JSON",
    )
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > limits.body:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body:  # sent in chunks, without a word of how long it would be
                    raise too_large
                parts.append(part)
    except TimeoutError:
        told = f"the body did not arrive within {limits.seconds:g} s"
        raise Refusal(408, "too_slow", told, "send fewer rows at a time", {"Connection": "close"}) from None
    return b"".join(parts)
