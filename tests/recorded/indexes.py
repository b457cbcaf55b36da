"""indexes — what Elasticsearch 9 and OpenSearch answer, for indexes with a vector field.

Written from (read in stored copies, November 2026):
  https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/dense-vector              dims, similarity, no zero rows
  https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/mapping-id-field          ids of at most 512 bytes
  https://www.elastic.co/docs/reference/elasticsearch/rest-apis/paginate-search-results           search_after, _shard_doc
  https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-open-point-in-time        POST /{index}/_pit
  https://www.elastic.co/search-labs/blog/elasticsearch-exclude-vectors-from-source               _source.exclude_vectors
  https://github.com/elastic/elasticsearch/pull/131907                                            from 9.2: left out by default
  https://www.elastic.co/guide/en/elasticsearch/reference/8.17/indices-get-alias.html             GET /_alias/{name}, 404
  https://www.elastic.co/guide/en/elasticsearch/reference/8.14/indices-aliases.html               POST /_aliases, in one step
  https://docs.opensearch.org/3.3/api-reference/alias/                                            the same in OpenSearch
  https://docs.opensearch.org/latest/search-plugins/searching-data/point-in-time-api/             POST …/_search/point_in_time
  https://docs.opensearch.org/latest/mappings/supported-field-types/knn-vector                    knn_vector, space_type
  https://docs.opensearch.org/latest/mappings/supported-field-types/knn-memory-optimized          data_type; half_float: 3.9
  https://github.com/opensearch-project/k-NN/pull/3350                                            base64, little-endian, 3.9
  https://github.com/elastic/elasticsearch/pull/137072                                            base64, big-endian, from 9.3
  https://docs.opensearch.org/latest/mappings/supported-field-types/knn-spaces                    names of the spaces

Done as they say: indexes, aliases (changed all at once or not at all), bulk `index` and `delete` item by item with a `_seq_no`
per shard, counts, searches by ids and in points in time (snapshots of all shards, or of one by `preference`) sorted by
`_seq_no`, with Elasticsearch's own second number that means nothing in another point in time; vectors left out of `_source`
unless asked for; vectors as base64 from Elasticsearch 9.3 and OpenSearch 3.9 on, given back as they were sent where `_source`
is kept as it was sent and as numbers elsewhere; a cosine that stores unit rows in float32 and gives them back lengthened;
dimensions, zero rows, long ids, names of fields and unknown words refused.
Not done: types of other fields (new indexes of crossvec map none), refreshing, replicas, partial failures but the one that a
test asks for, security but one key, searching by vector.
"""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recorded import Answer, Refused, Request

SHARDS = 3


@dataclass
class Index:
    body: dict[str, Any]
    shards: list[dict[str, tuple[int, dict[str, Any]]]] = field(default_factory=lambda: [{} for _ in range(SHARDS)])
    written: list[int] = field(default_factory=lambda: [0] * SHARDS)

    def shard(self, key: str) -> int:
        return zlib.crc32(key.encode()) % SHARDS

    def vectors(self, kind: str) -> dict[str, dict[str, Any]]:
        fields = self.body.get("mappings", {}).get("properties", {})
        return {name: told for name, told in fields.items() if told.get("type") == kind}


