"""profile — describe one space: lengths, spread, spectrum, duplicates, dead dimensions, traces of quantisation.

In    Space (n, d)
Out   Profile      numbers, and notes that say in words what a reader should know
Uses  space, shape, storage
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from crossvec.diagnostics.shape import FEATURELESS, SAMPLE, Cloud, Shape, check, distinct, rows_of
from crossvec.diagnostics.storage import Storage, guess
from crossvec.space import Space

SCAN = 1_000_000
"""Spaces up to this size are read whole for lengths and duplicates; of larger ones SCAN_SAMPLE rows are read."""

SCAN_SAMPLE = 100_000

NEAR = 0.99
"""Centred cosine from which two different rows count as near duplicates."""

ORDERED_FROM = 32
"""Dimensions from which an uneven spread of the variance is worth a note."""

UNIT_SLACK = 1e-2
"""Rows whose lengths are all this near 1 count as of unit norm: float16 and int8 storage moves lengths a little."""


@dataclass(frozen=True)
class Profile:
    """What one space is like.

    `scanned` rows were read for `norms` (mean, sd, low, high), `exact_duplicates` (rows that repeat an earlier one) and the
    dimensions that are `constant_dims` (`zero_dims` of them always 0). `near_duplicates` counts rows of the sample behind
    `shape` with another, different row at a centred cosine of 0.99 or more. `first_half` is the share of the variance in the
    first half of the dimensions. `notes` says in words what a reader should know.
    """

    name: str
    rows: int
    dim: int
    scanned: int
    norms: dict[str, float]
    unit_norm: bool
    shape: Shape
    exact_duplicates: int
    near_duplicates: int
    constant_dims: int
    zero_dims: int
    first_half: float
    storage: Storage
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain finite values, nested as the fields are."""
        return {**asdict(self), "notes": list(self.notes)}


def inspect(space: Space, *, rows: int | None = None, sample: int = SAMPLE, seed: int = 0) -> Profile:
    """Describe a space (n, d): lengths, spread, spectrum, duplicates, dead dimensions and traces of quantisation.

    `rows` says of how many the space is a sample, where it is one; `sample` rows are drawn from it for spectrum and neighbours.
    Raises SpaceError for fewer than two rows, and for rows that are not finite.
    """
    check(space, sample, 2)
    scanned = space if len(space) <= SCAN else space.sample(SCAN_SAMPLE, seed)
    lengths, hashes, low, high = _scan(scanned)
    drawn = space.sample(sample, seed)
    different = distinct(rows_of(drawn))
    cloud = Cloud(different, seed)
    variance = different.double().var(0, correction=0)
    total = float(variance.sum())
    norms = {"mean": lengths.mean(), "sd": lengths.std(), "low": lengths.min(), "high": lengths.max()}
    profile = Profile(
        name=space.name,
        rows=len(space) if rows is None else rows,
        dim=space.dim,
        scanned=len(scanned),
        norms={name: float(value) for name, value in norms.items()},
        unit_norm=bool((abs(lengths - 1) < UNIT_SLACK).all()),
        shape=cloud.shape(len(drawn)),
        exact_duplicates=len(hashes) - len(np.unique(hashes)),
        near_duplicates=int((cloud.nearest >= NEAR).sum()),
        constant_dims=int((low == high).sum()),
        zero_dims=int(((low == 0) & (high == 0)).sum()),
        first_half=float(variance[: space.dim // 2].sum()) / total if total else 0.0,
        storage=guess(drawn.vectors),
        notes=(),
    )
    return replace(profile, notes=tuple(_notes(profile)))


def _scan(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return every row's length and hash, and the lowest and highest value of each dimension, reading batch by batch."""
    lengths, hashes = [], []
    low, high = np.full(space.dim, np.inf), np.full(space.dim, -np.inf)
    for batch in space.batches():
        rows = batch.array()
        lengths.append(np.linalg.norm(rows, axis=1))
        hashes.append(np.array([hash(row.tobytes()) for row in rows]))
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
    return np.concatenate(lengths).astype(np.float64), np.concatenate(hashes), low, high


def _notes(profile: Profile) -> Iterator[str]:
    p, shape, low, high = profile, profile.shape, profile.norms["low"], profile.norms["high"]
    if p.scanned < p.rows:
        yield f"lengths, duplicates and dead dimensions come from a sample of {p.scanned:,} of {p.rows:,} rows"
    if shape.rows < p.scanned:
        yield f"spectrum, neighbours and near duplicates come from a sample of {shape.rows:,} rows"
    if p.exact_duplicates:
        yield f"{p.exact_duplicates:,} of {p.scanned:,} rows repeat an earlier row exactly"
    if p.near_duplicates:
        yield f"{p.near_duplicates:,} of {shape.rows:,} rows have a near duplicate (centred cosine of {NEAR} or more)"
    if p.constant_dims:
        yield f"{p.constant_dims:,} of {p.dim:,} dimensions never change ({p.zero_dims:,} are always 0)"
    if not p.unit_norm and high <= 1 + UNIT_SLACK:
        yield (
            f"lengths run from {low:.2f} to {high:.2f} and never exceed 1: as when unit rows lose their last dimensions "
            "(Matryoshka truncation without scaling back), though other causes are possible"
        )
    elif not p.unit_norm:
        yield f"lengths run from {low:.3g} to {high:.3g}: rows are not of unit length"
    if p.dim >= ORDERED_FROM and p.first_half > 2 / 3:
        yield (
            f"the first half of the dimensions holds {p.first_half:.0%} of the variance: "
            "ordered, as by Matryoshka training or principal components"
        )
    if shape.mean_cosine > 0.5:
        yield f"any two rows have a raw cosine of {shape.mean_cosine:.2f} on average: centre rows before comparing them"
    if shape.structure < FEATURELESS:
        yield "neighbours are hardly nearer than in a Gaussian cloud: there is little shape for an unpaired fit to find"
    yield f"values look like {p.storage.looks_like}"
