"""storage — how values seem to have been quantised before they came here, guessed from the values alone.

In    vectors (s, d)     as stored, any dtype of a Space
Out   Storage            a guess, worded as one
Uses  NumPy
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

ROWS = 2048
"""Rows looked at: enough for each of 256 levels to show up, few enough to sort at 8,192 dimensions."""

FEWEST = 32
"""Fewer values than these lie on some even grid by accident."""


@dataclass(frozen=True)
class Storage:
    """How the values seem to have been stored: `looks_like` is a guess from the values, `levels` those of an even grid.

    `distinct` is the median number of distinct values of a dimension among `rows` rows.
    """

    dtype: str
    looks_like: str
    distinct: int
    levels: int | None
    rows: int


def guess(vectors: Shaped[np.ndarray, "s d"]) -> Storage:
    """Guess from the values how they were stored before they came here."""
    vectors = vectors[:: -(-len(vectors) // ROWS)]
    x = vectors.astype(np.float32)
    ordered = np.sort(x, axis=0)
    distinct = int(np.median(1 + (np.diff(ordered, axis=0) > 0).sum(0)))
    levels = _levels(ordered)
    by_row = _levels(np.sort(x, axis=1).T)
    dtype = str(vectors.dtype)
    if len(np.unique(x)) <= 2:
        looks = "binary: two values in all"
    elif vectors.dtype == np.int8:
        looks = "int8, as stored"
    elif by_row and not levels:
        looks = f"integers with a scale for each row ({by_row} levels)"
    elif levels:
        looks = f"integers on an even grid ({levels} levels)"
    elif distinct <= 256 and len(x) >= 1024:
        looks = "a codebook, as product quantisation leaves: at most 256 uneven values a dimension"
    elif vectors.dtype != np.float16 and (x.view(np.uint32) & 0xFFFF == 0).all():
        looks = "bfloat16, then cast"
    elif vectors.dtype != np.float16 and _is_half(x):
        looks = "float16, then cast"
    elif vectors.dtype == np.float64 and (x == vectors).all():
        looks = "float32, then cast"
    else:
        looks = f"{dtype}, no trace of quantisation"
    return Storage(dtype, looks, distinct, levels or by_row, len(x))


def _is_half(x: Float[np.ndarray, "s d"]) -> bool:
    with np.errstate(over="ignore"):
        return bool((x.astype(np.float16) == x).all())


def _levels(ordered: Float[np.ndarray, "n d"]) -> int | None:
    """Return the most levels any column uses if (nearly) all columns lie on even grids of up to 256 levels, else None."""
    if len(ordered) < FEWEST:
        return None
    gaps = np.diff(ordered.astype(np.float64), axis=0)
    span = gaps.sum(0)
    step = np.where(gaps > 0, gaps, np.inf).min(0)
    live = span > 0
    with np.errstate(invalid="ignore"):
        steps = gaps / step
    # A grid that was multiplied by a scale in float32 is even up to a part of a step, and 8 bits have at most 256 levels.
    even = (abs(steps - np.round(steps)) < 0.02).all(0) & (span / step < 255.5) & live
    if not live.any() or even.sum() < 0.9 * live.sum():
        return None
    return int(np.round((span / step)[even].max())) + 1
