"""qdrant_edge — shards of Qdrant Edge: Qdrant's own engine inside this process, one collection a folder.

In    qdrant-edge:///folder/books?column=title
Out   Space                                    as from a Qdrant server: ids and payload as they are, cosine rows at unit length
Uses  stores.collection, stores.qdrant; qdrant-edge-py

What Qdrant keeps and cannot keep is told in stores.qdrant; the lengths of rows under cosine are kept here as there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import Collection, chosen
from crossvec.stores.qdrant import DISTANCES, METRICS, SAMPLED, merged, page, payload_names, point_id
from crossvec.stores.rows import Key, Layout, Page

CONFIG = "edge_config.json"


@dataclass
class Folder:
    """A shard's folder, and the shard while it is open; there is no shard before it is made."""

    path: Path
    shard: Any = None

    def close(self) -> None:
        """Close the shard, which writes what it still holds."""
        if self.shard is not None:
            self.shard.close()
        self.shard = None


class QdrantEdgeShard(Collection):
    """A Qdrant Edge shard."""

    format = "qdrant-edge"
    module = "qdrant_edge"
    extra = "qdrant-edge"
    page_rows = 8192
    put_rows = 8192

    @property
    def path(self) -> Path:
        """The shard's folder."""
        return Path(*self.address.folder())

    def _connect(self) -> Any:
        if self.address.split()[0]:
            raise StoreError(f"{self.address.url} names a server, and Qdrant Edge has none", "write qdrant://host/collection")
        self.client_library()
        return Folder(self.path)

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        return sorted(it.parent.name for it in client.path.parent.glob(f"*/{CONFIG}"))

    def _shard(self, client: Any) -> Any:
        if client.shard is None:
            client.shard = self.client_library().EdgeShard.load(str(client.path))
        return client.shard

    def _look(self, client: Any) -> Layout | None:
        if not (client.path / CONFIG).is_file():
            return None
        edge = self.client_library()
        vectors = json.loads((client.path / CONFIG).read_text(encoding="utf-8"))["vectors"]
        named = sorted(name for name in vectors if name)
        vector = chosen(named, self) if named or self.column else ""
        told = vectors[vector]
        if told.get("multivector_config"):
            hint = "choose a vector with one row a point: ?column=NAME"
            raise StoreError(f"{self.address.url} holds many vectors a point, as late interaction needs", hint)
        shard = self._shard(client)
        return Layout(
            self._count(client),
            int(told["size"]),
            METRICS.get(told["distance"], told["distance"].lower()),
            told["distance"] == "Cosine",
            (told.get("datatype") or "float32").lower(),
            payload=payload_names(shard.scroll(edge.ScrollRequest(limit=SAMPLED, with_payload=True))[0]),
            named=tuple(named),
            vector=vector,
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        if after == "":
            return Page([], [], [], "")
        wanted: Any = ([layout.vector] if layout.vector else True) if vectors else False
        request = self.client_library().ScrollRequest(offset=after, limit=limit, with_payload=vectors, with_vector=wanted)
        points, following = self._shard(client).scroll(request)
        return page(points, following, layout)

    def _count(self, client: Any) -> int:
        return int(self._shard(client).count(self.client_library().CountRequest(exact=True)))

    def _create(self, client: Any, like: Description) -> None:
        edge = self.client_library()
        params = edge.EdgeVectorParams(size=like.dim, distance=getattr(edge.Distance, DISTANCES[str(like.metric)]))
        client.path.mkdir(parents=True, exist_ok=True)
        config = edge.EdgeConfig(vectors={self.column: params} if self.column else params)
        client.shard = edge.EdgeShard.create(str(client.path), config)
        client.shard.flush()

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        edge, shard = self.client_library(), self._shard(client)
        held = shard.retrieve(keys, True, True) if len(layout.named) > 1 else []
        # Views, and not lists of floats: the engine takes them as they are, and nobody makes an object for each value.
        values, rows = merged(keys, [memoryview(row) for row in vectors], rows, layout, held)
        points = [edge.Point(key, value, row) for key, value, row in zip(keys, values, rows, strict=True)]
        shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()

    def _drop(self, client: Any) -> None:
        client.close()
        shutil.rmtree(client.path)

    def _key(self, value: int | str, layout: Layout) -> Key:
        return point_id(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        # The engine, written in Rust, raises bare Exceptions.
        return (
            (f"Qdrant Edge cannot use {self.path}: {error}", "the answer above says why") if type(error) is Exception else None
        )
