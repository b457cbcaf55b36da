"""space — a named cloud of vectors with ids and payload, checked so that everything after it may trust the rows.

In    array (n, d) float16, float32, float64 or int8     rows as a model gives them, of any length
Out   Space; .array() is (n, d) float32                  every row finite and of non-zero length
Uses  errors

What is refused: NaN or infinite values (also after the cast to float32), rows without a direction (all zero), rows of unequal
length, numbers of another type, duplicate ids, a dimension of 0. Always by row number. What is allowed: no rows and one row
(a batch may be that small, and a fit refuses what it cannot learn from), equal rows, and read-only or memory-mapped vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float32, Int, Shaped

from crossvec.errors import SpaceError

BATCH_ROWS = 8192
"""Rows of a batch: 12 MiB at 384 dimensions, large enough for full speed and small enough to stay in memory anywhere."""

BadRows = Literal["refuse", "drop", "later"]
Ids = Sequence[int] | Sequence[str] | Sequence[int | str] | Int[np.ndarray, " n"]
Columns = Mapping[str, Any]
"""Payload: n values for every column name, in a list, a NumPy array or an Arrow column."""

ACCEPTED = {np.dtype(name) for name in ("float16", "float32", "float64", "int8")}
NUMBERS = {int, float, type(None), np.float16, np.float32, np.float64}  # in rows that are lists; True is none
CHECKED_AT_ONCE = 1 << 22  # values cast and checked together: 16 MiB of float32
FINE_TIMES = {"ns", "ps", "fs", "as"}
LISTED = 5  # row numbers an error names before it counts the rest


@dataclass(frozen=True, eq=False)
class Space:
    """A named cloud of n vectors of dimension d; a batch of a Space is a Space.

    `vectors` (n, d) are as stored and read-only by convention; `array()` gives them as checked float32. `ids` are whole numbers
    or text, one a row. `payload` is held in columns; rows given as dictionaries are turned into columns, and a key that a row
    lacks is None there. `numbers` are the rows' numbers in the place they come from, which errors name and which stand in for
    ids. `dropped` lists the row numbers that were left out because they were bad.
    """

    vectors: Shaped[np.ndarray, "n d"]
    ids: Ids | None = None
    payload: Columns | Sequence[Mapping[str, Any]] | None = None
    name: str = ""
    numbers: Sequence[int] | Int[np.ndarray, " n"] = ()  # range(n) unless given
    dropped: tuple[int, ...] = ()
    checked: bool = field(default=False, init=False, repr=False)  # the values are known to be good
    torn: bool = field(default=False, init=False, repr=False)  # a part of a space that bad rows were left out of

    def __post_init__(self) -> None:
        n = _check_shape(self.vectors, self._called)
        if not len(self.numbers):
            object.__setattr__(self, "numbers", range(n))
        if self.payload is not None and not isinstance(self.payload, Mapping):
            object.__setattr__(self, "payload", _columns(self.payload, self._called))
        _check_counts(n, self)

    @classmethod
    def of(
        cls,
        array: Any,
        ids: Any = None,
        payload: Columns | Sequence[Mapping[str, Any]] | None = None,
        name: str = "",
        *,
        numbers: Sequence[int] | Int[np.ndarray, " n"] | None = None,
        bad_rows: BadRows = "refuse",
    ) -> Space:
        """Make a checked Space from an array, a tensor, a data frame or a list of rows, (n, d).

        `bad_rows` says what happens to rows with NaN or infinite values or without a direction: "refuse" raises, "drop" leaves
        them out and lists them in `dropped`, "later" raises when they are read, which spares a memory-mapped file a full pass.
        Raises SpaceError for everything the module's docstring lists.
        """
        if bad_rows not in ("refuse", "drop", "later"):
            raise SpaceError(f"bad_rows cannot be {bad_rows!r}", 'use "refuse", "drop" or "later"')
        vectors = _matrix(array, numbers, name or "the array")
        _check_shape(vectors, name or "the array")
        space = cls(vectors, _plain_ids(ids, numbers), payload, name, () if numbers is None else numbers)
        _refuse_duplicates(space)
        if bad_rows == "later":
            return space
        bad = _flaws(vectors)
        if bad and bad_rows == "refuse":
            raise _refusal(bad, space)
        if bad:
            lost = np.unique(np.concatenate(list(bad.values())))
            kept = np.setdiff1d(np.arange(len(space)), lost, assume_unique=True)
            space = replace(space.take(kept), dropped=tuple(_number(space.numbers, i) for i in lost))
        return space._trusted()

    def __len__(self) -> int:
        """Return the number of rows, n."""
        return len(self.vectors)

    def __repr__(self) -> str:
        """Return a line that tells a Space's size without printing its vectors."""
        parts = [f"{len(self):,} x {self.dim} {self.vectors.dtype}"]
        parts += ["ids"] * (self.ids is not None) + [f"payload {', '.join(self.columns)}"] * bool(self.columns)
        return f"Space({self.name!r}: {'; '.join(parts)})"

    @property
    def dim(self) -> int:
        """The dimension d of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def columns(self) -> Columns:
        """The payload's columns; empty when there is no payload."""
        return cast(Columns, self.payload or {})

    def array(self) -> Float32[np.ndarray, "n d"]:
        """Return the vectors as writeable, C-contiguous float32, copied where they are not that already.

        Raises SpaceError naming the rows that hold NaN or infinity (also after the cast) or have no direction.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.require(self.vectors, np.float32, ["C", "W"])
        if not self.checked:
            if bad := _flaws(x):
                raise _refusal(bad, self)
            object.__setattr__(self, "checked", True)
        return x

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[Space]:
        """Yield the Space in order, `rows` rows at a time; an empty Space yields itself, so that its dimension is known."""
        if rows < 1:
            raise SpaceError(f"a batch cannot have {rows} rows", "use 1 or more")
        for start in range(0, max(len(self), 1), rows):
            yield self.rows(start, min(start + rows, len(self)))

    def rows(self, start: int = 0, stop: int | None = None) -> Space:
        """Return rows start to stop (half-open) without copying vectors. Raises SpaceError when there are no such rows."""
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise SpaceError(f"{self._called} has {len(self):,} rows, so there are no rows {start}:{stop}")
        return self._picked(slice(start, stop))

    def take(self, index: Int[np.ndarray, " k"] | Sequence[int]) -> Space:
        """Return the rows at these positions, copied, in this order; or those where `index`, one truth value a row, is true.

        Raises SpaceError for positions that are no whole numbers or not there; none is counted from the end.
        """
        positions = np.asarray(index)
        if positions.dtype == bool and positions.shape == (len(self),):
            positions = np.flatnonzero(positions)
        if positions.ndim != 1 or (len(positions) and positions.dtype.kind not in "iu"):
            told = f"rows of {self._called} cannot be taken by {positions.dtype} of shape {positions.shape}"
            raise SpaceError(told, f"give positions, such as [0, 5], or {len(self):,} truth values")
        if len(positions) and not (0 <= positions.min() and positions.max() < len(self)):
            outside = positions[(positions < 0) | (positions >= len(self))][0]
            raise SpaceError(f"{self._called} has {len(self):,} rows, so there is no row {outside}", "count rows from 0")
        return self._picked(positions.astype(np.int64))

    def sample(self, n: int, seed: int = 0) -> Space:
        """Return n rows drawn without replacement, in their old order; the whole Space when it has no more than n."""
        if n < 0:
            raise SpaceError(f"a sample cannot have {n} rows", "use 0 or more")
        if n >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False)))

    def ids_or_numbers(self) -> Ids:
        """Return the ids, or the rows' numbers in the place they come from when they have none."""
        return self.numbers if self.ids is None else self.ids

    def records(self) -> list[dict[str, Any]]:
        """Return the payload as one dictionary a row; empty dictionaries when there is no payload."""
        values = [python_values(column) for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*values, strict=True)] or [
            {} for _ in range(len(self))
        ]

    @property
    def _called(self) -> str:
        return self.name or "the space"

    def _trusted(self) -> Space:
        object.__setattr__(self, "checked", True)
        return self

    def _picked(self, which: slice | np.ndarray) -> Space:
        part = Space(
            self.vectors[which],
            None if self.ids is None else _picked(self.ids, which),
            {name: _picked(column, which) for name, column in self.columns.items()} if self.payload is not None else None,
            self.name,
            _picked(self.numbers, which),
        )
        object.__setattr__(part, "torn", self.torn or bool(self.dropped))
        return part._trusted() if self.checked else part


