"""scale — one job cut into pieces: each becomes exactly one output, whichever worker carries it, however often one is killed.

In    Work (what to do with a piece), pieces, a ledger of those that are done, an engine
Out   Outcome                  rows written and left out, pieces done now and before, peak memory
Uses  errors

A piece is a shard, or a range of rows. Its output is written under a hidden name and renamed, then noted in the ledger: what
was killed before that is done again and replaces itself, what is noted is never touched again. So every row arrives once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from crossvec.encoders import Step, silent
from crossvec.errors import CrossvecError, UnfinishedError
from crossvec.stores.address import Address

__all__ = ["Done", "Engine", "Outcome", "Piece", "Work", "run"]

LISTED = 100
"""Rows left out that are named; more are only counted, so that what is noted stays small."""


@dataclass(frozen=True)
class Piece:
    """A part of the input that becomes one output.

    `source` and `dest` are what `stores.open`, or `texts.open`, takes; `span` is a range of the rows that the source shows,
    None for all. `stamp` changes when the input does.
    """

    name: str
    source: str
    dest: str
    rows: int
    span: tuple[int, int] | None = None
    stamp: str = ""

    @property
    def output(self) -> Path | None:
        """The file that the piece becomes; None where it goes to a database."""
        address = Address.parse(self.dest)
        return Path(address.place) if address.scheme == "file" else None


@dataclass(frozen=True)
class Done:
    """What came of a piece: rows written and left out (the first by number), seconds by stage, the worker's peak memory."""

    rows: int
    dropped: int = 0
    first_dropped: tuple[int, ...] = ()
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)  # reading, carrying, writing
    peak_memory_bytes: int | None = None


@runtime_checkable
class Work(Protocol):
    """What is done with each piece. It is sent to the workers, so it holds no open file and no connection."""

    def __call__(self, piece: Piece) -> Done:
        """Read the piece, carry its rows across and write them to its destination."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Who does the work: this process, or the workers of a cluster."""

    @property
    def workers(self) -> int:
        """How many pieces are worked on at a time."""
        ...

    def map(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Yield each item with what the task returned for it, in the order in which they end.

        A worker that is lost is replaced and its item done again. Raises what a task raises, and UnfinishedError when an item
        kills every worker that tries it.
        """
        ...


@runtime_checkable
class Notes(Protocol):
    """Where it is noted which pieces are done."""

    def done(self, piece: Piece) -> Done | None:
        """Return what came of a piece, None when it is to be done."""
        ...

    def note(self, piece: Piece, done: Done) -> None:
        """Note that a piece is done."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of all pieces: `rows`, `dropped` and `first_dropped` count those of earlier runs too."""

    rows: int
    pieces: int
    skipped: int
    dropped: int
    first_dropped: tuple[tuple[str, int], ...]
    seconds: float
    peak_memory_bytes: int | None


def run(work: Work, pieces: Sequence[Piece], ledger: Notes, engine: Engine, progress: Step = silent) -> Outcome:
    """Do every piece that the ledger does not know as done, and return what came of all of them.

    The first error ends the run; pieces that are done stay done, and the same call goes on with the others. Raises what the
    work raises, with the piece's name, and UnfinishedError when it was interrupted.
    """
    started = time.perf_counter()
    found = {piece.name: ledger.done(piece) for piece in pieces}
    ended = {name: done for name, done in found.items() if done is not None}
    skipped, total = len(ended), max(sum(piece.rows for piece in pieces), 1)
    first = ready = sum(piece.rows for piece in pieces if piece.name in ended)
    missing = [piece for piece in pieces if piece.name not in ended]
    try:
        with closing(engine.map(partial(_noted, work, ledger), missing)) as coming:
            for piece, done in coming:
                ended[piece.name] = done
                ready += piece.rows
                pace = (time.perf_counter() - started) / max(ready - first, 1)
                left = f"about {(total - ready) * pace / 60:,.0f} min left"
                progress(f"{len(ended):,} of {len(pieces):,} shards, {ready:,} of {total:,} rows, {left}", ready / total)
    except KeyboardInterrupt:
        raise UnfinishedError(f"interrupted; {_standing(ended, pieces)}", "run the same line again: it goes on there") from None
    except UnfinishedError as error:
        raise UnfinishedError(f"{error}; {_standing(ended, pieces)}", error.hint) from error
    now = [done for name, done in ended.items() if found[name] is None]
    peaks = [done.peak_memory_bytes for done in now if done.peak_memory_bytes]
    named = ((piece.source, row) for piece in pieces for row in ended[piece.name].first_dropped)
    return Outcome(
        sum(done.rows for done in ended.values()),
        len(pieces),
        skipped,
        sum(done.dropped for done in ended.values()),
        tuple(pair for pair, _ in zip(named, range(LISTED), strict=False)),
        time.perf_counter() - started,
        max(peaks, default=None),
    )


def _noted(work: Work, ledger: Notes, piece: Piece) -> Done:
    try:
        done = work(piece)
    except CrossvecError as error:
        told = type(error)(f"{piece.name}: {error}", error.hint)
        raise told from None
    done = replace(done, first_dropped=done.first_dropped[:LISTED])
    ledger.note(piece, done)
    return done


def _standing(ended: dict[str, Done], pieces: Sequence[Piece]) -> str:
    return f"{len(ended):,} of {len(pieces):,} shards are done"
