"""recorded — small servers that answer as the official API documents say, for databases that cannot run here.

In    an App: what a server answers to (method, path, query, headers, body)
Out   serve(app): its address, while real clients talk HTTP to it

Each sibling module says which documents it was written from, what it does as they say and what it leaves out. What is not in
the documents is refused, as the servers refuse it, so that a call that nobody has read about fails here. This is no proof that
a real server agrees: for that, name one in CROSSVEC_TEST_STORES (see tests/servers.py).
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    """One request, decoded."""

    method: str
    path: list[str]  # decoded parts
    query: dict[str, list[str]]
    headers: dict[str, str]  # lower-case names
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text.strip() else {}

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


@dataclass
class Answer:
    """What is sent back: `body` as JSON unless it is None."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class App(Protocol):
    """A server's answers. `seen` keeps all requests, for tests that ask what was sent."""

    seen: list[Request]

    def answer(self, request: Request) -> Answer: ...


class Refused(Exception):
    """Raised by an App for an answer that is an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


@contextmanager
def serve(app: App) -> Iterator[str]:
    """Answer on a free port of this machine; yields host:port."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _answer(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            url = urlsplit(self.path)
            request = Request(
                self.command,
                [unquote(part) for part in url.path.split("/") if part],
                parse_qs(url.query, keep_blank_values=True),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(size).decode(),
            )
            with lock:
                app.seen.append(request)
                try:
                    told = app.answer(request)
                except Refused as refused:
                    told = refused.answer
                except Exception:  # a fault of the App: told, for a dead connection tells nothing
                    told = Answer({"error": traceback.format_exc()}, 400)
            content = b"" if told.body is None else json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in ({"content-type": "application/json"} | told.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
