"""shape — what can be said of a cloud from its lengths, eigenvalues and neighbours: nothing here depends on rotation.

In    rows (s, d) float32     a sample of a space
Out   Shape, and the tensors behind it
Uses  space, metrics
Paper Roy and Vetterli 2007, "The effective rank"
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec import metrics
from crossvec.errors import SettingError, SpaceError
from crossvec.geometry import TINY, unit
from crossvec.space import Space, require_space

SAMPLE = 8192
"""Rows for neighbours and eigenvalues: seconds at 1,024 dimensions."""

FEATURELESS = 0.03
"""`structure` below this is doubtful. Measured on 500 to 4,096 rows: three text encoders .05 to .14, a Gaussian cloud 0."""

WIDEST = 3072
"""Eigenvalues of larger matrices take minutes, so wider spaces get the spectrum of this many rows."""


@dataclass(frozen=True)
class Shape:
    """What can be said of a cloud from its lengths, eigenvalues and neighbours; nothing here depends on rotation.

    `mean_length` is the length of the mean of unit rows, from 0 (rows point everywhere) to 1 (all in one direction), and
    `mean_cosine` the mean raw cosine of two different rows. `participation_ratio` is (sum l)^2 / sum l^2 over the eigenvalues l
    of the covariance, `effective_rank` the exponential of the entropy of their shares, `axes` how many principal axes hold 50,
    90 and 99 % of the variance. `nearest` holds the 10, 50 and 90 % quantiles of the centred cosine to the nearest other row,
    and `structure` is by how much its mean lies above that of a Gaussian cloud with the same covariance: 0 is a featureless
    cloud. `rows` were drawn; those that repeat an earlier one were left out.
    """

    rows: int
    mean_length: float
    mean_cosine: float
    participation_ratio: float
    effective_rank: float
    axes: dict[str, int]
    nearest: dict[str, float]
    structure: float


class Cloud:
    """Different rows of a sample, and what is measured on them once."""

    def __init__(self, rows: Float[Tensor, "s d"], seed: int) -> None:
        centred = rows - rows.mean(0)
        self.rows = rows
        self.units = metrics.centred(rows, rows.mean(0))
        self.nearest = metrics.nearest_other(self.units)
        self.spectrum = _spectrum(centred)
        # Random sums of rows have exactly the rows' covariance and, by construction, nothing else of their shape.
        coin = torch.Generator().manual_seed(seed)
        gaussian = torch.randn(len(rows), len(rows), generator=coin) @ centred
        self.featureless = metrics.nearest_other(metrics.centred(gaussian, gaussian.mean(0)))

    def shape(self, rows: int) -> Shape:
        n, p = len(self.rows), self.spectrum
        mean = float(unit(self.rows).mean(0).norm())
        held = p.cumsum(0)
        return Shape(
            rows=rows,
            mean_length=mean,
            mean_cosine=(n * mean**2 - 1) / (n - 1) if n > 1 else 1.0,
            participation_ratio=float(1 / p.square().sum()) if p.any() else 0.0,
            effective_rank=float(torch.special.entr(p).sum().exp()) if p.any() else 0.0,
            axes={f"{share}%": int((held < share / 100 - 1e-6).sum()) + 1 if p.any() else 0 for share in (50, 90, 99)},
            nearest={f"{share}%": float(self.nearest.quantile(share / 100)) for share in (10, 50, 90)},
            structure=float(self.nearest.mean() - self.featureless.mean()) if n > 1 else 0.0,
        )


def check(space: Space, sample: int, least: int) -> None:
    """Refuse a space or a sample of fewer than `least` rows: SpaceError, SettingError."""
    require_space(space, "what to describe")
    if sample < least:
        raise SettingError(f"a sample of {sample} rows is too small", f"use {least} or more")
    if len(space) < least:
        rows = f"{len(space)} row{'' if len(space) == 1 else 's'}"
        raise SpaceError(f"{space.name or 'the space'} has {rows}; this needs at least {least}", "give more rows")


def rows_of(space: Space) -> Float[Tensor, "n d"]:
    """Return a space's rows scaled to a mean length of 1, so that its scale plays no part in any tolerance."""
    rows = torch.from_numpy(space.array())
    scaled: Tensor = rows / rows.norm(dim=1).mean()
    return scaled


def distinct(rows: Float[Tensor, "n d"]) -> Float[Tensor, "u d"]:
    """Leave out rows that repeat an earlier one: a copy is everybody's nearest neighbour and says nothing about shape."""
    first = {hash(row.tobytes()): number for number, row in reversed(list(enumerate(rows.numpy())))}
    return rows[torch.tensor(sorted(first.values()))]


def _spectrum(centred: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
    """Return the covariance's eigenvalues as shares of the variance, largest first; all 0 for a cloud without spread."""
    n, d = centred.shape
    if d > WIDEST or d > n:
        some = centred[:: -(-n // WIDEST)]  # evenly through the sample
        gram = some @ some.T
    else:
        gram = centred.T @ centred
    values = torch.linalg.eigvalsh(gram.double()).flip(0).clamp_min(0)
    total = values.sum()
    return values / total if total > TINY else torch.zeros_like(values)
