"""chroma — Chroma collections: a server, Chroma Cloud, or a folder that Chroma's own client keeps.

In    chroma://host:8000/books?tenant=…&database=…&tls=yes    CHROMA_API_KEY holds the token, when the server wants one
      chroma://api.trychroma.com/books                        Chroma Cloud, tenant and database as in the client's own variables
      chroma:///folder/books                                  a folder of PersistentClient
Out   Space                                                   pages in the order of ids as text
Uses  stores.collection; chromadb

Chroma's ids are text: a number is written as its digits, and restored on reading. Its metadata are text, numbers and booleans;
what else a payload holds is kept as JSON text in one field and restored. Lists of these too: Chroma 1.5 keeps the lists of
deleted rows and gives them to rows that come later, which crossvec cannot see when it reads lists that others wrote. A row's
document is the payload key `document`, and its URI the key `uri`. All ids are listed when reading begins (about 100 bytes each
in memory), since Chroma has no other order that stays. Left behind: index settings.

Chroma Cloud takes and gives at most 300 rows a request (docs.trychroma.com/cloud/quotas-limits), so ids are listed there page
by page, and again while the number of rows changes. Tested here: folder and server; of the cloud only what is asked of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.documents import names, pack
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.switching import Switching

SPACES = {"cosine": "cosine", "ip": "dot", "l2": "euclidean"}
CLOUD, CLOUD_ROWS = "trychroma.com", 300
BESIDE = {"document": "documents", "uri": "uris"}  # payload keys for what Chroma keeps beside the metadata
DIM = "crossvec_dim"  # in the collection's metadata: Chroma learns a dimension only from the first row
SAMPLED = 16


class ChromaCollection(Switching):
    """A Chroma collection."""

    format = "chroma"
    module = "chromadb"
    extra = "chroma"
    options = frozenset({"tenant", "database", "tls"})
    page_rows = 1000
    put_rows = 1000
    renaming = "one after the other"
    longest = 512

    @property
    def local(self) -> bool:
        """Whether the collection lies in a folder on this machine."""
        return not self.address.split()[0]

    @property
    def cloud(self) -> bool:
        """Whether the collection lies in Chroma Cloud."""
        host = self.address.split()[0]
        return host == CLOUD or host.endswith(f".{CLOUD}")

    def _connect(self) -> Any:
        chromadb = self.client_library()
        quiet = self.client_library("chromadb.config").Settings(anonymized_telemetry=False)
        where = {name: value for name, value in self.address.options.items() if name in ("tenant", "database")}
        if self.local:
            return chromadb.PersistentClient(path=str(self.address.folder()[0]), settings=quiet, **where)
        host, port, _ = self.address.split()
        secret = self.secret()
        if self.cloud:
            if secret is None:
                raise StoreError("Chroma Cloud asks for a key", "set CHROMA_API_KEY to one from your settings there")
            return chromadb.CloudClient(cloud_host=host, cloud_port=port or 443, settings=quiet, **where)
        headers = {"X-Chroma-Token": secret} if secret else None
        return chromadb.HttpClient(host=host, port=port or 8000, ssl=self.tls(), headers=headers, settings=quiet, **where)

    def _shared(self) -> Hashable:
        return str(self.address.folder()[0].absolute()) if self.local else self.server()

    def _names(self, client: Any) -> list[str]:
        return sorted(it.name for it in client.list_collections())

    def _look(self, client: Any) -> Layout | None:
        try:
            it = client.get_collection(self.name, embedding_function=None)
        except self.client_library("chromadb.errors").NotFoundError:
            return None
        settings = it.configuration.get("hnsw") or it.configuration.get("spann") or {}
        told = it.metadata or {}
        first = it.get(limit=SAMPLED, include=["metadatas", *BESIDE.values()])
        vectors = it.get(limit=1, include=["embeddings"])["embeddings"] if first["ids"] else []
        dim = len(vectors[0]) if len(vectors) else told.get(DIM)
        if not dim:
            hint = "write rows to it with Chroma first, or to a new name"
            raise StoreError(f"{self.address.url} holds no rows, so no dimension either", hint)
        space = settings.get("space") or told.get("hnsw:space") or "l2"
        found = names(self._document(first, i) for i in range(len(first["ids"])))
        return Layout(
            it.count(), int(dim), SPACES.get(space, space), False, id_type="text", payload=found, about={"collection": it}
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        if "ids" not in about:
            about["ids"] = sorted(self._listed(about["collection"]))
        ids, limit = about["ids"], self._most(limit)
        while True:
            start = 0 if after is None else bisect_right(ids, after)
            wanted = ids[start : start + limit]
            if not wanted or not vectors:
                return Page(wanted, [None] * len(wanted), [{}] * len(wanted), wanted[-1] if wanted else after)
            include = ["embeddings", "metadatas", *BESIDE.values()]
            told = about["collection"].get(ids=wanted, include=include)
            if told["ids"]:
                break
            after = wanted[-1]  # all of these rows were deleted after their ids were listed
        order = sorted(range(len(told["ids"])), key=told["ids"].__getitem__)
        rows = [self._document(told, i) for i in order]
        return Page([told["ids"][i] for i in order], np.asarray(told["embeddings"], np.float32)[order], rows, wanted[-1])

    def _most(self, rows: int) -> int:
        return min(rows, CLOUD_ROWS) if self.cloud else rows

    def _listed(self, collection: Any) -> set[str]:
        if not self.cloud:
            return set(collection.get(include=[])["ids"])
        for _ in range(3):
            rows, ids = collection.count(), set[str]()
            for start in range(0, rows, CLOUD_ROWS):
                ids.update(collection.get(include=[], limit=CLOUD_ROWS, offset=start)["ids"])
            if len(ids) == rows == collection.count():
                return ids
        raise StoreError(f"rows come and go in {self.address.url} while its ids are listed", "read it when nobody writes to it")

    def _document(self, told: Any, i: int) -> dict[str, Any]:
        row = dict(told["metadatas"][i] or {}) if told["metadatas"] else {}
        for name, field in BESIDE.items():
            if told[field] is not None and told[field][i] is not None:
                if name in row and self._kept("payload"):
                    hint = f"rename that key, or leave the payload behind: {with_option(self.address.url, 'keep=ids')}"
                    raise StoreError(f"row {told['ids'][i]!r} of {self.address.url} has a {name} and metadata {name!r}", hint)
                row[name] = told[field][i]
        return row

    def _count(self, client: Any) -> int:
        return int(client.get_collection(self.name, embedding_function=None).count())

    def _create(self, client: Any, like: Description) -> None:
        space = next(space for space, metric in SPACES.items() if metric == like.metric)
        client.create_collection(
            self.name, metadata={DIM: like.dim}, embedding_function=None, configuration={"hnsw": {"space": space}}
        )

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        most = self._most(len(keys))
        for start in range(0, len(keys), most):
            some = slice(start, start + most)
            self._put_some(layout.about["collection"], keys[some], vectors[some], rows[some])

    def _put_some(self, it: Any, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]) -> None:
        held = it.get(ids=keys, include=[])["ids"]
        if held:
            it.delete(ids=held)  # an upsert would keep the old metadata's other keys
        packed = [pack(row, _fits) for row in rows]
        documents = [row.pop("document", None) for row in packed]
        uris = [row.pop("uri", None) for row in packed]
        beside = {"documents": documents, "uris": uris}
        it.upsert(
            ids=keys,
            embeddings=vectors,
            metadatas=[row or None for row in packed],
            **{name: values for name, values in beside.items() if any(value is not None for value in values)},
        )

    def _drop(self, client: Any) -> None:
        client.delete_collection(self.name)

    def _there(self, client: Any, name: str) -> bool:
        try:
            client.get_collection(name, embedding_function=None)
        except self.client_library("chromadb.errors").NotFoundError:
            return False
        return True

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        for old, new in changes:
            client.get_collection(old, embedding_function=None).modify(name=new)

    def _key(self, value: int | str, layout: Layout) -> Key:
        return str(value)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        told = str(error)
        if "Could not connect" in told or type(error).__module__.startswith("httpx"):
            hint = "is Chroma running there? start it: chroma run --path FOLDER; without a port, 8000 is meant"
            return f"{self.address.url} cannot be reached: {told}", hint
        if type(error).__module__.startswith("chromadb"):
            return f"Chroma refuses {self.address.url}: {told}", "the answer above says why"
        if isinstance(error, ValueError) and "name" in told.lower():
            return f"Chroma refuses the name {self.name!r}: {told}", "give the collection another name"
        return None


def _fits(name: str, value: Any) -> bool:
    """Tell whether Chroma's metadata hold a value as it is."""
    if name in BESIDE:
        return isinstance(value, str)
    if name.startswith("chroma:") or not name:
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, (bool, float, str))
