"""elasticsearch — Elasticsearch indexes: a vector field, and the rest of each document as payload.

In    elasticsearch://host:9200/books?column=title_vector&tls=yes&ca=http_ca.crt
      ELASTICSEARCH_API_KEY, or with a user in the address (elastic@host) ELASTICSEARCH_PASSWORD
Out   Space                   shard by shard, in the order in which documents were last written: all copies share this `_seq_no`
Uses  stores.collection; elasticsearch

A reading looks at a point in time, and goes on from its cursor even when that point in time is gone: documents changed since
then come again, at the end. Ids are text of at most 512 bytes; any other is restored from the payload. New indexes keep the
payload as it is and do not search it (`dynamic: false`), because Elasticsearch gives each key one type; for other settings,
make the empty index first. Vectors that are left out of `_source`, as from 9.2 on, are asked for. An index that keeps them in
`_source` gives back what was sent, and that may be base64 since 9.3, or hexadecimal digits: both are read. Not read: vectors in
nested documents, sparse ones, bits. Left behind: settings, analysers. Not tried on a real server yet: see tests/recorded.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.collection import chosen
from crossvec.stores.documents import names, pack
from crossvec.stores.rows import Key, Layout, Page, uuid_of
from crossvec.stores.switching import Switching

ALIVE = "10m"  # how long a point in time is kept between two pages
KEY_BYTES = 512
METRICS = {"cosine": "cosine", "max_inner_product": "dot", "dot_product": "dot", "l2_norm": "euclidean"}
DTYPES = {"float": "float32", "bfloat16": "bfloat16", "byte": "int8"}
SAMPLED = 16
METADATA = {"_id", "_ignored", "_index", "_routing", "_source", "_field_names", "_size", "_doc_count", "_tier", "_nested_path"}


class ElasticsearchIndex(Switching):
    """An Elasticsearch index, or an alias of one."""

    format = "elasticsearch"
    module = "elasticsearch"
    extra = "elasticsearch"
    options = frozenset({"tls", "ca"})
    page_rows = 1000
    put_rows = 1000
    by_hand = "let your application ask for an alias (POST /_aliases), and name that alias as SOURCE"
    vector_type: ClassVar[str] = "dense_vector"
    dim_key: ClassVar[str] = "dims"
    order: ClassVar[str] = ">"  # of the bytes of a vector that was sent as base64

    # --- how the two clients differ: OpenSearch overrides what follows

    def _connect(self) -> Any:
        user, secret = self.user, self.secret()
        signed = {"basic_auth": (user, secret)} if user and secret else {"api_key": secret} if secret else {}
        return self.client_library().Elasticsearch(self._host(9200), **signed, **self._client_options())

    def secret(self) -> str | None:
        return os.environ.get("ELASTICSEARCH_PASSWORD") or None if self.user else super().secret()

    def _client_options(self) -> dict[str, Any]:
        ca = self.address.options.get("ca")
        return {"request_timeout": 120, "retry_on_timeout": True} | ({"ca_certs": ca} if ca else {})

    def _read_as(self, field: dict[str, Any], settings: dict[str, Any]) -> tuple[str, bool | None, str]:
        """Return metric, normalised and dtype of a vector field."""
        similarity, kind = field.get("similarity", "cosine"), field.get("element_type", "float")
        if kind not in DTYPES:
            raise StoreError(f"{self.address.url} holds {kind} vectors", "choose a vector of numbers: ?column=NAME")
        # Unit length is what dot_product asks of those who write. Under cosine rows are scaled within, and said to be restored.
        normalised = {"dot_product": True, "cosine": None}.get(similarity, False)
        return METRICS.get(similarity, similarity), normalised, DTYPES[kind]

    def _write_as(self, like: Description) -> dict[str, Any]:
        """Return mapping and settings of a new index; inner products go by `max_inner_product`, which takes any length."""
        similarity = next(name for name, metric in METRICS.items() if metric == like.metric)
        field = {"type": "dense_vector", "dims": like.dim, "index": True, "similarity": similarity}
        return {"mappings": {"dynamic": False, "properties": {self.column or "vector": field}}}

    def _source(self, client: Any, without: list[str]) -> dict[str, Any]:
        """Return which part of `_source` to ask for; servers before 9.2 do not know the word that asks for vectors."""
        version = client.info()["version"]
        first = [int(part) for part in str(version["number"]).split(".")[:2]]
        new = first >= [9, 2] or version.get("build_flavor") == "serverless"
        return {"excludes": without} | ({"exclude_vectors": False} if new else {})

    def _begin(self, client: Any, shard: dict[str, str]) -> str:
        """Open a point in time of the index or, with a `preference`, of one of its shards."""
        return str(client.open_point_in_time(index=self.name, keep_alive=ALIVE, **shard)["id"])

    def _end(self, client: Any, pit: str) -> None:
        client.close_point_in_time(id=pit)

    # --- what they have in common

    @property
    def user(self) -> str:
        """The user's name in the address; empty when there is none."""
        return self.address.split()[0].rpartition("@")[0]

    def _shared(self) -> Hashable:
        return self.server(), self.address.options.get("ca")

    def _host(self, port: int) -> str:
        host, given, parts = self.address.split()
        host = host.rpartition("@")[2]
        if not host:
            hint = f"write {self.address.scheme}://localhost:{port}/{self.name}"
            raise StoreError(f"{self.address.url} names no host", hint)
        place = f"[{host}]" if ":" in host else host
        prefix = "".join(f"/{part}" for part in parts[:-1])
        return f"http{'s' if self.tls() else ''}://{place}:{given or port}{prefix}"

    def _names(self, client: Any) -> list[str]:
        return sorted(name for name in client.indices.get_alias(index="*") if not name.startswith("."))

    def _look(self, client: Any) -> Layout | None:
        if any(sign in self.name for sign in "*,?"):
            raise StoreError(f"{self.address.url} is a pattern, and crossvec reads one index", "name one index")
        try:
            found = client.indices.get(index=self.name)
        except self.client_library().NotFoundError:
            return None
        if len(found) > 1:
            raise StoreError(f"{self.address.url} stands for {len(found)} indexes", f"name one: {', '.join(sorted(found))}")
        ((index, told),) = found.items()
        mapping, settings = told.get("mappings", {}), told.get("settings", {}).get("index", {})
        if mapping.get("_source", {}).get("enabled") is False:
            hint = "index the documents anew with _source enabled"
            raise StoreError(f"{self.address.url} keeps no _source, so rows cannot be read back", hint)
        fields = dict(_vectors(mapping.get("properties", {}), self.vector_type))
        vector = chosen(sorted(fields), self)
        dim = fields[vector].get(self.dim_key)
        if not dim:
            hint = f"write its mapping anew with {self.dim_key}, or write to a new index"
            raise StoreError(f"the mapping of {self.address.url} tells no {self.dim_key} for {vector!r}", hint)
        metric, normalised, dtype = self._read_as(fields[vector], settings)
        sample = client.search(index=index, body={"size": SAMPLED, "_source": {"excludes": list(fields)}})["hits"]["hits"]
        mapped = {name: None for name in mapping.get("properties", {}) if name not in fields}
        return Layout(
            self._count(client),
            int(dim),
            metric,
            # A length is kept beside a document, not beside each of its vectors.
            False if normalised is None and len(fields) > 1 else normalised,
            dtype,
            payload=names([mapped, *(hit.get("_source") or {} for hit in sample)]),
            named=tuple(sorted(fields)) if len(fields) > 1 else (),
            vector=vector,
            about={
                "others": [name for name in sorted(fields) if name != vector],
                "shards": int(settings.get("number_of_shards", 0)),  # Elastic's serverless tells none
                "pits": {},
            },
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        if vectors and "source" not in about:
            about["source"] = self._source(client, about["others"])
        asked = {"size": limit, "sort": [{"_seq_no": "asc"}], "track_total_hits": False}
        asked["_source"] = about["source"] if vectors else False
        part, values = after or [0, None]
        while part < max(about["shards"], 1):
            told = self._within(client, about, part, asked if values is None else asked | {"search_after": values})
            if hits := told["hits"]["hits"]:
                documents = [hit.get("_source") or {} for hit in hits]
                found = [
                    self._vector(_take(document, layout.vector), hit["_id"], layout)
                    for hit, document in zip(hits, documents, strict=True)
                ]
                return Page([hit["_id"] for hit in hits], found, documents, [part, self._last(hits[-1]["sort"], about)])
            with contextlib.suppress(Exception):  # it would end by itself, a little later
                self._end(client, about["pits"].pop(part))
            part, values = part + 1, None
        return Page([], [], [], [part, None])

    def _vector(self, value: Any, key: str, layout: Layout) -> Any:
        """Return a vector as numbers, however it was sent; None when there is none."""
        if value is None or isinstance(value, list):
            return value
        if isinstance(value, str) and (vector := _decoded(value, layout.dim, layout.dtype, self.order)) is not None:
            return vector
        told = f"the row {key!r} of {self.address.url} holds no vector in {layout.vector!r}, but {str(value)[:40]!r}"
        raise StoreError(
            told, "update the server if it holds one (OpenSearch 3.6 answers 1 for vectors in objects), or mend the row"
        )

    def _last(self, values: list[int], about: dict[str, Any]) -> list[int]:
        # Elasticsearch adds a number that is good for this point in time only. Within a shard nothing shares a _seq_no, so
        # that the largest number there is tells every other point in time to go on behind this document.
        return [values[0], *[2**63 - 1] * (len(values) - 1)] if about["shards"] else values

    def _within(self, client: Any, about: dict[str, Any], part: int, asked: dict[str, Any]) -> Any:
        """Search in the point in time of a part, or in a new one when it is gone."""
        pits = about["pits"]
        shard = {"preference": f"_shards:{part}"} if about["shards"] else {}
        for known in (part in pits, False):
            if not known:
                pits[part] = self._begin(client, shard)
            try:
                told = self._whole(client.search(body=asked | {"pit": {"id": pits[part], "keep_alive": ALIVE}}))
            except self.client_library().NotFoundError:
                if known:
                    continue
                raise
            pits[part] = told.get("pit_id", pits[part])  # it may change from page to page
            return told

    def _whole(self, told: Any) -> Any:
        # A search is answered even when a shard failed, with the rows of the others.
        if told.get("timed_out") or told["_shards"].get("failed"):
            raise StoreError(f"a part of {self.address.url} does not answer", "wait until all its shards are up, and go on")
        return told

    def _count(self, client: Any) -> int:
        return int(self._whole(client.count(index=self.name))["count"])

    def _create(self, client: Any, like: Description) -> None:
        client.indices.create(index=self.name, body=self._write_as(like))

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        others = layout.about["others"]

        def fits(name: str, value: Any) -> bool:
            return _sound({name: value}) and name not in METADATA and name not in {layout.vector, *others}

        packed = [pack(row, fits) for row in rows]
        held = self._held(client, keys, others) if others else {}
        actions = [
            {"_index": self.name, "_id": key, "_source": {**row, **held.get(key, {}), layout.vector: vector}}
            for key, vector, row in zip(keys, vectors.tolist(), packed, strict=True)
        ]
        bulk = self.client_library(f"{self.module}.helpers").streaming_bulk
        for done, told in bulk(client, actions, chunk_size=self.put_rows, raise_on_error=False, max_retries=5, refresh="true"):
            if not done:
                ((_, item),) = told.items()
                why = item.get("error") or item.get("status")
                why = why.get("reason", why) if isinstance(why, dict) else why
                hint = "rows before this one may be written: mend it and write again with ?mode=upsert"
                raise StoreError(f"{self.format} refuses the row {item.get('_id')!r} of {self.address.url}: {why}", hint)

    def _held(self, client: Any, keys: list[Key], others: list[str]) -> dict[Key, dict[str, Any]]:
        """Return the other vectors of documents that are there, since writing replaces whole documents."""
        source = {key: value for key, value in self._source(client, []).items() if key != "excludes"} | {"includes": others}
        asked = {"size": len(keys), "query": {"ids": {"values": keys}}, "_source": source}
        told = self._whole(client.search(index=self.name, body=asked))
        return {hit["_id"]: hit.get("_source") or {} for hit in told["hits"]["hits"]}

    def _drop(self, client: Any) -> None:
        client.indices.delete(index=self.name)

    def _behind(self, client: Any) -> str | None:
        return next(iter(self._aliased(client)), None)

    def _aliased(self, client: Any) -> dict[str, Any]:
        """Return what the name is an alias of, with its filter and routing; nothing when it is the name of an index."""
        try:
            found = client.indices.get_alias(name=self.name)
        except self.client_library().NotFoundError:
            return {}
        return {index: told["aliases"][self.name] for index, told in found.items()}

    def _point(self, client: Any, old: str, new: str) -> None:
        add = {"index": new, "alias": self.name} | self._aliased(client)[old]
        client.indices.update_aliases(body={"actions": [{"remove": {"index": old, "alias": self.name}}, {"add": add}]})

    def _key(self, value: int | str, layout: Layout) -> Key:
        text = str(value)
        return text if 0 < len(text.encode()) <= KEY_BYTES else uuid_of(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if not type(error).__module__.startswith(("elastic", "opensearchpy")):
            return None
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            variable = "ELASTICSEARCH_PASSWORD" if self.user else "ELASTICSEARCH_API_KEY"
            variable = "OPENSEARCH_PASSWORD" if self.format == "opensearch" else variable
            return f"{self.address.url} asks for a key that allows this: {error}", f"set {variable}"
        if isinstance(status, int):
            return f"{self.format} refuses {self.address.url}: {error}", "the answer above says why"
        hint = f"is {self.format} running there? without a port, 9200 is meant; with TLS: ?tls=yes, and ?ca=FILE for its own CA"
        return f"{self.address.url} cannot be reached: {error}", hint


def _vectors(properties: dict[str, Any], kind: str, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the vector fields of a mapping by their path; fields of nested documents are several a row, and left out."""
    for name, field in properties.items():
        if field.get("type") == kind:
            yield prefix + name, field
        elif field.get("type", "object") == "object":
            yield from _vectors(field.get("properties", {}), kind, f"{prefix}{name}.")


def _take(document: dict[str, Any], path: str) -> Any:
    """Take what lies at a path out of a document: under the whole path as one key, or key by key."""
    if path in document or "." not in path:
        return document.pop(path, None)
    first, _, rest = path.partition(".")
    inner = document.get(first)
    return _take(inner, rest) if isinstance(inner, dict) else None


def _decoded(text: str, dim: int, dtype: str, order: str) -> np.ndarray | None:
    """Return a vector that was sent as hexadecimal digits of bytes, or as base64 of bytes or floats; None for another text."""
    with contextlib.suppress(ValueError):
        if len(text) == 2 * dim:
            return np.frombuffer(bytes.fromhex(text), np.int8)
    with contextlib.suppress(ValueError):
        content = base64.b64decode(text, validate=True)
        if len(content) == 4 * dim and dtype != "int8":
            return np.frombuffer(content, f"{order}f4").astype(np.float32)
        if len(content) == 2 * dim and dtype == "bfloat16":  # the upper half of a float32
            return (np.frombuffer(content, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
        if len(content) == 2 * dim and dtype == "float16":
            return np.frombuffer(content, f"{order}f2").astype(np.float32)
        if len(content) == dim and dtype == "int8":
            return np.frombuffer(content, np.int8)
    return None


def _sound(value: Any) -> bool:
    """Tell whether all keys in a value are names that an index accepts; it reads dots as paths."""
    if isinstance(value, dict):
        sound = all(all(part.strip() for part in key.split(".")) for key in value)
        return sound and all(map(_sound, value.values()))
    return all(map(_sound, value)) if isinstance(value, list) else True
