"""plan — what a fit will try, in order, and what it refuses before any work.

In    an aligner's name, rows of each side, perhaps pairs (p, 2), effort, seed, settings
Out   [Aligner]             tried one after another
Uses  aligners, space
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from crossvec.aligners import Aligner, Effort, aligner_class, create
from crossvec.errors import SettingError, SpaceError, UsageError, did_you_mean
from crossvec.space import Space

FEWEST_ROWS = 50
"""Below this no cloud has a shape that could be told from another's."""

SEEDS: dict[str, int] = {"quick": 1, "standard": 3, "thorough": 8}
"""How many seeds `auto` tries, at each effort, before it settles for the best verdict it has seen."""

FEW_PAIRS = 1000
"""Below this `auto` also learns without pairs: measured on three real encoders, a good unpaired map beats 300 pairs."""

ENOUGH_FOR_SHAPE = 1000
"""Rows of each side below which `auto` with pairs does not learn without them too: minutes, and sampling hides the shape."""

PAIRED: dict[str, tuple[str, ...]] = {
    "quick": ("procrustes", "ridge"),
    "standard": ("procrustes", "ridge"),
    "thorough": ("procrustes", "ridge", "low-rank", "mlp"),
}
"""The aligners that `auto` compares on pairs held out, at each effort."""

FEWEST_PAIRS = 10
"""Below this nothing is compared: `auto` takes Procrustes, which needs no choice and sends to zero what no pair speaks of."""

CLUSTERS, ENOUGH_FOR_CLUSTERS = 100, 10_000
"""What every second attempt of `auto` cuts each side into, and the rows of each side that third moments within them need."""


def check_pairs(pairs: Any, source: Space, target: Space) -> Int[np.ndarray, "p 2"] | None:
    """Return pairs of row numbers, the first column of the source. Raises UsageError for pairs that name no rows, or one."""
    if pairs is None:
        return None
    known = np.asarray(pairs)
    if known.ndim != 2 or known.shape[1] != 2 or known.dtype.kind not in "iu":
        raise UsageError(
            f"pairs have shape {known.shape} and type {known.dtype}", "give row numbers as integers of shape (p, 2)"
        )
    if len(known) < 2:
        raise UsageError(f"{len(known)} pair cannot fix a map", "give at least two pairs; 100 and more are worth having")
    for column, (name, space) in enumerate((("source", source), ("target", target))):
        outside = known[(known[:, column] < 0) | (known[:, column] >= len(space)), column]
        if len(outside):
            raise UsageError(f"pairs name row {outside[0]} of the {name}, which has {len(space)} rows", "count rows from 0")
    return known.astype(np.int64)


def planned(
    name: str,
    rows: tuple[int, int],
    known: Int[np.ndarray, "p 2"] | None,
    effort: Effort,
    seed: int,
    settings: Mapping[str, Any],
) -> list[Aligner]:
    """Return what to try, in order; made before any work, so that a wrong setting costs no time.

    Raises SettingError for an unknown aligner, setting or effort, UsageError for an aligner that lacks the pairs it needs.
    """
    if effort not in SEEDS:
        raise SettingError(f"there is no effort {effort!r}", did_you_mean(effort, SEEDS))
    if name != "auto":
        if getattr(aligner_class(name), "needs_pairs", False) and known is None:
            raise UsageError(f"the aligner {name} learns from known pairs", "give them with --pairs FILE, or use -a auto")
        return [_made(name, effort, seed, settings)]
    tried = []
    if known is not None:
        able = PAIRED[effort] if len(known) >= FEWEST_PAIRS else ("procrustes",)
        tried += [_made(one, effort, seed, settings) for one in able]
    if known is None or (len(known) < FEW_PAIRS and min(rows) >= ENOUGH_FOR_SHAPE):
        for number in range(SEEDS[effort]):
            # Where the whole clouds did not do, the sides may be about different things.
            other = {"clusters": CLUSTERS} if number % 2 and min(rows) >= ENOUGH_FOR_CLUSTERS else {}
            tried.append(_made("moments", effort, seed + number, {**other, **settings}))
    return tried


def check_sizes(source: Space, target: Space, known: Int[np.ndarray, "p 2"] | None, plan: list[Aligner]) -> None:
    """Raise SpaceError for spaces with too few rows for what is planned."""
    for name, space in (("source", source), ("target", target)):
        if len(space) < 2:
            rows = f"{len(space)} row{'' if len(space) == 1 else 's'}"
            raise SpaceError(f"the {name} has {rows}: that is no cloud", "give more rows; thousands are worth having")
        if known is None and len(space) < FEWEST_ROWS and plan[0].name not in ("identity", "mean"):
            raise SpaceError(
                f"the {name} has {len(space)} rows; learning without pairs needs {FEWEST_ROWS} or more, thousands to succeed",
                "give more rows, or known pairs with --pairs FILE",
            )


def _made(name: str, effort: Effort, seed: int, settings: Mapping[str, Any]) -> Aligner:
    own = set(getattr(aligner_class(name), "__dataclass_fields__", ()))
    common = {key: value for key, value in (("effort", effort), ("seed", seed)) if key in own}
    return create(name, {**common, **settings})
