"""ngrams — a small language model learned here from the reference's texts: weak, but at hand without a download.

In    texts
Out   NGrams      a Writer: words that may follow, by counts of three, two and one, at large and in texts near the target
Uses  audit.inversion.words, audit.inversion.writers
Paper interpolated n-grams: Jelinek and Mercer 1980; recent text counted for more: Kuhn and De Mori 1990, the cache model
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from crossvec.audit.inversion.words import join, split
from crossvec.audit.inversion.writers import Draft, Hint

__all__ = ["NGrams"]

WEIGHTS = (0.1, 0.3, 0.6)  # of one, two and three words in a row
LOCAL = 0.6  # the part that texts near the target have in the counts
LISTED = 30  # followers of one context that are looked at
START = 0  # what stands before a text

Counts = dict[tuple[int, ...], Counter[int]]


class NGrams:
    """Counts of the words that follow each context of up to two words."""

    def __init__(self, texts: Sequence[str]) -> None:
        lists = [split(text) for text in texts]
        self.words = ["", *sorted({word for words in lists for word in words})]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        rows = [[START, START, *(self.numbers[word] for word in words), START] for words in lists]
        flat = np.array([number for row in rows for number in row], np.int64)
        ends = np.cumsum([len(row) for row in rows])
        inside = np.ones(max(0, len(flat) - 2), bool)  # no three words reach from one text into the next
        for end in ends[:-1]:
            inside[end - 2 : end] = False
        first, second, third = (flat[i : len(flat) - 2 + i][inside] for i in range(3))
        self.followers = {2: _Table(first * len(self.words) + second, third), 1: _Table(second, third)}
        self.commonest = [(word, count) for word, count in Counter(third.tolist()).most_common(LISTED + 1) if word != START]
        self.total = max(1, len(third))
        self._local = lru_cache(maxsize=1024)(self._counted)

    def text(self, draft: Draft) -> str:
        """Return a draft as text."""
        return join([self.words[number] for number in draft])

    def proposals(self, drafts: Sequence[Draft], hints: Sequence[Hint], k: int) -> list[list[int]]:
        """Return up to k words that may follow each draft, the likeliest first; a text that may end there adds none."""
        return [self._following(draft, self._local(hint), k) for draft, hint in zip(drafts, hints, strict=True)]

    def _following(self, draft: Draft, local: Counts, k: int) -> list[int]:
        context = (START, START, *draft)[-2:]
        odds: defaultdict[int, float] = defaultdict(float)
        for size, weight in enumerate(WEIGHTS):
            tail = context[2 - size :]
            near = local.get(tail, Counter())
            _mix(odds, near.most_common(LISTED), near.total(), LOCAL * weight)
            if size:
                key = tail[0] if size == 1 else tail[0] * len(self.words) + tail[1]
                _mix(odds, *self.followers[size].after(key), (1 - LOCAL) * weight)
            else:
                _mix(odds, self.commonest, self.total, (1 - LOCAL) * weight)
        odds.pop(START, None)
        return sorted(odds, key=lambda word: (-odds[word], word))[:k]

    def _counted(self, hint: Hint) -> Counts:
        """Count what follows what in the texts of a hint; words the reference does not have are left out."""
        counts: Counts = defaultdict(Counter)
        for text in hint.texts:
            row = [START, START, *(self.numbers[word] for word in split(text) if word in self.numbers)]
            for i in range(2, len(row)):
                for size in range(len(WEIGHTS)):
                    counts[tuple(row[i - size : i])][row[i]] += 1
        return counts


class _Table:
    """Pairs of a context and what followed it, sorted, so that a context's followers are one stretch."""

    def __init__(self, contexts: Int[np.ndarray, " n"], words: Int[np.ndarray, " n"]) -> None:
        order = np.lexsort((words, contexts))
        contexts, words = contexts[order], words[order]
        new = np.ones(len(words), bool)
        new[1:] = (contexts[1:] != contexts[:-1]) | (words[1:] != words[:-1])
        at = np.flatnonzero(new)
        self.contexts, self.words = contexts[at], words[at]
        self.counts = np.diff(np.append(at, len(words)))

    def after(self, context: int) -> tuple[list[tuple[int, int]], int]:
        """Return the commonest followers with their counts, and the count of all."""
        start, stop = np.searchsorted(self.contexts, [context, context + 1])
        counts = self.counts[start:stop]
        top = np.argsort(-counts, kind="stable")[:LISTED]
        return [(int(self.words[start + i]), int(counts[i])) for i in top], int(counts.sum())


def _mix(odds: defaultdict[int, float], followers: Iterable[tuple[int, int]], total: int, weight: float) -> None:
    for word, count in followers:
        odds[word] += weight * count / total
