"""language — a language model proposes the next word, the known model says which draft lies nearest to the target.

In    targets (s, d), Known; a causal model of transformers, or else a small one learned from the reference's texts
Out   texts
Uses  audit.inversion.writers, audit.inversion.ngrams
Paper ZSInvert: Zhang, Morris and Shmatikov 2025, arXiv:2504.00147: beam search guided by cosine, then texts like the best one

The model's own likelihood is not in the score: it says what may come next, and only the cosine chooses. Each stage after the
first begins anew with the best text so far as the hint, so that words found late can stand early. Nothing is trained on
inversions, as the paper's offline corrector is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from crossvec.audit.inversion import Budget, Known, Targets
from crossvec.audit.inversion.ngrams import NGrams
from crossvec.audit.inversion.writers import Draft, Hint, Writer, causal
from crossvec.encoders import Step, silent

__all__ = ["Language"]

LEAST_GAIN = 1e-4
NEAR = 8  # texts of the reference in a hint


@dataclass(frozen=True)
class Language:
    """Beam search in `stages`. Each draft is continued by `choices` tokens, and `beams` drafts are kept for each target.

    `lucky` of those are drawn by chance and not by cosine, so that the beam does not narrow to one text. `model` is a folder or
    a name of the Hugging Face hub, fetched only with `download`; without it a weak model is learned from the reference's texts.
    `length` tokens are written at most, a half more than is usual in the reference unless given. `batch` targets are worked on
    together.
    """

    name: ClassVar[str] = "language"

    model: str | None = None
    download: bool = False
    device: str = "auto"
    beams: int = 6
    lucky: int = 2
    choices: int = 10
    stages: int = 2
    length: int | None = None
    batch: int = 64

    @property
    def writer(self) -> str:
        """Return what proposes, as words for a report."""
        return self.model or "n-grams learned from the reference's texts (weak)"

    def lacks(self, known: Known) -> str:
        return "" if self.model or known.texts else "texts of the reference, or a language model"

    def invert(self, targets: Targets, known: Known, *, budget: Budget, seed: int = 0, progress: Step = silent) -> list[str]:
        writer: Writer = causal(self.model, self.download, self.device) if self.model else _learned(known)
        if not len(targets):
            return []
        length = self.length or round(1.5 * known.usual_length)
        _, near = known.nearest(targets, NEAR)
        hints = [Hint(tuple(known.texts[text] for text in texts)) for texts in near]
        found = [""] * len(targets)
        for start in range(0, len(targets), self.batch):
            stop = min(start + self.batch, len(targets))
            part = slice(start, stop)
            share = budget.part((stop - start) / (len(targets) - start))
            search = _Search(writer, known, targets[part], share, np.random.default_rng([seed, start]))
            for _ in range(self.stages):
                told = [
                    Hint((text, *hint.texts) if text else hint.texts)
                    for text, hint in zip(search.best, hints[part], strict=True)
                ]
                if not self._stage(search, told, length):
                    break
            found[part] = search.best
            progress(f"{stop:,} of {len(targets):,} rows", stop / len(targets))
        return found

    def _stage(self, search: _Search, hints: Sequence[Hint], length: int) -> bool:
        """Write drafts from nothing; return whether any target has a better text now."""
        before = search.reached.copy()
        drafts: list[list[Draft]] = [[()] for _ in hints]
        for _ in range(length):
            if search.budget.spent:
                break
            drafts = search.step(drafts, hints, self.choices, self.beams, self.lucky)
            if not any(drafts):
                break
        return bool((search.reached > before + LEAST_GAIN).any())


class _Search:
    """One batch of targets, the best text for each so far, and the cosine that it reached."""

    def __init__(self, writer: Writer, known: Known, targets: Targets, budget: Budget, rng: np.random.Generator) -> None:
        self.writer, self.known, self.targets, self.budget, self.rng = writer, known, targets, budget, rng
        self.best = [""] * len(targets)
        self.reached: Float[np.ndarray, " s"] = np.zeros(len(targets))

    def step(
        self, drafts: Sequence[list[Draft]], hints: Sequence[Hint], choices: int, beams: int, lucky: int
    ) -> list[list[Draft]]:
        """Continue every draft, and return those kept for each target."""
        places = [(row, draft) for row, own in enumerate(drafts) for draft in own]
        following = self.writer.proposals([draft for _, draft in places], [hints[row] for row, _ in places], choices)
        longer = [(row, (*draft, token)) for (row, draft), tokens in zip(places, following, strict=True) for token in tokens]
        if not longer:
            return [[] for _ in drafts]
        rows = np.array([row for row, _ in longer])
        texts = [self.writer.text(draft) for _, draft in longer]
        cosines = np.einsum("kd,kd->k", self.known.directions(texts), self.targets[rows])
        kept: list[list[Draft]] = []
        for row in range(len(drafts)):
            own = np.flatnonzero(rows == row)
            order = own[np.argsort(-cosines[own], kind="stable")]
            if len(order) and cosines[order[0]] > self.reached[row]:
                self.best[row], self.reached[row] = texts[order[0]], cosines[order[0]]
            first, rest = order[: beams - lucky], order[beams - lucky :]
            drawn = self.rng.choice(rest, min(lucky, len(rest)), replace=False) if len(rest) else rest
            kept.append([longer[i][1] for i in np.concatenate([first, np.sort(drawn)])])
        return kept


@lru_cache(maxsize=1)
def _learned(known: Known) -> NGrams:
    return NGrams(known.texts)
