"""pairs — reads a file of known pairs: which row of the source is which row of the target.

In    .csv, .jsonl, .parquet or .npy with two columns, `source` and `target`: ids, or row numbers from 0
Out   row numbers (p, 2) int64
Uses  space, pairing; pyarrow for parquet
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from crossvec.errors import UsageError
from crossvec.pairing import places
from crossvec.space import Space

COLUMNS = ("source", "target")
EXPECTED = "give two columns, source and target, of ids or row numbers"


def read(path: str, source: Space, target: Space) -> tuple[Int64[np.ndarray, "p 2"], int]:
    """Return the pairs a file names, as row numbers, and how many it names beside them whose rows were left out as bad.

    Where a space has ids and every name in the column is one of them, the names are ids; otherwise they are row numbers, which
    count the rows left out too.
    Raises UsageError for a file that cannot be read, an unknown ending, or a name that is no row.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".npy": _npy}
    ending = Path(path).suffix.lower()
    if ending not in readers:
        raise UsageError(f"cannot tell what {path} holds", f"use one of {', '.join(readers)}")
    try:
        rows = readers[ending](path)
    except OSError as problem:
        raise UsageError(f"cannot read the pairs in {path}: {problem.strerror or problem}", "check the path") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, SystemError, csv.Error) as problem:
        raise UsageError(f"{path} is no list of pairs: {problem}", EXPECTED) from None
    if not rows:
        raise UsageError(f"{path} holds no pairs", EXPECTED)
    columns = [
        _numbers(path, name, [row[column] for row in rows], space)
        for column, (name, space) in enumerate(zip(COLUMNS, (source, target), strict=True))
    ]
    known = np.stack(columns, axis=1)
    there = (known >= 0).all(axis=1)
    return known[there], int((~there).sum())


def _numbers(path: str, side: str, names: list[Any], space: Space) -> Int64[np.ndarray, " p"]:
    """Return the row numbers that a column of names means, -1 for a row that was left out as bad."""
    if space.ids is not None:
        # By text, because a csv file knows no types: the id 7 and the name "7" are one.
        row_of = {str(name): row for row, name in enumerate(space.ids)}
        # The ids of rows left out are not known, but there cannot be more of them than such rows.
        if len({str(name) for name in names} - set(row_of)) <= len(space.dropped):
            return np.array([row_of.get(str(name), -1) for name in names], np.int64)
    size = len(space) + len(space.dropped)
    position = np.full(size, -1, np.int64)
    position[places(space)] = np.arange(len(space))
    numbers = []
    for line, name in enumerate(names):
        row = _row_number(name)
        if row is None or not 0 <= row < size:
            what = "neither an id nor a row" if space.ids is not None else "no row"
            raise UsageError(
                f"{path}, pair {line}: {name!r} is {what} of the {side}, which has {size} rows", "rows count from 0"
            )
        numbers.append(row)
    return position[np.array(numbers, np.int64)]


def _row_number(name: Any) -> int | None:
    try:
        return int(name) if not isinstance(name, float) or name.is_integer() else None
    except (TypeError, ValueError):
        return None


def _csv(path: str) -> list[tuple[Any, Any]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = [tuple(field.strip() for field in row) for row in csv.reader(file) if row]
    if rows and rows[0] == COLUMNS:
        rows = rows[1:]
    return [_two(row) for row in rows]


def _jsonl(path: str) -> list[tuple[Any, Any]]:
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    return [_two([record[name] for name in COLUMNS] if isinstance(record, dict) else record) for record in records]


def _parquet(path: str) -> list[tuple[Any, Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    names = COLUMNS if set(COLUMNS) <= set(table.column_names) else table.column_names
    return [_two(row) for row in zip(*(table.column(name).to_pylist() for name in names), strict=True)]


def _npy(path: str) -> list[tuple[Any, Any]]:
    from crossvec.stores.npy import refuse_unreadable

    refuse_unreadable(path)
    # Mapped, because a mapping cannot be longer than its file.
    return [_two(row) for row in np.load(path, mmap_mode="r", allow_pickle=False).tolist()]


def _two(row: Any) -> tuple[Any, Any]:
    if not isinstance(row, (list, tuple)) or len(row) != 2:
        raise ValueError(f"{row!r} is not two names")
    return row[0], row[1]