def require_space(given: Any, what: str) -> None:
    """Raise SpaceError for anything but a Space, and say how to make one of it."""
    if not isinstance(given, Space):
        rows = hasattr(given, "__array__") or isinstance(given, (list, tuple))
        hint = "wrap the rows: crossvec.Space.of(rows)" if rows else "load it: crossvec.open(path).load()"
        raise SpaceError(f"{what} is a {type(given).__name__}, not a Space", hint)


def python_values(column: Any) -> list[Any]:
    """Return a payload column or ids as plain Python values; raises SpaceError for one that Python has no value for."""
    try:
        for convert in ("to_pylist", "tolist"):
            if hasattr(column, convert):
                return cast(list[Any], getattr(_in_microseconds(column), convert)())
        return list(column)
    except (OverflowError, ValueError) as error:  # such as a time beyond the year 9999
        raise SpaceError(
            f"a column holds what Python has no value for: {error}", "leave the payload behind: ?keep=ids"
        ) from None


def _in_microseconds(column: Any) -> Any:
    # NumPy gives times that are finer as bare numbers.
    fine = isinstance(column, np.ndarray) and column.dtype.kind in "mM" and np.datetime_data(column.dtype)[0] in FINE_TIMES
    return column.astype(f"{column.dtype.kind}8[us]") if fine else column


