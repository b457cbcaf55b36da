"""words — what the texts of the reference are made of: their words, how common each is, and which stand near a target.

In    texts; targets (s, d)
Out   Vocabulary      words and punctuation with their shares, at large and among the texts nearest to a target
Uses  audit.inversion
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int

from crossvec.audit.inversion import Known, Targets

__all__ = ["Vocabulary", "join", "split"]

ATOM = re.compile(r"\w+(?:['’.-]\w+)*|[^\w\s]")
NO_BLANK_BEFORE = set(".,;:!?)]}%’'\"")
NO_BLANK_AFTER = set("([{#$£€")

MOST_WORDS = 40_000
NEIGHBOURS = 20
SHARPNESS = 30.0  # how much more the words of a nearer text count, by cosine
LOCAL = 0.8  # the part of a target's expectation that its nearest texts have; the rest is all texts'


def split(text: str) -> list[str]:
    """Return the words and the punctuation of a text in their order."""
    return ATOM.findall(text)


def join(atoms: Sequence[str]) -> str:
    """Return words and punctuation as text; `split` gives them back."""
    parts: list[str] = []
    for i, atom in enumerate(atoms):
        if i and atom not in NO_BLANK_BEFORE and atoms[i - 1] not in NO_BLANK_AFTER:
            parts.append(" ")
        parts.append(atom)
    return "".join(parts)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The commonest words of the reference, commonest first, with how often each occurs."""

    known: Known
    words: list[str]
    counts: Int[np.ndarray, " v"]

    @classmethod
    def of(cls, known: Known, most: int = MOST_WORDS) -> Vocabulary:
        """Return the vocabulary of what is known."""
        counted = Counter(atom for text in known.texts for atom in split(text))
        common = sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:most]
        return cls(known, [word for word, _ in common], np.array([count for _, count in common], np.int64))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def usual_length(self) -> int:
        """Return how many words and marks a text has: the mean, which is what expectations add up to."""
        if not self.known.texts:
            return self.known.usual_length
        return max(1, round(sum(len(split(text)) for text in self.known.texts) / len(self.known.texts)))

    def expected(self, targets: Targets, local: float = LOCAL) -> Iterator[Float64[np.ndarray, " v"]]:
        """Yield, for each target, how often each word is expected in its text before its direction is read word by word.

        A mixture of the words of all texts and of those of the texts nearest to the target, near ones counting more.
        """
        everywhere = self.counts / max(1, self.counts.sum())
        cosines, nearest = self.known.nearest(targets, NEIGHBOURS)
        weights = np.exp(SHARPNESS * (cosines - cosines.max(axis=1, keepdims=True, initial=-1.0)))
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        for row, texts in enumerate(nearest):
            here = np.zeros(len(self.words))
            for weight, text in zip(weights[row], texts, strict=True):
                found = [self.numbers[atom] for atom in split(self.known.texts[text]) if atom in self.numbers]
                np.add.at(here, found, weight / max(1, len(found)))
            yield self.usual_length * ((1 - local) * everywhere + local * here)
