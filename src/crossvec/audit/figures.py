"""figures — the numbers that pictures of an audit are drawn from: a rung's clouds in a plane, which labels are taken for which.

In    Stage, and whether labels were looked for on it
Out   Figures     points and counts; no text, and no row in full
Uses  audit.inputs, audit.probes.attributes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from crossvec.audit.inputs import centred
from crossvec.audit.ladder import Stage
from crossvec.audit.probes.attributes import calibrated, embedded

__all__ = ["Clouds", "Confusion", "Figures", "figures"]

POINTS = 400
"""Rows drawn of each cloud: more hide each other."""

NAMED = 8
"""Labels told apart; the rest are one."""


@dataclass(frozen=True, eq=False)
class Clouds:
    """Three clouds in the plane of the reference's two main axes, as directions from the reference's mean.

    `before` are the stolen rows untranslated, cut or filled to the reference's width, from their own mean.
    """

    reference: Float32[np.ndarray, "h 2"]
    before: Float32[np.ndarray, "s 2"]
    after: Float32[np.ndarray, "s 2"]


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many rows of each label (down) are taken for which (across). The last column is any label that is not named."""

    names: tuple[str, ...]
    counts: Int[np.ndarray, "l l_and_other"]


@dataclass(frozen=True, eq=False)
class Figures:
    """What a rung's pictures show; None where there is nothing to draw."""

    clouds: Clouds | None = None
    confusion: Confusion | None = None


def figures(stage: Stage, labelled: bool = False) -> Figures:
    """Return what can be drawn of a rung; `labelled` where the labels were looked for."""
    return Figures(_clouds(stage), _confusion(stage) if labelled else None)


def _clouds(stage: Stage) -> Clouds | None:
    rng = np.random.default_rng(stage.seed)
    rows = np.sort(rng.permutation(stage.split.scored)[:POINTS])
    naive = stage.naive(rows)
    if stage.home is None or naive is None or stage.home.shape[1] < 2:
        return None
    mean = stage.home.mean(0)
    home = centred(stage.home[rng.permutation(len(stage.home))[:POINTS]], mean)
    axes = np.linalg.svd(home, full_matrices=False)[2][:2].T
    if axes.shape[1] < 2:
        return None
    return Clouds(home @ axes, centred(naive) @ axes, centred(stage.translated(rows), mean) @ axes)


def _confusion(stage: Stage) -> Confusion | None:
    labels, truth, encoder = stage.case.labels, stage.case.truth, stage.encoder
    if labels is None or truth is None or encoder is None:
        return None
    home = None if stage.home is None else centred(stage.home)
    guessed = calibrated(centred(stage.attack), embedded(labels, encoder), home).argmax(1)
    has = np.array([[name in truth[row] for name in labels.names] for row in stage.split.scored])
    common = [int(i) for i in np.argsort(-has.sum(0), kind="stable")[:NAMED] if has[:, i].any()]
    taken = np.stack([guessed == i for i in common] + [~np.isin(guessed, common)], axis=1)
    counts = np.stack([taken[has[:, i]].sum(0) for i in common])
    return Confusion(tuple(labels.names[i] for i in common), counts)
