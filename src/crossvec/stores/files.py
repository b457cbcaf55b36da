"""files — what every store in one file does alike: slices, checks, choices, clear errors, atomic writing.

In    Address            a path with options
Out   FileStore          a Store; a format adds `_head`, `_chunks`, `_save`, and `_whole` where it can map its vectors
Uses  space, stores.address, stores.atomic
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from crossvec.errors import SpaceError, StoreError, did_you_mean
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores import Description, Store
from crossvec.stores.address import Address
from crossvec.stores.atomic import atomically, to_disk
from crossvec.stores.turns import Stage, Turn, free_name, stage_of

VECTOR_NAMES = ("vectors", "vector", "embeddings", "embedding")
ID_NAMES = ("ids", "id", "_id")
WRITTEN = ("float32", "float16")
CARRIERS = ".parquet, .arrow or .jsonl"


class Head(NamedTuple):
    """What a file's head says: shape and number type of the vectors, whether there are ids, the payload's columns."""

    rows: int
    dim: int
    dtype: str
    ids: bool = False
    payload: tuple[str, ...] = ()


class Part(NamedTuple):
    """Rows as a format gives them, not yet checked."""

    vectors: Any
    ids: Any = None
    payload: Any = None


Written = tuple[Float[np.ndarray, "k d"], Space]
"""A batch on its way out: its vectors in the number type of the file, and the Space for its ids and payload."""


@dataclass(frozen=True)
class FileStore(ABC):
    """A Store in one file. Options every format takes: `keep`, `bad_rows`, `dtype`; a format adds its own."""

    address: Address
    format: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    carries: ClassVar[frozenset[str]] = frozenset()  # of "ids" and "payload"
    dtypes: ClassVar[tuple[str, ...]] = WRITTEN
    damage: ClassVar[tuple[type[Exception], ...]] = (ValueError,)  # what the format's library raises for a damaged file

    def __post_init__(self) -> None:
        self.address.only({"keep", "bad_rows", "dtype"} | self.options)
        for option, allowed in {"bad_rows": ("refuse", "drop", "later"), "keep": ("vectors", "ids", "all")}.items():
            if (value := self.address.options.get(option, allowed[0])) not in allowed:
                raise StoreError(f"{option}={value} is not possible for {self.path}", f"use one of {', '.join(allowed)}")

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.address.place)

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(".gz").rpartition(".")[0] or self.path.name

    @property
    def mapped(self) -> bool:
        """Whether `load` maps the vectors, so that only those that are asked for are ever read."""
        return type(self)._whole is not FileStore._whole

    @property
    def kept(self) -> frozenset[str]:
        """Of "ids" and "payload", what the option `keep` lets through."""
        keep = self.address.options.get("keep", "all")
        return frozenset({"vectors": (), "ids": ("ids",), "all": ("ids", "payload")}[keep])

    def describe(self) -> Description:
        """Tell what the file holds without reading its vectors."""
        head, start, stop = self._opened()
        payload = head.payload if "payload" in self.kept else ()
        size = self.path.stat().st_size
        return Description(
            self.address.url, self.name, self.format, stop - start, *head[1:3], head.ids and "ids" in self.kept, payload, size
        )

    def load(self) -> Space:
        """Return all rows, memory-mapped where the format allows; such rows are checked when they are read."""
        head, start, stop = self._opened()
        if start == stop:
            return self._empty(head)
        with self._reading():
            part = self._whole(start, stop)
            self._refuse_short(start + len(part.vectors), stop)
        return self._space(part, start, head, self.address.options.get("bad_rows", "later"))

    def read(self, batch: int = BATCH_ROWS) -> Iterator[Space]:
        """Yield all rows in order, `batch` at a time; a file without rows yields one empty batch, which tells the dimension."""
        if batch < 1:
            raise StoreError(f"a batch cannot have {batch} rows", "use 1 or more")
        head, start, stop = self._opened()  # now, not at the first batch: a wrong place is told before work begins
        return self._read(head, start, stop, batch)

    def write(self, batches: Iterable[Space]) -> int:
        """Write the batches, all or nothing, and return the number of rows."""
        if self.address.rows is not None:
            raise StoreError(f"{self.address.url} cannot be written: a destination takes no row slice", f"write {self.path}")
        if (dtype := self.address.options.get("dtype", "float32")) not in self.dtypes:
            raise StoreError(f"{self.format} cannot hold dtype={dtype}", f"use one of {', '.join(self.dtypes)}")
        with atomically(self.path) as part:
            return self._save(part, self._outgoing(batches, dtype))

    def turn(self, dest: Store) -> Turn:
        """Tell what giving this file's name to `dest` would do; raises StoreError when it cannot be done."""
        here, by_hand = self.path.parent, "leave --switch out, and rename the files when the gate passes"
        if not isinstance(dest, FileStore) or dest.format != self.format or dest._suffix != self._suffix:
            raise StoreError(
                f"{self.path} ends in {self._suffix}, and DEST does not: its rows could not be read under this name",
                f"name a file such as {here / self.name}_new{self._suffix}; or {by_hand}",
            )
        if here.stat().st_dev != (dest.path.parent if dest.path.parent.is_dir() else here).stat().st_dev:
            told = f"{self.path} and {dest.path} are not on one disk, so no file can take the other's name in one step"
            raise StoreError(told, f"name a file such as {here / self.name}_new{self._suffix}; or {by_hand}")
        if not os.access(here, os.W_OK):
            raise StoreError(f"nothing may be renamed in {here}", f"allow it: chmod u+w {here}; or {by_hand}")
        aside = free_name(f"{self.name}_before", lambda name: os.path.lexists(here / f"{name}{self._suffix}"))
        old = str(here / f"{aside}{self._suffix}")
        return Turn(str(self.path), str(dest.path), old, f"{self.path} becomes {old}, and {dest.path} becomes {self.path}")

    def stage(self, turn: Turn, known: bool = False) -> Stage:
        """Tell how far a switch is; `known`: it was completed once, and the old rows may be deleted by now."""
        name, new, aside = map(os.path.lexists, (turn.name, turn.new, turn.aside))
        if name and new and aside and os.path.samefile(turn.name, turn.aside):
            return "between"
        return stage_of(turn, name, new, aside, known, str(self.path.parent))

    def unready(self, turn: Turn) -> str:
        """Return an empty text: a file needs no index."""
        return ""

    def switch(self, turn: Turn) -> None:
        """Do what is left of a switch: the old rows get a second name, and the new ones take the first in one step."""
        stage = self.stage(turn)
        if stage == "before":
            os.chmod(turn.new, os.stat(turn.name).st_mode & 0o7777)
            try:
                os.link(turn.name, turn.aside, follow_symlinks=False)
            except FileExistsError:  # by another run: renaming would overwrite the old rows
                raise StoreError(f"{turn.aside} is there already; nothing was changed", "run the same line again") from None
            except (OSError, NotImplementedError):  # a disk without links: the name leads nowhere until the next line
                os.rename(turn.name, turn.aside)
        if stage != "after":
            os.replace(turn.new, turn.name)
            to_disk(self.path.parent)

    @property
    def _suffix(self) -> str:
        return self.path.name.removeprefix(self.name)

    @abstractmethod
    def _head(self) -> Head:
        """Read the file's head."""

    @abstractmethod
    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        """Yield rows start to stop, of which there is at least one, `batch` at a time."""

    @abstractmethod
    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        """Write at least one batch to `path` and return the number of rows."""

    def _whole(self, start: int, stop: int) -> Part:
        """Return rows start to stop at once."""
        for part in self._chunks(start, stop, stop - start):
            return part
        raise _short(start, stop)

    def _opened(self) -> tuple[Head, int, int]:
        with self._reading():
            if self.path.is_dir():
                raise IsADirectoryError
            head = self._head()
        if (asked := self.address.options.get("dtype", head.dtype)) != head.dtype:
            raise StoreError(f"{self.path} holds {head.dtype}, not {asked}", "leave dtype= out: it says how a file is written")
        return head, *self.address.span(head.rows)

    def _read(self, head: Head, start: int, stop: int, batch: int) -> Iterator[Space]:
        if start == stop:
            yield self._empty(head)
            return
        with self._reading():
            for part in self._chunks(start, stop, batch):
                space = self._space(part, start, head, self.address.options.get("bad_rows", "refuse"))
                yield space
                start += len(part.vectors)
            self._refuse_short(start, stop)

    def _refuse_short(self, found: int, said: int) -> None:
        if found != said:
            raise _short(found, said)

    def _empty(self, head: Head) -> Space:
        payload: dict[str, list[Any]] | None = (
            {column: [] for column in head.payload} if "payload" in self.kept and head.payload else None
        )
        ids: list[int] | None = [] if head.ids and "ids" in self.kept else None
        return Space.of(np.empty((0, head.dim), np.float32), ids, payload, self.name)

    def _space(self, part: Part, start: int, head: Head, bad_rows: Any) -> Space:
        numbers = range(start, start + len(part.vectors))
        ids = part.ids if "ids" in self.kept else None
        payload = part.payload if "payload" in self.kept else None
        space = Space.of(part.vectors, ids, payload, self.name, numbers=numbers, bad_rows=bad_rows)
        if space.dim != head.dim:
            raise SpaceError(f"{self.name} is ragged: row {start:,} has {space.dim:,} values, not {head.dim:,}")
        return space

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what can go wrong with a file that is read into a StoreError that says what to do."""
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"there is no file {self.path}", _neighbours(self.path)) from error
        except IsADirectoryError as error:
            raise StoreError(f"{self.path} is a folder", "name a file in it") from error
        except PermissionError as error:
            raise StoreError(f"{self.path} may not be read", f"allow it: chmod u+r {self.path}") from error
        except self.damage + (OSError, EOFError) as error:  # noqa: RUF005  # mypy reads no starred exceptions
            told = f"{self.path} cannot be read as {self.format}: {error}"
            raise StoreError(told, "write the file anew; it may be cut short or of another format") from error

    def _outgoing(self, batches: Iterable[Space], dtype: str) -> Iterator[Written]:
        """Check that the batches belong together and that this format can carry what they bring.

        Ids are not compared from batch to batch: memory would grow with the rows of a file that is written as it is read.
        """
        first: Space | None = None
        for space in batches:
            first = first or space
            if space.dim != first.dim:
                raise SpaceError(f"rows for {self.path} change their dimension from {first.dim:,} to {space.dim:,}")
            if (space.ids is None) != (first.ids is None):
                raise SpaceError(f"some rows for {self.path} have ids and some have none", "give ids to all rows or to none")
            brought = {"ids": space.ids is not None, "payload": bool(space.columns)}
            lost = [what for what, there in brought.items() if there and what in self.kept and what not in self.carries]
            if lost:
                keep = "ids" if lost == ["payload"] and "ids" in self.carries else "vectors"
                raise StoreError(
                    f"{self.format} cannot carry the {' and '.join(lost)} of these rows",
                    f"write {CARRIERS}, or leave them behind: {self.path}?keep={keep}",
                )
            kept = replace(
                space,
                ids=space.ids if "ids" in self.kept else None,
                payload=space.payload if "payload" in self.kept else None,
            )
            yield self._cast(space, dtype), kept
        if first is None:
            raise SpaceError(f"there is nothing to write to {self.path}", "give at least one batch; it may be empty")

    def _cast(self, space: Space, dtype: str) -> Float[np.ndarray, "k d"]:
        x = space.array()
        if dtype == "float32":
            return x.astype("<f4", copy=False)
        with np.errstate(over="ignore"):
            small = x.astype(f"<{np.dtype(dtype).str[1:]}")
        try:
            Space.of(small, name=space.name, numbers=space.numbers)
        except SpaceError as error:
            raise SpaceError(f"as {dtype}, {error}", "write float32: leave dtype= out") from None
        return small


def _short(found: int, said: int) -> ValueError:
    return ValueError(f"it says that row {said:,} is there, and its rows end after {found:,}")


def choose(what: str, names: Sequence[str], store: FileStore, option: str, preferred: Sequence[str] = VECTOR_NAMES) -> str:
    """Return the name under which a file holds its vectors: the one asked for, the only one, or one with a usual name.

    Raises StoreError, listing the names, when there is none or more than one.
    """
    asked = store.address.options.get(option)
    if asked is not None:
        if asked not in names:
            raise StoreError(f"{store.path} has no {what} {asked!r}", did_you_mean(asked, names))
        return asked
    found = list(names) if len(names) == 1 else [name for name in preferred if name in names][:1]
    if found:
        return found[0]
    if not names:
        raise StoreError(f"{store.path} holds no {what} with vectors", "vectors are rows of float numbers, all of one length")
    raise StoreError(
        f"{store.path} holds more than one {what} with vectors: {', '.join(names)}",
        f"choose one: {store.path}?{option}={names[0]}",
    )


def choose_ids(what: str, names: Mapping[str, Any] | Sequence[str], store: FileStore) -> str | None:
    """Return the name under which a file holds its ids, None when it has none or `?id=` says to use none."""
    asked = store.address.options.get("id")
    if asked:
        if asked not in names:
            raise StoreError(f"{store.path} has no {what} {asked!r}", did_you_mean(asked, names))
        return asked
    return None if asked == "" else next((name for name in ID_NAMES if name in names), None)


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    files = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    if not files:
        return f"{folder} holds no files"
    near = did_you_mean(path.name, files).partition("? known: ")
    return f"{near[0]}?" if near[1] else f"{folder} holds {', '.join(files[:8])}{' …' if len(files) > 8 else ''}"
