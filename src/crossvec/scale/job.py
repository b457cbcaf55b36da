"""job — whole runs: what to do, with which pieces, by which workers, and where it is noted; planned, or done.

In    a translator or a model, a source, a destination, an engine
Out   Job               plan, run
Uses  the siblings, migration.journal (what tells translators apart)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from crossvec import stores, texts
from crossvec.encoders import Encoder, Step, silent
from crossvec.errors import TranslatorError
from crossvec.machine import peak_memory
from crossvec.migration.journal import fingerprint
from crossvec.scale import Engine, Outcome, Piece, destination, memory, run
from crossvec.scale.destination import absolute
from crossvec.scale.ledger import FOLDER, Ledger
from crossvec.scale.plan import Plan, Price, made, measure
from crossvec.scale.shards import cut, cut_texts
from crossvec.scale.work import Carrying, Embed, Translate, span_of
from crossvec.space import Space
from crossvec.stores import Description
from crossvec.stores.address import Address
from crossvec.translator import Translator

__all__ = ["Job", "embedding", "translation"]

SAMPLE_ROWS, SAMPLE_TEXTS = 1 << 16, 1 << 9
"""Rows and texts that a plan is measured on: some seconds of work."""

FEW = 16
"""A sample that is so many times smaller is told of: opening, syncing and renaming files then takes most of the time."""


@dataclass(frozen=True, eq=False)
class Job:
    """A run that has not begun. `needed` is the memory that a worker is expected to need, None where nobody can say."""

    work: Carrying[Any]
    pieces: Sequence[Piece]
    dest: str
    ledger: Ledger
    identity: Mapping[str, Any]
    sample: int
    limit: int
    needed: int | None
    notes: tuple[str, ...] = ()

    def plan(self, engine: Engine, price: Price) -> Plan:
        """Say what the run would take, measured on some of its rows; writes nothing that stays."""
        place = Path(Address.parse(self.dest).place) if self.pieces[0].output else Path()
        pace = measure(self.work, self.pieces, self.sample, place)
        done = sum(self.ledger.done(piece) is not None for piece in self.pieces) if self.ledger.check(self.identity) else 0
        notes = [*self.notes]
        if self.pieces[0].output is None:
            notes.append("written to a file here for the measure: how fast the database takes rows is known once it does")
        if pace.sampled < self.sample // FEW:
            notes.append(
                f"{pace.sampled:,} rows are few to measure on: what a file costs, however long it is, weighs heavily in them"
            )
        needed = self.needed or peak_memory()  # this process has just worked as a worker does
        return made(pace, self.pieces, done, engine.workers, price, self.work.batch, self.limit, needed, notes)

    def run(self, engine: Engine, progress: Step = silent) -> Outcome:
        """Do what is not done yet. Raises what `scale.run` raises, and what the destination refuses."""
        begun = self.ledger.check(self.identity)
        any_done = begun and any(self.ledger.done(piece) is not None for piece in self.pieces)
        destination.refuse_taken(self.dest, begun, any_done)
        if self.pieces[0].output is None:
            self._prepare()
        self.ledger.begin(self.identity)
        outcome = run(self.work, self.pieces, self.ledger, engine, progress)
        destination.swept(self.pieces)
        destination.verify(self.dest, outcome.rows)
        return outcome

    def _prepare(self) -> None:
        """Make the database's collection, as the first row that is there asks for."""
        for piece in self.pieces:
            few = self.work.part(1)
            first = next((space for space in few.carry(islice(few.read(piece), 1), piece) if len(space)), None)
            if first is not None:
                destination.prepare(self.dest, _described(self.work, piece, first), first.dim, first)
                return


