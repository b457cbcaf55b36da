"""jsonl — one JSON object a line: a vector, perhaps an id, and payload; gzipped when the name ends in .gz.

In    file.jsonl[.gz]?column=vector&id=id     {"id": "a", "vector": [0.1, …], "title": "…"}
Out   Space                                   ids and payload are carried; a payload key that a line lacks is None
Uses  stores.files

Vectors are written with as many digits as float32 needs to come back unchanged. Dates and times are written as ISO text, since
JSON has none; a payload number that is NaN as null, infinity as 1e999. A file without lines has no dimension.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import SpaceError, StoreError
from crossvec.space import python_values
from crossvec.stores.files import FileStore, Head, Part, Written, choose, choose_ids

FAST_GZIP = 6  # gzip's own default; 9 takes twice as long for one percent
NO_JSON = re.compile(r"(NaN|Infinity)\Z")  # as Python writes these numbers, at the end of what it writes for a value


class JsonLinesFile(FileStore):
    """Lines of JSON objects, read one at a time."""

    format = ".jsonl"
    options = frozenset({"column", "id"})
    carries = frozenset({"ids", "payload"})
    dtypes = ("float32",)
    damage = (ValueError, zlib.error, RecursionError)

    def _head(self) -> Head:
        with self._open() as file:
            lines = (line for line in file if line.strip())
            first = next(lines, None)
            if first is None:
                raise StoreError(f"{self.path} holds no rows, so no dimension either", "write at least one line to it")
            record = self._record(first, 0)
            column, id_key = self._keys(record)
            payload = tuple(key for key in record if key not in (column, id_key))
            rows = 1 + sum(1 for _ in lines)
        return Head(rows, len(self._vector(record, column, 0)), "float32", id_key is not None, payload)

    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        rows = self._rows(start, stop)
        while held := list(islice(rows, batch)):
            vectors, ids, payload = (list(values) for values in zip(*held, strict=True))
            yield Part(vectors, None if ids[0] is None else ids, payload if any(payload) else None)

    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        column, id_key = self.address.options.get("column", "vector"), self.address.options.get("id") or "id"
        rows = 0
        with open(path, "r+b", buffering=0) as raw, self._packed(raw) as file:
            for x, space in batches:
                taken = {"column": column} | ({} if space.ids is None else {"id": id_key})
                for option, name in taken.items():
                    if name in space.columns:
                        hint = f"give it another name: {self.path}?{option}={name}_of_row"
                        raise StoreError(f"the payload has a column {name!r}, the name of the {option} in {self.path}", hint)
                ids = [] if space.ids is None else [{id_key: value} for value in python_values(space.ids)]
                for row, (vector, record) in enumerate(zip(_texts(x), space.records(), strict=True)):
                    before = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (ids[row] if ids else {}).items()]
                    after = [f"{json.dumps(key)}: {self._text(key, value)}" for key, value in record.items()]
                    file.write(f"{{{', '.join([*before, f'{json.dumps(column)}: {vector}', *after])}}}\n".encode())
                rows += len(x)
        return rows

    def _rows(self, start: int, stop: int) -> Iterator[tuple[Float32[np.ndarray, " d"], Any, dict[str, Any]]]:
        """Yield vector, id (None when rows have none) and payload of rows start to stop."""
        with self._open() as file:
            column, id_key, dim = "", None, 0
            dropping = self.address.options.get("bad_rows", "refuse") != "refuse"
            for row, line in islice(enumerate(line for line in file if line.strip()), stop):
                if row == 0:
                    first = self._record(line, row)
                    column, id_key = self._keys(first)
                    dim = len(self._vector(first, column, row))
                if row < start:
                    continue
                record = self._record(line, row)
                if id_key is not None and record.get(id_key) is None:
                    raise SpaceError(
                        f"row {row:,} of {self.name} has no {id_key!r}", f"add it, or use row numbers: {self.path}?id="
                    )
                bare = dropping and record.get(column) is None  # as a row without a vector in any other store
                vector = np.full(dim, np.nan, np.float32) if bare else self._vector(record, column, row)
                record.pop(column, None)
                yield vector, record.pop(id_key) if id_key else None, record

    def _open(self) -> io.BufferedIOBase:
        return gzip.GzipFile(self.path, "rb") if self._is_gzip() else open(self.path, "rb")

    def _packed(self, raw: io.FileIO) -> io.BufferedIOBase:
        """Return a file that writes through gzip when the name asks for it; undated, so that equal rows are equal bytes."""
        return gzip.GzipFile("", "wb", FAST_GZIP, raw, mtime=0) if self._is_gzip() else io.BufferedWriter(raw)

    def _is_gzip(self) -> bool:
        return self.path.name.lower().endswith(".gz")

    def _record(self, line: bytes, row: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "every line is one object with a vector; a file cut short ends inside a line"
            raise StoreError(f"row {row:,} of {self.path} is not JSON: {error}", hint) from None
        if not isinstance(record, dict):
            raise StoreError(
                f"row {row:,} of {self.path} is not a JSON object", 'write lines such as {"id": "a", "vector": [0.1, 0.2]}'
            )
        return record

    def _keys(self, record: dict[str, Any]) -> tuple[str, str | None]:
        """Return the keys of the vector and of the id, as the file's first line shows them."""
        lists = [key for key, value in record.items() if isinstance(value, list) and value and _numeric(value)]
        column = choose("key", list(record) if "column" in self.address.options else lists, self, "column")
        return column, choose_ids("key", [key for key in record if key != column], self)

    def _vector(self, record: dict[str, Any], column: str, row: int) -> Float32[np.ndarray, " d"]:
        values = record.get(column)
        if not isinstance(values, list) or not _numeric(values):
            what = "is no list of numbers" if column in record else "is missing"
            raise SpaceError(f"in row {row:,} of {self.name}, {column!r} {what}", "give every line a vector under that key")
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float32)  # null becomes NaN and is refused, or dropped, as such

    def _text(self, key: str, value: Any) -> str:
        try:
            try:
                return json.dumps(value, default=_iso, allow_nan=False)
            except ValueError:  # NaN or infinity; most values hold neither, and need not be looked through
                return _strict(value)
        except (TypeError, ValueError, RecursionError) as error:  # such as a list that holds itself
            hint = f"write .parquet, or leave the payload behind: {self.path}?keep=ids"
            raise StoreError(f"the payload column {key!r} cannot be written as JSON: {error}", hint) from None


def _numeric(values: list[Any]) -> bool:
    return set(map(type, values)) <= {int, float, type(None)}


def _strict(value: Any) -> str:
    """Return as JSON what holds NaN, which becomes null, or infinity: a number too large for a double is read back as that."""
    chunks = json.JSONEncoder(default=_iso).iterencode(value)  # numbers end a chunk; text ends in a quotation mark
    return "".join(NO_JSON.sub(lambda found: "null" if found[0] == "NaN" else "1e999", chunk) for chunk in chunks)


def _iso(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _texts(x: Float32[np.ndarray, "k d"]) -> Iterator[str]:
    """Yield rows as JSON lists; Arrow writes the fewest digits that read back as the same float32, twice as fast as json."""
    import pyarrow as pa

    words = pa.array(x.reshape(-1)).cast(pa.string()).to_pylist()
    for start in range(0, len(words), x.shape[1]):
        yield f"[{','.join(words[start : start + x.shape[1]])}]"
