"""likeness — how alike two spaces are, and whether a fit without pairs looks feasible.

In    Space (n, da), Space (m, db), with or without pairs
Out   Likeness
Uses  space, pairing, metrics, shape, feasibility
Paper Huh et al. 2024, arXiv:2405.07987 (mutual neighbours); Kornblith et al. 2019, arXiv:1905.00414 (CKA);
      Song et al. 2012, JMLR 13, 1393-1434 (unbiased HSIC)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crossvec import metrics
from crossvec.aligners import Step, part, silent
from crossvec.diagnostics.feasibility import Feasibility, feasibility
from crossvec.diagnostics.shape import FEATURELESS, SAMPLE, Cloud, Shape, check, distinct, rows_of
from crossvec.geometry import TINY, resized, unit
from crossvec.pairing import joined, same_ids
from crossvec.space import Space

FEW_ROWS = 2_000
"""Below this, starts of an unpaired fit were seen to fail often."""

LIKE_SPECTRA = 0.85
"""Measured on 4,096 rows: three text encoders against each other .95 to .99, against an isotropic cloud .58 to .76."""

SHARED, BARELY_SHARED = 0.45, 0.2
"""Shares of the third moments' agreement. Measured on 3,000 to 36,000 rows: pairs of three text encoders .49 to .8, skewed
clouds that have nothing to do with each other .27 to .48, a Gaussian cloud 0."""

RECOVERED, LOST = 0.5, 0.1
"""How much of itself a space is found again from a rotated half. Measured on three text encoders: .97 at 36,000 rows, .92 at
8,000, .66 to .77 at 3,000, .14 to .34 at 1,000 and nothing at 500."""

LIKE_CKA = 0.4
"""Seen so far: a pair at .35 was never aligned without pairs, pairs from .48 on were, though not by every method."""

Outlook = Literal["feasible", "doubtful", "unlikely"]


@dataclass(frozen=True)
class Paired:
    """How alike two spaces are row by row.

    `mutual_knn` is the mean share of a row's `k` nearest others that both spaces agree on, `cka` linear CKA and `cka_debiased`
    the same from unbiased HSIC, `identity_top1` the retrieval of centred rows copied across, each from 0 to 1 (the debiased
    CKA can fall below 0); chance is beside those that have one. `left_out` pairs have a bad row and are not looked at.
    """

    k: int
    mutual_knn: float
    mutual_knn_chance: float
    cka: float
    cka_debiased: float
    identity_top1: float
    identity_chance: float
    left_out: int


@dataclass(frozen=True)
class Likeness:
    """How alike two spaces are, and whether a fit without pairs looks feasible.

    `spectra` is the cosine of the two sorted spectra (1: same), `nearest_distance` the Wasserstein-1 distance of the centred
    cosines to the nearest row (0: same). `shared_axes` is the cosine of the two covariances as they stand, cut or filled with
    zeros to one width, and `shared_axes_chance` what a random rotation would leave of it: far above means the coordinates are
    the same already. `trial` is what a short search finds (see `Feasibility`). `outlook` is a rule of thumb with `reasons`;
    only a fit and its verdict can tell.
    """

    rows: int
    a: Shape
    b: Shape
    spectra: float
    nearest_distance: float
    shared_axes: float
    shared_axes_chance: float
    pairs: Paired | None
    trial: Feasibility | None
    outlook: Outlook
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain finite values, nested as the fields are; null stands for pairs not given and a trial not made."""
        return {**asdict(self), "reasons": list(self.reasons)}


