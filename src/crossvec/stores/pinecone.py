"""pinecone — Pinecone's serverless indexes of vectors, one namespace at a time.

In    pinecone://books?namespace=en&cloud=aws&region=us-east-1         PINECONE_API_KEY; cloud and region are for new indexes
      pinecone://localhost:5080/books                                  Pinecone Local
Out   Space                   pages in the order of ids: Pinecone can list ids and fetch their rows, 100 at a time
Uses  stores.collection; pinecone

Ids are ASCII text of at most 512 characters; any other is restored from the metadata. Metadata are text, truth values, numbers
and lists of text, 40 KB a row: nothing (null), nested values, other lists and whole numbers above 2**53 are kept as JSON text
in one field and restored; rows with more are refused. Pinecone keeps all numbers as floats: whole ones become integers again.
What is written can be read a little later: writing waits until it can be. Deleting empties the namespace that the address
names, or deletes the index when it has no other. Not read: indexes in pods, those of documents; sparse values are left behind.
Not tried on the real service yet: see tests/recorded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.collection import Collection
from crossvec.stores.documents import names, pack
from crossvec.stores.rows import Key, Layout, Page, uuid_of

METRICS = {"cosine": "cosine", "dotproduct": "dot", "euclidean": "euclidean"}
DEFAULT = "__default__"
KEY_LENGTH = 512
METADATA_BYTES = 40 * 1024
URL_LENGTH = 4000  # of the ids in one request to fetch, which go into its address
WHOLE = 2**53
SAMPLED = 16
PATIENCE = 60.0  # seconds in which what was written must become readable


@dataclass
class Pine:
    """Pinecone's client, with the handles of indexes and how many rows were written since they were last counted."""

    client: Any
    indexes: dict[str, Any] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)


