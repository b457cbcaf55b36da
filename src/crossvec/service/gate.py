"""gate — what stands before every route: the key, the places, the count, and the last word when something breaks.

In    an ASGI application, a key, a Room, Metrics
Out   the same application, of which a client never sees a traceback
Uses  refusal, limits, metrics; starlette

The log is told where something broke and of what kind it was, never the message: it may quote what was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
import traceback
from contextlib import nullcontext

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossvec.service.limits import Room
from crossvec.service.metrics import Metrics
from crossvec.service.refusal import Refusal

__all__ = ["OPEN", "Gate"]

log = logging.getLogger("crossvec.service")

OPEN = {"/healthz", "/readyz"}
"""What is answered without a key: the probes of an orchestrator have none, and learn nothing but yes or no."""

GONE = 499  # as nginx counts clients that did not wait


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, key: str | None, room: Room, metrics: Metrics) -> None:
        self.app, self._room, self._metrics = app, room, metrics
        self._key = None if key is None else _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check_key(scope)
                # What costs work is posted; probes and metrics must be answered when there is no room, too.
                with self._room.place() if scope["method"] == "POST" else nullcontext():
                    self._metrics.under_way.set(self._room.taken)
                    await self.app(scope, receive, noted)
            except Refusal as refusal:
                await refusal.response()(scope, receive, noted)
        except ClientDisconnect:
            status = GONE
        except asyncio.CancelledError:  # the time that is left after a signal to stop is up
            self._room.cut_short += 1
            if not status:
                await Refusal(503, "stopping", "the service is stopping", "ask again").response()(scope, receive, noted)
        except Exception as problem:
            log.error("%s at %s", type(problem).__name__, _where(problem))
            if not status:
                told = Refusal(500, "internal", "something broke inside the service", "its log says where")
                await told.response()(scope, receive, noted)
        finally:
            self._metrics.under_way.set(self._room.taken)
            self._metrics.answered(_route(scope), status, time.perf_counter() - started)

    def _check_key(self, scope: Scope) -> None:
        if self._key is None or scope["path"] in OPEN:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        # Digests, because comparing strings of unlike length tells the length.
        if scheme.lower() != b"bearer" or not hmac.compare_digest(_digest(token.strip()), self._key):
            what = "the key is wrong" if given else "there is no key"
            hint = "send the header  Authorization: Bearer KEY"
            raise Refusal(401, "wrong_key", what, hint, {"WWW-Authenticate": "Bearer"})


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "")


def _where(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)[-4:]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
