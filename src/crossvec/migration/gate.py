"""gate — how much of what it should a search in the migrated rows finds, with its interval: PASS, WARN or FAIL.

In    rows of the old model, the same rows translated, and where texts are known the same rows as the new model makes them
Out   Retention, and "PASS", "WARN" or "FAIL" against what was asked for
Uses  metrics
Paper nDCG: Järvelin and Kekäläinen 2002, section 2.3, with gain 1 for the k rows that the reference search finds

Two references. `re-embedding`: a query of the new model is searched among the new model's own rows, and among the translated
ones; this is what users do after the migration. `old neighbours`: a row is searched among the old rows, and its
translation among the translated ones. The latter says that the translation kept who is near whom, and not that the new
model's queries land there: a rotation to the wrong place keeps all neighbours. So it passes only where the translator's status
is `aligned`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from crossvec import metrics

__all__ = ["Gate", "Retention", "deciding", "judge", "neighbours", "retention"]

Gate = Literal["PASS", "WARN", "FAIL"]
Basis = Literal["re-embedding", "old neighbours"]
K = 10
CHUNK = 512  # queries searched at a time


@dataclass(frozen=True)
class Retention:
    """How much of the reference search's best ten a search in the translated rows finds.

    `recall` and `ndcg` at 10, each with its 95 % interval (Wilson, which is conservative for shares; bootstrap). `pool` rows
    were searched for each of `queries`. `chance` is the recall of a search that returns any rows; `identity` that of the
    old numbers taken as they are, cut or filled with zeros; `old` that of the old model's own search, which shows how much two
    models differ in what they find: no map is at fault for that. Both None where that is no question.
    """

    basis: Basis
    recall: float
    recall_interval: tuple[float, float]
    ndcg: float
    ndcg_interval: tuple[float, float]
    queries: int
    pool: int
    chance: float
    identity: float | None = None
    old: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts."""
        return {
            "recall_at_10": self.recall,
            "low": self.recall_interval[0],
            "high": self.recall_interval[1],
            "ndcg_at_10": {"value": self.ndcg, "low": self.ndcg_interval[0], "high": self.ndcg_interval[1]},
            "basis": self.basis,
            "queries": self.queries,
            "pool": self.pool,
            "controls": {"chance": self.chance, "identity": self.identity, "old_search": self.old},
        }


def neighbours(
    queries: Float32[np.ndarray, "q d"], pool: Float32[np.ndarray, "n d"], metric: str | None, own: bool, k: int = K
) -> Int[Tensor, "q k"]:
    """Return each query's k best rows of the pool, best first, by cosine, dot or euclidean.

    With `own`, query i is row i of the pool and does not find itself.
    """
    q, p = torch.from_numpy(queries), torch.from_numpy(pool)
    if metric not in ("dot", "euclidean"):
        q, p = (torch.nn.functional.normalize(rows, dim=1) for rows in (q, p))
    found = []
    half = p.square().sum(1) / 2 if metric == "euclidean" else None
    for start in range(0, len(q), CHUNK):
        scores = q[start : start + CHUNK] @ p.T
        if half is not None:
            scores -= half
        if own:
            scores[torch.arange(len(scores)), torch.arange(start, start + len(scores))] = -torch.inf
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found)


def retention(
    basis: Basis,
    reference: Int[Tensor, "q k"],
    found: Int[Tensor, "q k"],
    pool: int,
    identity: Int[Tensor, "q k"] | None = None,
    seed: int = 0,
    old: Int[Tensor, "q k"] | None = None,
) -> Retention:
    """Score what was found against what the reference search finds, all best first; `identity` and `old` are controls."""
    hits = _hits(reference, found)
    k = reference.shape[1]
    discount = 1 / torch.log2(torch.arange(k, dtype=torch.float64) + 2)
    recall = hits.double().mean(1)
    ndcg = (hits * discount).sum(1) / discount.sum()
    n = len(recall)
    bounds = metrics.bootstrap(ndcg.numpy()[:, None], seed=seed)[0]
    return Retention(
        basis,
        float(recall.mean()),
        metrics.wilson(float(recall.sum()), n),
        float(ndcg.mean()),
        (float(bounds[0]), float(bounds[1])),
        n,
        pool,
        k / pool,
        _share(reference, identity),
        _share(reference, old),
    )


def judge(it: Retention | None, least: float, trusted: bool) -> Gate:
    """Return PASS when the interval lies at or above `least`, FAIL when it lies below, WARN when nothing is sure.

    `trusted`: there is other evidence that the rows lie where the new model's do. Without it, old neighbours cannot pass.
    """
    if it is None or math.isnan(it.recall):
        return "WARN"
    low, high = it.recall_interval
    if high < least:
        return "FAIL"
    return "PASS" if low >= least and (trusted or it.basis == "re-embedding") else "WARN"


def deciding(scores: Mapping[str, Retention]) -> Retention | None:
    """Return the score that the gate goes by: against true re-embedding where it is known; None when nothing was measured."""
    return scores.get("re-embedding") or scores.get("old neighbours")


def _hits(reference: Int[Tensor, "q k"], found: Int[Tensor, "q k"]) -> Bool[Tensor, "q k"]:
    return (found[:, :, None] == reference[:, None, :]).any(-1)


def _share(reference: Int[Tensor, "q k"], control: Int[Tensor, "q k"] | None) -> float | None:
    return None if control is None else float(_hits(reference, control).double().mean())


def fitted_width(rows: Float[np.ndarray, "n d"], dim: int) -> Float32[np.ndarray, "n e"]:
    """Return rows cut, or filled with zeros, to `dim` values: the identity control."""
    filled = np.zeros((len(rows), dim), np.float32)
    filled[:, : min(dim, rows.shape[1])] = rows[:, :dim]
    return filled
