"""work — what a worker does with a piece: translate its rows, or embed its texts, a batch at a time.

In    Piece
Out   Done; the piece's output, written whole or, in a database, row over row
Uses  translator, texts, encoders, stores, scale
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from crossvec import encoders, stores, texts
from crossvec.encoders import Encoder
from crossvec.errors import UsageError
from crossvec.machine import peak_memory, pick_device
from crossvec.scale import LISTED, Done, Piece
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores.collection import Collection
from crossvec.stores.sampling import opened, part
from crossvec.texts import BATCH_TEXTS, Batch
from crossvec.translator import Translator

__all__ = ["Embed", "Translate", "span_of"]

T = TypeVar("T")


@dataclass
class Timed(Generic[T]):
    """Batches, and the seconds spent waiting for them."""

    batches: Iterator[T]
    seconds: float = 0.0

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True, eq=False, kw_only=True)
class Carrying(ABC, Generic[T]):
    """Work that reads batches, makes Spaces of them and writes these: `most` batches of a piece, all when it is None."""

    batch: int
    most: int | None = None

    def part(self, rows: int) -> Carrying[T]:
        """Return the same work with about the first `rows` rows of a piece."""
        batch = min(self.batch, rows)
        return replace(self, batch=batch, most=-(-rows // batch))

    @abstractmethod
    def read(self, piece: Piece) -> Iterator[T]:
        """Yield the piece's rows as they come."""

    @abstractmethod
    def carry(self, batches: Iterable[T], piece: Piece) -> Iterator[Space]:
        """Yield what is to be written; `dropped` lists rows that were left out."""

    def __call__(self, piece: Piece) -> Done:
        """Carry one piece, and tell what came of it."""
        started = time.perf_counter()
        given = Timed(islice(self.read(piece), self.most))
        carried = Timed(self.carry(given, piece))
        noted = _Noted(carried)
        rows = write(piece, noted)
        whole = time.perf_counter() - started
        seconds = given.seconds, carried.seconds - given.seconds, whole - carried.seconds
        return Done(rows, noted.dropped, tuple(noted.first), seconds, peak_memory())


@dataclass(frozen=True, eq=False, kw_only=True)
class Translate(Carrying[Space]):
    """Carry rows across with a translator; it goes to the workers with its tensors, so that they need not see its folder."""

    translator: Translator
    batch: int = BATCH_ROWS
    device: str = "cpu"

    def read(self, piece: Piece) -> Iterator[Space]:
        return cast(Iterator[Space], span_of(piece).read(self.batch))

    def carry(self, batches: Iterable[Space], piece: Piece) -> Iterator[Space]:
        translator = self.translator.to(pick_device(self.device))
        for batch in batches:
            moved = next(translator.stream([batch]))
            yield replace(moved, dropped=batch.dropped)


@dataclass(frozen=True, eq=False, kw_only=True)
class Embed(Carrying[Batch]):
    """Embed texts with a model that every worker opens once, under the name it has there.

    `version` is the model's on the machine that began the run; a worker that finds another one refuses.
    """

    model: str
    version: str
    batch: int = BATCH_TEXTS
    device: str = "auto"
    cache: str | None = None
    allowed: tuple[tuple[str, bool], ...] = field(default=())

    def read(self, piece: Piece) -> Iterator[Batch]:
        file = texts.open(piece.source)
        if piece.span is not None:
            first = file.address.rows[0] if file.address.rows else 0
            file = replace(file, address=replace(file.address, rows=(first + piece.span[0], first + piece.span[1])))
        return file.read(self.batch)

    def carry(self, batches: Iterable[Batch], piece: Piece) -> Iterator[Space]:
        encoder = _encoder(self.model, self.device, self.cache, self.allowed)
        if encoder.version != self.version:
            raise UsageError(
                f"the model {self.model} is {encoder.version or 'unknown'} here, and was {self.version or 'unknown'} at first",
                "bring the same model to every machine",
            )
        drop = texts.open(piece.source).drops
        spaces = texts.embed(batches, encoder, rows=piece.rows, drop=drop)
        first = next(spaces, None)
        yield Space.of(np.empty((0, encoder.dim), np.float32), name=encoder.name) if first is None else first
        yield from spaces


@lru_cache(maxsize=1)
def _encoder(model: str, device: str, cache: str | None, allowed: Sequence[tuple[str, bool]]) -> Encoder:
    encoder = encoders.open(model, device=device, **dict(allowed))
    if cache is None:
        return encoder
    from crossvec.encoders.cache import Cached

    return Cached(encoder, cache)


class _Noted:
    """Passes Spaces through, and counts the rows that were left out."""

    def __init__(self, spaces: Iterator[Space]) -> None:
        self.spaces = spaces
        self.dropped = 0
        self.first: list[int] = []

    def __iter__(self) -> Iterator[Space]:
        for space in self.spaces:
            self.dropped += len(space.dropped)
            self.first += space.dropped[: LISTED - len(self.first)]
            yield space


def span_of(piece: Piece) -> Any:
    """Return the piece's rows as a store."""
    store = stores.open(piece.source)
    return store if piece.span is None else part(store, *piece.span)


def write(piece: Piece, spaces: Iterable[Space]) -> int:
    """Write Spaces to where the piece goes and return the number of rows: a file whole, a database row over row."""
    store = stores.open(piece.dest)
    if isinstance(store, Collection):
        with opened(store):
            return sum(store.upsert(space) for space in spaces if len(space))
    path = piece.output or Path(piece.dest)
    path.parent.mkdir(parents=True, exist_ok=True)
    return store.write(spaces)
