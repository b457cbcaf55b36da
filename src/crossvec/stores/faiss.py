"""faiss — an index file of FAISS, with ids that are no whole numbers, and payload, in a file beside it.

In    faiss:///folder/index.faiss
Out   Space                            vectors as the index gives them back, in the order of their ids
Uses  stores.collection, stores.atomic, stores.faiss_apart; pyarrow

FAISS keeps vectors under whole numbers and nothing else. crossvec writes flat indexes with ids (IndexIDMap2), and beside them
`index.faiss.arrow` (Arrow IPC: id, document as JSON text), which also says that a metric is cosine: FAISS knows it as the inner
product of unit rows. Any index that can give back its rows is read; rows of a compressed one come back as near as its codes
are, and `dtype` then names its kind. Never read: binary indexes, and pickles that other programs keep beside an index. Rows are
written only to an index with ids (an IDMap of a flat index, or an inverted file). The index is held in memory while it is open,
by FAISS in a process of its own, which a damaged file may end (docs/decisions/0007). What is written lies in
`index.faiss.pending` until the index is closed: when a program is killed, the next one takes it in.
"""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Int64

from crossvec.errors import StoreError, UnfinishedError
from crossvec.space import BATCH_ROWS
from crossvec.stores import Description
from crossvec.stores.atomic import atomically
from crossvec.stores.collection import Collection
from crossvec.stores.documents import names
from crossvec.stores.faiss_apart import Apart, Died, given_back, opened
from crossvec.stores.rows import Key, Layout, Page, uuid_of
from crossvec.stores.tables import checked

METRIC = b"crossvec.metric"
SAMPLED = 16
UNCUT = "name a file that faiss.write_index wrote, uncut"


