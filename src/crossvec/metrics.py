"""metrics — how well two paired clouds agree: cosines, retrieval ranks under plain and CSLS scoring, intervals.

In    queries (n, d), pool (n, d) float32   row i of one is row i of the other
Out   per-row tensors and plain numbers; an n x n matrix never exists
Uses  torch
Paper CSLS: Conneau et al. 2018, arXiv:1710.04087, section 2.3; mutual neighbours: Huh et al. 2024, arXiv:2405.07987

Conventions. Rank 1 is best. Ties are broken by a fair coin and every number is the expectation over that coin: the rank is the
middle of the tied places (mid-rank), and a hit at k among t tied rows counts for the share of tied places that are within k.
So a constant map scores exactly at chance. With one true match a row, top-k and recall@k are the same number.
FOSCTTM, the fraction of samples closer than the true match, is (mean rank - 1) / (pool - 1): 0 is perfect, 0.5 is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.errors import SpaceError

TIE = 1e-6
"""Cosines of float32 rows that differ by less cannot be told apart: the order of BLAS's sums depends on the place."""

BUDGET = 2**23
"""Similarities held at a time: 32 MiB in float32, small enough to stay near the processor."""

Found = tuple[Tensor, ...]
Over = Callable[..., Iterator[tuple[slice, Found]]]
"""What `over_blocks` is: from (find, queries, pool, step, what else find takes) to rows and what was found, in any order."""


def over_blocks(
    find: Callable[..., Found], queries: Float[Tensor, "n d"], pool: Float[Tensor, "m d"], step: int, *known: Tensor
) -> Iterator[tuple[slice, Found]]:
    """Yield rows, and what `find` makes of them, their cosines (c, m) and `known`, for blocks of `step` queries."""
    for rows, block in _blocks(queries, pool, step):
        yield rows, find(rows, block, *known)


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where each query's true match lies in the pool: how many others score above it, and how many the same."""

    above: Int[Tensor, " n"]
    tied: Int[Tensor, " n"]
    pool: int

    @property
    def mid(self) -> Float[Tensor, " n"]:
        """Return each query's mid-rank, from 1 to the size of the pool."""
        return 1 + self.above.double() + self.tied.double() / 2

    def hits(self, k: int) -> Float[Tensor, " n"]:
        """Return each query's chance, from 0 to 1, that its true match is among the best k."""
        return ((k - self.above.double()) / (1 + self.tied.double())).clamp(0, 1)

    def top(self, k: int) -> float:
        """Return the share of queries with their true match among the best k; equal to recall@k."""
        return float(self.hits(k).mean())

    @property
    def mean_rank(self) -> float:
        """Return the mean mid-rank."""
        return float(self.mid.mean())

    @property
    def foscttm(self) -> float:
        """Return the mean share of the other rows of the pool that are nearer than the true match."""
        return (self.mean_rank - 1) / (self.pool - 1)


@dataclass(frozen=True)
class BothWays:
    """The ranks of one scoring rule: `forward` from queries to pool, `backward` from pool rows to queries."""

    forward: Ranks
    backward: Ranks


@dataclass(frozen=True)
class Retrieval:
    """The ranks under plain cosine and, when asked for, under CSLS."""

    plain: BothWays
    csls: BothWays | None


