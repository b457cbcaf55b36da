"""clouds — stolen rows among the attacker's own, in a plane: what an audit's picture of a translation is drawn from.

In    Stage
Out   Clouds      points; no row in full
Uses  audit.inputs, audit.ladder
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from crossvec.audit.inputs import centred
from crossvec.audit.ladder import Stage

__all__ = ["Clouds", "clouds"]

POINTS = 400
"""Rows drawn of each cloud: more hide each other."""


@dataclass(frozen=True, eq=False)
class Clouds:
    """Three clouds in the plane of the reference's two main axes, as directions from the reference's mean.

    `before` are the stolen rows untranslated, cut or filled to the reference's width, from their own mean.
    """

    reference: Float32[np.ndarray, "h 2"]
    before: Float32[np.ndarray, "s 2"]
    after: Float32[np.ndarray, "s 2"]


def clouds(stage: Stage) -> Clouds | None:
    """Return what can be drawn of a rung; None where nothing is translated, or in fewer than two dimensions."""
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
