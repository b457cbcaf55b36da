"""alignment — carry the stolen rows into a space that the attacker can read, and see whether they arrive.

In    Stage         its translator, and the rows' own texts where the owner gives them
Out   Reading       top-1 among the scored rows, or the verdict's probability where no texts are known; seeds converged
Uses  audit.ladder, audit.scores
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossvec.audit.ladder import BEST, Stage, ranks
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import Score, certainty, share
from crossvec.verdict import SURE


@dataclass(frozen=True)
class Alignment:
    """Does a translator fit? Scored on the rows' own texts, or else by the label-free verdict."""

    name: ClassVar[str] = "alignment"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "high"

    def lacks(self, stage: Stage) -> str:
        if not stage.rung.translates and stage.true is None:
            return "the victim's texts, to see whether the model named is the one that made the vectors"
        return ""

    def measure(self, stage: Stage) -> Reading:
        converged, tried = stage.rung.seeds
        details = {"seeds_converged": converged, "seeds_tried": tried}
        if stage.true is None or stage.ranks is None:
            return Reading((_by_verdict(stage),), details)
        found, naive = stage.ranks, stage.naive(stage.split.scored)
        n = found.pool
        score = share(
            "top-1",
            found.hits(1).numpy(),
            {"chance": np.full(n, 1 / n)},
            {"naive": None if naive is None else ranks(naive, stage.true).top(1)},
            seed=stage.seed,
        )
        return Reading((score,), {**details, "mean_rank": found.mean_rank, "foscttm": found.foscttm, "pool": n})


def _by_verdict(stage: Stage) -> Score:
    verdict = stage.rung.translator.verdict if stage.rung.translator else None
    if stage.rung.held is not None:
        # The verdict looks for what sampling hides in few rows; pairs that were held out are the better witness.
        held = stage.rung.held
        return share(
            "held-out pairs near their match",
            (np.arange(held.pairs) < held.near).astype(np.float64),
            {"chance": np.full(held.pairs, BEST)},
            seed=stage.seed,
        )
    return certainty("verdict probability", verdict.probability if verdict else 0.0, SURE)