def centred(rows: Float[Tensor, "n d"], mean: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """Return rows minus the mean, scaled to unit length; a row that is the mean up to float32 rounding becomes zero.

    Without the last rule the rounding error of a constant map would be blown up to a direction.
    """
    moved: Tensor = rows - mean
    lengths = moved.norm(dim=1)
    at_mean = lengths <= 1e-6 * rows.norm(dim=1)
    moved.div_(lengths[:, None])  # not geometry.unit, whose floor would shorten the rows of a space on a tiny scale
    moved[at_mean] = 0
    return moved


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the cosine of row i of a with row i of b; a zero row has cosine 0 with anything."""
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(lengths > 0, torch.einsum("nd,nd->n", a, b) / lengths, 0)


def retrieve(
    queries: Float[Tensor, "n d"],
    pool: Float[Tensor, "m d"],
    *,
    csls_neighbours: int = 10,
    chunk: int | None = None,
    over: Over = over_blocks,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> Retrieval:
    """Rank each query's true match (same row number) in the pool, and each pool row's in the queries.

    Both clouds are unit float32 rows (zero rows allowed). CSLS(q, p) = 2 cos(q, p) - r(q) - r(p), with r the mean cosine to
    the `csls_neighbours` nearest rows of the other cloud (at most all of it); 0 leaves CSLS out. `chunk` queries are scored
    at a time, `over` goes over the blocks of them, perhaps on other machines; `progress` is told the finished fraction.

    Raises SpaceError for clouds of different shapes, of fewer than two rows, or with NaN or infinite values.
    """
    n = len(queries)
    if queries.shape != pool.shape:
        raise SpaceError(
            f"queries are {tuple(queries.shape)} and the pool is {tuple(pool.shape)}", "retrieval needs pairs of rows"
        )
    if n < 2:
        raise SpaceError(f"a pool of {n} rows cannot be searched", "give at least 2 pairs, better 1,000 or more")
    for name, cloud in (("queries", queries), ("pool", pool)):
        # A NaN compares as "not above" with everything and would win every comparison.
        if not bool(torch.isfinite(cloud.sum())):
            raise SpaceError(f"the {name} have rows that are not finite", "inspect the translator's output for NaN or infinity")

    step = min(n, chunk or max(1, BUDGET // n))
    passes = 2 if csls_neighbours else 1
    radii: tuple[Tensor, ...] = ()
    if csls_neighbours:
        radii = csls_radii(queries, pool, csls_neighbours, chunk=step, over=over, progress=lambda f: progress(f / passes))
    counts = torch.zeros(passes, 2, 2, n, dtype=torch.int64, device=pool.device)  # rule; forward, backward; above, level; row
    done = 0
    for rows, found in over(_tallies, queries, pool, step, (queries * pool).sum(1), *radii):
        for rule, forward, backward in zip(counts, found[::2], found[1::2], strict=True):
            rule[0, :, rows] += forward
            rule[1] += backward
        done += rows.stop - rows.start
        progress((passes - 1 + done / n) / passes)
    # The true match is level with itself.
    ways = [BothWays(*(Ranks(above, level - above - 1, n) for above, level in rule)) for rule in counts]
    return Retrieval(ways[0], ways[1] if radii else None)


def _tallies(rows: slice, block: Float[Tensor, "c n"], own: Float[Tensor, " n"], *radii: Float[Tensor, " n"]) -> Found:
    """Count who scores above, and at least level with, the true matches: forward (2, c) and backward (2, n), rule by rule."""
    # Summed in another order its own score may differ by more than TIE, and the true match must be level with itself.
    block[:, rows].diagonal().copy_(own[rows])
    rules = [(block, block, own, own)]
    if radii:
        of_query, of_pool = radii
        # Half of CSLS, less a constant of the row that is ranked for: the order is the same and ties stay on one scale.
        rules.append((block - of_pool / 2, block - of_query[rows, None] / 2, own - of_pool / 2, own - of_query / 2))
    flags = torch.empty_like(block)

    def counted(scores: Tensor, true: Tensor, axis: int) -> Tensor:
        # Comparing into float flags and summing them is ten times faster than summing booleans; exact below 2^24 rows.
        above = torch.gt(scores, true + TIE, out=flags).sum(axis).long()
        return torch.stack([above, torch.ge(scores, true - TIE, out=flags).sum(axis).long()])

    return tuple(
        side
        for forward, backward, mine, theirs in rules
        for side in (counted(forward, mine[rows, None], 1), counted(backward, theirs, 0))
    )


def _blocks(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], step: int) -> Iterator[tuple[slice, Float[Tensor, "c m"]]]:
    """Yield a b^T in blocks of `step` rows; a block is overwritten by the next."""
    held = b.new_empty(min(step, len(a)), len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        yield rows, torch.mm(a[rows], b.T, out=held[: rows.stop - start])


def csls_radii(
    queries: Float[Tensor, "n d"],
    pool: Float[Tensor, "m d"],
    neighbours: int = 10,
    *,
    chunk: int | None = None,
    over: Over = over_blocks,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """Return the mean cosine of each query to its nearest pool rows, and of each pool row to its nearest queries.

    Both clouds are unit rows; fewer than `neighbours` rows on a side are all used.
    """
    near_pool, near_queries = min(neighbours, len(pool)), min(neighbours, len(queries))
    of_query = queries.new_empty(len(queries))
    best = pool.new_full((near_queries, len(pool)), -torch.inf)
    # Kept up to date as blocks come in. Who works elsewhere sees it as it was, and finds more than is of use.
    least = pool.new_full((len(pool),), -torch.inf)
    find = partial(_near, near_pool=near_pool, near_queries=near_queries)
    done = 0
    for rows, (means, columns, values) in over(find, queries, pool, chunk or max(1, BUDGET // len(pool)), least):
        of_query[rows] = means
        best[:, columns] = torch.cat([best[:, columns], values]).topk(near_queries, dim=0).values
        least[columns] = best[:, columns].amin(0)
        done += rows.stop - rows.start
        progress(done / len(queries))
    return of_query, best.mean(0)


def _near(rows: slice, block: Float[Tensor, "c m"], least: Float[Tensor, " m"], *, near_pool: int, near_queries: int) -> Found:
    """Return each query's mean cosine to its nearest pool rows, and which pool rows have nearer queries here, and how near."""
    # Few columns change once the first blocks are in, and sorting columns is what costs.
    columns = (block.amax(0) > least).nonzero().squeeze(1)
    values = block[:, columns].topk(min(near_queries, len(block)), dim=0).values
    return block.topk(near_pool, dim=1).values.mean(1), columns, values


def nearest_other(rows: Float[Tensor, "n d"], *, chunk: int | None = None) -> Float[Tensor, " n"]:
    """Return the cosine of each unit row to its nearest other row; 0 for a single row."""
    best = rows.new_zeros(len(rows))
    if len(rows) > 1:
        for part, block in _blocks(rows, rows, chunk or max(1, BUDGET // len(rows))):
            block[:, part].fill_diagonal_(-torch.inf)
            best[part] = block.amax(1)
    return best


def neighbour_overlap(
    a: Float[Tensor, "n da"], b: Float[Tensor, "m db"], k: int = 10, *, seed: int = 0, chunk: int | None = None
) -> Float[Tensor, " n"]:
    """Return, for each row, the share of its k nearest other rows in a that are also among those in b (unit rows).

    Its mean is the mutual k-nearest-neighbour alignment of Huh et al. 2024 (appendix A) and, with b the true vectors and a
    their translations, the recall@k of a search in translated vectors. Chance is k / (n - 1). Raises SpaceError unless n > k.
    """
    n = len(a)
    if len(b) != n or n <= k:
        raise SpaceError(f"neighbour overlap needs pairs of rows and more than k = {k} of them, got {n} and {len(b)}")
    step = chunk or max(1, BUDGET // n)
    coin = torch.Generator(a.device).manual_seed(seed)
    shared = a.new_empty(n)
    for (rows, in_a), (_, in_b) in zip(_blocks(a, a, step), _blocks(b, b, step), strict=True):
        near = []
        for block in (in_a, in_b):
            # Ties must not agree because both sides list them in one order; the order decides where rounding eats the coin.
            block += TIE * torch.rand(block.shape, generator=coin, device=a.device)
            block[:, rows].fill_diagonal_(-torch.inf)
            order = torch.randperm(n, generator=coin, device=a.device)
            near.append(order[block[:, order].topk(k, dim=1).indices])
        shared[rows] = (near[0][:, :, None] == near[1][:, None, :]).sum((1, 2)).to(a.dtype) / k
    return shared


def wilson(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share, `hits` of n (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    Shares of ties may make `hits` fractional, which leaves the interval conservative.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    values: Float[np.ndarray, "n c"], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Float[np.ndarray, "c 2"]:
    """Return the percentile bootstrap interval of each column's mean (Efron and Tibshirani 1993, chapter 13).

    Rows are drawn again together. The pool stays as it is: the interval speaks about other queries against the same pool.
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    means = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) @ values / n for _ in range(resamples)])
    bounds: np.ndarray = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return bounds