class PineconeIndex(Collection):
    """A namespace of a Pinecone index."""

    format = "pinecone"
    module = "pinecone"
    extra = "pinecone"
    options = frozenset({"namespace", "cloud", "region", "tls"})
    page_rows = 100
    put_rows = 100
    put_bytes = 300_000  # a request may have 2 MB, and numbers are longer as text

    @property
    def name(self) -> str:
        """The index's name."""
        host, _, parts = self.address.split()
        return parts[-1] if parts else host

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self.address.options.get("namespace") or DEFAULT

    def _connect(self) -> Pine:
        host, port, parts = self.address.split()
        secret = self.secret()
        elsewhere: dict[str, Any] = {}
        if parts:
            elsewhere["host"] = f"http{'s' if self.tls() else ''}://{host}" + (f":{port}" if port else "")
            if elsewhere["host"].startswith("http:"):
                secret = secret or "pclocal"
                elsewhere["ssl_verify"] = False  # there is nothing to verify, and certificates take a while to load
        if not secret:
            raise StoreError(f"{self.address.url} asks for a key", "set PINECONE_API_KEY")
        return Pine(self.client_library().Pinecone(api_key=secret, **elsewhere))

    def _close(self, client: Pine) -> None:
        for each in (*client.indexes.values(), client.client):
            if hasattr(each, "close"):
                each.close()

    def _shared(self) -> Hashable:
        host, port, parts = self.address.split()
        return (host, port) if parts else None, self.address.options.get("tls"), self.secret()

    def _names(self, client: Pine) -> list[str]:
        return sorted(it.name for it in client.client.list_indexes())

    def _look(self, client: Pine) -> Layout | None:
        try:
            told = client.client.describe_index(self.name)
        except self.client_library().NotFoundException:
            client.indexes.pop(self.name, None)
            return None
        dim, metric = self._shape(told)
        counts = self._counts(client)
        if "namespace" not in self.address.options and not counts.get(DEFAULT) and counts:
            hint = f"choose one: {with_option(self.address.url, f'namespace={min(counts)}')}; for none, namespace={DEFAULT}"
            raise StoreError(f"the rows of {self.address.url} lie in namespaces: {', '.join(sorted(counts))}", hint)
        layout = Layout(counts.get(self.namespace, 0), dim, METRICS.get(metric, metric), False)
        sample = self._page(client, layout, None, SAMPLED, True).documents
        return Layout(layout.rows, dim, layout.metric, False, payload=names(sample))

    def _index(self, client: Pine) -> Any:
        if self.name not in client.indexes:
            client.indexes[self.name] = self._opened(client, client.client.describe_index(self.name))
        return client.indexes[self.name]

    def _opened(self, client: Pine, told: Any) -> Any:
        host = str(told.host)
        if self.address.split()[2] and not self.tls():  # Pinecone Local speaks without TLS, and its client assumes it
            host = "http://" + host.removeprefix("https://").removeprefix("http://")
        return client.client.Index(host=host)

    def _shape(self, told: Any) -> tuple[int, str]:
        fields = getattr(getattr(told, "schema", None), "fields", None)
        if fields is not None and not set(fields) & {"_values"}:
            raise StoreError(f"{self.address.url} holds documents or sparse vectors", "name an index of dense vectors")
        if not getattr(told, "dimension", None):
            raise StoreError(f"{self.address.url} holds no dense vectors", "name another index")
        return int(told.dimension), str(getattr(told.metric, "value", told.metric))

    def _counts(self, client: Pine) -> dict[str, int]:
        told = self._index(client).describe_index_stats().namespaces
        return {name or DEFAULT: int(each.vector_count) for name, each in told.items() if each.vector_count}

    def _page(self, client: Pine, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        index = self._index(client)
        while after != "":
            told = index.list_paginated(limit=limit, namespace=self.namespace, **({"pagination_token": after} if after else {}))
            keys = [it.id for it in told.vectors]
            after = (told.pagination.next if told.pagination else None) or ""
            found = self._fetched(client, keys) if vectors else {}
            keys = [key for key in keys if key in found] if vectors else keys  # the others are deleted by now
            if keys:
                rows = [found[key].metadata or {} for key in keys] if vectors else [{} for _ in keys]
                values = [found[key].values or None for key in keys] if vectors else [None] * len(keys)
                return Page(keys, values, [{name: _number(it) for name, it in row.items()} for row in rows], after)
        return Page([], [], [], "")

    def _fetched(self, client: Pine, keys: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for some in _portions(keys):
            found |= self._index(client).fetch(ids=some, namespace=self.namespace).vectors
        return found

    def _count(self, client: Pine) -> int:
        written, until = client.written.pop(self.address.url, 0), time.monotonic() + PATIENCE
        while (rows := self._counts(client).get(self.namespace, 0)) < written and time.monotonic() < until:
            time.sleep(0.5)
        return rows

    def _create(self, client: Pine, like: Description) -> None:
        metric = next(name for name, metric in METRICS.items() if metric == like.metric)
        where = {"cloud": "aws", "region": "us-east-1"}
        where |= {name: self.address.options[name] for name in where if name in self.address.options}
        spec = self.client_library().ServerlessSpec(**where)
        client.client.create_index(name=self.name, dimension=like.dim, metric=metric, spec=spec)

    def _put(
        self, client: Pine, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        packed = [pack(row, _fits) for row in rows]
        for key, row in zip(keys, packed, strict=True):
            if (size := len(json.dumps(row, ensure_ascii=False).encode())) > METADATA_BYTES:
                told = f"the payload of row {key!r} has {size:,} bytes, and Pinecone keeps 40 KB a row"
                raise StoreError(told, f"shorten it, or leave the payload behind: {with_option(self.address.url, 'keep=ids')}")
        given = [
            {"id": key, "values": vector, **({"metadata": row} if row else {})}
            for key, vector, row in zip(keys, vectors.tolist(), packed, strict=True)
        ]
        self._index(client).upsert(vectors=given, namespace=self.namespace)
        client.written[self.address.url] = client.written.get(self.address.url, 0) + len(keys)
        until = time.monotonic() + PATIENCE
        while len(self._fetched(client, keys)) < len(keys):
            if time.monotonic() > until:
                hint = "write again with ?mode=upsert: rows that are there already stay as they are"
                raise StoreError(f"rows written to {self.address.url} cannot be read after {PATIENCE:.0f} s", hint)
            time.sleep(0.5)

    def _drop(self, client: Pine) -> None:
        if "namespace" in self.address.options:
            self._index(client).delete(delete_all=True, namespace=self.namespace)
            return
        if others := set(self._counts(client)) - {DEFAULT}:
            hint = "empty one of them: ?namespace=NAME"
            raise StoreError(
                f"{self.address.url} holds other namespaces, which would go too: {', '.join(sorted(others))}", hint
            )
        client.client.delete_index(self.name)
        client.indexes.pop(self.name, None)

    def _key(self, value: int | str, layout: Layout) -> Key:
        text = str(value)
        return text if text.isascii() and 0 < len(text) <= KEY_LENGTH and "\0" not in text else uuid_of(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        kind = type(error).__name__
        if not type(error).__module__.startswith(("pinecone", "httpx", "urllib3")):
            return None
        status = getattr(error, "status_code", getattr(error, "status", None))
        if status in (401, 403):
            return f"{self.address.url} asks for a key that allows this", "set PINECONE_API_KEY"
        if status is None and ("Connection" in kind or "Timeout" in kind or "Connect" in kind or "Retry" in kind):
            return f"{self.address.url} cannot be reached: {error}", "is there a way to Pinecone from here?"
        return f"Pinecone refuses {self.address.url}: {error}", "the answer above says why"


def _portions(keys: list[str]) -> Iterator[list[str]]:
    """Yield ids in portions that fit into the address of a request, where a character may take three."""
    start = length = 0
    for stop, key in enumerate(keys):
        if stop > start and length + 3 * len(key) + 5 > URL_LENGTH:
            yield keys[start:stop]
            start, length = stop, 0
        length += 3 * len(key) + 5
    if keys:
        yield keys[start:]


def _fits(name: str, value: Any) -> bool:
    """Tell whether Pinecone's metadata hold a value as it is."""
    if not name or name.startswith("$"):
        return False
    if isinstance(value, list):
        return bool(value) and all(isinstance(it, str) for it in value)
    if isinstance(value, (bool, str)):
        return True
    return isinstance(value, (int, float)) and abs(value) <= WHOLE


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= WHOLE else value
