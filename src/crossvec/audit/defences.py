"""defences — what an owner may do to vectors before they are stored: blur, shorten, or carry away by a secret key.

In    rows (n, d) float32, a seed that stands for the key or the noise
Out   rows (n, e) float32 as they would be stored, read back
Uses  numpy; scipy for product quantisation
Paper scale-and-perturb: Fuchsbauer et al. 2021, IACR 2021/1666, section 3; product quantisation: Jégou et al. 2011, section II

Sizes are relative to the mean length of rows, so that one strength means the same for unit rows and for longer ones. A keyed
defence keeps neighbours by moving all rows alike; whoever has the key undoes it, and an audit asks whether others need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from crossvec.errors import UsageError, did_you_mean

__all__ = ["DEFENCES", "KEYED", "STANDARD", "Defence", "named"]

Rows = Float32[np.ndarray, "n d"]
CODES = 256
ROWS_A_CODE = 20  # fewer rows to learn from make fewer codes
LEARNED_FROM = 20_000


@dataclass(frozen=True)
class Defence:
    """One defence at one strength; `strength` means what DEFENCES says, and is None for one that has none."""

    kind: str
    strength: float | None = None

    @property
    def name(self) -> str:
        """Return what `named` takes."""
        return self.kind if self.strength is None else f"{self.kind}:{self.strength:g}"

    @property
    def keyed(self) -> bool:
        """Tell whether its protection rests on a key."""
        return self.kind in KEYED

    def apply(self, rows: Rows, seed: int = 0) -> Float32[np.ndarray, "n e"]:
        """Return the rows as they would be stored; the seed is the key, and where there is none the noise."""
        made = DEFENCES[self.kind][0](rows, self.strength or 0.0, np.random.default_rng(seed))
        return np.ascontiguousarray(made, np.float32)


def named(name: str) -> Defence:
    """Return the defence that "noise:0.01" or "rotate" names; raises UsageError with the nearest right name."""
    kind, _, strength = name.partition(":")
    if kind not in DEFENCES:
        raise UsageError(f"there is no defence {kind!r}", did_you_mean(kind, DEFENCES))
    default, what = DEFENCES[kind][1:]
    if default is None:
        if strength:
            raise UsageError(f"the defence {kind} has no strength", f"write {kind}")
        return Defence(kind)
    try:
        value = float(strength or default)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf") or (kind == "truncate" and value > 1) or (kind == "pq" and value != int(value)):
        raise UsageError(f"the strength of {kind} cannot be {strength}", f"{what}; such as {kind}:{default:g}")
    return Defence(kind, value)


def _size(rows: Rows) -> float:
    return float(np.linalg.norm(rows, axis=1).mean())


def _as_long(rows: Float32[np.ndarray, "n e"], like: Rows) -> Float32[np.ndarray, "n e"]:
    """Return rows with the lengths that others have: a search by cosine or by dot product then finds the same."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: np.ndarray = rows * (np.linalg.norm(like, axis=1, keepdims=True) / np.maximum(lengths, 1e-12))
    return made


def _none(rows: Rows, _strength: float, _rng: np.random.Generator) -> Rows:
    return rows


def _noise(rows: Rows, sigma: float, rng: np.random.Generator) -> Rows:
    return _as_long(rows + sigma * _size(rows) * rng.standard_normal(rows.shape, np.float32), rows)


def _int8(rows: Rows, _strength: float, _rng: np.random.Generator) -> Rows:
    step = np.maximum(np.abs(rows).max(0), 1e-12) / 127
    made: Rows = np.rint(rows / step) * step
    return made


def _binary(rows: Rows, _strength: float, _rng: np.random.Generator) -> Rows:
    return np.where(rows > 0, np.float32(1), np.float32(-1))


def _pq(rows: Rows, together: float, rng: np.random.Generator) -> Rows:
    from scipy.cluster.vq import kmeans2, vq

    learned = rows[rng.permutation(len(rows))[:LEARNED_FROM]]
    codes = max(2, min(CODES, len(learned) // ROWS_A_CODE))
    made = np.empty_like(rows)
    for start in range(0, rows.shape[1], int(together)):
        part = slice(start, start + int(together))
        book, _ = kmeans2(learned[:, part].astype(np.float64), codes, iter=10, minit="points", seed=rng)
        made[:, part] = book[vq(rows[:, part].astype(np.float64), book)[0]]
    return made


def _truncate(rows: Rows, share: float, _rng: np.random.Generator) -> Float32[np.ndarray, "n e"]:
    kept = rows[:, : max(2, round(share * rows.shape[1]))]
    return _as_long(kept, rows)


def _demean(rows: Rows, _strength: float, _rng: np.random.Generator) -> Rows:
    return _as_long(rows - rows.mean(0), rows)


def _rotate(rows: Rows, _strength: float, rng: np.random.Generator) -> Rows:
    q, r = np.linalg.qr(rng.standard_normal((rows.shape[1],) * 2))
    made: Rows = rows @ (q * np.sign(np.diag(r))).astype(np.float32)  # the signs make it uniform over all rotations
    return made


def _permute(rows: Rows, _strength: float, rng: np.random.Generator) -> Rows:
    return rows[:, rng.permutation(rows.shape[1])]


def _scale_and_perturb(rows: Rows, beta: float, rng: np.random.Generator) -> Rows:
    """Scale by a secret factor, shuffle coordinates by a secret order, and move each row within a ball."""
    n, d = rows.shape
    factor = rng.uniform(1, 10)
    away = rng.standard_normal((n, d), np.float32)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    radius = factor * beta / 4 * _size(rows) * rng.uniform(size=(n, 1)) ** (1 / d)
    made: Rows = factor * rows[:, rng.permutation(d)] + radius.astype(np.float32) * away
    return made


Applied = Callable[[Rows, float, np.random.Generator], Float32[np.ndarray, "n e"]]

DEFENCES: dict[str, tuple[Applied, float | None, str]] = {
    "none": (_none, None, ""),
    "noise": (_noise, 0.01, "Gaussian noise on each coordinate, in lengths of a row"),
    "int8": (_int8, None, ""),
    "binary": (_binary, None, ""),
    "pq": (_pq, 4, "coordinates that share a code of a byte"),
    "truncate": (_truncate, 0.5, "the share of the coordinates that is kept, from above 0 to 1"),
    "demean": (_demean, None, ""),
    "rotate": (_rotate, None, ""),
    "permute": (_permute, None, ""),
    "scale-and-perturb": (_scale_and_perturb, 2.5, "beta: a row moves by up to a quarter of it, in lengths of a row"),
}
"""What each does, its strength unless one is named (None: it has none), and what the strength means."""

KEYED = ("rotate", "permute", "scale-and-perturb")

STANDARD = tuple(
    map(
        named,
        (
            "none noise:0.01 noise:0.05 int8 binary pq:4 truncate:0.5 demean rotate permute "
            "scale-and-perturb:1.1 scale-and-perturb:2.5 scale-and-perturb:7.2"
        ).split(),
    )
)
"""What is compared unless defences are named: the strengths are those that products and papers use."""
