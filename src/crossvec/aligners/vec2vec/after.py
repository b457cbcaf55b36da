"""after — vec2vec after a linear map that is known to be good: where it starts, and whether it is worth keeping.

In    x (n, dx), y (m, dy)  centred unit rows; the linear map's Alignment, and the network's
Out   rotation()            the rotation nearest to a map, which training can start at
      helps()               whether the second is better by what can be seen without pairs
Uses  geometry, aligners.vec2vec.health

The two questions of the score go different ways here: training brings rows nearer to their partners, and a linear map that is
learned to rank loses less to hubs. So more is asked than a higher score: no fewer rows may meet than before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Alignment, Linear
from crossvec.aligners.vec2vec.health import SAMPLE, label_free, met
from crossvec.geometry import polar

LOOKS = 2
"""Samples, with no row in common, that must all agree."""


def rotation(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment) -> Alignment:
    """Return the semi-orthogonal map nearest to an alignment's maps both ways, with its transpose as the way back."""
    there, back = alignment.map(x), alignment.inverse(y)
    w = polar(x.T @ (there - there.mean(0)) / len(x) + (back - back.mean(0)).T @ y / len(y))
    return Alignment(Linear.of(w), Linear.of(w.T.contiguous()))


def seen(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment, *, seed: int) -> list[dict[str, float]]:
    """Return `score` (see health.label_free) and `meeting` (the share of rows that meet), means over both ways, by sample."""
    generator = torch.Generator().manual_seed(seed)
    rows = [cloud[torch.randperm(len(cloud), generator=generator).to(cloud.device)] for cloud in (x, y)]
    size = min(SAMPLE, min(map(len, rows)) // LOOKS)
    found = []
    for start in range(0, LOOKS * size, size):
        a, b = (cloud[start : start + size] for cloud in rows)
        ways: list[tuple[Tensor, Tensor]] = [(alignment.map(a), b), (alignment.inverse(b), a)]
        found.append({"score": _mean(label_free, ways), "meeting": _mean(lambda p, q: met(p, q)[0], ways)})
    return found


def helps(before: list[dict[str, float]], after: list[dict[str, float]]) -> bool:
    """Return whether, in every sample, the score is higher and no fewer rows meet."""
    return all(b["score"] > a["score"] and b["meeting"] >= a["meeting"] for a, b in zip(before, after, strict=True))


def _mean(measure: Callable[[Tensor, Tensor], float], ways: list[tuple[Tensor, Tensor]]) -> float:
    return sum(measure(p, q) for p, q in ways) / len(ways)
