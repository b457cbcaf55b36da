"""batched — what every encoder does alike: take texts a batch at a time, tell how far it is, check what the model gave.

In    texts
Out   (n, d) float32, finite
Uses  encoders

A family adds `_rows`, which sees one batch, and may choose its own batches with `_cuts`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Step, silent
from crossvec.errors import UnfinishedError, UsageError

SMALL = 1 << 20  # bytes; larger files are weights


class Batched(ABC):
    """An Encoder in the making: a name, a version, and rows of one batch."""

    batch = 256

    def __init__(self, name: str, version: str = "") -> None:
        self._name, self._version = name, version

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    @property
    def name(self) -> str:
        """What `encoders.open` was given."""
        return self._name

    @property
    def version(self) -> str:
        """What tells this model from another of the same name."""
        return self._version

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension d of the rows."""

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one row a text."""
        plain = as_texts(texts)
        return self._all(plain, self._cuts(plain), lambda batch: self._rows(batch, query), "texts", progress)

    @abstractmethod
    def _rows(self, texts: list[str], query: bool) -> Any:
        """Return the rows of one batch."""

    def _cuts(self, things: list[Any]) -> Iterator[int]:
        """Yield where each batch ends."""
        yield from range(self.batch, len(things), self.batch)
        yield len(things)

    def _all(
        self, things: list[Any], ends: Iterator[int], rows: Callable[[list[Any]], Any], what: str, progress: Step
    ) -> Float32[np.ndarray, "n d"]:
        if not things:
            progress(f"no {what}", 1.0)
            return np.empty((0, self.dim), np.float32)
        parts: list[np.ndarray] = []
        start = 0
        for end in ends:
            parts.append(self._checked(rows(things[start:end]), end - start, start, parts[0].shape[1] if parts else None))
            progress(f"{end:,} of {len(things):,} {what}", end / len(things))
            start = end
        return np.concatenate(parts)

    def _checked(self, rows: Any, n: int, start: int, dim: int | None) -> Float32[np.ndarray, "k d"]:
        x = np.ascontiguousarray(rows, dtype=np.float32)
        if x.ndim != 2 or len(x) != n or x.shape[1] != (dim or x.shape[1]):
            raise UnfinishedError(f"{self.name} gave rows of shape {x.shape} for {n} texts", "this model cannot be used")
        if not np.isfinite(x).all():
            bad = start + int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
            raise UnfinishedError(f"{self.name} gave NaN or infinity for text {bad}", "leave that text out")
        return x


def as_texts(texts: Sequence[str]) -> list[str]:
    """Return texts as a list; raises UsageError, naming the first, when one of them is no text."""
    if isinstance(texts, str):
        raise UsageError("one text was given where a list of texts is wanted", "write [text]")
    plain = list(texts)
    for number, text in enumerate(plain):
        if not isinstance(text, str):
            raise UsageError(f"text {number} is a {type(text).__name__}, not text", "convert it: str(value)")
    return plain


def fingerprint(folder: Path) -> str:
    """Return what tells a model's folder from the same folder with other content.

    Small files count by their bytes, weights by size and time of their last change: reading them again would take seconds.
    """
    told = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        size = path.stat().st_size
        told.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        told.update(path.read_bytes() if size <= SMALL else str(path.stat().st_mtime_ns).encode())
    return told.hexdigest()
