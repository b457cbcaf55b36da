"""plan — what a run would take, measured on some of its own rows on this machine: hours, disk and cost, up to 1e10 rows.

In    Work, pieces; workers, and what an hour costs
Out   Plan
Uses  scale, torch

The sample is read, carried and written as a worker does it, with one thread, to the disk that the output goes to. Everything is
taken to grow in proportion to the rows; starting the workers and what a shared disk or a network slows down are not in it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from crossvec.errors import StoreError, UsageError
from crossvec.scale import Piece
from crossvec.scale.work import Carrying

__all__ = ["SIZES", "Estimate", "Pace", "Plan", "Price", "estimate", "made", "measure"]

SIZES = (10**6, 10**7, 10**8, 10**9, 10**10)
"""Rows that a plan tells of, beside those there are."""

PLACES = 4
"""Pieces that a sample is taken from."""


@dataclass(frozen=True)
class Price:
    """What an hour costs: of a core, or of a machine of `cores` cores; None where nobody has said."""

    core_hour: float | None = None
    machine_hour: float | None = None
    cores: int = 1

    @property
    def of_a_core(self) -> float | None:
        """Return the price of a core's hour."""
        return self.core_hour if self.machine_hour is None else self.machine_hour / self.cores


@dataclass(frozen=True)
class Pace:
    """What was measured: `seconds` a row of one core for reading, carrying and writing, and the bytes a row takes written."""

    sampled: int
    seconds: tuple[float, float, float]
    bytes_out: float

    @property
    def per_row(self) -> float:
        """Return the seconds of one core for a row."""
        return sum(self.seconds)


@dataclass(frozen=True)
class Estimate:
    """What so many rows take; `cost` is in the currency of the price, None without one."""

    rows: int
    core_hours: float
    hours: float
    disk_bytes: int
    cost: float | None


@dataclass(frozen=True)
class Plan:
    """What a run would take. `yours` are the rows there are, of which `done` pieces of `pieces` need no work any more."""

    pace: Pace
    yours: Estimate
    others: tuple[Estimate, ...]
    pieces: int
    done: int
    workers: int
    batch: int
    memory_limit: int
    memory_needed: int | None
    price: Price
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        read, carry, write = self.pace.seconds
        return {
            "plan": True,
            "rows": self.yours.rows,
            "pieces": self.pieces,
            "pieces_done": self.done,
            "workers": self.workers,
            "batch": self.batch,
            "memory_per_worker": {"limit_bytes": self.memory_limit, "needed_bytes": self.memory_needed},
            "sample": {
                "rows": self.pace.sampled,
                "seconds_per_row": {"read": read, "carry": carry, "write": write},
                "bytes_per_row": self.pace.bytes_out,
            },
            "price_per_core_hour": self.price.of_a_core,
            "estimates": [vars(one) for one in (self.yours, *self.others)],
            "notes": list(self.notes),
        }


def measure(work: Carrying[Any], pieces: Sequence[Piece], rows: int, folder: Path) -> Pace:
    """Do some rows of some pieces with one thread, into a folder inside `folder` that is gone afterwards.

    Raises UsageError when there are no rows, StoreError when nothing can be written there.
    """
    full = [piece for piece in pieces if piece.rows]
    if not full:
        raise UsageError("there are no rows to measure with", "name shards that hold some")
    chosen = list(dict.fromkeys(full[round(i * (len(full) - 1) / (PLACES - 1))] for i in range(PLACES)))
    threads = torch.get_num_threads()
    try:
        place = Path(tempfile.mkdtemp(prefix=".crossvec-plan-", dir=_existing(folder)))
    except OSError as problem:
        raise StoreError(f"nothing can be written to {folder}: {problem.strerror}", "name another place") from None
    samples = [replace(piece, dest=str(place / f"{number}.parquet")) for number, piece in enumerate(chosen)]
    try:
        torch.set_num_threads(1)
        work.part(64)(samples[0])  # the first call pays for what is loaded lazily
        done = [work.part(max(rows // len(chosen), 1))(sample) for sample in samples]
        size = sum(Path(sample.dest).stat().st_size for sample in samples)
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(place, ignore_errors=True)
    read = sum(one.rows + one.dropped for one in done)
    seconds = [sum(one.seconds[stage] for one in done) / max(read, 1) for stage in range(3)]
    return Pace(read, (seconds[0], seconds[1], seconds[2]), size / max(read, 1))


def estimate(pace: Pace, rows: int, workers: int, price: Price) -> Estimate:
    """Return what so many rows take at this pace."""
    core_hours = rows * pace.per_row / 3600
    cost = None if price.of_a_core is None else core_hours * price.of_a_core
    return Estimate(rows, core_hours, core_hours / workers, int(rows * pace.bytes_out), cost)


def made(
    pace: Pace,
    pieces: Sequence[Piece],
    done: int,
    workers: int,
    price: Price,
    batch: int,
    limit: int,
    needed: int | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan of a run at this pace."""
    rows = sum(piece.rows for piece in pieces)
    told = list(notes)
    if len(pieces) < workers:
        told.append(f"{len(pieces)} shards keep no more than {len(pieces)} of {workers} workers busy: cut the input smaller")
    yours, *others = (estimate(pace, size, workers, price) for size in (rows, *SIZES))
    return Plan(pace, yours, tuple(others), len(pieces), done, workers, batch, limit, needed, price, tuple(told))


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there: on the same disk, as a rule."""
    return next((it for it in (folder.absolute(), *folder.absolute().parents) if it.is_dir()), Path())
