"""crossvec_trigrams — how often each three letters occur in a text, hashed into a row.

In    trigrams, or trigrams?dim=512
Out   Encoder               texts -> (n, d) float32, d = 256 unless told
Uses  crossvec.encoders
Paper Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, arXiv:0902.2206
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Request
from crossvec.encoders.batched import Batched


class Trigrams(Batched):
    """Counts of three letters in a row; a text in which there are none has a row of zeros."""

    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name, version="1")
        self._dim = dim

    @classmethod
    def asked(cls, request: Request) -> Trigrams:
        """Make the encoder that was asked for; raises UsageError for an option that it does not take."""
        request.only("dim")
        return cls(request.name, request.number("dim") or 256)

    @property
    def dim(self) -> int:
        """The dimension d of the rows."""
        return self._dim

    def _rows(self, texts: list[str], query: bool) -> Float32[np.ndarray, "n d"]:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            told = f" {text} "
            for start in range(len(told) - 2):
                number = int.from_bytes(blake2b(told[start : start + 3].encode(), digest_size=8).digest(), "big")
                row[number % self.dim] += 1 if number >> 63 else -1
        return rows
