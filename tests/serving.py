"""serving — a real server for the tests, in a thread of this process, and a client that speaks HTTP to it over a socket."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI

from crossvec.service import app, running
from crossvec.service.catalogue import Catalogue
from crossvec.service.limits import Limits

NPY, JSON = "application/x-npy", "application/json"


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which every refusal has in the same shape."""
        told = self.json()["error"]
        assert set(told) == {"message", "type", "param", "code"}
        assert told["message"] and "Traceback" not in told["message"]
        return told

    def rows(self) -> np.ndarray:
        return np.load(io.BytesIO(self.body), allow_pickle=False)


@dataclass
class Client:
    """Asks a server, one connection a request."""

    port: int
    key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, kind: str | None = None, **headers: str) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Content-Type": kind} if kind else {}
        given |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, told: Any) -> Reply:
        """Post JSON."""
        return self.ask("POST", path, json.dumps(told).encode(), JSON)

    def npy(self, path: str, rows: np.ndarray) -> Reply:
        return self.ask("POST", path, npy(rows), NPY)

    @contextmanager
    def half(self, path: str, body: bytes, kind: str = NPY) -> Iterator[socket.socket]:
        """Send the head and half of a body, and hold the connection: a request under way."""
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(head.encode() + body[: len(body) // 2])
            yield connection


def rest(connection: socket.socket, body: bytes) -> Reply:
    """Send the other half of a body and read the answer."""
    connection.sendall(body[len(body) // 2 :])
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def npy(rows: np.ndarray) -> bytes:
    """The rows as numpy.save writes them."""
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=True)
    return file.getvalue()


@contextmanager
def listening(answers: FastAPI, grace: int = 10) -> Iterator[tuple[running.Server, Client]]:
    """Run an application's server until the block ends."""
    place, _ = running.bind("127.0.0.1", 0)
    server = running.Server(answers, grace)
    thread = threading.Thread(target=server.run, args=([place],), daemon=True)
    thread.start()
    try:
        yield server, Client(place.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def serving(catalogue: Catalogue, key: str | None = None, **limits: Any) -> Iterator[Client]:
    """Serve a catalogue while the block runs."""
    with listening(app.application(catalogue, Limits(**limits), threads=2, key=key)) as (_, client):
        client.key = key
        yield client
