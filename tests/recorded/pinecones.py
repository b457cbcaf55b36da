"""pinecones — what Pinecone's serverless indexes answer, control plane and data plane, API version 2026-07.

Written from (read in stored copies, November 2026):
  https://docs.pinecone.io/reference/api/2026-07/control-plane/describe_index        schema, deployment, host, status
  https://docs.pinecone.io/reference/api/2026-07/control-plane/create_index
  https://docs.pinecone.io/reference/api/2026-07/data-plane/list                     100 ids a page, sorted, pagination.next
  https://docs.pinecone.io/guides/legacy/vectors-api/fetch-vectors                   float32
  https://raw.githubusercontent.com/pinecone-io/pinecone-api/refs/heads/main/2026-07/db_data_2026-07.oas.yaml   patterns of ids
  https://docs.pinecone.io/reference/api/database-limits/operation-limits            1,000 records and 2 MB a request
  https://docs.pinecone.io/reference/api/known-limitations                           no null, nothing nested, delays
  https://docs.pinecone.io/guides/assistant/file-metadata                            integers become floats, no $keys

Done as they say: making, describing, listing and deleting indexes; upsert, list, fetch, delete and counts by namespace; the
limits of ids, metadata and requests; one key; rows that can be read only some requests after they were written (`lag`).
Not done: the indexes' own hosts (here a path on the same port), searching, sparse values, pods, rate limits.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np

from recorded import Answer, Refused, Request

VERSION = "2026-07"


class PineconeServer:
    """All indexes of a project. What is written can be read after `lag` more requests to its index."""

    def __init__(self, secret: str = "pclocal", lag: int = 0) -> None:
        self.secret, self.lag = secret, lag
        self.indexes: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}  # index, namespace, id
        self.coming: list[tuple[int, str, str, dict[str, Any]]] = []  # when, index, namespace, row
        self.seen: list[Request] = []

    def answer(self, request: Request) -> Answer:
        if request.headers.get("api-key") != self.secret:
            return Answer("Unauthorized", 401)
        if request.headers.get("x-pinecone-api-version") != VERSION:
            raise _refusal(400, f"this was written from version {VERSION}")
        match (request.method, *request.path):
            case ("GET", "indexes"):
                return Answer({"indexes": list(self.indexes.values())})
            case ("POST", "indexes"):
                return self._create(request)
            case ("GET", "indexes", name):
                return Answer(self._known(name))
            case ("DELETE", "indexes", name):
                self._known(name)
                del self.indexes[name], self.rows[name]
                return Answer(None, 202)
            case (method, name, *rest):
                self._known(name)
                self._arrive()
                return self._data(method, rest, name, request)
        raise _refusal(404, f"no {request.method} /{'/'.join(request.path)}")

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self.indexes:
            raise _refusal(404, f"Resource {name} not found")
        return self.indexes[name]

    def _create(self, request: Request) -> Answer:
        body = request.body
        name, fields = body["name"], body["schema"]["fields"]
        if name in self.indexes:
            raise _refusal(409, "Resource already exists")
        if not re.fullmatch("[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?", name):
            raise _refusal(400, "Name must consist of lower case alphanumeric characters or '-'")
        for told in fields.values():
            if told["type"] == "dense_vector" and told["metric"] not in ("cosine", "dotproduct", "euclidean"):
                raise _refusal(400, f"no metric {told['metric']}")
        self.indexes[name] = {
            "name": name,
            "host": f"http://{request.headers['host']}/{name}",
            "status": {"ready": True, "state": "Ready"},
            "schema": {"fields": fields},
            "deployment": body.get("deployment") or {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
            "deletion_protection": "disabled",
        }
        self.rows[name] = {}
        return Answer(self.indexes[name], 201)

    def _arrive(self) -> None:
        self.coming = [(when - 1, *rest) for when, *rest in self.coming]
        for when, name, namespace, row in self.coming:
            if when < 0 and name in self.rows:
                self.rows[name].setdefault(namespace, {})[row["id"]] = row
        self.coming = [it for it in self.coming if it[0] >= 0]

    def _data(self, method: str, path: list[str], name: str, request: Request) -> Answer:
        body = request.body if method == "POST" else {}
        namespace = (body.get("namespace") if method == "POST" else request.one("namespace")) or "__default__"
        rows = self.rows[name].get(namespace, {})
        match (method, *path):
            case ("POST", "describe_index_stats"):
                counts = {each: {"vectorCount": len(held)} for each, held in self.rows[name].items() if held}
                total = sum(it["vectorCount"] for it in counts.values())
                return Answer({"namespaces": counts, "dimension": self._dim(name), "totalVectorCount": total})
            case ("GET", "vectors", "list"):
                return self._list(rows, namespace, request)
            case ("GET", "vectors", "fetch"):
                ids = request.query["ids"]
                if len(ids) > 1000 or sum(map(len, ids)) > 8000:
                    raise _refusal(414, "too many ids, or too long an address")
                return Answer({"vectors": {it: rows[it] for it in ids if it in rows}, "namespace": namespace})
            case ("POST", "vectors", "upsert"):
                if len(request.text.encode()) > 2 << 20 or len(body["vectors"]) > 1000:
                    raise _refusal(400, "Request size exceeds the maximum supported size of 2 MB")
                checked = [self._checked(it, name) for it in body["vectors"]]
                self.coming += [(self.lag, name, namespace, it) for it in checked]
                if not self.lag:
                    self._arrive()
                return Answer({"upsertedCount": len(checked)})
            case ("POST", "vectors", "delete"):
                for key in list(rows) if body.get("deleteAll") else body["ids"]:
                    rows.pop(key, None)
                return Answer({})
        raise _refusal(404, f"no {method} /{'/'.join(path)}")

    def _dim(self, name: str) -> int | None:
        return self.indexes[name]["schema"]["fields"].get("_values", {}).get("dimension")

    def _list(self, rows: dict[str, Any], namespace: str, request: Request) -> Answer:
        if strange := set(request.query) - {"namespace", "limit", "paginationToken", "prefix"}:
            raise _refusal(400, f"unknown {sorted(strange)}")
        limit = int(request.one("limit", "100"))
        if not 1 <= limit <= 100:
            raise _refusal(400, "limit must be 1 to 100")
        token = request.one("paginationToken")
        past = json.loads(base64.b64decode(token))["skip_past"] if token else ""
        ids = sorted(it for it in rows if it > past)
        told = {"vectors": [{"id": it} for it in ids[:limit]], "namespace": namespace, "usage": {"readUnits": 1}}
        if len(ids) > limit:
            told["pagination"] = {"next": base64.b64encode(json.dumps({"skip_past": ids[limit - 1]}).encode()).decode()}
        return Answer(told)

    def _checked(self, row: dict[str, Any], name: str) -> dict[str, Any]:
        if not re.fullmatch(r"[\x01-\x7F]{1,512}", row["id"], re.DOTALL):
            raise _refusal(400, f"Vector ID must be ASCII, of 1 to 512 characters, not {row['id'][:40]!r}")
        if len(row["values"]) != self._dim(name):
            raise _refusal(400, f"Vector dimension {len(row['values'])} does not match that of the index {self._dim(name)}")
        if not any(row["values"]):
            raise _refusal(400, "Dense vectors must contain at least one non-zero value")
        metadata = row.get("metadata", {})
        if len(json.dumps(metadata, ensure_ascii=False).encode()) > 40 * 1024:
            raise _refusal(400, "Metadata size exceeds the limit of 40960 bytes per vector")
        for key, value in metadata.items():
            plain = isinstance(value, (str, bool, int, float))
            if key.startswith("$") or not (plain or (isinstance(value, list) and all(isinstance(it, str) for it in value))):
                raise _refusal(
                    400, f"Metadata value must be a string, number, boolean or list of strings, got {key}: {value!r}"
                )
        numbers = {key: float(it) for key, it in metadata.items() if type(it) in (int, float)}
        values = np.array(row["values"], np.float32).tolist()
        return {"id": row["id"], "values": values} | ({"metadata": metadata | numbers} if metadata else {})


def _refusal(status: int, message: str) -> Refused:
    return Refused(Answer({"code": status, "message": message, "status": status, "error": {"message": message}}, status))
