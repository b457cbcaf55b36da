"""running — from an application to a server on a socket: bind, serve, and stop when a signal says so.

In    an application, a host and a port
Out   served requests; what is under way when a signal comes is finished
Uses  app; uvicorn

The socket is bound before anything is served, so that a port in use is an error of the command and not a line in a log.
"""

from __future__ import annotations

import gc
import ipaddress
import logging
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from crossvec.errors import UsageError
from crossvec.service.app import Service

__all__ = ["Server", "bind", "here_only", "run"]

BACKLOG = 2048


class Server(uvicorn.Server):
    """The server of an application. Told to stop, it has `grace` seconds to finish what is under way."""

    def __init__(self, app: FastAPI, grace: int) -> None:
        self.service: Service = app.state.service
        logging.getLogger("uvicorn.error").addFilter(_without_traceback)
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=grace,
                backlog=BACKLOG,
            )
        )

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Note a signal, and let the probe of readiness know."""
        super().handle_exit(sig, frame)
        self.service.stopping = True


def here_only(host: str) -> bool:
    """Return whether nobody but this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a listening socket and the URL that it is reached by; port 0 takes any that is free.

    Raises UsageError when the address is not this machine's, or taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server((address[0], port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(
            f"cannot serve at {host}, port {port}: {reason}", "choose another: --port 8001, or --port 0 for any"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return listening, f"http://{shown}:{listening.getsockname()[1]}"


def run(server: Server, listening: socket.socket) -> bool:
    """Serve until SIGINT or SIGTERM, and return whether all that was under way then was finished; for the main thread."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays: looking through it again and again would hold up a request now and then
    try:
        server.run([listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again, once it has stopped
        pass
    return not server.service.room.cut_short


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep tracebacks out of the log, whose last lines may quote what was sent."""
    record.exc_info = None
    return True
