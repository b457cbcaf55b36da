"""heldout — how well maps meet known pairs that they have not learned from, which is how `auto` chooses among aligners.

In    what learns a map from pairs; x (n, dx), y (m, dy) float32, centred, rows of unit length; pairs (p, 2)
Out   HeldOut     the geometric mean of the ranks at which partners are found, by either way of searching
Uses  geometry, metrics

Which map is best depends on who searches where. Measured between three encoders with 100 to 4,000 pairs (4 directions): a
translated row finds its partner among the target's rows at a better rank by Procrustes; a row of the target finds its own among
translated rows, as queries do after a migration, at a better rank by ridge, and finds more of its true best ten. Cosine is
no criterion: ridge has the higher one throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment
from crossvec.geometry import unit
from crossvec.metrics import Ranks

__all__ = ["Carries", "HeldOut", "held_out"]

Carries = Literal["rows", "queries", "both"]
"""What a map carries: `rows` that the target model's queries search, `queries` that search the target's rows, or both."""

FOLDS = 5
"""Each pair is held out once by a map of the others, where there are fewer than ENOUGH."""

ENOUGH = 1000
"""Pairs from which on a single fifth, JUDGED at most, is held out."""

JUDGED = 1000

POOL = 4096
"""Rows that are searched, beside those held out: ranks then tell maps apart where few pairs do not."""


@dataclass(frozen=True)
class HeldOut:
    """Geometric mean ranks of the true partner, 1 is best: of `pairs` held out, among about `pool` rows.

    `among_target`: a translated row searches the target's rows; `among_translated`: a row of the target searches translated
    rows.
    """

    among_target: float
    among_translated: float
    pairs: int
    pool: int

    def rank(self, carries: Carries) -> float:
        """Return the rank that counts for what will be carried; for both the geometric mean of the two."""
        both = math.sqrt(self.among_target * self.among_translated)
        return {"rows": self.among_translated, "queries": self.among_target, "both": both}[carries]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def held_out(
    learn: Callable[[Int[Tensor, "q 2"]], Alignment],
    x: Float[Tensor, "n dx"],
    y: Float[Tensor, "m dy"],
    pairs: Int[Tensor, "p 2"],
    *,
    seed: int = 0,
) -> HeldOut | None:
    """Rank partners under maps that have not learned from them; None for fewer than three pairs, which leave nothing out."""
    generator = torch.Generator().manual_seed(seed)
    pools = [torch.randperm(len(side), generator=generator)[:POOL].to(pairs.device) for side in (x, y)]
    logs: list[tuple[Tensor, Tensor]] = []
    sizes: list[int] = []
    for learned, judged in _splits(len(pairs), generator):
        carry, (rows_x, rows_y) = learn(pairs[learned.to(pairs.device)]).map, pairs[judged.to(pairs.device)].unbind(1)
        more_x, more_y = (pool[~torch.isin(pool, rows)] for pool, rows in zip(pools, (rows_x, rows_y), strict=True))
        mapped, truth = unit(carry(x[rows_x])), unit(y[rows_y])
        forward = _ranks(mapped, torch.cat([truth, unit(y[more_y])]))
        backward = _ranks(truth, torch.cat([mapped, unit(carry(x[more_x]))]))
        logs.append((forward.mid.log(), backward.mid.log()))
        sizes.append((forward.pool + backward.pool) // 2)
    if not logs:
        return None
    found = [float(torch.cat(side).mean().exp()) for side in zip(*logs, strict=True)]
    return HeldOut(found[0], found[1], sum(len(one) for one, _ in logs), sum(sizes) // len(sizes))


def _splits(p: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield which pairs to learn from and which to hold out; at least two are learned from."""
    order = torch.randperm(p, generator=generator)
    if p >= ENOUGH:
        held = min(p // FOLDS, JUDGED)
        yield order[held:], order[:held]
    elif p >= 3:
        fold = torch.arange(p) % min(FOLDS, p)
        yield from ((order[fold != number], order[fold == number]) for number in range(int(fold.max()) + 1))


def _ranks(queries: Float[Tensor, "q d"], pool: Float[Tensor, "r d"]) -> Ranks:
    """Return where the row of the same number lies in the pool."""
    scores = queries @ pool.T
    own = scores.diagonal()[:, None]
    return Ranks((scores > own).sum(1), (scores == own).sum(1) - 1, len(pool))