def refuse_ragged(lengths: Int[np.ndarray, " n"], dim: int, numbers: Sequence[int] | np.ndarray | None, name: str) -> None:
    """Raise SpaceError naming the rows whose length is not `dim`."""
    odd = np.flatnonzero(lengths != dim)
    if len(odd):
        where = _listed(odd, numbers if numbers is not None else range(len(lengths)))
        values = f"{lengths[odd[0]]:,} value{'' if lengths[odd[0]] == 1 else 's'}"
        raise SpaceError(f"{name} is ragged: {where} ({values}, not {dim:,})", "give every row the same number of values")


def _check_shape(vectors: Any, name: str) -> int:
    if not isinstance(vectors, np.ndarray) or isinstance(vectors, np.ma.MaskedArray):
        kind = type(vectors).__name__
        raise SpaceError(f"the vectors of {name} are a {kind}, not a NumPy array", "use Space.of(...) with plain rows")
    if vectors.ndim != 2:
        hint = "a single vector is array[None, :]" if vectors.ndim == 1 else "give one row a vector"
        raise SpaceError(f"{name} has shape {vectors.shape}; a space is (rows, dimensions)", hint)
    if vectors.shape[1] == 0:
        raise SpaceError(f"{name} has dimension 0", "give vectors with at least one value")
    if vectors.dtype.newbyteorder("=") not in ACCEPTED:
        numeric = vectors.dtype.kind in "iu"
        hint = "if these are embeddings and not packed bits or token numbers, cast them: array.astype('float32')"
        raise SpaceError(
            f"{name} holds {vectors.dtype}; a space holds float32, float16, float64 or int8",
            hint if numeric else "cast the vectors to float32",
        )
    return len(vectors)


def _check_counts(n: int, space: Space) -> None:
    counts = {"ids": space.ids, "row numbers": space.numbers}
    counts |= {f"values in payload column {column!r}": values for column, values in space.columns.items()}
    for column in space.columns:
        if not isinstance(column, str):
            raise SpaceError(
                f"a payload column of {space._called} is named {column!r}, which is no text", f"name it {str(column)!r}"
            )
    for what, values in counts.items():
        if values is not None and not hasattr(values, "__len__"):
            raise SpaceError(f"the {what} of {space._called} are a {type(values).__name__}", "give one for every row")
        if values is not None and len(values) != n:
            raise SpaceError(f"{space._called} has {n:,} rows but {len(values):,} {what}", "give one for every row")


def _matrix(array: Any, numbers: Sequence[int] | np.ndarray | None, name: str) -> np.ndarray:
    """Return anything like a matrix as an array, or raise SpaceError naming what keeps it from being one."""
    if isinstance(array, np.ma.MaskedArray):
        return cast(np.ndarray, array)  # refused by _check_shape: its mask would be lost
    if hasattr(array, "detach"):  # a torch tensor, without importing torch; NumPy has no bfloat16
        array = array.detach().cpu()
        array = (array.float() if "bfloat16" in str(array.dtype) else array).numpy()
    elif hasattr(array, "__array__"):
        array = np.asarray(array)
    if isinstance(array, np.ndarray) and array.dtype != object:
        return array
    try:
        rows = [row if isinstance(row, np.ndarray) else list(row) for row in array]
    except TypeError:
        raise SpaceError(f"{name} is not a table of numbers", "give an array of shape (rows, dimensions)") from None
    if not rows:
        raise SpaceError(f"{name} is empty", "give at least one row, or an array of shape (0, dimensions)")
    refuse_ragged(np.array([len(row) for row in rows]), len(rows[0]), numbers, name)
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.stack(rows)
    if not set(map(type, chain.from_iterable(rows))) <= NUMBERS:
        where = next(i for i, row in enumerate(rows) if not set(map(type, row)) <= NUMBERS)
        raise SpaceError(f"{name} holds something else than numbers: {_listed([where], numbers or range(len(rows)))}")
    try:
        return np.array(rows, dtype=np.float64)  # None becomes NaN and is refused, or dropped, as such
    except (OverflowError, ValueError) as error:
        raise SpaceError(f"{name} is not a table of numbers: {error}") from None