class SearchServer:
    """Elasticsearch of a version, or OpenSearch when `opensearch` is set; `secret` is the only key it takes."""

    def __init__(self, version: str = "9.2.1", opensearch: bool = False, secret: str = "") -> None:
        self.version, self.opensearch, self.secret = version, opensearch, secret
        self.indexes: dict[str, Index] = {}
        self.aliases: dict[str, dict[str, dict[str, Any]]] = {}  # what an alias says of each of its indexes
        self.pits: dict[str, list[tuple[int, int, int, str, dict[str, Any]]]] = {}
        self.failing = False  # one shard does not answer
        self.seen: list[Request] = []
        self._numbers = itertools.count(1)
        self.kind = "knn_vector" if opensearch else "dense_vector"

    # --- what is common to all answers

    def answer(self, request: Request) -> Answer:
        told = self._routed(request)
        if not self.opensearch:
            told.headers["x-elastic-product"] = "Elasticsearch"
            told.headers["content-type"] = "application/vnd.elasticsearch+json;compatible-with=9"
        return told

    def _routed(self, request: Request) -> Answer:
        try:
            if self.secret and self.secret not in request.headers.get("authorization", ""):
                raise _error(401, "security_exception", "missing authentication credentials for REST request")
            return self._route(request)
        except Refused as refused:
            return refused.answer

    def _route(self, request: Request) -> Answer:
        match (request.method, *request.path):
            case ("GET",):
                told = {"number": self.version}
                told |= {"distribution": "opensearch"} if self.opensearch else {"build_flavor": "default"}
                return Answer({"name": "node", "cluster_name": "tests", "version": told, "tagline": "You Know, for Search"})
            case ("GET", "*", "_alias"):
                return Answer({name: {"aliases": {}} for name in self.indexes})
            case ("GET", "_alias", name):
                if name not in self.aliases:
                    raise Refused(Answer({"error": f"alias [{name}] missing", "status": 404}, 404))
                return Answer({index: {"aliases": {name: told}} for index, told in self.aliases[name].items()})
            case ("POST", "_aliases"):
                return self._alias(request.body)
            case ("GET", name):
                held = {each: self.indexes[each] for each in self._meant(name)}
                return Answer({each: self._told(each, index) for each, index in held.items()})
            case ("POST" | "PUT", "_bulk"):
                return self._bulk(request.text)
            case ("PUT", name):
                return self._create(name, request.body)
            case ("DELETE", "_pit") if not self.opensearch:
                gone = self.pits.pop(request.body["id"], None) is not None
                return Answer({"succeeded": gone, "num_freed": int(gone)}, 200 if gone else 404)
            case ("DELETE", "_search", "point_in_time") if self.opensearch:
                pits = [{"pit_id": it, "successful": self.pits.pop(it, None) is not None} for it in request.body["pit_id"]]
                return Answer({"pits": pits})
            case ("DELETE", name):
                if name not in self.indexes:
                    raise self._missing(name)
                del self.indexes[name]
                return Answer({"acknowledged": True})
            case ("POST", name, "_count"):
                rows = sum(len(shard) for each in self._meant(name) for shard in self.indexes[each].shards)
                return Answer({"count": rows, "_shards": self._shards()})
            case ("POST", name, "_pit") if not self.opensearch:
                return Answer({"id": self._pit(name, request, {"keep_alive", "preference"}), "_shards": self._shards()})
            case ("POST", name, "_search", "point_in_time") if self.opensearch:
                known = {"keep_alive", "preference", "allow_partial_pit_creation"}
                told = {"pit_id": self._pit(name, request, known), "_shards": self._shards()}
                return Answer(told | {"creation_time": 1658146050064})
            case ("POST", "_search"):
                return self._search(None, request.body)
            case ("POST", name, "_search"):
                return self._search(name, request.body)
        raise _error(400, "illegal_argument_exception", f"no handler found for uri [/{'/'.join(request.path)}]")

    def _shards(self) -> dict[str, int]:
        return {"total": SHARDS, "successful": SHARDS - self.failing, "skipped": 0, "failed": int(self.failing)}

    def _missing(self, name: str) -> Refused:
        return _error(404, "index_not_found_exception", f"no such index [{name}]")

    def _meant(self, name: str) -> list[str]:
        found = list(self.aliases.get(name, {})) or [name]
        if any(each not in self.indexes for each in found):
            raise self._missing(name)
        return found

    # --- indexes

    def _alias(self, body: dict[str, Any]) -> Answer:
        """Do all actions or none."""
        coming = {name: dict(indexes) for name, indexes in self.aliases.items()}
        for action in body["actions"]:
            ((what, asked),) = action.items()
            told = dict(asked)
            index, alias = told.pop("index"), told.pop("alias")
            if index not in self.indexes:
                raise self._missing(index)
            if what == "remove":
                if index not in coming.get(alias, {}):
                    raise _error(404, "aliases_not_found_exception", f"aliases [{alias}] missing")
                del coming[alias][index]
            elif what == "add":
                if alias in self.indexes:
                    reason = f"Invalid alias name [{alias}]: an index or data stream exists with the same name as the alias"
                    raise _error(400, "invalid_alias_name_exception", reason)
                if strange := set(told) - {"filter", "index_routing", "search_routing", "is_write_index", "is_hidden"}:
                    raise _error(400, "x_content_parse_exception", f"[alias_action] unknown field {sorted(strange)}")
                coming.setdefault(alias, {})[index] = told
            else:
                raise _error(400, "x_content_parse_exception", f"[aliases] unknown field [{what}]")
        self.aliases = {name: indexes for name, indexes in coming.items() if indexes}
        return Answer({"acknowledged": True, "errors": False})

    def _told(self, name: str, index: Index) -> dict[str, Any]:
        told = {"number_of_shards": str(SHARDS), "number_of_replicas": "1", "provided_name": name}
        asked = index.body.get("settings", {}).get("index", {})
        told |= {key: str(value).lower() for key, value in asked.items()}
        return {"aliases": {}, "mappings": index.body.get("mappings", {}), "settings": {"index": told}}

    def _create(self, name: str, body: dict[str, Any]) -> Answer:
        if name in self.indexes:
            raise _error(400, "resource_already_exists_exception", f"index [{name}] already exists")
        if name != name.lower():
            raise _error(400, "invalid_index_name_exception", f"Invalid index name [{name}], must be lowercase")
        if strange := set(body) - {"mappings", "settings", "aliases"}:
            raise _error(400, "parse_exception", f"unknown key {sorted(strange)} for create index")
        index = Index(body)
        for told in index.vectors(self.kind).values():
            self._checked(told, body)
        self.indexes[name] = index
        return Answer({"acknowledged": True, "shards_acknowledged": True, "index": name})

    def _checked(self, told: dict[str, Any], body: dict[str, Any]) -> None:
        if self.opensearch:
            known = {"type", "dimension", "method", "space_type", "data_type", "mode", "compression_level", "model_id"}
            words = {"l1", "l2", "linf", "cosinesimil", "innerproduct", "hamming"}
            word = told.get("space_type") or told.get("method", {}).get("space_type", "l2")
            if "method" in told and not body.get("settings", {}).get("index", {}).get("knn"):
                raise _error(400, "illegal_argument_exception", "Cannot set method of an index without index.knn")
        else:
            known = {"type", "dims", "index", "similarity", "element_type", "index_options"}
            word, words = told.get("similarity", "cosine"), {"cosine", "dot_product", "l2_norm", "max_inner_product"}
        if word not in words or set(told) - known:
            raise _error(400, "mapper_parsing_exception", f"unsupported parameters {told}")

    def _bulk(self, text: str) -> Answer:
        lines = iter(json.loads(line) for line in text.split("\n") if line)
        items = []
        for action in lines:
            ((what, told),) = action.items()
            index, item = self.indexes[self._meant(told["_index"])[0]], {"_index": told["_index"], "_id": told["_id"]}
            try:
                if what == "delete":
                    found = index.shards[index.shard(told["_id"])].pop(told["_id"], None)
                    item |= {"status": 200 if found else 404, "result": "deleted" if found else "not_found"}
                else:
                    self._index(index, told["_id"], next(lines))
                    item |= {"status": 201, "result": "created"}
            except Refused as refused:
                item |= {"status": 400, "error": refused.answer.body["error"]}
            items.append({what: item})
        return Answer({"took": 1, "errors": any("error" in told for item in items for told in item.values()), "items": items})

    def _index(self, index: Index, key: str, document: dict[str, Any]) -> None:
        if not 0 < len(key.encode()) <= 512:
            raise _error(400, "illegal_argument_exception", f"id [{key[:9]}…] is too long, must be no longer than 512 bytes")
        _names(document)
        kept = dict(document)
        for name, told in index.vectors(self.kind).items():
            values = document.get(name)
            if values is None:
                continue
            vector = self._numbers_of(values)
            dim, word = told.get("dims") or told.get("dimension"), told.get("similarity")
            word = word or told.get("space_type") or told.get("method", {}).get("space_type")
            if len(vector) != dim:
                raise _error(400, "document_parsing_exception", f"vector has {len(vector)} dimensions, not {dim}")
            length = np.linalg.norm(vector)
            if word in ("cosine", "cosinesimil") and length == 0:
                raise _error(400, "document_parsing_exception", "cosine does not support vectors with zero magnitude")
            if word == "dot_product" and abs(length - 1) > 1e-4:
                raise _error(400, "document_parsing_exception", "dot_product can only be used with unit-length vectors")
            if not (isinstance(values, str) and self._as_sent(index)):
                kept[name] = ((vector / length) * length if word == "cosine" else vector).tolist()
        shard = index.shard(key)
        index.shards[shard][key] = index.written[shard], kept
        index.written[shard] += 1

    def _since(self, *version: int) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:2]) >= version

    def _numbers_of(self, values: list[float] | str) -> np.ndarray:
        if isinstance(values, str):
            if not self._since(*((3, 9) if self.opensearch else (9, 3))):
                raise _error(400, "document_parsing_exception", "failed to parse: a vector is an array of numbers")
            return np.frombuffer(base64.b64decode(values), "<f4" if self.opensearch else ">f4").astype(np.float32)
        return np.array(values, np.float32)

    def _as_sent(self, index: Index) -> bool:
        """Whether `_source` is kept as it was sent; it is rebuilt from fields since OpenSearch 3.0 and Elasticsearch 9.2."""
        settings = index.body.get("settings", {}).get("index", {})
        if self.opensearch:
            return not (self._since(3, 0) and settings.get("knn.derived_source.enabled", True))
        return not (self._since(9, 2) and settings.get("mapping.exclude_source_vectors", True))

    # --- searches

    def _pit(self, name: str, request: Request, known: set[str]) -> str:
        if strange := set(request.query) - known:
            raise _error(400, "illegal_argument_exception", f"unrecognized parameters: {sorted(strange)}")
        if not request.one("keep_alive"):
            raise _error(400, "action_request_validation_exception", "[keep_alive] is not specified")
        ((index),) = [self.indexes[each] for each in self._meant(name)]
        wanted = request.one("preference")
        shards = [int(wanted.removeprefix("_shards:"))] if wanted else range(SHARDS)
        pit, base = f"46ToAwM{next(self._numbers)}", next(self._numbers) * 1000
        rows = [(s, seq, key, row) for s in shards for key, (seq, row) in index.shards[s].items()]
        # The second number is by where the document lies, which merging changes: another in every point in time.
        self.pits[pit] = [(seq, (s << 32) + (base - seq if base % 2 else seq), s, key, row) for s, seq, key, row in rows]
        return pit

    def _search(self, name: str | None, asked: dict[str, Any]) -> Answer:
        known = {"size", "_source", "sort", "search_after", "pit", "track_total_hits", "query"}
        if strange := set(asked) - known:
            raise _error(400, "parsing_exception", f"unknown key {sorted(strange)}")
        pit = asked.get("pit", {}).get("id")
        if pit is not None and name is not None:
            raise _error(400, "action_request_validation_exception", "[indices] cannot be used with point in time")
        if pit is None:
            request = Request("POST", [], {"keep_alive": ["1m"]}, {}, "")
            rows = self.pits.pop(self._pit(str(name), request, {"keep_alive"}))
        elif pit in self.pits:
            rows = self.pits[pit]
        else:
            raise _error(404, "search_context_missing_exception", f"No search context found for id [{pit}]")
        if "query" in asked:
            wanted = set(asked["query"]["ids"]["values"])
            rows = [row for row in rows if row[3] in wanted]
        by = 1 if self.opensearch or not pit else 2
        rows = sorted(rows, key=lambda row: row[:by])
        if (after := asked.get("search_after")) is not None:
            if len(after) != by:
                message = f"search_after has {len(after)} value(s) but sort has {by}."
                raise _error(400, "illegal_argument_exception", message)
            rows = [row for row in rows if list(row[:by]) > after]
        fields = self._fields(name)
        hits = []
        for row in rows[: asked.get("size", 10)]:
            hit = {"_index": name or "books", "_id": row[3], "_score": None}
            if asked.get("_source") is not False:
                hit["_source"] = self._source(row[4], asked.get("_source", {}), fields)
            hits.append(hit | ({"sort": list(row[:by])} if "sort" in asked else {}))
        told = {"took": 1, "timed_out": False, "_shards": self._shards(), "hits": {"max_score": None, "hits": hits}}
        return Answer(told | ({"pit_id": pit} if pit else {}))

    def _fields(self, name: str | None) -> set[str]:
        indexes = [self.indexes[each] for each in self._meant(name)] if name else list(self.indexes.values())
        return {field for index in indexes for field in index.vectors(self.kind)}

    def _source(self, row: dict[str, Any], asked: dict[str, Any], fields: set[str]) -> dict[str, Any]:
        knows = not self.opensearch and self._since(9, 2)
        if strange := set(asked) - {"includes", "excludes", *(["exclude_vectors"] if knows else [])}:
            raise _error(400, "parsing_exception", f"Unknown key for a VALUE_BOOLEAN in [{sorted(strange)[0]}].")
        gone = set(asked.get("excludes", [])) | (fields if knows and asked.get("exclude_vectors", True) else set())
        return {key: value for key, value in row.items() if key not in gone and key in asked.get("includes", [key])}


def _names(value: Any, whole: bool = True) -> None:
    """Refuse names that cannot be paths, and those of metadata, which are names of the whole document only."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not name.strip() or any(not part.strip() for part in name.split(".")):
                raise _error(400, "document_parsing_exception", f"field name {name!r} makes object resolution ambiguous")
            if whole and name in ("_id", "_source", "_index", "_routing"):
                raise _error(400, "document_parsing_exception", f"Field [{name}] is a metadata field")
            _names(inner, False)
    elif isinstance(value, list):
        for inner in value:
            _names(inner, False)


def _error(status: int, kind: str, reason: str) -> Refused:
    cause = {"type": kind, "reason": reason}
    return Refused(Answer({"error": {"root_cause": [cause], **cause}, "status": status}, status))
