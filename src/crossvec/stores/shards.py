"""shards — a folder of tables of one schema, written file by file: what Hugging Face datasets and VDF folders have in common.

In    Address
Out   ShardFolder      a Collection; a format adds how a shard is read and written, and which file lists the shards
Uses  stores.collection, stores.atomic; pyarrow

Each batch that is written is a new file, and a row that is written again is replaced where it stands: rows keep their places,
so a place and the id found there are a cursor. Every file is replaced in one step, so that whoever is reading goes on with the
old one. Payload gets a column for each key whose values in the first batch are text, numbers, booleans or lists of one type;
what fits no column is kept as JSON text in one of its own.
"""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from crossvec.errors import StoreError, did_you_mean
from crossvec.stores import Description
from crossvec.stores.atomic import atomically
from crossvec.stores.collection import Collection, chosen
from crossvec.stores.documents import NORM, REST, names, pack
from crossvec.stores.files import ID_NAMES
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.tables import number_type

SAMPLED = 16
METRIC = "crossvec.metric"
DAMAGE = (None, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # None: Arrow means a damaged file


@dataclass
class Folder:
    """A folder of shards, and how many rows each was found to have."""

    path: Path
    counted: dict[tuple[str, int, int, int], int] = field(default_factory=dict)

    def close(self) -> None:
        """Forget what was counted."""
        self.counted.clear()


@dataclass(frozen=True)
class Listing:
    """What a folder says of itself: its shards in order, of which there is at least one, perhaps without rows."""

    shards: list[Path]
    metric: str | None = None
    vectors: tuple[str, ...] = ()
    id_column: str | None = None


class ShardFolder(Collection):
    """A folder of tables."""

    module = "pyarrow"
    extra = "stores"
    options = frozenset({"id"})
    put_bytes = 1 << 28
    beside: ClassVar[tuple[str, ...]] = ()  # the files that a folder holds beside its shards

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(*self.address.folder())

    # --- what a format adds

    @abstractmethod
    def _listing(self, client: Folder) -> Listing | None:
        """Read which shards there are; None when the folder is no such folder."""

    @abstractmethod
    def _list(self, client: Folder, shards: list[Path], layout: Layout) -> None:
        """Write which shards there are, and what the layout says: rows, dim, metric and vector, and `about["key"]`."""

    @abstractmethod
    def _rows(self, shard: Path) -> tuple[int, pa.Schema]:
        """Return a shard's number of rows and its schema."""

    @abstractmethod
    def _pieces(self, shard: Path, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield a shard's rows from `start` on."""

    @abstractmethod
    def _save(self, path: Path, table: pa.Table) -> None:
        """Write a shard."""

    @abstractmethod
    def _next(self, shards: list[Path]) -> Path:
        """Return where the next shard goes."""

    # --- reading

    def _listed(self, client: Folder) -> Listing | None:
        """Return the listing; raises StoreError for one that is no list of files as the format knows it."""
        try:
            return self._listing(client)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            told = f"{self.path} does not list its rows as {self.format} does: {type(error).__name__}: {error}"
            raise StoreError(told, "write the folder anew, with the program that made it") from None

    def _connect(self) -> Any:
        if self.address.split()[0]:
            hint = f"write {self.address.scheme}:///folder/name"
            raise StoreError(f"{self.address.url} names a server, and {self.format} is a folder on this machine", hint)
        return Folder(self.path)

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        if client.path.is_dir():
            hint = f"it holds {', '.join(sorted(it.name for it in client.path.iterdir())[:8]) or 'nothing'}"
            raise StoreError(f"{client.path} is no folder of {self.format}", hint)
        if not client.path.parent.is_dir():
            raise StoreError(f"there is no folder {client.path}", f"there is no folder {client.path.parent} either")
        return sorted(it.name for it in client.path.parent.iterdir() if it.is_dir())

    def _look(self, client: Any) -> Layout | None:
        listing = self._listed(client)
        if listing is None:
            return None
        counts = [self._count_of(client, shard) for shard in listing.shards]
        schema = self._rows(listing.shards[0])[1]
        found = [it.name for it in schema if _is_vector(it.type)]
        named = [name for name in listing.vectors if name in found] or found
        if self.column in schema.names and self.column not in named:
            kind = schema.field(self.column).type
            hint = f"vectors are in {', '.join(named)}" if named else "name a folder with a column of float lists"
            raise StoreError(f"the column {self.column!r} of {self.address.url} holds {kind}, not vectors", hint)
        vector = chosen(named, self)
        key = self._id_column(listing, schema)
        kind = schema.field(vector).type
        others = [name for name in schema.names if name not in (key, *named)]
        first = self._first(listing.shards[0], REST) if REST in schema.names else []
        packed = names({REST: text} for text in first if text)
        return Layout(
            sum(counts),
            kind.list_size if pa.types.is_fixed_size_list(kind) else self._peek(listing, vector),
            listing.metric,
            False,
            number_type(kind.value_type).name,
            None if key is None else "integer" if pa.types.is_integer(schema.field(key).type) else "text",
            tuple(dict.fromkeys([*(name for name in others if name != REST), *packed])),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={"key": key, "others": others, "made": REST in schema.names, "schema": schema, "counts": counts},
        )

    def _id_column(self, listing: Listing, schema: pa.Schema) -> str | None:
        asked = self.address.options.get("id")
        if asked and asked not in schema.names:
            raise StoreError(f"{self.address.url} has no column {asked!r}", did_you_mean(asked, schema.names))
        usual = [listing.id_column, *ID_NAMES]
        key = asked or next((name for name in usual if name in schema.names and _is_id(schema.field(name).type)), None)
        if key is not None and not _is_id(schema.field(key).type):
            hint = "name a column of whole numbers or text: ?id=COLUMN"
            raise StoreError(f"the column {key!r} of {self.address.url} holds {schema.field(key).type}, which is no id", hint)
        return key

    def _first(self, shard: Path, column: str) -> list[Any]:
        return next((piece.column(0).slice(0, SAMPLED).to_pylist() for piece in self._pieces(shard, 0, [column])), [])

    def _peek(self, listing: Listing, vector: str) -> int:
        for shard in listing.shards:
            if there := [value for value in self._first(shard, vector) if value]:
                return len(there[0])
        raise StoreError(
            f"{self.address.url} does not tell its dimension: no vector in its first rows", "write fixed-size lists"
        )

    def _count_of(self, client: Folder, shard: Path) -> int:
        told = shard.stat()
        key = (shard.name, told.st_ino, told.st_mtime_ns, told.st_size)
        if key not in client.counted:
            client.counted[key] = self._rows(shard)[0]
        return client.counted[key]

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        at, mark = after or (0, None)
        held = about.get("stream")
        if held is None or held[0] != (at, vectors):
            self._refuse_moved(client, layout, at, mark)
            held = ((at, vectors), self._stream(client, layout, at, vectors), [])
        (_, stream, rest), room = held, limit
        wanted: list[pa.RecordBatch] = []
        while room and (piece := rest.pop() if rest else next(stream, None)) is not None:
            wanted.append(piece.slice(0, room))
            if len(piece) > room:
                rest.append(piece.slice(room))
            room -= len(wanted[-1])
        table = pa.Table.from_batches(wanted) if wanted else None
        k = len(table) if table is not None else 0
        key = about["key"]
        keys = list(range(at, at + k)) if key is None or table is None else table.column(key).to_pylist()
        if None in keys:
            hint = "give it one, or name another column: ?id=COLUMN"
            raise StoreError(f"row {at + keys.index(None):,} of {self.address.url} has no id", hint)
        last = [at + k, keys[-1] if keys else mark]
        about["stream"] = ((at + k, vectors), stream, rest)
        if table is None or not vectors:
            return Page(keys, [None] * k, [{}] * k, last)
        documents = table.select(about["others"]).to_pylist() if about["others"] else [{}] * k
        if about["made"]:
            documents = [{name: value for name, value in row.items() if value is not None} for row in documents]
        return Page(keys, matrix(table.column(layout.vector), layout.dim), documents, last)

    def _stream(self, client: Folder, layout: Layout, at: int, vectors: bool) -> Iterator[pa.RecordBatch]:
        about = layout.about
        columns = [*([about["key"]] if about["key"] else []), *([layout.vector, *about["others"]] if vectors else [])]
        number = 0
        while (listing := self._listed(client)) is not None and number < len(listing.shards):
            rows = self._count_of(client, listing.shards[number])
            if number < len(about["counts"]) and about["counts"][number] not in (0, rows):
                raise StoreError(f"{self.address.url} was written anew while it was read", "begin anew")
            given = min(at, rows)
            for piece in self._pieces(listing.shards[number], at, columns or [layout.vector]) if at < rows else ():
                yield piece
                given += len(piece)
            if given != rows:
                raise ValueError(
                    f"{listing.shards[number].name} says that it holds {rows:,} rows, and they end after {given:,}"
                )
            at, number = max(at - rows, 0), number + 1

    def _refuse_moved(self, client: Folder, layout: Layout, at: int, mark: Any) -> None:
        if not at or layout.about["key"] is None:
            return
        piece = next(self._stream(client, layout, at - 1, False), None)
        if piece is None or piece.column(0)[0].as_py() != mark:
            told = f"row {at - 1:,} of {self.address.url} is not {mark!r} any more: the folder was written anew"
            raise StoreError(told, "begin anew, without a cursor")

    def _count(self, client: Any) -> int:
        listing = self._listed(client)
        return sum(self._count_of(client, shard) for shard in listing.shards) if listing else 0

    # --- writing

    def _create(self, client: Any, like: Description) -> None:
        vector, key = self.column or "vector", self.address.options.get("id") or "id"
        if len({vector, key, REST, NORM}) < 4:
            raise StoreError(f"{self.address.url} gives two columns one name", "name id= and column= differently")
        kind = pa.int64() if like.id_type == "integer" else pa.string()
        schema = pa.schema([(key, kind), (vector, pa.list_(pa.float32(), like.dim)), (REST, pa.string())])
        shard = self._next([])
        self._written(shard, schema.with_metadata({METRIC: str(like.metric)}).empty_table())
        self._list(client, [shard], Layout(0, like.dim, like.metric, vector=vector, about={"key": key}))

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        about = layout.about
        if about["key"] is None:
            raise StoreError(f"{self.address.url} has no column of ids", "name one: ?id=COLUMN; or write to a new folder")
        listing = self._listed(client)
        if listing is None:
            raise StoreError(f"{self.address.url} was deleted while it was written to", "write to a new folder")
        about["schema"], empty = self._rows(listing.shards[0])[1], self._count(client) == 0
        if empty and about["made"]:
            about["schema"] = _widened(about["schema"], rows)
        about["others"] = [it.name for it in about["schema"] if it.name not in (about["key"], layout.vector, *layout.named)]
        table = self._table(layout, keys, vectors, rows)
        left = np.ones(len(table), bool)
        for shard in listing.shards:
            ids = pa.chunked_array(
                [it.column(0) for it in self._pieces(shard, 0, [about["key"]])], table.column(about["key"]).type
            )
            places = pc.index_in(table.column(about["key"]), ids).to_numpy(zero_copy_only=False)
            there = ~np.isnan(places.astype(np.float64))
            if there.any():
                self._replace(shard, table, places, there)
                left &= ~there
        if left.any():
            shard = listing.shards[0] if empty else self._next(listing.shards)
            self._written(shard, table.filter(pa.array(left)))
            shards = listing.shards if empty else [*listing.shards, shard]
            rows_now = sum(self._count_of(client, it) for it in shards)
            self._list(client, shards, replace(layout, rows=rows_now))

    def _replace(self, shard: Path, table: pa.Table, places: np.ndarray, there: np.ndarray) -> None:
        old = pa.Table.from_batches(list(self._pieces(shard, 0, table.column_names)))
        index = np.arange(len(old))
        index[places[there].astype(np.int64)] = len(old) + np.flatnonzero(there)
        self._written(shard, pa.concat_tables([old, table.cast(old.schema)]).take(pa.array(index)))

    def _written(self, shard: Path, table: pa.Table) -> None:
        shard.parent.mkdir(parents=True, exist_ok=True)
        with atomically(shard) as part:
            self._save(part, table)

    def _table(self, layout: Layout, keys: list[Key], vectors: Any, rows: list[dict[str, Any]]) -> pa.Table:
        about, schema = layout.about, layout.about["schema"]
        if others := [name for name in layout.named if name != layout.vector]:
            hint = "write to a new folder, and join the two by id"
            raise StoreError(f"{self.address.url} has other vectors beside, which would be lost: {', '.join(others)}", hint)
        kinds = {it.name: it.type for it in schema if it.name not in (about["key"], layout.vector, REST)}
        fitting = {name: _fits([row[name] for row in rows if name in row], kind) for name, kind in kinds.items()}
        packed = [
            pack(row, lambda name, value: name in kinds and (fitting[name] or _fits([value], kinds[name]))) for row in rows
        ]
        if not about["made"] and (strange := next((row for row in packed if REST in row), None)):
            hint = "write to a new folder, or leave the payload behind: ?keep=ids"
            raise StoreError(f"the columns of {self.address.url} cannot hold this payload: {strange[REST][:80]}", hint)
        given: dict[str, Any] = {name: pa.array([row.get(name) for row in packed], kind) for name, kind in kinds.items()}
        if about["made"]:
            given[REST] = pa.array([row.get(REST) for row in packed], pa.string())
        given[about["key"]] = pa.array(keys, schema.field(about["key"]).type)
        flat = pa.array(vectors.reshape(-1).astype(layout.dtype))
        kind = schema.field(layout.vector).type
        given[layout.vector] = pa.FixedSizeListArray.from_arrays(flat, layout.dim).cast(kind)
        return pa.table({name: given[name] for name in schema.names}).replace_schema_metadata(schema.metadata)

    def _drop(self, client: Any) -> None:
        listing = self._listed(client)
        for path in [*(listing.shards if listing else ()), *map(client.path.joinpath, self.beside)]:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # what others keep there stays
                path.parent.rmdir()

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            hint = "write to a new folder: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if isinstance(error, (pa.ArrowException, FileNotFoundError, KeyError, ValueError)) or (
            isinstance(error, OSError) and error.errno in DAMAGE
        ):
            told = " ".join(str(error).split())
            return (
                f"{self.path} cannot be read as {self.format}: {told}",
                "a file of it may be missing, cut short or of another format",
            )
        return None


def matrix(column: pa.ChunkedArray, dim: int) -> Any:
    """Return a column of lists as (k, d), as a list of rows when some are missing or of another length."""
    flat = column.combine_chunks()
    if not flat.null_count and pc.all(pc.equal(pc.list_value_length(flat), dim)).as_py() is not False:
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), dim)
    return [None if row.as_py() is None else np.array(row.as_py(), np.float32) for row in flat]


def _is_vector(kind: pa.DataType) -> bool:
    listed = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(listed and (pa.types.is_floating(kind.value_type) or pa.types.is_int8(kind.value_type)))


def _is_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _widened(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Schema:
    """Return the schema with a column for each payload key whose values are of one type that a column can hold."""
    schema = pa.schema(schema.remove(schema.get_field_index(REST)), schema.metadata)
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if row.get(name) is not None]
        try:
            kind = pa.infer_type(values)
        except (pa.ArrowException, OverflowError):
            continue
        inner = kind.value_type if pa.types.is_list(kind) else kind
        plain = (pa.bool_(), pa.int64(), pa.float64(), pa.string())
        # A list of floats would look like vectors, and a struct would not tell missing keys from None.
        if inner in plain and not (inner is not kind and inner == pa.float64()) and name and name not in schema.names:
            schema = schema.append(pa.field(name, kind))
    return schema.append(pa.field(REST, pa.string()))


def _fits(values: list[Any], kind: pa.DataType) -> bool:
    """Tell whether a column of this type gives back these very values."""
    try:
        back = pa.array(values, kind).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return None not in values and all(map(_same, values, back))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