def compare(
    a: Space,
    b: Space,
    *,
    paired: bool | None = None,
    trial: bool | None = None,
    k: int = 10,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Step = silent,
) -> Likeness:
    """Measure how alike two spaces (n, da) and (m, db) are, by rotation-free statistics and, with pairs, row by row.

    `paired` says that row i is the same thing in both; None takes it from ids that are the same in the same order. `trial`
    says whether to try a short search for agreement of third moments (seconds); None does where there are no pairs.
    Both sides are cut to one number of rows, at most `sample`, because neighbours come nearer as rows are added. Partners of
    rows that were left out as bad are left out too.

    Raises SpaceError for too few rows, and for `paired` spaces of different sizes.
    """
    left_out = 0
    if paired is None:
        paired = same_ids(a, b)
    if paired:
        a, b, left_out = joined(a, b)
    for space in (a, b):
        check(space, sample, k + 2)
    n = min(len(a), len(b), sample)
    progress("comparing shapes", 0.0)
    if paired:
        index = np.sort(np.random.default_rng(seed).choice(len(a), n, replace=False))
        drawn = a.take(index), b.take(index)
    else:
        drawn = a.sample(n, seed), b.sample(n, seed + 1)
    x, y = (rows_of(side) for side in drawn)
    one, other = Cloud(distinct(x), seed), Cloud(distinct(y), seed)
    tried = None
    if trial or (trial is None and not paired):
        tried = feasibility(a, b, seed=seed, progress=part(progress, 0.3, 1.0))
    shared, chance = _shared_axes(one.units, other.units)
    likeness = Likeness(
        rows=n,
        a=one.shape(n),
        b=other.shape(n),
        spectra=_cosine(one.spectrum, other.spectrum),
        nearest_distance=_wasserstein(one.nearest, other.nearest),
        shared_axes=shared,
        shared_axes_chance=chance,
        pairs=_paired(x, y, k, seed, left_out) if paired else None,
        trial=tried,
        outlook="feasible",
        reasons=(),
    )
    outlook, reasons = _outlook(likeness, min(len(a), len(b)))
    return replace(likeness, outlook=outlook, reasons=reasons)


def _cosine(p: Float[Tensor, " r"], q: Float[Tensor, " s"]) -> float:
    r = min(len(p), len(q))
    return float(p[:r] @ q[:r] / (p.norm() * q.norm()).clamp_min(TINY))


def _wasserstein(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> float:
    """Return the Wasserstein-1 distance of two samples on the line, from their quantiles."""
    places = torch.linspace(0, 1, 1001)
    return float((a.quantile(places) - b.quantile(places)).abs().mean())


def _shared_axes(x: Float[Tensor, "n da"], y: Float[Tensor, "m db"]) -> tuple[float, float]:
    """Return tr(A B) / (|A| |B|) of the covariances, and its mean over random rotations, tr(A) tr(B) / (d |A| |B|)."""
    d = max(x.shape[1], y.shape[1])
    a, b = ((rows.T @ rows / len(rows)).double() for rows in (resized(x, d), resized(y, d)))
    sizes = (a.norm() * b.norm()).clamp_min(TINY)
    return float((a * b).sum() / sizes), float(a.trace() * b.trace() / (d * sizes))


def _paired(x: Float[Tensor, "n da"], y: Float[Tensor, "n db"], k: int, seed: int, left_out: int) -> Paired:
    n = len(x)
    ux, uy = unit(x), unit(y)
    cx, cy = (metrics.centred(rows, rows.mean(0)) for rows in (x, y))
    copied = metrics.retrieve(unit(resized(cx, cy.shape[1])), cy, csls_neighbours=0)
    return Paired(
        k=k,
        mutual_knn=float(metrics.neighbour_overlap(ux, uy, k, seed=seed).mean()),
        mutual_knn_chance=k / (n - 1),
        cka=_cka(ux, uy, _hsic),
        cka_debiased=_cka(ux, uy, _hsic_debiased),
        identity_top1=copied.plain.forward.top(1),
        identity_chance=1 / n,
        left_out=left_out,
    )


def _cka(x: Float[Tensor, "n da"], y: Float[Tensor, "n db"], hsic: Callable[[Tensor, Tensor], float]) -> float:
    """Return HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) (Kornblith et al. 2019, equation 4), 0 for a side without spread."""
    x, y = x - x.mean(0), y - y.mean(0)
    own = hsic(x, x) * hsic(y, y)
    return hsic(x, y) / math.sqrt(own) if own > 0 else 0.0


def _hsic(x: Float[Tensor, "n da"], y: Float[Tensor, "n db"]) -> float:
    """Return the HSIC of centred rows under linear kernels, up to a constant: |y^T x|^2."""
    return float((y.T @ x).double().square().sum())


def _hsic_debiased(x: Float[Tensor, "n da"], y: Float[Tensor, "n db"]) -> float:
    """Return the unbiased HSIC under linear kernels (Song et al. 2012, equation 5), without any n x n matrix.

    With K, L the kernels whose diagonals are set to 0: [tr(KL) + sum(K) sum(L) / ((n-1)(n-2)) - 2 sum(KL) / (n-2)] / (n(n-3)).
    """
    n = len(x)
    diagonals = x.square().sum(1).double(), y.square().sum(1).double()
    sums = [(rows @ rows.sum(0)).double() - own for rows, own in zip((x, y), diagonals, strict=True)]
    trace = (y.T @ x).double().square().sum() - diagonals[0] @ diagonals[1]
    crossed = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2)) - 2 * (sums[0] @ sums[1]) / (n - 2)
    return float((trace + crossed) / (n * (n - 3)))


