"""feasibility — can a fit without pairs find its way between two spaces? Answered by trying, on their third moments alone.

In    Space (n, da), Space (m, db)
Out   Feasibility      how much of the third moments sampling lets anybody see, how well they can be made to agree, and two
                       trials of known outcome: columns shuffled (nothing to find) and halves of one space (all to be found)
Uses  space, shape, aligners.search

A space against a rotated disjoint half of itself is the easiest task there is with these rows: where that fails, two different
models fail too. A rotated cloud has the same principal axes up to sign, so the rotation is a draw of signs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from crossvec.aligners import Step, silent
from crossvec.aligners.search import Found, search
from crossvec.diagnostics.shape import WIDEST, rows_of
from crossvec.geometry import TINY, principal_axes, third_moment, unit
from crossvec.space import Space

AXES = 64
"""Principal axes that are searched: those that unpaired fits get right first, and a second of CPU a search."""

STARTS, KEPT, KICKS = 512, 4, 2
DAMPING = 0.5

ROOM = 0.1
"""With less between nothing and everything, sampling hides which of them it is."""

MOST_ROWS = 50_000
MOST_VALUES = 2**26  # of one side in memory: 256 MiB


@dataclass(frozen=True)
class Feasibility:
    """What a short search on the third moments of two spaces finds, beside what it can and what it must not find.

    `rows` were looked at of the spaces `a` and `b`, on `axes` principal axes of each. `reliability` is the cosine of the third
    moments of two halves of one space: what sampling leaves of them, 0 for noise. `agreement` is the best cosine of the two
    spaces' third moments over the rotations tried, and `agreement_null` the same with the coordinates of b shuffled apart,
    which leaves nothing to find. `share` is how far the one lies above the other, where 1 is as far as the reliabilities let
    two views of one thing go; None where they leave hardly any room. `recovered` says how much of a space a search finds again
    in a rotated disjoint half of it: the mean cosine of rows to where the map found puts them, 1 for all and 0 for nothing. A
    half has half of the rows, so a fit has it easier.
    """

    rows: dict[str, int]
    axes: int
    reliability: dict[str, float]
    agreement: float
    agreement_null: float
    share: float | None
    recovered: dict[str, float]


def feasibility(a: Space, b: Space, *, seed: int = 0, progress: Step = silent) -> Feasibility:
    """Try a short search between two spaces, and the two trials of known outcome; samples of at most 50,000 rows a side.

    The same seed gives the same answer. Raises SpaceError for rows that are not finite.
    """
    generator = Generator().manual_seed(seed)
    clouds = [_directions(side.sample(min(MOST_ROWS, MOST_VALUES // side.dim), seed)) for side in (a, b)]
    axes = min(AXES, a.dim, b.dim, min(map(len, clouds)) // 2 - 1)  # half of a space has no more
    recovered = []
    for number, cloud in enumerate(clouds):
        progress("looking for a space in its own rotated half", 0.4 * number)
        recovered.append(_recovered(cloud, axes, generator))
    progress("searching for agreement of third moments", 0.8)
    x, y = (cloud @ _axes(cloud, axes) for cloud in clouds)
    best = _search(x, y, generator)
    progress("searching where there is nothing to find", 0.9)
    apart = torch.stack([column[torch.randperm(len(y), generator=generator)] for column in y.T], dim=1)
    nothing = _search(x, apart, generator)
    progress("searched", 1.0)
    reliable = _reliability(x), _reliability(y)
    # A half knows r of what another half knows, so the whole knows 2 r / (1 + r) (Spearman 1910, Brown 1910).
    known = [max(0.0, 2 * r / (1 + r)) if r > -1 else 0.0 for r in reliable]
    room = math.sqrt(known[0] * known[1]) - nothing.objective
    return Feasibility(
        rows=dict(zip("ab", map(len, clouds), strict=True)),
        axes=axes,
        reliability=dict(zip("ab", reliable, strict=True)),
        agreement=best.objective,
        agreement_null=nothing.objective,
        share=min(1.0, max(0.0, (best.objective - nothing.objective) / room)) if room > ROOM else None,
        recovered=dict(zip("ab", recovered, strict=True)),
    )


def _directions(space: Space) -> Float[Tensor, "n d"]:
    rows = rows_of(space)
    return unit(rows - rows.mean(0))


def _axes(rows: Float[Tensor, "n d"], count: int) -> Float[Tensor, "d c"]:
    """Return the first principal axes; of a very wide cloud by way of the Gram matrix of some of its rows."""
    if rows.shape[1] <= WIDEST:
        return principal_axes(rows)[0][:, :count]
    some = rows[:: -(-len(rows) // WIDEST)]
    axes: Tensor = torch.linalg.qr(some.T @ principal_axes(some.T)[0][:, :count]).Q
    return axes


def _search(x: Float[Tensor, "n k"], y: Float[Tensor, "m k"], generator: Generator) -> Found:
    return search(
        x,
        y,
        starts=STARTS,
        keep=KEPT,
        kicks=KICKS,
        axes=AXES,
        damping=DAMPING,
        generator=generator,
        progress=silent,
    )


def _recovered(rows: Float[Tensor, "n d"], count: int, generator: Generator) -> float:
    """Search between a space and a rotated disjoint half of itself, and compare with the rotation that is known."""
    order = torch.randperm(len(rows), generator=generator)
    one, other = rows[order[::2]], rows[order[1::2]]
    signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    here, there = _axes(one, count), _axes(other, count) * signs
    z = one @ here
    found = _search(z, other @ there, generator)
    return float(cosine_similarity(z @ found.map, one @ there).mean())


def _reliability(z: Float[Tensor, "n k"]) -> float:
    scale = z.square().mean(0).clamp_min(TINY**2) ** (DAMPING / 2)
    one, other = (third_moment(half / scale) for half in (z[::2], z[1::2]))
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(TINY**2))
