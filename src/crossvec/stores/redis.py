"""redis — hashes of Redis or Valkey with a field of vector bytes, one hash a row, under one prefix: no module is needed.

In    redis://host:6379/books?column=embedding&db=0&dtype=float32&tls=yes    user@host works; REDIS_PASSWORD holds the password
Out   Space                                                                  the hashes books:*, in the order of their keys
Uses  stores.collection; redis

A row's id is what follows `books:` in its key, so no other collection may be called `books:…`. A field of bytes whose length is
that of float32 numbers (or of float64 or float16, as `dtype` says) is a vector, other fields are payload and text. What else
a payload holds is kept as JSON text in one field and restored. Dimension, metric and kind of ids of a collection of crossvec's
are kept in the hash `crossvec:books`; of others no metric is known. All keys are listed when reading begins (about 100
bytes each in memory), since Redis has no order of its own. Left behind: search indexes (FT.CREATE … ON HASH makes one of what
crossvec writes), expiry times. Not read: JSON documents, vector sets, clusters of several nodes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import Collection, chosen
from crossvec.stores.documents import names, pack
from crossvec.stores.rows import Key, Layout, Page

DTYPES = ("float32", "float64", "float16")
SAMPLED = 16
LISTED = 10_000  # keys that one SCAN looks at
LARGEST = 1e9  # embeddings hold no such numbers, and other bytes that are read as floats soon do


class RedisHashes(Collection):
    """The hashes under a prefix."""

    format = "redis"
    module = "redis"
    extra = "redis"
    options = frozenset({"db", "dtype", "tls"})
    page_rows = 1000
    put_rows = 1000

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers in a field of bytes."""
        asked = self.address.options.get("dtype", DTYPES[0])
        if asked not in DTYPES:
            raise StoreError(f"dtype={asked} is not possible for {self.address.url}", f"use one of {', '.join(DTYPES)}")
        return np.dtype(asked).newbyteorder("<")

    @property
    def made(self) -> str:
        """The key that tells about a collection that crossvec made."""
        return f"crossvec:{self.name}"

    def _connect(self) -> Any:
        host, port, _ = self.address.split()
        user, _, host = host.rpartition("@")
        if not host:
            raise StoreError(f"{self.address.url} names no server", "write redis://localhost:6379/prefix")
        # The client's own way of trying again takes 10 seconds, also when the password is wrong.
        wait = self.client_library("redis.backoff").ExponentialBackoff(cap=1, base=0.05)
        client = self.client_library().Redis(
            host=host,
            port=port or 6379,
            db=self._db(),
            username=user or None,
            password=self.secret(),
            ssl=self.tls(),
            socket_connect_timeout=10,
            retry=self.client_library("redis.retry").Retry(wait, 3),
        )
        client.ping()
        return client

    def _db(self) -> int:
        asked = self.address.options.get("db", "0")
        if not asked.isdigit():
            raise StoreError(f"db={asked} is not possible for {self.address.url}", "use a number: db=0")
        return int(asked)

    def _shared(self) -> Hashable:
        return self.server(), self._db()

    def _names(self, client: Any) -> list[str]:
        keys = islice(client.scan_iter(count=LISTED, _type="hash"), LISTED)
        told = (key.decode(errors="replace").rpartition(":") for key in keys)
        return sorted({name if prefix == "crossvec" else prefix for prefix, _, name in told if prefix})

    def _keys(self, client: Any) -> list[bytes]:
        pattern = "".join(f"[{letter}]" if letter in "*?[" else "\\\\" if letter == "\\" else letter for letter in self.name)
        return sorted(set(client.scan_iter(match=f"{pattern}:*", count=LISTED, _type="hash")))  # SCAN may give a key twice

    def _look(self, client: Any) -> Layout | None:
        made = {name.decode(): value.decode() for name, value in client.hgetall(self.made).items()}
        keys = self._keys(client)
        if not made and not keys:
            return None
        rows = [row for row in _hashes(client, keys[:SAMPLED]) if row]
        named = [made["vector"]] if made else self._vectors(rows)
        vector = chosen(named, self)
        return Layout(
            len(keys),
            int(made["dim"]) if made else self._dim(vector, rows),
            made.get("metric"),
            False,
            made.get("dtype", self.dtype.name),
            made.get("ids", "text"),
            names(_document(row, named) for row in rows),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={"keys": keys, "vectors": named},
        )

    def _vectors(self, rows: list[dict[bytes, bytes]]) -> list[str]:
        """Return the fields that hold vectors, as far as some rows tell."""
        fields = dict.fromkeys(name for row in rows for name in row)
        found = []
        for name in fields:
            held = [row[name] for row in rows if name in row]
            if (self.column and name.decode(errors="replace") == self.column) or all(map(self._is_vector, held)):
                found.append(name.decode(errors="replace"))
        return found

    def _is_vector(self, value: bytes) -> bool:
        if not value or len(value) % self.dtype.itemsize or all(32 <= byte < 127 for byte in value):
            return False
        with np.errstate(invalid="ignore"):
            return bool((np.abs(np.frombuffer(value, self.dtype)) < LARGEST).all())

    def _dim(self, vector: str, rows: list[dict[bytes, bytes]]) -> int:
        held = next(row[vector.encode()] for row in rows if vector.encode() in row)
        if not held or len(held) % self.dtype.itemsize:
            told = f"the field {vector!r} of {self.address.url} holds {len(held)} bytes, which are no {self.dtype.name} numbers"
            raise StoreError(told, "name another field, or the type of its numbers: ?column=FIELD&dtype=float64")
        return len(held) // self.dtype.itemsize

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        keys, start = layout.about["keys"], 0
        if after is not None:
            start = bisect_right(keys, after.encode(errors="surrogateescape"))
        while True:
            wanted = keys[start : start + limit]
            last = wanted[-1].decode(errors="surrogateescape") if wanted else after
            if not vectors or not wanted:
                return Page([self._id_of(key, layout) for key in wanted], [None] * len(wanted), [{}] * len(wanted), last)
            rows = [(key, row) for key, row in zip(wanted, _hashes(client, wanted), strict=True) if row]
            if rows:
                break
            start += len(wanted)  # all of these were deleted after their keys were listed
        values = [self._vector(key, row.get(layout.vector.encode()), np.dtype(layout.dtype)) for key, row in rows]
        found = [_document(row, layout.about["vectors"]) for _, row in rows]
        return Page([self._id_of(key, layout) for key, _ in rows], values, found, last)

    def _vector(self, key: bytes, value: bytes | None, dtype: np.dtype[Any]) -> Any:
        if value is not None and len(value) % dtype.itemsize:
            told = f"the vector of {key.decode(errors='backslashreplace')} has {len(value)} bytes, which are no {dtype} numbers"
            raise StoreError(told, "name the type of its numbers, ?dtype=float64, or mend that row")
        return None if value is None else np.frombuffer(value, dtype.newbyteorder("<"))

    def _id_of(self, key: bytes, layout: Layout) -> int | str:
        text = key.decode(errors="backslashreplace").removeprefix(f"{self.name}:")
        return int(text) if layout.id_type == "integer" else text

    def _count(self, client: Any) -> int:
        return len(self._keys(client))

    def _create(self, client: Any, like: Description) -> None:
        told = {"dim": like.dim, "metric": like.metric, "dtype": self.dtype.name, "ids": like.id_type or "text"}
        client.hset(self.made, mapping=told | {"vector": self.column or "embedding"})

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        sent = vectors.astype(np.dtype(layout.dtype).newbyteorder("<"))
        named = [f"{self.name}:{key}" for key in keys]
        others = set(layout.about["vectors"]) - {layout.vector}
        with client.pipeline(transaction=False) as pipeline:
            for name in named if others else ():
                pipeline.hkeys(name)
            held = pipeline.execute() if others else [[]] * len(named)
        with client.pipeline(transaction=True) as pipeline:
            for name, fields, vector, row in zip(named, held, sent, rows, strict=True):
                gone = [field for field in fields if field.decode(errors="replace") not in others]
                if gone:
                    pipeline.hdel(name, *gone)
                elif not others:
                    pipeline.delete(name)
                packed = pack(row, lambda field, value: isinstance(value, str) and field not in layout.about["vectors"])
                pipeline.hset(name, mapping={**packed, layout.vector: vector.tobytes()})
            pipeline.execute()

    def _drop(self, client: Any) -> None:
        keys = self._keys(client)
        for start in range(0, len(keys), LISTED):
            client.unlink(*keys[start : start + LISTED])
        client.unlink(self.made)

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int):
            hint = "write to a new prefix: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        errors = self.client_library("redis.exceptions")
        if not isinstance(error, errors.RedisError):
            return None
        if isinstance(error, (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError)) or (
            "NOAUTH" in str(error)
        ):
            return f"{self.address.url} asks for a password that allows this: {error}", "set REDIS_PASSWORD"
        if isinstance(error, (errors.ConnectionError, errors.TimeoutError)):
            return f"{self.address.url} cannot be reached: {error}", "is Redis running there? without a port, 6379 is meant"
        return f"Redis refuses {self.address.url}: {error}", "the answer above says why"


def _hashes(client: Any, keys: list[bytes]) -> list[dict[bytes, bytes]]:
    """Return hashes in one round trip; a key that is gone, or no hash any more, is empty."""
    if not keys:
        return []
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        rows = pipeline.execute(raise_on_error=False)
    for row in rows:
        if isinstance(row, Exception) and not str(row).startswith("WRONGTYPE"):
            raise row
    return [row if isinstance(row, dict) else {} for row in rows]


def _document(row: dict[bytes, bytes], vectors: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for field, value in row.items():
        name = field.decode(errors="replace")
        if name not in vectors:
            try:
                document[name] = value.decode()
            except UnicodeDecodeError:
                document[name] = value
    return document
