"""inversion — contract, table and door: engines that look for the texts behind rows, with nothing learned from the rows.

In    targets (s, d)      unit directions of the stolen rows from their own mean, in the space of a model the attacker has
Out   texts               one a row, the best that was found when the budget was spent
Uses  encoders, audit.inputs
Paper zero-shot inversion, a text is proposed and the cosine under a known model selects: Zhang et al. 2025, arXiv:2504.00147

Each sibling engine is a frozen dataclass of settings. It sees the targets and what the attacker has, which is `Known`: it never
sees the victim's texts. Directions and not rows are compared, because translated rows are told apart from each other by little
beside the mean that they share.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from crossvec.audit.inputs import centred
from crossvec.encoders import Around, Encoder, Step, silent
from crossvec.errors import UsageError, did_you_mean
from crossvec.geometry import TINY

__all__ = ["ENGINES", "Budget", "Inverter", "Known", "Targets", "create"]

Targets = Float32[np.ndarray, "s d"]

MOST_TEXTS = 20_000
"""Texts of the reference that an attack looks through at most."""

TRIED = 100  # rows of the reference that are spoilt on purpose, to learn how near a spoilt row still comes
NEAR = 5
GRID = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])


@dataclass
class Budget:
    """Seconds that an engine may spend, counted from now; parts of them can be set aside."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Return the seconds left, 0 where there are none."""
        return max(0.0, self.seconds - (time.monotonic() - self.started))

    @property
    def spent(self) -> bool:
        """Tell whether nothing is left."""
        return self.left <= 0

    def part(self, share: float) -> Budget:
        """Return a budget of a share of what is left."""
        return Budget(self.left * share)


@dataclass(frozen=True, eq=False)
class Known:
    """What the attacker has in the space in which it reads: a model, and texts of its own with their rows.

    `texts` (m) and `near` (m, d), the unit directions of their rows from `mean` (d), the mean of rows of unit length; `spread`
    is how far such rows lie from it. Without texts of its own the attacker takes mean and spread from the stolen rows.
    """

    encoder: Encoder
    texts: Sequence[str]
    near: Float32[np.ndarray, "m d"]
    mean: Float32[np.ndarray, " d"]
    spread: float

    @classmethod
    def of(cls, encoder: Encoder, rows: Float32[np.ndarray, "r d"], texts: Sequence[str] | None = None, seed: int = 0) -> Known:
        """Return what is known from rows (r, d) of `texts`, or from the stolen rows where there are no texts.

        At most MOST_TEXTS are kept, drawn by seed; blank ones are not.
        """
        # A guess is no text to be remembered, in memory or on disk.
        while isinstance(encoder, Around):
            encoder = encoder.encoder
        unit = centred(rows, 0.0)
        told = [i for i, text in enumerate(texts or ()) if text.strip()]
        kept = np.sort(np.random.default_rng(seed).permutation(np.array(told, np.int64))[:MOST_TEXTS])
        mean = unit.mean(0)
        spread = float(np.linalg.norm(unit - mean, axis=1).mean())
        return cls(encoder, [texts[i] for i in kept] if texts else [], centred(unit[kept], mean), mean, max(spread, TINY))

    def directions(self, texts: Sequence[str]) -> Float32[np.ndarray, "k d"]:
        """Return where texts lie as unit directions from the mean; a text in which the model knows nothing is a zero row."""
        rows = np.asarray(self.encoder.encode(list(texts)), np.float32)
        seen = np.linalg.norm(rows, axis=1, keepdims=True) > 0
        directions: np.ndarray = centred(centred(rows, 0.0), self.mean) * seen
        return directions

    def nearest(self, targets: Targets, k: int) -> tuple[Float[np.ndarray, "s k"], Int[np.ndarray, "s k"]]:
        """Return cosine and number of the k texts nearest to each target, nearest first; fewer where there are fewer."""
        k = min(k, len(self.texts))
        cosines = targets @ self.near.T
        found = np.argpartition(-cosines, k - 1, axis=1)[:, :k] if k else np.empty((len(targets), 0), np.int64)
        values = np.take_along_axis(cosines, found, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, 1), np.take_along_axis(found, order, 1)

    def fidelity(self, targets: Targets, seed: int) -> float:
        """Return how well the targets' directions are believed to agree with the true ones, as a cosine.

        Known to no attacker, so it is guessed: rows of the reference are spoilt with noise of the reference's own covariance
        until they lie as far from their nearest texts as the targets do. The highest of the grid where there are too few texts.
        """
        if len(self.texts) < 2 * NEAR or not len(targets):
            return float(GRID[-1])
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(len(self.near))[:TRIED]
        weights = rng.standard_normal((len(drawn), len(self.near))).astype(np.float32)
        noise = centred(weights @ self.near / len(self.near) ** 0.5, 0.0)
        curve = []
        for cosine in GRID:
            spoilt = centred((cosine * self.near[drawn] + (1 - cosine**2) ** 0.5 * noise).astype(np.float32), 0.0)
            cosines = spoilt @ self.near.T
            cosines[np.arange(len(drawn)), drawn] = -1  # its own row is no other text
            curve.append(float(np.partition(cosines, -NEAR, axis=1)[:, -NEAR:].mean()))
        return float(np.interp(self.nearest(targets, NEAR)[0].mean(), np.maximum.accumulate(curve), GRID))

    @cached_property
    def usual_length(self) -> int:
        """Return how many words a text of the reference has: the median, 20 where there are no texts."""
        return round(float(np.median([len(text.split()) for text in self.texts]))) if self.texts else 20


@runtime_checkable
class Inverter(Protocol):
    """A frozen dataclass of settings with two methods. The same seed gives the same texts where the budget was enough."""

    name: ClassVar[str]

    def lacks(self, known: Known) -> str:
        """Return what is missing to run, as words that follow "needs"; "" when nothing is."""
        ...

    def invert(self, targets: Targets, known: Known, *, budget: Budget, seed: int = 0, progress: Step = silent) -> list[str]:
        """Return one text for each target; "" where nothing was found.

        Asked for none it gets ready: what all rows share, a table or a model, is made then, and takes no row's time.
        """
        ...


ENGINES: dict[str, str] = {
    "static": "crossvec.audit.inversion.static:Static",
    "retrieval": "crossvec.audit.inversion.retrieval:Retrieval",
    "language": "crossvec.audit.inversion.language:Language",
}
"""Engines by name, in the order they are told."""


def create(name: str, **settings: Any) -> Inverter:
    """Return an engine with these settings; raises UsageError with the nearest name when there is none."""
    if name not in ENGINES:
        raise UsageError(f"there is no engine of inversion {name!r}", did_you_mean(name, ENGINES))
    module, attribute = ENGINES[name].split(":")
    return cast(Inverter, getattr(import_module(module), attribute)(**settings))
