"""tables — Parquet and Arrow files: a column of vectors, a column of ids, and every other column as payload.

In    file.parquet?column=vector&id=id, file.arrow     vectors as fixed-size lists, lists, or the bytes of their numbers
Out   Space; payload stays in Arrow columns            so that types such as timestamps come back as they were
Uses  stores.files, pyarrow

Written are fixed-size lists. A column of bytes is read as float32, or as `?dtype=float16` says, when it is called like a vector
or asked for with `?column=`. Payload types may widen from batch to batch (missing, then text; whole numbers, then fractions).
"""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Shaped

from crossvec.errors import StoreError
from crossvec.space import BATCH_ROWS, Space, refuse_ragged
from crossvec.stores.files import VECTOR_NAMES, FileStore, Head, Part, Written, choose, choose_ids

READ_AHEAD = 1 << 20  # bytes of a Parquet column
PEEKED = 64  # rows looked at for a list's length, which a schema does not tell

Spans = Sequence[tuple[int, int]]
"""Slices of rows, half-open, in order and apart."""


class TableFile(FileStore):
    """A table in a file; the two formats differ in how they are opened."""

    options = frozenset({"column", "id"})
    carries = frozenset({"ids", "payload"})
    damage = (ValueError, KeyError, pa.ArrowException)

    @abstractmethod
    def _shape(self) -> tuple[int, pa.Schema]:
        """Return the number of rows and the schema."""

    @abstractmethod
    def _pieces(self, path: Path, spans: Spans, columns: list[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield pieces of the table at `path` with their first row's number, in order: all that hold rows of the spans."""

    @abstractmethod
    def _writer(self, path: Path, schema: pa.Schema, column: str) -> Any:
        """Return an open writer of tables."""

    def _head(self) -> Head:
        rows, schema = self._shape()
        column, id_column = self._columns(schema)
        kind = schema.field(column).type
        number = np.dtype(self.address.options.get("dtype", "float32") if _is_bytes(kind) else number_type(kind.value_type))
        dim = kind.list_size if pa.types.is_fixed_size_list(kind) else self._peek(column, rows, number)
        payload = tuple(name for name in schema.names if name not in (column, id_column))
        return Head(rows, dim, number.name, id_column is not None, payload)

    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        head, (_, schema) = self._head(), self._shape()
        column, id_column = self._columns(schema)
        for at, table in self._tables([(start, stop)], batch, self._wanted(head, schema)):
            yield self._part(table, head, column, id_column, at)

    def parts(self, slices: Spans) -> Iterator[Space]:
        """Yield the rows of some slices of what is shown, given in order, in one reading: no row is decoded twice."""
        head, first, _ = self._opened()
        spans = [(first + start, first + stop) for start, stop in slices]
        with self._reading():
            _, schema = self._shape()
            column, id_column = self._columns(schema)
            for at, table in self._tables(spans, BATCH_ROWS, self._wanted(head, schema)):
                part = self._part(table, head, column, id_column, at)
                yield self._space(part, at, head, self.address.options.get("bad_rows", "refuse"))

    def _wanted(self, head: Head, schema: pa.Schema) -> list[str]:
        column, id_column = self._columns(schema)
        wanted = {column, id_column} if "ids" in self.kept else {column}
        wanted |= set(head.payload) if "payload" in self.kept else set()
        return [name for name in schema.names if name in wanted]

    def _part(self, table: pa.Table, head: Head, column: str, id_column: str | None, start: int) -> Part:
        vectors = _matrix(table.column(column), head, np.arange(start, start + len(table)), self.name)
        ids = table.column(id_column) if id_column in table.column_names else None
        if ids is not None and pa.types.is_integer(ids.type) and not ids.null_count:
            ids = ids.to_numpy()
        return Part(vectors, ids, {name: table.column(name) for name in head.payload if name in table.column_names} or None)

    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        column, id_column = self.address.options.get("column", "vector"), self.address.options.get("id") or "id"
        rows, writer, schema = 0, None, pa.schema([])
        try:
            for x, space in batches:
                table = self._table(x, space, column, id_column)
                wider = self._widened(schema, table.schema, rows)
                if writer is None:
                    writer = self._writer(path, wider, column)
                elif wider != schema:
                    writer.close()
                    writer = None
                    writer = self._rewritten(path, wider, column)
                schema = wider
                writer.write_table(_fitted(table, schema))
                rows += len(table)
        except pa.ArrowException as error:
            hint = f"write .jsonl, or leave the payload behind: {self.path}?keep=ids"
            raise StoreError(f"{self.format} cannot carry these rows: {error}", hint) from error
        finally:
            if writer is not None:
                writer.close()
        return rows

    def _columns(self, schema: pa.Schema) -> tuple[str, str | None]:
        """Return the names of the columns of vectors and ids."""
        if len(set(schema.names)) < len(schema.names):
            raise StoreError(f"{self.path} has two columns of one name: {', '.join(schema.names)}", "rename one")
        if "column" in self.address.options:
            vectors = list(schema.names)
        else:
            vectors = [field.name for field in schema if _is_vector(field.type)]
            vectors = vectors or [name for name in VECTOR_NAMES if name in schema.names and _is_bytes(schema.field(name).type)]
        column = choose("column", vectors, self, "column")
        kind = schema.field(column).type
        if not (_is_list(kind) or _is_bytes(kind)):
            raise StoreError(
                f"column {column!r} of {self.path} holds {kind}, not vectors", f"there are {', '.join(schema.names)}"
            )
        asked = self.address.options.get("id")
        return column, choose_ids("column", [f.name for f in schema if f.name == asked or _may_be_id(f.type)], self)

    def _peek(self, column: str, rows: int, number: np.dtype) -> int:
        """Return the dimension of vectors whose type does not tell it, from the first that is there."""
        for _, table in self._tables([(0, min(rows, PEEKED))], PEEKED, [column]):
            if values := table.column(column).drop_null().slice(0, 1).to_pylist():
                return len(values[0]) // (number.itemsize if _is_bytes(table.column(column).type) else 1)
        raise StoreError(
            f"{self.path} does not tell its dimension: no vector in its first rows", "write vectors as fixed-size lists"
        )

    def _tables(self, spans: Spans, batch: int, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows of each span as tables of at most `batch` rows, with the number of the first, whatever the pieces."""
        pieces = self._pieces(self.path, spans, columns)
        at, piece = next(pieces, (0, None))
        for start, stop in spans:
            held: list[pa.RecordBatch] = []
            told = start
            while piece is not None and at < stop:
                if at + len(piece) > start:  # pieces of a row group come from its start on
                    first = max(start - at, 0)
                    held.append(piece.slice(first, min(stop - at, len(piece)) - first))
                while sum(map(len, held)) >= batch:
                    table = pa.Table.from_batches(held)
                    yield told, table.slice(0, batch)
                    told, held = told + batch, table.slice(batch).to_batches()
                if at + len(piece) >= stop:  # the next span may lie in it too
                    break
                at, piece = next(pieces, (0, None))
            if sum(map(len, held)):
                yield told, pa.Table.from_batches(held)

    def _table(self, x: Shaped[np.ndarray, "k d"], space: Any, column: str, id_column: str) -> pa.Table:
        taken = {"column": column} | ({} if space.ids is None else {"id": id_column})
        for option, name in taken.items():
            if name in space.columns:
                hint = f"give it another name: {self.path}?{option}={name}_of_row"
                raise StoreError(f"the payload has a column {name!r}, the name of the {option} in {self.path}", hint)
        columns: dict[str, Any] = {}
        if space.ids is not None:
            columns[id_column] = _arrow(id_column, space.ids, self.path)
        columns[column] = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
        for name, values in space.columns.items():
            columns[name] = _arrow(name, values, self.path)
        return pa.table(columns)

    def _widened(self, old: pa.Schema, new: pa.Schema, rows: int) -> pa.Schema:
        """Return the schema that holds the rows written so far and the new ones."""
        try:
            return pa.unify_schemas([old, new.remove_metadata()], promote_options="permissive")
        except pa.ArrowException as error:
            raise StoreError(
                f"the payload changes its type before row {rows:,}: {error}",
                f"give each column one type, write .jsonl, or leave it behind: {self.path}?keep=ids",
            ) from error

    def _rewritten(self, path: Path, schema: pa.Schema, column: str) -> Any:
        """Copy the closed file at `path` into a wider schema, and return the writer that goes on from there."""
        before = path.with_name(path.name + ".old")
        os.replace(path, before)
        try:
            writer = self._writer(path, schema, column)
            for _, piece in self._pieces(before, [(0, sys.maxsize)], None):
                writer.write_table(_fitted(pa.Table.from_batches([piece]), schema))
        finally:
            before.unlink()
        return writer


def parquet_rows(file: pq.ParquetFile) -> int:
    """Return how many rows a Parquet file says it has; raises ArrowInvalid when its groups have others, or less than none."""
    told = file.metadata.num_rows
    groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    if min([told, *groups]) < 0 or sum(groups) != told:
        raise pa.ArrowInvalid(f"it says that it has {told:,} rows, and {sum(groups):,} in its groups")
    return int(told)


class ParquetFile(TableFile):
    """A table in Parquet."""

    format = ".parquet"

    def _shape(self) -> tuple[int, pa.Schema]:
        with pq.ParquetFile(self.path) as file:
            return parquet_rows(file), file.schema_arrow

    def _pieces(self, path: Path, spans: Spans, columns: list[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        # Not whole row groups at a time, which may be the whole file.
        with pq.ParquetFile(path, buffer_size=READ_AHEAD, pre_buffer=False) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = np.cumsum(sizes, dtype=np.int64).tolist()
            plain = columns if columns and not any("." in name for name in columns) else None  # a dot would mean a nested field
            for groups in _runs(ends, spans):
                at = ends[groups[0]] - sizes[groups[0]]
                for piece in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=plain):
                    yield at, piece.select(columns) if columns else piece
                    at += len(piece)

    def _writer(self, path: Path, schema: pa.Schema, column: str) -> Any:
        # Vectors hardly compress and never repeat: packing them would only cost time.
        others = [name for name in schema.names if name != column]
        packed = {name: "snappy" for name in others} | {f"{column}.list.element": "none"}
        return pq.ParquetWriter(path, schema, use_dictionary=others, compression=packed, write_statistics=others)


class ArrowFile(TableFile):
    """A table in Arrow's IPC format: files (also called Feather), and streams when reading."""

    format = ".arrow"

    def _shape(self) -> tuple[int, pa.Schema]:
        with pa.memory_map(str(self.path)) as source:  # mapped, so that counting rows reads no vectors
            schema, batches = _ipc(source)
            return sum(len(piece) for piece in batches), schema

    def _pieces(self, path: Path, spans: Spans, columns: list[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        at = 0
        with pa.OSFile(str(path)) as source:
            for piece in _ipc(source)[1]:
                if any(start < at + len(piece) and at < stop for start, stop in spans):
                    yield at, checked(piece.select(columns) if columns else piece)
                at += len(piece)

    def _whole(self, start: int, stop: int) -> Part:
        head = self._head()
        schema, batches = _ipc(pa.memory_map(str(self.path)))
        table = pa.Table.from_batches(list(batches), schema).select(self._wanted(head, schema))
        return self._part(checked(table).slice(start, stop - start), head, *self._columns(schema), start)

    def _writer(self, path: Path, schema: pa.Schema, column: str) -> Any:
        return pa.ipc.new_file(str(path), schema)


def _runs(ends: list[int], spans: Spans) -> list[range]:
    """Return which row groups, that end before these rows, hold rows of the spans: neighbours as one range."""
    runs: list[range] = []
    for start, stop in spans:
        first, last = bisect_right(ends, start), min(bisect_left(ends, stop), len(ends) - 1)
        if runs and first <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(last + 1, runs[-1].stop))
        elif first <= last:
            runs.append(range(first, last + 1))
    return runs


def _ipc(source: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    try:
        reader = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def checked(piece: Rows) -> Rows:
    """Return what an IPC file holds, its offsets and text looked at: Arrow takes them on trust, and would end the process."""
    piece.validate(full=True)
    return piece


def number_type(kind: pa.DataType) -> np.dtype:
    """Return NumPy's type for a column's values; Arrow's own `to_pandas_dtype` wants pandas, which crossvec does not."""
    return pa.array([], kind).to_numpy(zero_copy_only=False).dtype  # type: ignore[no-any-return]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_vector(kind: pa.DataType) -> bool:
    return _is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_int8(kind.value_type))


def _may_be_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _matrix(column: pa.ChunkedArray, head: Head, numbers: np.ndarray, name: str) -> Shaped[np.ndarray, "k d"]:
    """Return a column's vectors; rows that are missing become NaN, to be refused or dropped as such."""
    parts, at = [], 0
    for chunk in column.chunks:
        there = chunk.is_valid().to_numpy(zero_copy_only=False)
        present = chunk.drop_null() if chunk.null_count else chunk
        if _is_bytes(chunk.type):
            item = np.dtype(head.dtype).newbyteorder("<")
            lengths = -(-pc.binary_length(present).to_numpy() // item.itemsize)
            values = np.frombuffer(b"".join(present.to_pylist()), item)
        else:
            lengths = pc.list_value_length(present).to_numpy()
            values = present.flatten().to_numpy(zero_copy_only=False)
        refuse_ragged(lengths, head.dim, numbers[at : at + len(chunk)][there], name)
        vectors = values.reshape(len(present), head.dim)
        if chunk.null_count:
            filled = np.full((len(chunk), head.dim), np.nan, np.result_type(vectors.dtype, np.float16))
            filled[there] = vectors
            vectors = filled
        parts.append(vectors)
        at += len(chunk)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _arrow(name: str, values: Any, path: Path) -> Any:
    """Return a payload column or ids as an Arrow column; dictionary-encoded values are written plainly."""
    try:
        name.encode()
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        hint = f"write .jsonl, or leave the payload behind: {path}?keep=ids"
        raise StoreError(f"column {name!r} cannot be written to {path}: {error}", hint) from error
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly these columns, cast to their types; missing ones are null."""
    there = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type) if field.name in there else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
