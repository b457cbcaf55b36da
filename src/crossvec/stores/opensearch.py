"""opensearch — OpenSearch indexes with a knn_vector field.

In    opensearch://admin@host:9200/books?column=title_vector&tls=yes&ca=root-ca.pem      OPENSEARCH_PASSWORD
Out   Space                   as in stores.elasticsearch
Uses  stores.elasticsearch, from which OpenSearch was forked; opensearch-py

What stores.elasticsearch says of ids, payload, order, cursors and base64 (here since 3.9) holds here as well. New indexes use
Lucene's HNSW, which needs OpenSearch 2.13 for inner products. Not read: fields whose dimension a trained model holds; Amazon's
serverless collections, which have no points in time.
"""

from __future__ import annotations

from typing import Any

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.elasticsearch import ALIVE, ElasticsearchIndex

SPACES = {"cosinesimil": "cosine", "innerproduct": "dot", "l2": "euclidean"}
DTYPES = {"float": "float32", "half_float": "float16", "byte": "int8"}


class OpenSearchIndex(ElasticsearchIndex):
    """An OpenSearch index, or an alias of one."""

    format = "opensearch"
    module = "opensearchpy"
    extra = "opensearch"
    vector_type = "knn_vector"
    dim_key = "dimension"
    order = "<"

    def _connect(self) -> Any:
        secret = self.secret()
        signed = {"http_auth": (self.user or "admin", secret)} if secret else {}
        return self.client_library().OpenSearch(self._host(9200), **signed, **self._client_options())

    def secret(self) -> str | None:
        return super(ElasticsearchIndex, self).secret()

    def _client_options(self) -> dict[str, Any]:
        ca = self.address.options.get("ca")
        return {"timeout": 120, "retry_on_timeout": True} | ({"ca_certs": ca} if ca else {})

    def _read_as(self, field: dict[str, Any], settings: dict[str, Any]) -> tuple[str, bool | None, str]:
        kind = field.get("data_type", "float")
        if kind not in DTYPES:
            raise StoreError(f"{self.address.url} holds {kind} vectors", "choose a vector of numbers: ?column=NAME")
        space = field.get("space_type") or field.get("method", {}).get("space_type")
        space = space or settings.get("knn.space_type") or "l2"  # that of old indexes, and what is meant without any
        scaled = space == "cosinesimil" and field.get("method", {}).get("engine", "faiss") != "lucene"
        return SPACES.get(space, space), None if scaled else False, DTYPES[kind]

    def _write_as(self, like: Description) -> dict[str, Any]:
        space = next(space for space, metric in SPACES.items() if metric == like.metric)
        method = {"name": "hnsw", "engine": "lucene", "space_type": space}
        field = {"type": "knn_vector", "dimension": like.dim, "method": method}
        mappings = {"dynamic": False, "properties": {self.column or "vector": field}}
        return {"settings": {"index": {"knn": True}}, "mappings": mappings}

    def _source(self, client: Any, without: list[str]) -> dict[str, Any]:
        return {"excludes": without}

    def _begin(self, client: Any, shard: dict[str, str]) -> str:
        # Without this word OpenSearch answers with the shards that it can reach.
        whole = {"keep_alive": ALIVE, "allow_partial_pit_creation": "false"}
        return str(client.create_pit(index=self.name, params=whole | shard)["pit_id"])

    def _end(self, client: Any, pit: str) -> None:
        client.delete_pit(body={"pit_id": [pit]})
