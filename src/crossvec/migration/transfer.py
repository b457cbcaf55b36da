"""transfer — carry a store across, batch by batch, so that it can be killed at any moment and goes on where it was.

In    Store, Translator, Journal
Out   rows in another Store, with the same ids and payload; the journal tells how far
Uses  migration.reading, migration.journal, stores, translator

A batch is upserted first and journalled second: what was killed between the two writes one batch again, row over row. A file
is written whole and atomically instead: killed, it leaves nothing, and begins anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from crossvec.encoders import Step, silent
from crossvec.errors import CrossvecError, SpaceError, StoreError, UnfinishedError, UsageError
from crossvec.migration.journal import Journal, id_hash
from crossvec.migration.reading import usable
from crossvec.space import BATCH_ROWS, Space, python_values
from crossvec.stores import Description, Store
from crossvec.stores.address import Address, same_place, with_option
from crossvec.stores.collection import Collection
from crossvec.stores.sampling import tolerant
from crossvec.translator import Translator

NO_VECTOR = "no vector, or one that is not finite or all zeros"
SEEN_ALIKE = 16  # rows that two addresses are compared by


def refuse_itself(source: Store, dest: Store) -> None:
    """Raise UsageError when the destination's address leads to the source, however it is spelled."""
    here, there = getattr(source, "address", None), getattr(dest, "address", None)
    if here is not None and there is not None and _one_place(here, there):
        raise _in_place(there.url)


def refuse_taken(source: Store, dest: Store) -> None:
    """Raise UsageError when the destination is the source by another name, and StoreError when it holds something already."""
    if isinstance(dest, Collection):
        if dest.address.rows is not None:
            raise StoreError(f"{dest.address.url} cannot be written: a destination takes no row slice", "leave rows= out")
        if dest.exists() and (rows := dest.count()):
            if isinstance(source, Collection) and _alike(source, dest):  # first: who is told to delete it may
                raise _in_place(dest.address.url, "begins with the source's rows: it is the source itself, or a copy")
            if dest.address.options.get("mode") != "upsert":
                hint = f"name a new collection, or add to this one: {with_option(dest.address.url, 'mode=upsert')}"
                raise StoreError(f"{dest.address.url} already holds {rows:,} rows", hint)
        return
    there = getattr(dest, "address", None)
    if there is not None and there.scheme == "file" and Path(there.place).exists():
        raise StoreError(f"{there.place} exists already", "name a new file, or delete it")


def _one_place(here: Address, there: Address) -> bool:
    """Tell whether two addresses name one place, without opening it: links and relative paths are followed on this machine."""
    if here.scheme != there.scheme:
        return False
    if here.place == there.place or same_place(here.url, there.url):
        return True
    on_disk = here.scheme != "file" and not (here.split()[0] or there.split()[0])
    return on_disk and len({os.path.realpath(unquote(it.place)) for it in (here, there)}) == 1


def _in_place(url: str, what: str = "is the source itself") -> UsageError:
    return UsageError(
        f"{url} {what}; crossvec migrates to a new store, never in place: the old rows would be lost",
        "name a new one beside it, check it, then point your application at it (see docs/migrate.md)",
    )


def _alike(source: Collection, dest: Collection) -> bool:
    """Tell whether two addresses begin with the same rows: an alias, a link or another name of the host hides one store."""
    whole = replace(source, address=replace(source.address, rows=None))
    one, other = (next(tolerant(it).read(SEEN_ALIKE)) for it in (whole, dest))
    return python_values(one.ids_or_numbers()) == python_values(other.ids_or_numbers()) and bool(
        len(one) and np.array_equal(one.vectors, other.vectors)
    )


def refuse_gone(dest: Store, journal: Journal, path: Path) -> None:
    """Raise UsageError when rows were written to a destination that is not there any more."""
    if not journal.rows_written:
        return
    address = getattr(dest, "address", None)
    there = address is None or address.scheme != "file" or journal.state == "writing" or Path(address.place).exists()
    if not (dest.exists() if isinstance(dest, Collection) else there):
        hint = f"if it was deleted on purpose, delete {path} too, and run again"
        raise UsageError(f"{journal.rows_written:,} rows were written to {journal.dest}, and it is gone", hint)


