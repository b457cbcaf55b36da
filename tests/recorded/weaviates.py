"""weaviates — what Weaviate answers: REST for schemas and single objects, gRPC for searching, writing many and counting.

Written from (read in stored copies, November 2026), and from the messages of the client's own .proto files:
  https://docs.weaviate.io/weaviate/manage-objects/read-all-objects                  `after`, in the order of ids
  https://weaviate.io/developers/weaviate/search/basics                              objects in ascending order of their UUIDs
  https://github.com/weaviate/weaviate/blob/main/openapi-specs/schema.json           /v1/schema, /v1/objects, /v1/meta
  https://github.com/weaviate/weaviate/tree/main/grpc/proto/v1                       Search, BatchObjects, Aggregate
  https://github.com/weaviate/weaviate/blob/main/adapters/handlers/grpc/v1/parse_search_request.go    all properties unless some

Done as they say: classes and their properties, whose values must have their type; rows made unit under cosine; objects by UUID,
replaced as a whole; pages that follow an id, without properties when none are asked for; counts; tenants; one key.
Not done: types inferred by the server (crossvec names them all), searching by vector, filters, references, several nodes.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from weaviate.proto.v1 import aggregate_pb2, batch_pb2, search_get_pb2, weaviate_pb2_grpc

from recorded import Answer, Refused, Request, serve

INDEX = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": 1000000000000,
    "flatSearchCutoff": 40000,
    "distance": "cosine",
    "filterStrategy": "acorn",
}
CLASS = {
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"additions": None, "preset": "en", "removals": None},
    },
    "multiTenancyConfig": {"enabled": False},
    "replicationConfig": {"factor": 1, "asyncEnabled": False, "deletionStrategy": "NoAutomatedResolution"},
    "shardingConfig": {
        "actualCount": 1,
        "actualVirtualCount": 128,
        "desiredCount": 1,
        "desiredVirtualCount": 128,
        "function": "murmur3",
        "key": "_id",
        "strategy": "hash",
        "virtualPerPhysical": 128,
    },
}


class WeaviateServer(weaviate_pb2_grpc.WeaviateServicer):
    """All collections of a server; `secret` is the only key it takes."""

    def __init__(self, secret: str = "") -> None:
        self.secret = secret
        self.classes: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}  # class, tenant, id
        self.seen: list[Request] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yield host:port?grpc=port."""
        server = grpc.server(ThreadPoolExecutor(4))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with serve(self) as place:
                yield f"{place}/{{name}}?grpc={port}"
        finally:
            server.stop(None).wait(5)

    # --- REST

    def answer(self, request: Request) -> Answer:
        if self.secret and request.headers.get("authorization") != f"Bearer {self.secret}":
            raise _error(401, "anonymous access not enabled")
        match (request.method, *request.path[1:]):
            case ("GET", "meta"):
                return Answer({"hostname": "http://[::]:8080", "version": "1.34.0", "modules": {}})
            case ("GET", "schema"):
                return Answer({"classes": list(self.classes.values())})
            case ("POST", "schema"):
                return self._create(request.body)
            case ("GET", "schema", name):
                return Answer(self._known(name))
            case ("DELETE", "schema", name):
                self.classes.pop(name, None)
                self.objects.pop(name, None)
                return Answer(None)
            case ("POST", "schema", name, "properties"):
                told = _property(request.body)
                if any(it["name"].lower() == told["name"].lower() for it in self._known(name)["properties"]):
                    raise _error(422, f"class {name!r}: conflict for property {told['name']!r}: already in use")
                self.classes[name]["properties"].append(told)
                return Answer(told)
            case ("DELETE", "schema", name, "tenants"):
                for tenant in request.body:
                    self.objects[name].pop(tenant, None)
                return Answer(None)
            case ("DELETE", "objects", name, key):
                found = self.objects[name].get(request.one("tenant"), {}).pop(key, None)
                return Answer(None, 204 if found else 404)
        raise _error(404, f"path {'/'.join(request.path)} was not found")

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self.classes:
            raise Refused(Answer(None, 404))
        return self.classes[name]

    def _create(self, body: dict[str, Any]) -> Answer:
        name = body["class"]
        if name in self.classes:
            raise _error(422, f"class name {name} already exists")
        if not (name[0].isupper() and name.isascii() and name.replace("_", "a").isalnum()):
            raise _error(422, f"{name!r} is not a valid class name")
        told = CLASS | body | {"properties": [_property(it) for it in body.get("properties", [])]}
        for vector in told.get("vectorConfig", {}).values():
            vector["vectorIndexConfig"] = INDEX | vector.get("vectorIndexConfig", {})
        if "vectorConfig" not in told:
            told["vectorIndexConfig"] = INDEX | told.get("vectorIndexConfig", {})
            told = {"vectorizer": "none", "vectorIndexType": "hnsw"} | told
        self.classes[name], self.objects[name] = told, {}
        return Answer(told)

    # --- gRPC

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        kinds, rows = self._asked(request, context)
        keys = sorted(rows)
        if request.after:
            if request.offset or request.filters.ByteSize() or request.sort_by:
                context.abort(grpc.StatusCode.UNKNOWN, "cursor api: invalid 'after' parameter: where and sort cannot be set")
            keys = [key for key in keys if key > request.after]
        results = []
        for key in keys[: request.limit or 10]:
            row = rows[key]
            told = search_get_pb2.PropertiesResult()
            if not request.HasField("properties") or request.properties.return_all_nonref_properties:
                for name, kind in kinds.items():
                    _write(told.non_ref_props.fields[name], kind, row["properties"].get(name))
            meta = search_get_pb2.MetadataResult(id=key, id_as_bytes=uuid.UUID(key).bytes)
            wanted = list(request.metadata.vectors)
            for name, vector in row["vectors"].items():
                if name == "" and request.metadata.vector:
                    meta.vector_bytes = vector
                elif name and (name in wanted or request.metadata.vector):
                    meta.vectors.add(name=name, vector_bytes=vector, type="VECTOR_TYPE_SINGLE_FP32")
            results.append(search_get_pb2.SearchResult(properties=told, metadata=meta))
        return search_get_pb2.SearchReply(took=0.001, results=results)

    def Aggregate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        count = len(self._asked(request, context)[1])
        return aggregate_pb2.AggregateReply(single_result=aggregate_pb2.AggregateReply.Single(objects_count=count))

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        reply = batch_pb2.BatchObjectsReply(took=0.001)
        for i, it in enumerate(request.objects):
            try:
                kinds, rows = self._asked(it, context, make=True)
                rows[str(uuid.UUID(it.uuid))] = self._checked(it, kinds, rows)
            except ValueError as error:
                reply.errors.add(index=i, error=str(error))
        return reply

    def _asked(self, request: Any, context: grpc.ServicerContext, make: bool = False) -> tuple[dict[str, str], dict[str, Any]]:
        if self.secret and ("authorization", f"Bearer {self.secret}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "anonymous access not enabled")
        if request.collection not in self.classes:
            context.abort(grpc.StatusCode.UNKNOWN, f"could not find class {request.collection} in schema")
        told, tenants = self.classes[request.collection], self.objects[request.collection]
        if told["multiTenancyConfig"]["enabled"] != bool(request.tenant):
            context.abort(grpc.StatusCode.UNKNOWN, "class has multi-tenancy enabled, but request was without tenant, or not so")
        rows = tenants.setdefault(request.tenant, {}) if make else tenants.get(request.tenant, {})
        return {it["name"]: it["dataType"][0] for it in told["properties"]}, rows

    def _checked(self, it: Any, kinds: dict[str, str], rows: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {name: _read(value) for name, value in it.properties.non_ref_properties.fields.items()}
        given |= {each.prop_name: list(each.values) for each in it.properties.text_array_properties}
        for name, value in given.items():
            if name not in kinds:
                raise ValueError(f"this server infers no types, and {name!r} is no property")
            right = {"text": str, "boolean": bool, "int": float, "number": float, "text[]": list}[kinds[name]]
            if type(value) is not right or (kinds[name] == "int" and not value.is_integer()):
                raise ValueError(f"invalid {kinds[name]} property {name!r}: {value!r} is of another type")
        told = self.classes[it.collection]
        vectors = {each.name: each.vector_bytes for each in it.vectors} or {"": it.vector_bytes}
        if "vectorConfig" in told and "" in vectors:
            vectors = {next(iter(told["vectorConfig"])): it.vector_bytes}
        kept = {}
        for name, content in vectors.items():
            x = np.frombuffer(content, "<f4")
            index = told["vectorConfig"][name]["vectorIndexConfig"] if name else told["vectorIndexConfig"]
            others = (np.frombuffer(row["vectors"][name], "<f4") for row in rows.values() if name in row["vectors"])
            if (other := next(others, x)).shape != x.shape:
                raise ValueError(
                    f"new node has a vector with length {len(x)}. Existing nodes have vectors with length {len(other)}"
                )
            kept[name] = (x / np.linalg.norm(x) if index["distance"] == "cosine" else x).astype("<f4").tobytes()
        return {"properties": given, "vectors": kept}


def _property(told: dict[str, Any]) -> dict[str, Any]:
    if told["name"] in ("id", "vector") or not told["name"].replace("_", "a").isalnum() or not told["name"].isascii():
        raise _error(422, f"{told['name']!r} is not a valid property name")
    named = told | {"name": told["name"][:1].lower() + told["name"][1:]}
    return {"indexFilterable": True, "indexSearchable": True, "tokenization": "word"} | named


def _read(value: Any) -> Any:
    return getattr(value, value.WhichOneof("kind"))


def _write(field: Any, kind: str, value: Any) -> None:
    if value is None:
        field.null_value = 0
    elif kind == "text[]":
        field.list_value.text_values.values.extend(value)
    elif kind == "int":
        field.int_value = int(value)
    else:
        setattr(field, {"text": "text_value", "boolean": "bool_value", "number": "number_value"}[kind], value)


def _error(status: int, message: str) -> Refused:
    return Refused(Answer({"error": [{"message": message}], "code": status, "message": message}, status))


def packed(vector: list[float]) -> bytes:
    """A vector as the messages hold it."""
    return struct.pack(f"<{len(vector)}f", *vector)
