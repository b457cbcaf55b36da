"""weaviate — Weaviate collections.

In    weaviate://host:8080/Books?column=title&tenant=me&grpc=50051&tls=yes       WEAVIATE_API_KEY; grpc may be HOST:PORT too
Out   Space                   pages in the order of Weaviate's ids, which are UUIDs
Uses  stores.collection; weaviate-client

An id that is no UUID becomes one, and is kept in a property and restored. Keys of the payload that are new become properties,
whose type their first value tells: text, truth values, numbers, whole numbers, lists of text. What does not fit is kept as JSON
text in one property and restored: nothing (null), nested values, a value of another type, a name that Weaviate refuses. Under
cosine Weaviate scales rows to unit length: crossvec keeps the length of each. Collections tell their dimension only by rows,
so new ones tell it in their description. Not written: collections with several vectors a row, which writing would replace. Not
read: many rows an object; blobs, references and settings are left behind. Not tried on a real server yet: see tests/recorded.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import Collection, chosen
from crossvec.stores.documents import ID, NORM, REST, names, pack, plain
from crossvec.stores.rows import Key, Layout, Page, uuid_of

METRICS = {"cosine": "cosine", "dot": "dot", "l2-squared": "euclidean"}
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "boolean": (bool,),
    "int": (int,),
    "number": (int, float),
    "text[]": (list,),
}
HIDDEN = (REST, ID)  # properties that nobody searches for
FIRST = "00000000-0000-0000-0000-000000000000"
WHOLE = 2**53
NAME = re.compile("[_a-z][_0-9A-Za-z]{0,230}")
SAMPLED = 16


class WeaviateCollection(Collection):
    """A Weaviate collection, or one tenant of it."""

    format = "weaviate"
    module = "weaviate"
    extra = "weaviate"
    options = frozenset({"tls", "tenant", "grpc"})
    page_rows = 500
    put_rows = 500

    @property
    def name(self) -> str:
        """The collection's name, which Weaviate begins with a capital."""
        name = super().name
        return name[:1].upper() + name[1:]

    def _connect(self) -> Any:
        host, port, _ = self.address.split()
        if not host:
            raise StoreError(f"{self.address.url} names no host", f"write weaviate://localhost:8080/{self.name}")
        grpc, secret = self.address.options.get("grpc", "50051"), self.secret()
        grpc_host, _, grpc_port = grpc.rpartition(":")
        if not grpc_port.isdigit():
            raise StoreError(f"grpc={grpc} is not possible for {self.address.url}", "give a port, or HOST:PORT")
        client = self.client_library().connect_to_custom(
            http_host=host,
            http_port=port or (443 if self.tls() else 8080),
            http_secure=self.tls(),
            grpc_host=grpc_host or host,
            grpc_port=int(grpc_port),
            grpc_secure=self.tls(),
            auth_credentials=self.client_library("weaviate.classes.init").Auth.api_key(secret) if secret else None,
            skip_init_checks=True,  # they ask PyPI for the client's newest version
        )
        try:  # the client would try for a minute
            socket.create_connection((grpc_host or host, int(grpc_port)), 10).close()
        except OSError as error:
            client.close()
            told = f"nothing answers gRPC for {self.address.url} at {grpc_host or host}:{grpc_port}: {error}"
            raise StoreError(told, "without grpc=, port 50051 is meant: write ?grpc=PORT or ?grpc=HOST:PORT") from None
        return client

    def _shared(self) -> Hashable:
        return self.server(), self.address.options.get("grpc")

    def _names(self, client: Any) -> list[str]:
        return sorted(client.collections.list_all(simple=True))

    def _held(self, client: Any) -> Any:
        tenant = self.address.options.get("tenant")
        held = client.collections.get(self.name)
        return held.with_tenant(tenant) if tenant else held

    def _look(self, client: Any) -> Layout | None:
        if not client.collections.exists(self.name):
            return None
        held = self._held(client)
        told = held.config.get()
        if told.multi_tenancy_config.enabled != ("tenant" in self.address.options):
            what = "has tenants" if told.multi_tenancy_config.enabled else "has no tenants"
            raise StoreError(
                f"{self.address.url} {what}", "name one: ?tenant=NAME" if what == "has tenants" else "leave tenant= out"
            )
        named = sorted(told.vector_config or {})
        vector = chosen(named, self) if named else "default"
        index = told.vector_config[vector].vector_index_config if named else told.vector_index_config
        if getattr(index, "multi_vector", None) is not None:
            raise StoreError(f"{self.address.url} holds many vectors an object", "choose a vector with one: ?column=NAME")
        sample = held.query.fetch_objects(limit=SAMPLED, after=FIRST, include_vector=[vector] if named else True).objects
        lengths = [len(it.vector[vector]) for it in sample if it.vector.get(vector)]
        described = re.search(r"(\d+) dimensions", told.description or "")
        if not lengths and not described:
            hint = "write rows to it with Weaviate first, or to a new name"
            raise StoreError(f"{self.address.url} holds no rows, so no dimension either", hint)
        distance = getattr(index, "distance_metric", None)
        distance = str(getattr(distance, "value", distance))
        kinds = {it.name: str(getattr(it.data_type, "value", it.data_type)) for it in told.properties}
        return Layout(
            self._count(client),
            lengths[0] if lengths else int(described[1] if described else 0),
            METRICS.get(distance, distance),
            None if distance == "cosine" else False,
            payload=names([dict.fromkeys(kinds), *(self._document(it) for it in sample)]),
            named=tuple(named) if len(named) > 1 else (),
            vector=vector,
            about={"kinds": kinds, "named": named},
        )

    def _document(self, it: Any) -> dict[str, Any]:
        # Weaviate keeps no null: a property that an object lacks is told as None.
        return {name: _plain(value, name) for name, value in it.properties.items() if value is not None}

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        asked = {"include_vector": [layout.vector] if about["named"] else True} if vectors else {"return_properties": []}
        found = self._held(client).query.fetch_objects(limit=limit, after=after or FIRST, **asked).objects
        keys = [str(it.uuid) for it in found]
        values = [it.vector.get(layout.vector) if vectors else None for it in found]
        return Page(keys, values, [self._document(it) if vectors else {} for it in found], keys[-1] if keys else after)

    def _count(self, client: Any) -> int:
        return int(self._held(client).aggregate.over_all(total_count=True).total_count)

    def _create(self, client: Any, like: Description) -> None:
        config = self.client_library("weaviate.classes.config")
        distance = next(distance for distance, metric in METRICS.items() if metric == like.metric)
        index = config.Configure.VectorIndex.hnsw(distance_metric=config.VectorDistances(distance))
        vector = config.Configure.Vectors.self_provided(name=self.column or None, vector_index_config=index)
        own = {name: "text" for name in HIDDEN} | {NORM: "number"}
        properties = [self._property(name, kind) for name, kind in own.items()]
        tenants = config.Configure.multi_tenancy(enabled=True, auto_tenant_creation=True)
        client.collections.create(
            self.name,
            description=f"Written by crossvec: {like.dim} dimensions",
            vector_config=vector,
            properties=properties,
            multi_tenancy_config=tenants if "tenant" in self.address.options else None,
        )

    def _property(self, name: str, kind: str) -> Any:
        config = self.client_library("weaviate.classes.config")
        hidden = {"index_filterable": False, "index_searchable": False} if name in HIDDEN else {}
        return config.Property(name=name, data_type=config.DataType(kind), **hidden)

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        held, kinds, named = self._held(client), layout.about["kinds"], layout.about["named"]
        if len(named) > 1:
            hint = "write to a new collection"
            raise StoreError(f"{self.address.url} holds several vectors a row, and writing one would delete the others", hint)
        for name, kind in _new(rows, kinds).items():
            held.config.add_property(self._property(name, kind))
            kinds[name] = kind
        packed = [pack(row, lambda name, value: name in kinds and _fits(kinds[name], value)) for row in rows]
        data = self.client_library("weaviate.classes.data").DataObject
        objects = [
            data(uuid=key, properties=row, vector={layout.vector: vector} if named else vector)
            for key, vector, row in zip(keys, vectors.tolist(), packed, strict=True)
        ]
        told = held.data.insert_many(objects)
        if told.errors:
            first = min(told.errors)
            hint = "rows before this one may be written: mend it and write again with ?mode=upsert"
            why = f"Weaviate refuses the row {keys[first]!r} of {self.address.url}: {told.errors[first].message}"
            raise StoreError(why, hint)

    def _drop(self, client: Any) -> None:
        if tenant := self.address.options.get("tenant"):
            client.collections.get(self.name).tenants.remove([tenant])
        else:
            client.collections.delete(self.name)

    def _key(self, value: int | str, layout: Layout) -> Key:
        return uuid_of(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if not type(error).__module__.startswith(("weaviate", "grpc", "httpx")):
            return None
        kind, told = type(error).__name__, " ".join(str(error).split())
        if getattr(error, "status_code", None) in (401, 403) or "unauthenticated" in told.lower() or "Permissions" in kind:
            return f"{self.address.url} asks for a key that allows this", "set WEAVIATE_API_KEY"
        if "Connect" in kind or "StartUp" in kind or "failed to connect" in told.lower() or "unavailable" in told.lower():
            hint = "is Weaviate running there? without ports, 8080 is meant for HTTP and 50051 for gRPC: ?grpc=PORT"
            return f"{self.address.url} cannot be reached: {told}", hint
        return f"Weaviate refuses {self.address.url}: {told}", "the answer above says why"


def _new(rows: list[dict[str, Any]], kinds: dict[str, str]) -> dict[str, str]:
    """Return names and types of properties that these rows need and the collection lacks."""
    # Weaviate tells names apart by more than their case only in part: what differs by case alone goes with the rest.
    found: dict[str, str] = {}
    taken = {name.lower() for name in kinds}
    for row in rows:
        for name, value in row.items():
            kind = next((kind for kind in KINDS if _fits(kind, value)), None)
            if (
                kind
                and name.lower() not in taken
                and NAME.fullmatch(name)
                and name not in ("id", "vector", "_id", "_additional")
            ):
                found[name] = kind
                taken.add(name.lower())
    return found


def _fits(kind: str, value: Any) -> bool:
    """Tell whether a property of this type gives a value back as it is."""
    if isinstance(value, bool) or not isinstance(value, KINDS.get(kind, ())):
        return isinstance(value, bool) and kind == "boolean"
    if isinstance(value, list):
        return bool(value) and all(isinstance(it, str) for it in value)
    # Numbers travel as floats; a whole number in a property of other numbers would come back as one.
    return abs(value) <= WHOLE and (kind != "number" or isinstance(value, float)) if isinstance(value, (int, float)) else True


def _plain(value: Any, name: str) -> Any:
    """Return a property's value as JSON holds it; coordinates and telephone numbers as what they consist of."""
    if isinstance(value, dict):
        return {key: _plain(it, name) for key, it in value.items()}
    if isinstance(value, list):
        return [_plain(it, name) for it in value]
    parts = getattr(value, "model_dump", None) or getattr(value, "_to_dict", None)
    if parts is None and hasattr(value, "__dataclass_fields__"):
        return {key: _plain(getattr(value, key), name) for key in value.__dataclass_fields__}
    return plain(parts() if parts else value, name)