@dataclass
class Index:
    """An index file and what lies beside it, read when first used; FAISS's own is in another process, `held`."""

    path: Path
    held: Apart | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # what the index is now, as Held.facts tells
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
    def file(self) -> str:
        """The index file as any process may open it."""
        return str(self.path.absolute())

    def look(self) -> dict[str, Any]:
        """Return what the index is, with all that was written to it: rows, dim, metric, kind, replaces."""
        if self.held is not None and not self.held.mine:  # forked since
            self.forget()
        if self.held is None:
            self._read()
            try:
                self._take_in()
            except BaseException:
                self.forget()
                raise
        return self.facts

    def _read(self) -> None:
        size = self.path.stat().st_size
        with self._telling():
            self.held, self.facts = opened("read", path=self.file)
        if not 0 <= self.facts["rows"] <= size:
            told = f"{self.path} says that it holds {self.facts['rows']:,} rows, in {size:,} bytes"
            self.forget()
            raise StoreError(told, UNCUT)

    def _take_in(self) -> None:
        """Read what lies beside the index, and add the batches that are not in it yet."""
        self.tables = [table for path in [self.beside] if (table := _table(path)) is not None]
        told = self.tables[0].schema.metadata if self.tables else None
        self.metric = (told or {}).get(METRIC, b"").decode("ascii", "replace") or None
        for path in sorted(self.pending.glob("*.arrow")):
            table = _table(path)
            self._take(table.column("id").to_numpy(), _matrix(table.column("vector")), table.select(["id", "document"]))

    def call(self, name: str, *arrays: np.ndarray, **settings: Any) -> Any:
        """Let FAISS do something with the index; raises StoreError when that ends its process."""
        self.look()
        with self._telling():
            return cast(Apart, self.held).call(name, *arrays, **settings)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Died as died:
            self.forget()
            if str(died) == "SIGKILL":
                told = f"the process in which FAISS holds {self.path} was killed, perhaps for lack of memory"
                raise UnfinishedError(told, "free some memory, and try again") from None
            told = (
                f"{self.path} ends the process in which FAISS holds it ({died}): it is damaged, or FAISS cannot handle its kind"
            )
            raise StoreError(told, f"{UNCUT}, of another kind if this one is whole") from None
        except MemoryError:
            told = f"{self.path} asks for more memory than there is, or than its size explains"
            raise StoreError(told, UNCUT) from None
        except KeyboardInterrupt:  # the process went with it, and what it held; batches that were written lie in `pending`
            self.forget()
            raise

    def change(self, name: str, *arrays: np.ndarray) -> None:
        """Add or remove rows."""
        self.facts = self.call(name, *arrays)
        self.order, self.writes = (), self.writes + 1

    def ids(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the ids in order, and for each the number by which the index gives back its row."""
        self.look()
        if not self.order:
            ids, numbers = self.call("ids")
            if not len(ids) == len(numbers) == self.facts["rows"]:
                told = f"{self.path} says that it holds {self.facts['rows']:,} rows, and has {len(ids):,} ids"
                raise StoreError(told, UNCUT)
            order = np.argsort(ids, kind="stable")
            if (np.diff(ids[order]) == 0).any():
                twice = ids[order][1:][np.diff(ids[order]) == 0][0]
                raise StoreError(f"{self.path} holds several rows of the id {twice}", "remove them: index.remove_ids(…)")
            self.order = (ids[order], numbers[order])
        return self.order

    def rows(self, numbers: Int64[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Return rows by the numbers that `ids` gives."""
        return cast(np.ndarray, self.call("rows", numbers)[0])

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
        there = ids[np.isin(ids, self.ids()[0])]
        if len(there):
            self.change("remove", there)
        self.change("add", ids, np.ascontiguousarray(vectors))
        self.tables.append(table)

    def create(self, dim: int, metric: str) -> None:
        """Make the files of an empty index."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.forget()
        with self._telling():
            self.held, self.facts = opened("create", dim=dim, metric=metric)
        self.metric = metric
        self.save()

    def save(self) -> None:
        """Write the index and the documents, and then forget the batches that are in them."""
        import pyarrow as pa

        ids = self.ids()[0]
        schema = pa.schema([("id", pa.int64()), ("document", pa.large_string())], {METRIC: (self.metric or "").encode()})
        with atomically(self.beside) as part, pa.ipc.new_file(str(part), schema) as file:
            for start in range(0, len(ids), BATCH_ROWS):
                some = ids[start : start + BATCH_ROWS]
                texts = [json.dumps(it, ensure_ascii=False) for it in self.documents(some)]
                file.write_table(pa.table({"id": some, "document": texts}).cast(schema))
        with atomically(self.path) as part:
            self.call("write", path=str(part.absolute()))
        shutil.rmtree(self.pending, ignore_errors=True)

    def close(self) -> None:
        """Save what was written."""
        try:
            if self.held is not None and self.held.mine and self.pending.is_dir() and self.writes:
                self.save()
        finally:
            self.forget()

    def delete(self) -> None:
        """Delete the files."""
        self.forget()
        shutil.rmtree(self.pending, ignore_errors=True)
        for path in (self.path, self.beside):
            path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Let go of the index, and of the process that held it."""
        held, self.held = self.held, None
        if held is not None:
            given_back(held)
        self.facts, self.tables, self.order, self.known, self.writes = {}, [], (), (), 0


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
        if find_spec(self.module) is None:
            self.client_library()  # tells what to install
        return Index(self.path)

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        if not client.path.parent.is_dir():
            raise StoreError(f"there is no folder {client.path.parent}", "name an index file that is there")
        return sorted(it.name for it in client.path.parent.iterdir() if it.is_file() and not it.name.startswith("."))

    def _look(self, client: Any) -> Layout | None:
        if not client.path.exists():
            return None
        facts, (ids, _) = client.look(), client.ids()
        return Layout(
            facts["rows"],
            facts["dim"],
            client.metric or facts["metric"],
            client.metric == "cosine",
            facts["kind"],
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
        return int(client.look()["rows"])

    def _create(self, client: Any, like: Description) -> None:
        client.create(like.dim, str(like.metric))

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        if not client.look()["replaces"]:
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
            return f"{self.path} cannot be read as an index: {told}", UNCUT
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