def translation(
    translator: Translator,
    source: str,
    dest: str,
    *,
    rows: int | None = None,
    batch: int | None = None,
    limit: int = memory.LIMIT,
    ledger: str | None = None,
    device: str = "cpu",
) -> Job:
    """Return the job of carrying every row of `source` across, to a folder of Parquet shards or to a database.

    Raises TranslatorError for rows of another dimension, and what `shards.cut` and `memory.batch_rows` raise.
    """
    source, dest = absolute(source), absolute(dest)
    pieces = cut(source, dest, rows)
    told = stores.open(pieces[0].source).describe()
    if told.dim != translator.source.dim:
        raise TranslatorError(
            f"{pieces[0].source} holds {told.dim:,} dimensions; this translator reads {translator.source.dim:,}",
            "it reads the other way round: add --inverse, or leave it out"
            if told.dim == translator.target.dim
            else "give rows of the model it was fitted on",
        )
    weight = memory.weigh(next((piece for piece in pieces if piece.rows), pieces[0]), translator.target.dim)
    batch = memory.batch_rows(weight, limit, batch)
    work = Translate(translator=translator.to("cpu"), batch=batch, device=device)
    identity = {"verb": "translate", "translator": fingerprint(translator), **_told(source, dest, pieces, ledger)}
    return Job(work, pieces, dest, _ledger(dest, ledger), identity, SAMPLE_ROWS, limit, weight.needed(batch))


def embedding(
    encoder: Encoder,
    source: str,
    dest: str,
    *,
    rows: int | None = None,
    batch: int = texts.BATCH_TEXTS,
    limit: int = memory.LIMIT,
    ledger: str | None = None,
    device: str = "auto",
    cache: str | None = None,
    allowed: Mapping[str, bool] | None = None,
) -> Job:
    """Return the job of embedding every text of `source`; `encoder` is the one that each worker opens by its name.

    `allowed` is what `encoders.open` takes: send_texts, download. Raises what `shards.cut_texts` raises.
    """
    source, dest, model = absolute(source), absolute(dest), _model(encoder.name)
    pieces = cut_texts(source, dest, rows)
    work = Embed(
        model=model,
        version=encoder.version,
        batch=batch,
        device=device,
        cache=None if cache is None else str(Path(cache).absolute()),
        allowed=tuple((allowed or {}).items()),
    )
    identity = {"verb": "embed", "model": model, "version": encoder.version, **_told(source, dest, pieces, ledger)}
    notes = ("numbers of texts are judged by the beginning of each file, but for Parquet",)
    return Job(work, pieces, dest, _ledger(dest, ledger), identity, SAMPLE_TEXTS, limit, None, notes)


def _model(name: str) -> str:
    """Return a model's name, with the whole path where it is a folder's: a worker may be in another folder."""
    if Path(name).is_dir():
        return str(Path(name).absolute())
    family, colon, rest = name.partition(":")
    folder, mark, query = rest.partition("?")
    return f"{family}:{Path(folder).absolute()}{mark}{query}" if colon and Path(folder).is_dir() else name


def _told(source: str, dest: str, pieces: Sequence[Piece], ledger: str | None) -> dict[str, Any]:
    """Return what makes the same rows come out in the same places: options are part of it, and how a store was cut.

    A ledger in the folder of the output moves with it; one elsewhere is of one place.
    """
    one, other = Address.parse(source), Address.parse(dest)
    place = str(Path(one.place).absolute()) if one.scheme == "file" else f"{one.scheme}://{one.place}"
    told: dict[str, Any] = {
        "source": place,
        "options": dict(sorted(one.options.items())),
        "writes": dict(sorted(other.options.items())),
    }
    if other.scheme != "file":
        told["dest"] = f"{other.scheme}://{other.place}"
    elif ledger is not None:
        told["dest"] = str(Path(other.place))
    if one.rows is not None:
        told["rows"] = list(one.rows)
    if pieces[0].span is not None:
        told["cut"] = [pieces[0].rows, sum(piece.rows for piece in pieces)]
    return told


def _ledger(dest: str, folder: str | None) -> Ledger:
    if folder is not None:
        return Ledger(Path(folder).absolute())
    address = Address.parse(dest)
    if address.scheme == "file":
        return Ledger(Path(address.place) / FOLDER)
    name = re.sub(r"[^\w.-]+", "-", address.place.rstrip("/").rpartition("/")[2]).strip("-.") or "run"
    return Ledger(Path(f"{name}.{hashlib.sha256(dest.encode()).hexdigest()[:8]}{FOLDER}").absolute())


def _described(work: Carrying[Any], piece: Piece, first: Space) -> Description:
    if isinstance(work, Translate):
        described: Description = span_of(piece).describe()
        return described
    return Description(piece.source, first.name, "texts", 0, first.dim, "float32")