def transfer(
    source: Store,
    dest: Store,
    translator: Translator,
    journal: Journal,
    path: Path,
    told: Description,
    batch: int = BATCH_ROWS,
    progress: Step = silent,
) -> None:
    """Carry every row across from where the journal stands, and bring the journal, at `path`, to "written".

    `told` describes the source. Raises UnfinishedError when it was interrupted or a store failed; what is written stays, and
    the same call goes on from there.
    """
    try:
        if isinstance(dest, Collection):
            _to_collection(source, dest, translator, journal, path, told, batch, progress)
        else:
            _to_file(source, dest, translator, journal, path, told, batch, progress)
    except (StoreError, OSError) as error:
        if not journal.rows_written:
            raise
        raise _unfinished(str(error), journal, getattr(error, "hint", "")) from error
    except SpaceError as error:
        raise type(error)(f"{error}; {journal.rows_written:,} rows are written", error.hint) from None
    except KeyboardInterrupt:
        raise _unfinished("interrupted", journal) from None
    journal.state = "written"
    journal.save(path)


def _to_collection(
    source: Store,
    dest: Collection,
    translator: Translator,
    journal: Journal,
    path: Path,
    told: Description,
    batch: int,
    progress: Step,
) -> None:
    if not dest.exists():
        refuse_gone(dest, journal, path)
        journal.save(path)  # before the collection is made, so that one that is half made is known to be ours
        id_type = told.id_type if told.ids else "integer"
        dest.create(replace(told, dim=translator.target.dim, rows=0, id_type=id_type))
    elif journal.cursor is None:
        journal.before = dest.count() if dest.address.options.get("mode") == "upsert" else 0
        journal.save(path)
    eta = _Eta(told.rows, journal.rows_read, progress)
    for space, lost, cursor in usable(source, journal.cursor, batch):
        dest.upsert(_carried(space, translator))
        _note(journal, space, lost)
        journal.cursor = cursor
        journal.save(path)
        eta.tell(journal.rows_read)


def _to_file(
    source: Store,
    dest: Store,
    translator: Translator,
    journal: Journal,
    path: Path,
    told: Description,
    batch: int,
    progress: Step,
) -> None:
    fresh = Journal(journal.source, journal.dest, journal.translator)
    eta = _Eta(told.rows, 0, progress)

    def carried() -> Iterator[Space]:
        for space, lost, _ in usable(source, None, batch):
            yield _carried(space, translator)
            _note(fresh, space, lost)
            eta.tell(fresh.rows_read)

    ours = path.exists()
    journal.save(path)  # before the file is there, so that one left by a kill between the two is known to be ours
    try:
        written = dest.write(carried())
    except BaseException:
        if not ours:
            path.unlink(missing_ok=True)
        raise
    for name in ("rows_read", "skipped_rows", "skipped", "ids"):
        setattr(journal, name, getattr(fresh, name))
    journal.rows_written = written


def _carried(space: Space, translator: Translator) -> Space:
    if not len(space):  # a batch of nothing but bad rows
        return replace(space, vectors=np.empty((0, translator.target.dim), np.float32))
    return next(translator.stream([space]))


def _note(journal: Journal, space: Space, lost: list[Any]) -> None:
    journal.rows_read += len(space) + len(space.dropped)
    journal.rows_written += len(space)
    journal.ids = (journal.ids + sum(map(id_hash, python_values(space.ids_or_numbers())))) % 2**64
    journal.skip(space.dropped, lost, NO_VECTOR)


def _unfinished(what: str, journal: Journal, hint: str = "") -> CrossvecError:
    again = "run the same line again: it goes on where it stopped"
    if not journal.rows_written:
        return UnfinishedError(f"{what}; nothing is written to {journal.dest} yet", "run the same line again")
    return UnfinishedError(
        f"{what}; {journal.rows_written:,} rows are in {journal.dest}", f"{hint}; then {again}" if hint else again
    )


class _Eta:
    """Tells how far it is and how long the rest will take at the pace so far."""

    def __init__(self, rows: int, done: int, progress: Step) -> None:
        self.rows, self.first, self.progress, self.started = rows, done, progress, time.perf_counter()

    def tell(self, done: int) -> None:
        left = (time.perf_counter() - self.started) * max(self.rows - done, 0) / max(done - self.first, 1)
        self.progress(f"{done:,} of {self.rows:,} rows, about {duration(left)} left", min(1.0, done / max(self.rows, 1)))


def duration(seconds: float) -> str:
    """Return a time in the unit that people would use."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
