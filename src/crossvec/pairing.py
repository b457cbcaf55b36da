"""pairing — which row of one space is the same thing as which row of another, also after bad rows were left out.

In    Space (n, dx), Space (n, dy)     row i of both was the same thing in the places they come from
Out   row numbers (p, 2), or both spaces cut to their pairs
Uses  space
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from crossvec.errors import SpaceError
from crossvec.space import Space, python_values

__all__ = ["joined", "partners", "places", "same_ids", "two_ids"]


def places(space: Space) -> Int64[np.ndarray, " n"]:
    """Return where each row stood before bad rows were left out: 0 to n - 1 when none were.

    Raises SpaceError where rows were left out of numbers that do not rise, or of a space that was cut afterwards, because
    nothing then tells their places.
    """
    if space.torn:
        raise SpaceError(
            f"bad rows were left out of {space.name or 'a space'} before it was cut, so nothing tells which rows are pairs",
            "cut the rows first and leave bad ones out then, or cut after crossvec.pairing.joined",
        )
    if not space.dropped:
        return np.arange(len(space))
    kept, dropped = (np.asarray(numbers, dtype=np.int64) for numbers in (space.numbers, space.dropped))
    if (np.diff(kept) <= 0).any() or (np.diff(dropped) <= 0).any():
        raise SpaceError(
            f"{len(dropped):,} bad rows were left out of {space.name or 'a space'}, and its row numbers do not tell where",
            "give rows whose numbers rise, or leave the partners of bad rows out first",
        )
    return np.searchsorted(np.sort(np.concatenate([kept, dropped])), kept)


def partners(a: Space, b: Space) -> Int64[np.ndarray, "p 2"]:
    """Return the rows that are pairs: row [i, 0] of a stood where row [i, 1] of b stood, and neither was left out as bad.

    Raises SpaceError for spaces of different sizes, bad rows counted, and for the same ids in another order.
    """
    sizes = [_size(side) for side in (a, b)]
    if sizes[0] != sizes[1]:
        raise SpaceError(
            f"the source has {sizes[0]:,} rows and the target {sizes[1]:,}: they cannot be pairs, row i the same thing in both",
            f"cut both to the same rows, for example ?rows=0:{min(sizes)}",
        )
    pairs = _matched(a, b)
    one, other = _ids(a, b, pairs)
    if one != other and set(one) == set(other):
        raise SpaceError("source and target have the same ids in another order", "sort the rows of both by id")
    return pairs


def joined(a: Space, b: Space) -> tuple[Space, Space, int]:
    """Return both spaces without the rows whose partner was left out as bad, and how many pairs that and bad rows cost.

    Raises what `partners` raises.
    """
    pairs = partners(a, b)
    lost = _size(a) - len(pairs)
    if not lost:
        return a, b, 0
    # Made anew: what was cut so holds nothing but pairs, and may be cut again.
    return replace(a.take(pairs[:, 0])), replace(b.take(pairs[:, 1])), lost


def same_ids(a: Space, b: Space) -> bool:
    """Tell whether both spaces have ids, and the same in the same order where neither lacks a bad row."""
    if a.ids is None or b.ids is None or _size(a) != _size(b):
        return False
    one, other = _ids(a, b, _matched(a, b))
    return one == other


def two_ids(a: Space, b: Space) -> list[tuple[int | str, int | str]]:
    """Return the two ids of each pair that has two, of spaces as `joined` gives them; nothing where a side has no ids."""
    every = np.arange(len(a))
    return [(one, other) for one, other in zip(*_ids(a, b, np.stack([every, every], axis=1)), strict=True) if one != other]


def _size(space: Space) -> int:
    return len(space) + len(space.dropped)


def _matched(a: Space, b: Space) -> Int64[np.ndarray, "p 2"]:
    _, one, other = np.intersect1d(places(a), places(b), assume_unique=True, return_indices=True)
    return np.stack([one, other], axis=1)


def _ids(a: Space, b: Space, pairs: Int64[np.ndarray, "p 2"]) -> tuple[list[int | str], list[int | str]]:
    """Return the ids of pairs; nothing where a side has none."""
    if a.ids is None or b.ids is None:
        return [], []
    one, other = python_values(a.ids), python_values(b.ids)
    return [one[row] for row in pairs[:, 0]], [other[row] for row in pairs[:, 1]]
