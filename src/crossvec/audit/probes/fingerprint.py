"""fingerprint — tell which model made the stolen vectors, and what was done to them since.

In    Stage         the store's rows as they are
Out   Reading       the best resemblance to a registered model, beside that of shuffled coordinates; traces of storage
Uses  diagnostics, audit.fingerprints
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from crossvec.audit.fingerprints import Fingerprint, built_in, resemblance, spread
from crossvec.audit.ladder import Stage
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import LEVEL, Score
from crossvec.diagnostics import inspect

SHUFFLES = 500
LISTED = 5


@dataclass(frozen=True)
class Fingerprinted:
    """Compare how widely each coordinate is spread with models that are known."""

    name: ClassVar[str] = "fingerprint"
    rungs: ClassVar[tuple[str, ...]] = ("vectors",)
    severity: ClassVar[Severity] = "low"

    models: tuple[Fingerprint, ...] = field(default_factory=lambda: tuple(built_in()))

    def lacks(self, stage: Stage) -> str:
        return ""

    def measure(self, stage: Stage) -> Reading:
        store = stage.case.victim.take(stage.crowd)
        looks = inspect(store, seed=stage.seed)
        may_be = [one for one in self.models if one.fits(store.dim)]
        measured = [one for one in may_be if one.spread is not None]
        own = spread(store, stage.seed)
        alike = sorted(((resemblance(own, one), one.name) for one in measured), reverse=True)
        details = {
            "resembles": [{"model": name, "correlation": value} for value, name in alike[:LISTED]],
            "same_dimension": [one.name for one in may_be],
            "dim": store.dim,
            "unit_norm": looks.unit_norm,
            "mean_cosine": looks.shape.mean_cosine,
            "effective_rank": looks.shape.effective_rank,
            "near_duplicates": looks.near_duplicates,
            "stored_as": looks.storage.looks_like,
            "notes": list(looks.notes),
        }
        if not alike or store.dim < 8:
            return Reading((), details)
        rng = np.random.default_rng(stage.seed)
        by_chance = [max(resemblance(rng.permutation(own), one) for one in measured) for _ in range(SHUFFLES)]
        # The quantile and not the mean: the best of all models is what is told.
        chance = float(np.quantile(by_chance, LEVEL))
        value = alike[0][0]
        seen, bounds = {"shuffled": chance}, _interval(value, store.dim)
        return Reading((Score.against("shuffled", chance, "correlation", value, *bounds, store.dim, controls=seen),), details)


def _interval(correlation: float, n: int) -> tuple[float, float]:
    """Return Fisher's interval of a correlation over n coordinates."""
    middle = math.atanh(min(max(correlation, -0.999999), 0.999999))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) / math.sqrt(n - 3)
    return math.tanh(middle - half), math.tanh(middle + half)