def _outlook(likeness: Likeness, rows: int) -> tuple[Outlook, tuple[str, ...]]:
    """Return the outlook of a fit without pairs on all rows of the smaller space, and what speaks against it."""
    sides = {"first": likeness.a, "second": likeness.b}
    doubts: list[tuple[bool, str]] = []  # (it is grave, what it is)
    if rows < FEW_ROWS:
        doubts.append((rows < FEW_ROWS // 10, f"{rows:,} rows a side are few: aim for {FEW_ROWS:,} or more"))
    for side, shape in sides.items():
        if shape.structure < FEATURELESS:
            text = f"the {side} space is nearly featureless: neighbours are hardly nearer than in a Gaussian cloud"
            doubts.append((shape.structure < FEATURELESS / 3, text))
        if shape.effective_rank < 8:
            doubts.append((shape.effective_rank < 2, f"the {side} space spreads over few axes ({shape.effective_rank:.1f})"))
    ranks = sorted(shape.effective_rank for shape in sides.values())
    if ranks[1] > 3 * ranks[0]:
        doubts.append((False, f"effective ranks differ much ({ranks[0]:.0f} and {ranks[1]:.0f})"))
    if likeness.spectra < LIKE_SPECTRA:
        doubts.append((likeness.spectra < 0.5, f"the spectra differ (cosine {likeness.spectra:.2f})"))
    doubts += _trial_doubts(likeness.trial) if likeness.trial else []
    pairs = likeness.pairs
    if pairs and pairs.mutual_knn < 3 * pairs.mutual_knn_chance:
        doubts.append((True, f"neighbours agree hardly more than by chance ({pairs.mutual_knn:.3f})"))
    elif pairs and pairs.cka_debiased < LIKE_CKA:
        doubts.append((False, f"debiased CKA is low ({pairs.cka_debiased:.2f})"))
    reasons = [text for _, text in doubts] or [_in_favour(likeness.trial)]
    if likeness.shared_axes > 2 * likeness.shared_axes_chance and likeness.shared_axes > 0.5:
        reasons.append("the spaces seem to share coordinates already: try the identity first")
    grave = any(is_grave for is_grave, _ in doubts)
    return "unlikely" if grave else "doubtful" if doubts else "feasible", tuple(reasons)


def _trial_doubts(trial: Feasibility) -> list[tuple[bool, str]]:
    doubts = []
    for side, name in (("a", "first"), ("b", "second")):
        if trial.recovered[side] < RECOVERED:
            text = f"of the {name} space only {max(0.0, trial.recovered[side]):.0%} is found again in a rotated half of itself"
            doubts.append((trial.recovered[side] < LOST, f"{text}: too few rows, or too little shape"))
    if trial.share is not None and trial.share < SHARED:
        text = f"third moments agree {trial.agreement:.2f} at best, against {trial.agreement_null:.2f} where nothing is shared"
        doubts.append((trial.share < BARELY_SHARED, text))
    return doubts


def _in_favour(trial: Feasibility | None) -> str:
    seen = "nothing here speaks against it"
    if trial:
        seen += (
            f": third moments agree {trial.agreement:.2f}, against {trial.agreement_null:.2f} where nothing is shared, and "
            f"each space is found again in a rotated half of itself ({min(trial.recovered.values()):.0%} or more)"
        )
    return f"{seen}; only a fit and its verdict can tell"