def _plain_ids(ids: Any, numbers: Sequence[int] | np.ndarray | None) -> Ids | None:
    """Return ids as an integer array, or as a list of int and str."""
    if ids is None or (isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and ids.ndim == 1) or isinstance(ids, range):
        return cast("Ids | None", ids)
    if not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) != 1:
        raise SpaceError(f"the ids are a {type(ids).__name__}, not a list of them", "give one id for every row")
    values = [int(i) if isinstance(i, np.integer) else str(i) if isinstance(i, np.str_) else i for i in python_values(ids)]
    if not set(map(type, values)) <= {int, str}:
        row, value = next((r, v) for r, v in enumerate(values) if type(v) not in (int, str))
        row = row if numbers is None else _number(numbers, row)
        raise SpaceError(f"the id of row {row:,} is {value!r}; ids are whole numbers or text", "convert the ids to text")
    return values


def _refuse_duplicates(space: Space) -> None:
    ids = space.ids
    if ids is None or isinstance(ids, range) or len(np.unique(ids) if isinstance(ids, np.ndarray) else set(ids)) == len(ids):
        return
    seen: dict[int | str, int] = {}
    for row, value in enumerate(python_values(ids)):
        if value in seen:
            both = f"rows {_number(space.numbers, seen[value]):,} and {_number(space.numbers, row):,}"
            raise SpaceError(f"{both} of {space._called} have the same id, {value!r}", "make ids unique, or leave them out")
        seen[value] = row


def _flaws(vectors: Shaped[np.ndarray, "n d"]) -> dict[str, Int[np.ndarray, " bad"]]:
    """Return the positions of rows that cannot be used, by what is wrong with them.

    One pass over the rows: the squared length of a good row is finite and above zero, so only suspects are looked at twice.
    """
    found: dict[str, list[np.ndarray]] = {}
    step = max(1, CHECKED_AT_ONCE // vectors.shape[1])
    for start in range(0, len(vectors), step):
        with np.errstate(all="ignore"):
            x = np.asarray(vectors[start : start + step], dtype=np.float32)
            squares = np.einsum("ij,ij->i", x, x)
        suspects = np.flatnonzero(~((squares > 0) & (squares < np.inf)))
        if len(suspects):
            finite = np.isfinite(x[suspects]).all(axis=1)
            for what, rows in {
                "NaN or infinite values": suspects[~finite],
                "only zeros, or values too small for float32": suspects[finite & (squares[suspects] == 0)],
                "values too large for float32 arithmetic": suspects[finite & (squares[suspects] != 0)],
            }.items():
                if len(rows):
                    found.setdefault(what, []).append(rows + start)
    return {what: np.concatenate(rows) for what, rows in found.items()}


def _refusal(bad: Mapping[str, np.ndarray], space: Space) -> SpaceError:
    told = "; ".join(f"{_listed(rows, space.numbers)} hold{'s' * (len(rows) == 1)} {what}" for what, rows in bad.items())
    return SpaceError(
        f"in {space._called}, {told}",
        "repair these rows, or leave them out: ?bad_rows=drop after a file's name, bad_rows='drop' in Space.of",
    )


def _listed(rows: Sequence[int] | np.ndarray, numbers: Sequence[int] | np.ndarray) -> str:
    named = [f"{_number(numbers, row):,}" for row in rows[:LISTED]]
    more = [f"{len(rows) - LISTED:,} more"] if len(rows) > LISTED else []
    *most, last = named + more
    return f"row {last}" if not most else f"rows {', '.join(most)} and {last}"


def _number(numbers: Sequence[int] | np.ndarray, row: int | np.integer) -> int:
    return int(numbers[int(row)])


def _columns(records: Sequence[Mapping[str, Any]], name: str) -> Columns:
    rows = list(records) if isinstance(records, Iterable) else [records]  # a generator gives them once
    if not all(isinstance(record, Mapping) for record in rows):
        told = f"the payload of {name} is neither columns nor rows"
        raise SpaceError(told, "give a dictionary of columns, or a list with a dictionary for each row")
    names = dict.fromkeys(chain.from_iterable(rows))
    return {name: [record.get(name) for record in rows] for name in names}


def _picked(values: Any, which: slice | np.ndarray) -> Any:
    if isinstance(which, slice):
        return values[which]
    if isinstance(values, np.ndarray) or hasattr(values, "detach"):  # with more axes than rows perhaps; tensors
        return values[which]
    if hasattr(values, "take"):  # Arrow columns and data frames
        return values.take(which)
    if isinstance(values, range):
        return values.start + values.step * which
    return [values[i] for i in which]
