"""heldout — how well maps meet known pairs that they have not learned from: what `auto` chooses by, and what is believed.

In    what learns a map from pairs; x (n, dx), y (m, dy) float32, centred, rows of unit length; pairs (p, 2)
Out   HeldOut     the geometric mean of the ranks at which partners are found, by either way of searching; whether that is near
Uses  geometry, metrics; scipy

Which map is best depends on who searches where. Measured between three encoders with 100 to 4,000 pairs (4 directions): a
translated row finds its partner among the target's rows at a better rank by Procrustes; a row of the target finds its own among
translated rows, as queries do after a migration, at a better rank by ridge, and finds more of its true best ten. Cosine is
no criterion: ridge has the higher one throughout.

Whether a map learned from pairs arrived, its Verdict cannot tell: that is made for maps which third moments found, and looks
at no pairs (docs/decisions/0006). The pairs held out tell it, on a scale of `nearness` that was measured against what the
verdict means (benchmarks/heldout.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Status
from crossvec.geometry import copies, unit
from crossvec.metrics import Ranks

__all__ = ["ARRIVED", "Carries", "HeldOut", "held_out"]

Carries = Literal["rows", "queries", "both"]
"""What a map carries: `rows` that the target model's queries search, `queries` that search the target's rows, or both."""

FOLDS = 5
"""Each pair is held out once by a map of the others, where there are fewer than ENOUGH."""

ENOUGH = 1000
"""Pairs from which on a single fifth, JUDGED at most, is held out."""

JUDGED = 1000

POOL = 4096
"""Rows that are searched, beside those held out: ranks then tell maps apart where few pairs do not."""


ARRIVED = 0.84
"""The nearness from which on a map's top-1 is above half of what all pairs would reach, which is what `aligned` means."""

SURE = 1.645
"""Deviations to either side of a nearness that leave out one time in twenty."""


@dataclass(frozen=True)
class HeldOut:
    """Geometric mean ranks of the true partner, 1 is best: of `pairs` held out, among about `pool` rows.

    `among_target`: a translated row searches the target's rows; `among_translated`: a row of the target searches translated
    rows. `low` and `high` bound the nearness, 1 where partners are found first and 0 where they are found by chance: one less
    the mean logarithm of the ranks, both ways, over what chance makes of it.
    """

    among_target: float
    among_translated: float
    pairs: int
    pool: int
    low: float
    high: float

    def rank(self, carries: Carries) -> float:
        """Return the rank that counts for what will be carried; for both the geometric mean of the two."""
        both = math.sqrt(self.among_target * self.among_translated)
        return {"rows": self.among_translated, "queries": self.among_target, "both": both}[carries]

    @property
    def status(self) -> Status:
        """Return whether the map arrived, in the Verdict's words: surely, surely not, or too few pairs to tell."""
        return "aligned" if self.low > ARRIVED else "failed" if self.high < ARRIVED else "uncertain"

    @classmethod
    def read(cls, told: Any) -> HeldOut | None:
        """Return what a card tells; None where it tells nothing, or not all of it, as cards of older versions do."""
        try:
            found = cls(**{one.name: told[one.name] for one in fields(cls)})
            numbers = [float(value) for value in asdict(found).values() if not isinstance(value, (str, bool))]
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        whole = len(numbers) == len(fields(cls)) and all(map(math.isfinite, numbers))
        return found if whole else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "status": self.status}


def held_out(
    learn: Callable[[Int[Tensor, "q 2"]], Alignment],
    x: Float[Tensor, "n dx"],
    y: Float[Tensor, "m dy"],
    pairs: Int[Tensor, "p 2"],
    *,
    seed: int = 0,
) -> HeldOut | None:
    """Rank partners under maps that have not learned from them; None for fewer than three pairs, which leave nothing out.

    Pairs that share a row, or a copy of one, are learned from or held out together, and count as one: what a map was taught is
    no evidence, and what is said twice is not said more surely.
    """
    generator = torch.Generator().manual_seed(seed)
    pools = [torch.randperm(len(side), generator=generator)[:POOL].to(pairs.device) for side in (x, y)]
    logs: list[tuple[Tensor, Tensor]] = []
    sizes: list[int] = []
    group, first = _groups(x, y, pairs)
    for learned, judged in _splits(len(first), generator):
        carry = learn(pairs[torch.isin(group, learned.to(pairs.device))]).map
        apart = pairs[torch.isin(group, judged.to(pairs.device))].unbind(1)
        rows_x, rows_y = pairs[first[judged.to(pairs.device)]].unbind(1)
        more_x, more_y = (pool[~torch.isin(pool, rows)] for pool, rows in zip(pools, apart, strict=True))
        mapped, truth = unit(carry(x[rows_x])), unit(y[rows_y])
        found = _ranks(mapped, torch.cat([truth, unit(y[more_y])])), _ranks(truth, torch.cat([mapped, unit(carry(x[more_x]))]))
        logs.append((found[0].mid.log(), found[1].mid.log()))
        # The mean of the two logarithms, as that of the ranks: one side may have far fewer rows.
        sizes.append(round(math.sqrt(found[0].pool * found[1].pool)))
    if not logs:
        return None
    forward, backward = (torch.cat(side) for side in zip(*logs, strict=True))
    pool = sum(sizes) // len(sizes)
    low, high = _nearness((forward + backward) / 2, pool)
    return HeldOut(float(forward.mean().exp()), float(backward.mean().exp()), len(forward), pool, low, high)


def _nearness(logs: Float[Tensor, " p"], pool: int) -> tuple[float, float]:
    """Return the bounds of the nearness of partners whose ranks have these logarithms."""
    chance = max(math.log(pool) - 1, 1.0)  # the mean logarithm of ranks drawn from 1 to `pool`
    # One more, found by chance, stands for pairs not seen: a few that are all found first do not yet make sure.
    near = torch.cat([1 - logs.double() / chance, logs.new_zeros(1).double()])
    slack = SURE * float(near.std()) / math.sqrt(len(near))
    return float(near.mean()) - slack, float(near.mean()) + slack


def _groups(
    x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], pairs: Int[Tensor, "p 2"]
) -> tuple[Int[Tensor, " p"], Int[Tensor, " g"]]:
    """Return the group of each pair, and the first pair of each group, in their order: other groups share no row with it."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = []
    for side, rows in zip((x, y), pairs.unbind(1), strict=True):
        once, back = np.unique(rows.cpu().numpy(), return_inverse=True)
        ends.append(copies(side[torch.from_numpy(once).to(side.device)]).cpu().numpy()[back])
    left, right = ends[0], ends[1] + ends[0].max() + 1
    size = int(right.max()) + 1
    label = connected_components(coo_matrix((np.ones(len(left)), (left, right)), (size, size)), directed=False)[1][left]
    _, first, group = np.unique(label, return_index=True, return_inverse=True)
    order = first.argsort()
    group = order.argsort()[group]
    return torch.from_numpy(group).to(pairs.device), torch.from_numpy(first[order]).to(pairs.device)


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
    """Return where the row of the same number lies in the pool, on the CPU; last where scores are no numbers."""
    scores = queries @ pool.T
    own = scores.diagonal()[:, None]
    return Ranks((~(scores <= own)).sum(1).cpu(), ((scores == own).sum(1) - 1).cpu().clamp_min(0), len(pool))
