"""faiss — an index file of FAISS, with ids that are no whole numbers, and payload, in a file beside it.

In    faiss:///folder/index.faiss
Out   Space                            vectors as the index gives them back, in the order of their ids
Uses  stores.collection, stores.atomic; faiss, pyarrow

FAISS keeps vectors under whole numbers and nothing else. crossvec writes flat indexes with ids (IndexIDMap2), and beside them
`index.faiss.arrow` (Arrow IPC: id, document as JSON text), which also says that a metric is cosine: FAISS knows it as the inner
product of unit rows. Any index that can give back its rows is read; rows of a compressed one come back as near as its codes
are, and `dtype` then names its kind. Never read: binary indexes, and pickles that other programs keep beside an index. Rows are
written only to an index with ids (an IDMap of a flat index, or an inverted file). The index is held in memory while it is open.
What is written lies in `index.faiss.pending` until the index is closed: when a program is killed, the next one takes it in.
"""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from crossvec.errors import StoreError
from crossvec.space import BATCH_ROWS
from crossvec.stores import Description
from crossvec.stores.atomic import atomically
from crossvec.stores.collection import Collection
from crossvec.stores.documents import names
from crossvec.stores.rows import Key, Layout, Page, uuid_of
from crossvec.stores.tables import checked

METRIC = b"crossvec.metric"
SAMPLED = 16


