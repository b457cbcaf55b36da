"""retrieval — begin with the attacker's own text that is nearest, and edit it while the known model says it comes nearer.

In    targets (s, d), Known with texts
Out   texts: the nearest one, with words and phrases of other near texts in place of its own
Uses  audit.inversion.words

Works with any encoder: it is asked for the row of each edit. What is put in comes from texts near the target, so that a target
that is half noise is answered with words of its topic and not with whatever fits the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossvec.audit.inversion import Budget, Known, Targets
from crossvec.audit.inversion.words import join, split
from crossvec.encoders import Step, silent

__all__ = ["Retrieval"]

LEAST_GAIN = 1e-4
PHRASE = 3  # words in a row that are put in, or taken out, at most


@dataclass(frozen=True)
class Retrieval:
    """Hill climbing. Each of at most `rounds` tries `edits` for each row, from the `neighbours` nearest texts.

    A row that no edit of `patience` rounds in a row has brought nearer is left as it is. `batch` rows are worked on together.
    """

    name: ClassVar[str] = "retrieval"

    rounds: int = 24
    edits: int = 12
    neighbours: int = 10
    patience: int = 4
    batch: int = 256

    def lacks(self, known: Known) -> str:
        return "" if known.texts else "texts of the reference"

    def invert(self, targets: Targets, known: Known, *, budget: Budget, seed: int = 0, progress: Step = silent) -> list[str]:
        if not known.texts:
            raise ValueError("the engine lacks texts")  # `lacks` says so first
        _, near = known.nearest(targets, self.neighbours)
        found = [known.texts[texts[0]] for texts in near]
        starts = range(0, len(targets), self.batch)
        for start in starts:
            rows = range(start, min(start + self.batch, len(targets)))
            share = budget.part(len(rows) / (len(targets) - start))
            pools = [[split(known.texts[text]) for text in near[row]] for row in rows]
            found[start : rows.stop] = self._climb(targets[start : rows.stop], pools, known, share, [seed, start])
            progress(f"{rows.stop:,} of {len(targets):,} rows", rows.stop / len(targets))
        return found

    def _climb(
        self, targets: Targets, pools: Sequence[Sequence[list[str]]], known: Known, budget: Budget, seed: list[int]
    ) -> list[str]:
        """Return the best text found for each target; a pool holds the words of the texts near it, the nearest first."""
        rng = np.random.default_rng(seed)
        texts = [pool[0] for pool in pools]
        reached = np.einsum("sd,sd->s", known.directions([join(text) for text in texts]), targets)
        idle = np.zeros(len(texts), np.int64)
        for _ in range(self.rounds):
            live = np.flatnonzero(idle < self.patience)
            if budget.spent or not len(live):
                break
            tried = [[self._edited(texts[row], pools[row], rng) for _ in range(self.edits)] for row in live.tolist()]
            seen = known.directions([join(edit) for edits in tried for edit in edits]).reshape(len(live), self.edits, -1)
            cosines = np.einsum("led,ld->le", seen, targets[live])
            for place, row in enumerate(live.tolist()):
                best = int(cosines[place].argmax())
                idle[row] += 1
                if cosines[place, best] > reached[row] + LEAST_GAIN:
                    texts[row], reached[row], idle[row] = tried[place][best], cosines[place, best], 0
        return [join(text) for text in texts]

    def _edited(self, text: list[str], pool: Sequence[list[str]], rng: np.random.Generator) -> list[str]:
        """Return the text with a phrase replaced, put in or taken out; never empty."""
        kind = rng.integers(4)  # half of the edits replace
        start = int(rng.integers(len(text) + (kind == 2)))
        stop = start if kind == 2 else start + int(rng.integers(1, PHRASE + 1))
        new: list[str] = []
        if kind != 3 or stop - start >= len(text):
            other = pool[int(rng.integers(len(pool)))]
            begin = int(rng.integers(len(other)))
            new = other[begin : begin + int(rng.integers(1, PHRASE + 1))]
        return [*text[:start], *new, *text[stop:]]
