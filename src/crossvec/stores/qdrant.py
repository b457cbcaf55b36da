"""qdrant — Qdrant collections: a server, Qdrant Cloud, or the client's local mode, which keeps collections in a folder.

In    qdrant://host:6333/books?column=title&tls=yes     QDRANT_API_KEY holds the key, when the server wants one
      qdrant:///folder/books                            local mode: for small collections; every written point is synced to disk
Out   Space                                             ids and payload are kept as they are; pages in the order of point ids
Uses  stores.collection; qdrant-client

Qdrant takes ids that are whole numbers from 0 to 2**64 - 1 or UUIDs; any other is kept in the payload and restored on reading.
Under cosine Qdrant scales rows to unit length (local mode until its folder is opened again): crossvec keeps the length of each
row in the payload, to restore it. The last digit of a float in the payload may change.
Collections of named vectors are read and written by `column`; writing keeps a point's other vectors. Not read: sparse vectors,
and multivectors (many rows a point), which are refused. Left behind: index settings, quantisation.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import chosen
from crossvec.stores.documents import norm_key
from crossvec.stores.rows import Key, Layout, Page, packed, uuid_of
from crossvec.stores.switching import Switching

METRICS = {"Cosine": "cosine", "Dot": "dot", "Euclid": "euclidean"}
DISTANCES = {metric: distance for distance, metric in METRICS.items()}
LARGEST = 2**64
SAMPLED = 16  # rows whose payload is looked at to name its columns: Qdrant keeps no list of them


class QdrantCollection(Switching):
    """A Qdrant collection."""

    format = "qdrant"
    module = "qdrant_client"
    extra = "qdrant"
    options = frozenset({"tls"})
    page_rows = 2048
    put_rows = 1024
    by_hand = "let your application ask for an alias (update_collection_aliases), and name that alias as SOURCE"

    @property
    def local(self) -> bool:
        """Whether the collection lies in a folder on this machine."""
        return not self.address.split()[0]

    def _connect(self) -> Any:
        client = self.client_library().QdrantClient
        host, port, parts = self.address.split()
        if not self.local:
            prefix = "/".join(parts[:-1]) or None
            secret = self.secret()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a key without TLS: that was asked for, or stays on this machine
                return client(
                    host=host, port=port or 6333, prefix=prefix, https=self.tls(), api_key=secret, check_compatibility=False
                )
        return client(path=str(self.address.folder()[0]))

    def _shared(self) -> Hashable:
        return str(self.address.folder()[0].absolute()) if self.local else self.server()

    def _names(self, client: Any) -> list[str]:
        return sorted(it.name for it in client.get_collections().collections)

    def _look(self, client: Any) -> Layout | None:
        if not client.collection_exists(self.name):
            return None
        vectors = client.get_collection(self.name).config.params.vectors
        named = sorted(vectors) if isinstance(vectors, dict) else []
        vector = chosen(named, self) if isinstance(vectors, dict) or self.column else ""
        told = vectors[vector] if isinstance(vectors, dict) else vectors
        if told is None:
            raise StoreError(f"{self.address.url} holds no dense vectors", "name another collection")
        if told.multivector_config:
            hint = "choose a vector with one row a point: ?column=NAME"
            raise StoreError(f"{self.address.url} holds many vectors a point, as late interaction needs", hint)
        distance = getattr(told.distance, "value", str(told.distance))
        return Layout(
            self._count(client),
            told.size,
            METRICS.get(distance, distance.lower()),
            (None if self.local else True) if distance == "Cosine" else False,
            getattr(told.datatype, "value", None) or "float32",
            payload=payload_names(client.scroll(self.name, limit=SAMPLED, with_payload=True)[0]),
            named=tuple(named),
            vector=vector,
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        if after == "":
            return Page([], [], [], "")
        wanted = [layout.vector] if layout.vector else True
        points, following = client.scroll(
            self.name, limit=limit, offset=after, with_payload=vectors, with_vectors=wanted if vectors else False
        )
        return page(points, following, layout)

    def _count(self, client: Any) -> int:
        return int(client.count(self.name, exact=True).count)

    def _create(self, client: Any, like: Description) -> None:
        models = self.client_library("qdrant_client.models")
        params = models.VectorParams(size=like.dim, distance=models.Distance(DISTANCES[str(like.metric)]))
        client.create_collection(self.name, vectors_config={self.column: params} if self.column else params)

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        models = self.client_library("qdrant_client.models")
        if not layout.vector:
            client.upsert(self.name, models.Batch(ids=keys, vectors=vectors.tolist(), payloads=rows), wait=True)
            return
        several = len(layout.named) > 1
        held = client.retrieve(self.name, keys, with_payload=True, with_vectors=True) if several else []
        values, rows = merged(keys, vectors.tolist(), rows, layout, held)
        points = [models.PointStruct(id=key, vector=it, payload=row) for key, it, row in zip(keys, values, rows, strict=True)]
        client.upsert(self.name, points, wait=True)

    def _drop(self, client: Any) -> None:
        client.delete_collection(self.name)

    def _behind(self, client: Any) -> str | None:
        return next((it.collection_name for it in client.get_aliases().aliases if it.alias_name == self.name), None)

    def _point(self, client: Any, old: str, new: str) -> None:
        models = self.client_library("qdrant_client.models")
        gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.name))
        made = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=new, alias_name=self.name))
        client.update_collection_aliases([gone, made])

    def _key(self, value: int | str, layout: Layout) -> Key:
        return point_id(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        kind = type(error).__name__
        if kind == "ResponseHandlingException":
            return f"{self.address.url} cannot be reached: {error}", "is Qdrant running there? without a port, 6333 is meant"
        if kind == "UnexpectedResponse":
            status = getattr(error, "status_code", None)
            if status in (401, 403):
                return f"{self.address.url} asks for a key that allows this", "set QDRANT_API_KEY"
            return f"Qdrant refuses {self.address.url}: {error}", "the answer above says why"
        if self.local and kind in ("RuntimeError", "AlreadyLocked"):
            folder: Path = self.address.folder()[0]
            return f"{folder} cannot be opened: {error}", "end the other program that has it open"
        return None


def point_id(value: int | str) -> int | str:
    """Return the point id for an id: itself when Qdrant takes it, a UUID made from it otherwise."""
    return value if isinstance(value, int) and 0 <= value < LARGEST else uuid_of(value)


def merged(
    keys: list[Key], vectors: list[Any], rows: list[dict[str, Any]], layout: Layout, held: list[Any]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return vectors and payload as Qdrant takes them, with what the points hold of their other named vectors.

    An upsert replaces whole points, so that these vectors, and their lengths in the payload, have to be written again.
    """
    if not layout.vector:
        return vectors, rows
    others = {str(point.id): dict(point.vector or {}) for point in held}
    lengths = {str(point.id): _lengths(point.payload or {}, layout) for point in held}
    values = [{**others.get(str(key), {}), layout.vector: row} for key, row in zip(keys, vectors, strict=True)]
    return values, [{**lengths.get(str(key), {}), **row} for key, row in zip(keys, rows, strict=True)]


def _lengths(payload: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return the lengths that a point's payload keeps of its other vectors."""
    kept = {norm_key(name) for name in layout.named if name != layout.vector}
    return {key: value for key, value in payload.items() if key in kept}


def payload_names(points: list[Any]) -> tuple[str, ...]:
    """Return the payload's keys in some points."""
    return tuple(dict.fromkeys(key for point in points for key in point.payload or {}))


def page(points: list[Any], following: Any, layout: Layout) -> Page:
    """Return what a scroll gave as a Page; an empty text as `after` means that nothing follows."""
    coming = ((it.vector or {}).get(layout.vector) if layout.vector else it.vector for it in points)
    after = "" if following is None else following if isinstance(following, int) else str(following)
    vectors = packed(coming, len(points), layout.dim)
    return Page([it.id for it in points], vectors, [it.payload or {} for it in points], after)
