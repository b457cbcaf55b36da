"""scoring — `evaluate` with the search cut into blocks of queries, each against the whole pool, over the workers of an engine.

In    translator, source Space (n, dx), target Space (n, dy), an engine
Out   Scores               those of evaluation.evaluate, to the last rank
Uses  evaluation, metrics

The blocks are those of `metrics.retrieve`, so every product has the same shape, and the same numbers, as in one process. What
a block finds is counts and best scores of its rows and columns: they add up, whatever the order. A worker holds both clouds,
which the workers of a machine share, and a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from crossvec import evaluation
from crossvec.encoders import Step, silent
from crossvec.errors import SpaceError
from crossvec.evaluation import Scores, Translates
from crossvec.metrics import BUDGET, TIE, BothWays, Ranks, Retrieval
from crossvec.scale import Engine
from crossvec.scale.engines import session
from crossvec.space import Space

__all__ = ["evaluate", "retrieve"]

Array = Float32[np.ndarray, "n d"]


@dataclass(frozen=True, eq=False)
class Radii:
    """The first pass over a block: what its queries and the pool's rows have for nearest neighbours."""

    queries: Array
    pool: Array
    neighbours: int

    def __call__(self, rows: tuple[int, int]) -> tuple[Float32[np.ndarray, " c"], Float32[np.ndarray, "k n"]]:
        """Return each query's mean cosine to its nearest pool rows, and each pool row's best cosines within the block."""
        block = _tensor(self.queries[slice(*rows)]) @ _tensor(self.pool).T
        near = min(self.neighbours, len(self.pool))
        best = block.topk(min(near, len(block)), dim=0).values
        return block.topk(near, dim=1).values.mean(1).numpy(), best.numpy()


@dataclass(frozen=True, eq=False)
class Tallies:
    """The second pass over a block: who scores above, and level with, the true matches; by cosine and, with radii, by CSLS."""

    queries: Array
    pool: Array
    own: Float32[np.ndarray, " n"]
    radii: tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]] | None

    def __call__(self, rows: tuple[int, int]) -> list[Int64[np.ndarray, "2 s"]]:
        """Return counts above and level for every rule, of the block's queries, then of the pool's rows within the block."""
        part = slice(*rows)
        block, own = _tensor(self.queries[part]) @ _tensor(self.pool).T, _tensor(self.own)
        found = _both(block, block, own, own, part)
        if self.radii is not None:
            of_query, of_pool = map(_tensor, self.radii)
            forward, backward = block - of_pool / 2, block - of_query[part, None] / 2
            found += _both(forward, backward, own - of_pool / 2, own - of_query / 2, part)
        return found


def retrieve(
    queries: torch.Tensor,
    pool: torch.Tensor,
    *,
    engine: Engine,
    csls_neighbours: int = 10,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> Retrieval:
    """Return what `metrics.retrieve` returns of the same clouds (n, d)."""
    queries, pool, neighbours = queries.contiguous(), pool.contiguous(), csls_neighbours
    n = len(queries)
    for name, cloud in (("queries", queries), ("pool", pool)):
        if not bool(torch.isfinite(cloud.sum())):
            raise SpaceError(f"the {name} have rows that are not finite", "inspect the translator's output for NaN or infinity")
    step = min(n, max(1, BUDGET // n))
    blocks = [(start, min(start + step, n)) for start in range(0, n, step)]
    x, y = queries.numpy(), pool.numpy()
    own = torch.einsum("nd,nd->n", queries, pool).numpy()
    passes, radii = 2 if neighbours else 1, None
    if neighbours:
        of_query, best = np.empty(n, np.float32), torch.full((min(neighbours, n), n), -torch.inf)
        with closing(engine.map(Radii(x, y, neighbours), blocks)) as coming:
            for number, (rows, (mine, theirs)) in enumerate(coming, 1):
                of_query[slice(*rows)] = mine
                best = torch.cat([best, torch.from_numpy(theirs)]).topk(len(best), dim=0).values
                progress(number / len(blocks) / passes)
        radii = of_query, best.mean(0).numpy()
    counts = np.zeros((2 if radii else 1, 2, 2, n), np.int64)  # rule, side, above or level, row
    with closing(engine.map(Tallies(x, y, own, radii), blocks)) as coming:
        for number, (rows, found) in enumerate(coming, 1):
            for rule in range(len(counts)):
                counts[rule, 0, :, slice(*rows)] += found[2 * rule]
                counts[rule, 1] += found[2 * rule + 1]
            progress((passes - 1 + number / len(blocks)) / passes)
    rules = [BothWays(*(_ranks(side, n) for side in rule)) for rule in counts]
    return Retrieval(rules[0], rules[1] if radii else None)


def evaluate(
    translator: Translates, source: Space, target: Space, engine: Engine, *, k: int = 10, seed: int = 0, progress: Step = silent
) -> Scores:
    """Score a translator on pairs, as `evaluation.evaluate` does and with its result; raises what that raises."""
    with session(engine):
        search = partial(retrieve, engine=engine)
        return evaluation.evaluate(translator, source, target, k=k, seed=seed, retrieve=search, progress=progress)


def _both(
    forward: torch.Tensor, backward: torch.Tensor, own: torch.Tensor, others: torch.Tensor, part: slice
) -> list[Int64[np.ndarray, "2 s"]]:
    sides = (forward, own[part, None], 1), (backward, others, 0)
    return [
        np.stack([(block > it + TIE).sum(axis).numpy(), (block >= it - TIE).sum(axis).numpy()]) for block, it, axis in sides
    ]


def _ranks(side: Int64[np.ndarray, "2 n"], n: int) -> Ranks:
    above, at_least = map(torch.from_numpy, side)
    return Ranks(above, at_least - above - 1, n)  # the true match is level with itself


def _tensor(array: Any) -> torch.Tensor:
    """Return an array as a tensor; those that all workers of a machine share are read-only, and are only read here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
