"""crossvec_lengths — do stolen rows tell how long their texts are? Some models give longer rows to longer texts.

In    Stage                 the scored rows as they were stolen; the owner's texts, which score the answer
Out   Reading               the AUC of "longer row, longer text", and the longest row
Uses  crossvec.audit
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossvec.audit import Stage
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import FEWEST, area


@dataclass(frozen=True)
class Lengths:
    """Guess that the longer half of the rows belongs to the longer half of the texts."""

    name: ClassVar[str] = "lengths"
    rungs: ClassVar[tuple[str, ...]] = ("vectors",)
    severity: ClassVar[Severity] = "low"

    def lacks(self, stage: Stage) -> str:
        if stage.case.texts is None:
            return "the store's own texts"
        if len(stage.split.scored) < 2 * FEWEST:
            return f"{2 * FEWEST} rows"
        return ""

    def measure(self, stage: Stage) -> Reading:
        stolen = stage.case.victim.take(stage.split.scored).array()
        rows = np.linalg.norm(stolen.astype(np.float64), axis=1)
        words = np.array([len(text.split()) for text in stage.case.texts_of(stage.split.scored)])
        # Ties are broken by a seeded order, so that each half has its share even where all texts are alike.
        order = np.lexsort([np.random.default_rng(stage.seed).random(len(words)), words])
        short, long = np.array_split(order, 2)
        return Reading((area("longer texts by longer rows", rows[long], rows[short]),), {"longest_row": float(rows.max())})