@dataclass
class Index:
    """An index file and what lies beside it, read when first used; `index` is FAISS's own."""

    path: Path
    faiss: Any
    held: Any = None
    metric: str | None = None
    tables: list[Any] = field(default_factory=list)  # id and document; later ones replace the rows of earlier ones
    order: tuple[Any, ...] = ()
    known: tuple[Any, ...] = ()
    writes: int = 0

    @property
    def beside(self) -> Path:
        """The file of documents."""
        return self.path.with_name(f"{self.path.name}.arrow")

    @property
    def pending(self) -> Path:
        """The folder of batches that are not in the index file yet."""
        return self.path.with_name(f"{self.path.name}.pending")

    @property
    def index(self) -> Any:
        """The index with all that was written to it."""
        if self.held is None:
            self.held = self._read()
            self.tables = [table for path in [self.beside] if (table := _table(path)) is not None]
            told = self.tables[0].schema.metadata if self.tables else None
            self.metric = (told or {}).get(METRIC, b"").decode("ascii", "replace") or None
            for path in sorted(self.pending.glob("*.arrow")):
                table = _table(path)
                self._take(table.column("id").to_numpy(), _matrix(table.column("vector")), table.select(["id", "document"]))
        return self.held

    def _read(self) -> Any:
        """Read the index; nothing in it can be longer than its file, whatever it says, and FAISS would take it at its word."""
        size = self.path.stat().st_size
        limits = {}
        for what in ("vector_byte_limit", "loop_limit"):
            if hasattr(self.faiss, f"set_deserialization_{what}"):  # FAISS 1.13 and later
                limits[what] = getattr(self.faiss, f"get_deserialization_{what}")()
                getattr(self.faiss, f"set_deserialization_{what}")(size)
        try:
            index = self.faiss.read_index(str(self.path))
        finally:
            for what, limit in limits.items():
                getattr(self.faiss, f"set_deserialization_{what}")(limit)
        if not 0 <= index.ntotal <= size:
            told = f"{self.path} says that it holds {index.ntotal:,} rows, in {size:,} bytes"
            raise StoreError(told, "name a file that faiss.write_index wrote, uncut")
        return index

    def ids(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the ids in order, and for each the number by which the index gives back its row."""
        index = self.index
        if self.order[:2] != (index.ntotal, self.writes):
            ids = numbers = np.arange(index.ntotal)
            if hasattr(index, "id_map"):
                ids = self.faiss.vector_to_array(index.id_map)
            elif (inverted := self.inverted(index)) is not None:
                lists = inverted.invlists
                sizes = [(at, lists.list_size(at)) for at in range(inverted.nlist)]
                parts = [self.faiss.rev_swig_ptr(lists.get_ids(at), size).copy() for at, size in sizes if size]
                ids = numbers = np.concatenate(parts) if parts else ids
            order = np.argsort(ids, kind="stable")
            if (np.diff(ids[order]) == 0).any():
                twice = ids[order][1:][np.diff(ids[order]) == 0][0]
                raise StoreError(f"{self.path} holds several rows of the id {twice}", "remove them: index.remove_ids(…)")
            self.order = (index.ntotal, self.writes, ids[order], numbers[order])
        return self.order[2], self.order[3]

    def rows(self, numbers: Int64[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Return rows by the numbers that `ids` gives."""
        index = self.index
        inner = self.faiss.downcast_index(index.index) if hasattr(index, "id_map") else index
        if (inverted := self.inverted(inner)) is not None and inverted.direct_map.no():
            inverted.set_direct_map_type(self.faiss.DirectMap.Hashtable)
        return np.asarray(inner.reconstruct_batch(numbers), np.float32)

    def documents(self, ids: Int64[np.ndarray, " k"]) -> list[dict[str, Any]]:
        """Return the documents of these ids, empty where there is none."""
        if not self.tables:
            return [{} for _ in ids]
        if len(self.known) != len(self.tables) + 2:  # the ids in order, their rows, where the rows of each table begin
            held = np.concatenate([table.column("id").to_numpy() for table in self.tables])
            order = np.argsort(held, kind="stable")
            self.known = (held[order], order, *np.cumsum([0, *map(len, self.tables)])[:-1])
        held, order, *starts = self.known
        found: list[dict[str, Any]] = []
        for i, at in zip(ids, np.searchsorted(held, ids, side="right") - 1, strict=True):
            if at < 0 or held[at] != i:
                found.append({})
                continue
            table = bisect_right(starts, order[at]) - 1
            found.append(self._document(self.tables[table].column("document")[int(order[at] - starts[table])].as_py(), int(i)))
        return found

    def _document(self, text: str, number: int) -> dict[str, Any]:
        try:
            told = json.loads(text)
            if isinstance(told, dict):
                return told
        except (ValueError, RecursionError):
            pass
        told = f"{self.beside}, which holds the payload of an index, has no JSON object for the row {number}"
        raise StoreError(told, "delete it to read the index without payload")

    def put(self, ids: Int64[np.ndarray, " k"], vectors: Float32[np.ndarray, "k d"], documents: list[str]) -> None:
        """Write rows, first to a file of their own, then to the index in memory."""
        import pyarrow as pa

        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        table = pa.table({"id": ids, "vector": flat, "document": pa.array(documents, pa.large_string())})
        self._take(ids, vectors, table.select(["id", "document"]))
        self.pending.mkdir(exist_ok=True)
        number = len(list(self.pending.glob("*.arrow")))
        with atomically(self.pending / f"{number:09}.arrow") as part, pa.ipc.new_file(str(part), table.schema) as file:
            file.write_table(table)

    def _take(self, ids: Any, vectors: Any, table: Any) -> None:
        index = self.index
        known = self.ids()[0]
        there = ids[np.isin(ids, known)]
        if (inverted := self.inverted(index)) is not None:
            inverted.set_direct_map_type(self.faiss.DirectMap.NoMap)
        if len(there):
            index.remove_ids(there)
        index.add_with_ids(np.ascontiguousarray(vectors), ids)
        self.tables.append(table)
        self.writes += 1

    def create(self, index: Any, metric: str) -> None:
        """Make the files of an empty index."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._forget()
        self.held, self.metric = index, metric
        self.save()

    def save(self) -> None:
        """Write the index and the documents, and then forget the batches that are in them."""
        import pyarrow as pa

        ids = self.ids()[0]
        if (inverted := self.inverted(self.held)) is not None:
            inverted.set_direct_map_type(self.faiss.DirectMap.NoMap)
        schema = pa.schema([("id", pa.int64()), ("document", pa.large_string())], {METRIC: (self.metric or "").encode()})
        with atomically(self.beside) as part, pa.ipc.new_file(str(part), schema) as file:
            for start in range(0, len(ids), BATCH_ROWS):
                some = ids[start : start + BATCH_ROWS]
                texts = [json.dumps(it, ensure_ascii=False) for it in self.documents(some)]
                file.write_table(pa.table({"id": some, "document": texts}).cast(schema))
        with atomically(self.path) as part:
            self.faiss.write_index(self.held, str(part))
        shutil.rmtree(self.pending, ignore_errors=True)

    def close(self) -> None:
        """Save what was written."""
        if self.held is not None and self.pending.is_dir() and self.writes:
            self.save()
        self._forget()

    def delete(self) -> None:
        """Delete the files."""
        self._forget()
        shutil.rmtree(self.pending, ignore_errors=True)
        for path in (self.path, self.beside):
            path.unlink(missing_ok=True)

    def _forget(self) -> None:
        self.held, self.tables, self.order, self.known, self.writes = None, [], (), (), 0

    def inverted(self, index: Any) -> Any:
        """Return the inverted file that an index is, or has inside; None when there is none."""
        return None if hasattr(index, "refine_index") else self.faiss.try_extract_index_ivf(index)


class FaissIndex(Collection):
    """An index file."""

    format = "faiss"
    module = "faiss"
    extra = "faiss"
    put_bytes = 1 << 26

    @property
    def path(self) -> Path:
        """The index file."""
        return Path(*self.address.folder())

    def _connect(self) -> Any:
        if self.address.split()[0]:
            raise StoreError(f"{self.address.url} names a server, and FAISS has none", "write faiss:///folder/index.faiss")
        return Index(self.path, self.client_library())

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        if not client.path.parent.is_dir():
            raise StoreError(f"there is no folder {client.path.parent}", "name an index file that is there")
        return sorted(it.name for it in client.path.parent.iterdir() if it.is_file() and not it.name.startswith("."))

    def _look(self, client: Any) -> Layout | None:
        if not client.path.exists():
            return None
        index = client.index
        ids, _ = client.ids()
        inner = client.faiss.downcast_index(index.index) if hasattr(index, "id_map") else index
        kind = type(inner).__name__.removeprefix("Index")
        known = {client.faiss.METRIC_L2: "euclidean", client.faiss.METRIC_INNER_PRODUCT: "dot"}
        all_metrics = ((name, value) for name, value in vars(client.faiss).items() if name.startswith("METRIC_"))
        named = next((name for name, value in all_metrics if value == index.metric_type), "")
        return Layout(
            len(ids),
            index.d,
            client.metric or known.get(index.metric_type, named.removeprefix("METRIC_").lower()),
            client.metric == "cosine",
            "float32" if kind.endswith("Flat") or kind.startswith("Flat") else kind,
            "integer" if not client.tables else None,
            names(client.documents(ids[:SAMPLED])),
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        ids, numbers = client.ids()
        start = 0 if after is None else int(np.searchsorted(ids, after, side="right"))
        some, which = ids[start : start + limit], numbers[start : start + limit]
        keys = some.tolist()
        last = keys[-1] if keys else after
        if not vectors or not keys:
            return Page(keys, [None] * len(keys), [{}] * len(keys), last)
        return Page(keys, client.rows(which), client.documents(some), last)

    def _count(self, client: Any) -> int:
        return int(client.index.ntotal)

    def _create(self, client: Any, like: Description) -> None:
        faiss = client.faiss
        metric = faiss.METRIC_L2 if like.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        client.create(faiss.IndexIDMap2(faiss.IndexFlat(like.dim, metric)), str(like.metric))

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        index, faiss = client.index, client.faiss
        flat = hasattr(index, "id_map") and isinstance(faiss.downcast_index(index.index), faiss.IndexFlatCodes)
        if not flat and (hasattr(index, "id_map") or client.inverted(index) is None):
            hint = "write to a new file, or to one with ids: faiss.IndexIDMap2(faiss.IndexFlatL2(dim))"
            raise StoreError(f"{self.path} is an index in which no rows can be replaced by id", hint)
        if layout.normalised:
            vectors = (vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)
        texts = [json.dumps(row, ensure_ascii=False) for row in rows]
        ids, first = _last_of_each(keys)
        client.put(ids, vectors[first], [texts[at] for at in first])

    def _drop(self, client: Any) -> None:
        client.delete()

    def _key(self, value: int | str, layout: Layout) -> Key:
        if isinstance(value, int) and 0 <= value < 2**63:
            return value
        return int(uuid_of(value).replace("-", "")[:16], 16) >> 1

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if not isinstance(error, RuntimeError):
            return None
        told = str(error).rpartition(": ")[2] if "not implemented" not in str(error) else "it cannot do this"
        if '"IBx' in str(error):
            return f"{self.path} is a binary index, whose rows are bits", "name an index of float vectors"
        if "read_index" in str(error) or "FileIOReader" in str(error):
            return f"{self.path} cannot be read as an index: {told}", "name a file that faiss.write_index wrote, uncut"
        return f"this kind of index refuses, {self.path}: {told}", "write to a new file, or read an index that keeps its rows"


def _last_of_each(keys: Sequence[Key]) -> tuple[Int64[np.ndarray, " k"], list[int]]:
    """Return each key once, with the position of the last row that has it."""
    last = {key: at for at, key in enumerate(keys)}
    return np.array(list(last), np.int64), list(last.values())


def _table(path: Path) -> Any:
    """Return an Arrow file of ids and documents, mapped into memory; None when there is none."""
    import pyarrow as pa

    if not path.is_file():
        return None
    try:
        table = checked(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        kinds = [table.schema.field(name).type for name in ("id", "document")]
        if kinds[0] != pa.int64() or kinds[1] not in (pa.string(), pa.large_string()):
            raise ValueError(f"its columns hold {kinds[0]} and {kinds[1]}")
        if table.column("id").null_count or table.column("document").null_count:
            raise ValueError("a row lacks its id or its document")
        return table
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        hint = "delete it to read the index without payload"
        raise StoreError(f"{path}, which holds the payload of an index, cannot be read: {error}", hint) from None


def _matrix(column: Any) -> Float32[np.ndarray, "k d"]:
    flat = column.combine_chunks()
    return np.asarray(flat.flatten().to_numpy(), np.float32).reshape(len(flat), -1)
