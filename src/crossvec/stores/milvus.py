"""milvus — Milvus collections: a server, Zilliz Cloud, or a file of Milvus Lite.

In    milvus://host:19530/books or milvus://host/db/books?column=vector&tls=yes    MILVUS_TOKEN holds "user:password" or the key
      milvus:///folder/file.db/books                                               Milvus Lite
Out   Space                                                                        pages in the order of the primary key
Uses  stores.collection; pymilvus

Read and written: float and half-float vectors beside a primary key of numbers or text. A collection that crossvec makes has id,
vector and dynamic fields, which hold any JSON; a server takes at most 64 KB of these a row. What a schema of yours cannot hold
is kept as JSON text in a dynamic field; it is refused where there are none. Reading loads a collection, as Milvus needs. Left
behind: index settings (crossvec makes AUTOINDEX), partitions.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import chosen
from crossvec.stores.documents import names, pack
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.switching import Switching

METRICS = {"COSINE": "cosine", "IP": "dot", "L2": "euclidean"}
VECTORS = {"FLOAT_VECTOR": "float32", "FLOAT16_VECTOR": "float16"}
PLAIN = {
    "BOOL": (bool,),
    "INT8": (int,),
    "INT16": (int,),
    "INT32": (int,),
    "INT64": (int,),
    "FLOAT": (float,),
    "DOUBLE": (float,),
    "VARCHAR": (str,),
    "JSON": (dict, list, str, int, float, bool),
}
NOISY = ("grpc._server", "pymilvus.client.iterator.query_iterator")  # each page of a file logs that it has no clock
KEY_BYTES = 65_535
SAMPLED = 16


class MilvusCollection(Switching):
    """A Milvus collection."""

    format = "milvus"
    module = "pymilvus"
    extra = "milvus"
    options = frozenset({"tls"})
    page_rows = 2048
    put_rows = 2048
    renaming = "one after the other"

    @property
    def local(self) -> bool:
        """Whether the collection lies in a file of Milvus Lite."""
        return not self.address.split()[0]

    def _connect(self) -> Any:
        client = self.client_library().MilvusClient
        if self.local:
            self.client_library("milvus_lite")
            for name in NOISY:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            return client(uri=str(self.address.folder()[0]))
        host, port, parts = self.address.split()
        uri = f"{'https' if self.tls() else 'http'}://{host}:{port or 19530}"
        return client(uri=uri, token=self.secret() or "", db_name="/".join(parts[:-1]), timeout=30)

    def _shared(self) -> Hashable:
        return str(self.address.folder()[0].absolute()) if self.local else self.server()

    def _names(self, client: Any) -> list[str]:
        return sorted(client.list_collections())

    def _look(self, client: Any) -> Layout | None:
        if not client.has_collection(self.name):
            return None
        told = client.describe_collection(self.name)
        fields = {field["name"]: field for field in told["fields"]}
        kinds = {name: field["type"].name for name, field in fields.items()}
        named = [name for name, kind in kinds.items() if kind in VECTORS]
        vector = chosen(named, self)
        key = next(name for name, field in fields.items() if field.get("is_primary"))
        client.load_collection(self.name)
        dynamic = told.get("enable_dynamic_field", False)
        own = {name: kind for name, kind in kinds.items() if name != key and not kind.endswith("VECTOR")}
        output = [key, *own, "*"] if dynamic else [key, *own]
        sample = client.query(self.name, filter="", limit=SAMPLED, output_fields=output)
        hidden = {key, *(name for name, kind in kinds.items() if kind.endswith("VECTOR"))}
        found = names({name: value for name, value in row.items() if name not in hidden} for row in sample)
        return Layout(
            self._count(client),
            int(fields[vector]["params"]["dim"]),
            self._metric(client, vector),
            False,
            VECTORS[kinds[vector]],
            "integer" if kinds[key] == "INT64" else "text",
            tuple(dict.fromkeys([*own, *found])),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={"key": key, "kinds": kinds, "own": own, "dynamic": dynamic, "auto": told.get("auto_id", False)},
        )

    def _metric(self, client: Any, vector: str) -> str | None:
        for name in client.list_indexes(self.name):
            told = client.describe_index(self.name, name) or {}
            if told.get("field_name") == vector and (metric := told.get("metric_type")):
                return METRICS.get(metric, str(metric).lower())
        return None

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        key, kinds = about["key"], about["kinds"]
        # The iterator, and no plain query, gives rows in the order of the key.
        rows = client.query_iterator(
            self.name,
            batch_size=limit,
            filter="" if after is None else f"{key} > {_literal(after)}",
            output_fields=(["*"] if about["dynamic"] else [key, layout.vector, *about["own"]]) if vectors else [key],
            consistency_level="Strong",
        )
        try:
            found = rows.next()
        finally:
            rows.close()
        keys = [row.pop(key) for row in found]
        values = [_values(row.get(layout.vector), layout.dtype) for row in found]
        skipped = {name for name, kind in kinds.items() if kind.endswith("VECTOR")}
        documents = [{name: value for name, value in row.items() if name not in skipped} for row in found] if vectors else []
        return Page(keys, values, documents or [{}] * len(keys), keys[-1] if keys else after)

    def _count(self, client: Any) -> int:
        told = client.query(self.name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(told[0]["count(*)"])

    def _create(self, client: Any, like: Description) -> None:
        kinds = self.client_library().DataType
        schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
        if like.id_type == "integer":
            schema.add_field("id", kinds.INT64, is_primary=True)
        else:
            schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=KEY_BYTES)
        vector = self.column or "vector"
        schema.add_field(vector, kinds.FLOAT_VECTOR, dim=like.dim)
        metric = next(name for name, metric in METRICS.items() if metric == like.metric)
        index = client.prepare_index_params()
        index.add_index(vector, index_type="AUTOINDEX", metric_type=metric)
        client.create_collection(self.name, schema=schema, index_params=index, consistency_level="Strong")

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        about = layout.about
        if about["auto"] or len([kind for kind in about["kinds"].values() if kind.endswith("VECTOR")]) > 1:
            what = "gives ids itself" if about["auto"] else "holds several vectors a row, which an upsert would replace"
            raise StoreError(f"{self.address.url} {what}, so rows cannot be written by id", "write to a new collection")
        own = about["own"]

        def fits(name: str, value: Any) -> bool:
            if name in own:
                return isinstance(value, PLAIN.get(own[name], ())) and (own[name] == "BOOL" or type(value) is not bool)
            return bool(about["dynamic"]) and name not in about["kinds"] and not name.startswith("$")

        packed = [pack(row, fits) for row in rows]
        if not about["dynamic"] and (strange := [name for row in packed for name in row if name not in own]):
            hint = "write to a new collection, or leave the payload behind: ?keep=ids"
            raise StoreError(
                f"the schema of {self.address.url} cannot hold this payload (it has no field {strange[0]!r})", hint
            )
        values = vectors.astype(layout.dtype) if layout.dtype == "float16" else vectors
        given = [{about["key"]: key, layout.vector: value, **row} for key, value, row in zip(keys, values, packed, strict=True)]
        # A file's upsert keeps the old row's other dynamic fields, where a server's does not.
        # (The client's own get and delete by ids leave backslashes and quotes as they are, and fail.)
        among = f"{about['key']} in [{', '.join(map(_literal, keys))}]"
        if client.query(self.name, filter=among, output_fields=[about["key"]], consistency_level="Strong"):
            client.delete(self.name, filter=among)
        client.upsert(self.name, given)

    def _drop(self, client: Any) -> None:
        client.drop_collection(self.name)

    def _there(self, client: Any, name: str) -> bool:
        return bool(client.has_collection(name))

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        for old, new in changes:
            client.rename_collection(old, new)
            client.load_collection(new)  # Milvus Lite releases what it renames, and who searches would be refused

    def _behind(self, client: Any) -> str | None:
        name = client.describe_collection(self.name)["collection_name"] if client.has_collection(self.name) else self.name
        return None if name == self.name else str(name)

    def _point(self, client: Any, old: str, new: str) -> None:
        client.alter_alias(new, self.name)

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            hint = "write to a new collection: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if not type(error).__module__.startswith(("pymilvus", "grpc", "milvus_lite")):
            return None
        told = " ".join(str(error).split())
        if "connect" in told.lower() or type(error).__name__ == "ConnectionConfigException":
            hint = "is Milvus running there? without a port, 19530 is meant; MILVUS_TOKEN holds what it asks for"
            return f"{self.address.url} cannot be reached: {told}", hint
        return f"Milvus refuses {self.address.url}: {told}", "the answer above says why"


def _literal(value: int | str) -> str:
    """Return a key as Milvus' expressions read it; they know fewer escapes than JSON has."""
    if isinstance(value, int):
        return str(value)
    for plain, escaped in {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}.items():
        value = value.replace(plain, escaped)
    return f'"{value}"'


def _values(value: Any, dtype: str) -> Any:
    """Return a vector as Milvus gives it, a list or the bytes of half-floats, as an array."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], bytes):
        value = value[0]
    return np.frombuffer(value, dtype) if isinstance(value, bytes) else value
