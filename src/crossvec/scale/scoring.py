"""scoring — `evaluate` with the search cut into blocks of queries, each against the whole pool, over the workers of an engine.

In    translator, source Space (n, dx), target Space (n, dy), an engine
Out   Scores               those of evaluation.evaluate, to the last rank
Uses  evaluation, metrics

The blocks are those of `metrics.retrieve`, so every product has the same shape, and the same numbers, as in one process. What
a block finds is counts and best scores of its rows and columns: they add up, whatever the order. A worker holds both clouds,
which the workers of a machine share, and a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32

from crossvec import evaluation, metrics
from crossvec.encoders import Step, silent
from crossvec.evaluation import Scores, Translates
from crossvec.geometry import only_read
from crossvec.scale import Engine
from crossvec.scale.engines import session
from crossvec.space import Space

__all__ = ["evaluate"]

Array = Float32[np.ndarray, "n d"]


def evaluate(
    translator: Translates, source: Space, target: Space, engine: Engine, *, k: int = 10, seed: int = 0, progress: Step = silent
) -> Scores:
    """Score a translator on pairs, as `evaluation.evaluate` does and with its result; raises what that raises."""
    with session(engine):
        search = partial(metrics.retrieve, over=partial(over_workers, engine))
        return evaluation.evaluate(translator, source, target, k=k, seed=seed, retrieve=search, progress=progress)


def over_workers(
    engine: Engine,
    find: Callable[..., metrics.Found],
    queries: torch.Tensor,
    pool: torch.Tensor,
    step: int,
    *known: torch.Tensor,
) -> Iterator[tuple[slice, metrics.Found]]:
    """Yield what `metrics.over_blocks` yields, in the order in which the engine's workers end."""
    blocks = [(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]
    x, y = queries.contiguous().numpy(), pool.contiguous().numpy()
    task = _Block(find, x, y, tuple(each.numpy() for each in known))
    with closing(engine.map(task, blocks)) as coming:
        for rows, found in coming:
            yield slice(*rows), tuple(map(only_read, found))


@dataclass(frozen=True, eq=False)
class _Block:
    """What is done with a block of queries. It holds arrays, since those are what the workers of a machine share."""

    find: Callable[..., metrics.Found]
    queries: Array
    pool: Array
    known: tuple[np.ndarray, ...]

    def __call__(self, rows: tuple[int, int]) -> tuple[np.ndarray, ...]:
        part = slice(*rows)
        block = only_read(self.queries[part]) @ only_read(self.pool).T
        return tuple(each.numpy() for each in self.find(part, block, *map(only_read, self.known)))
