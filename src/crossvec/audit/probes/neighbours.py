"""neighbours — find the attacker's own texts nearest to each stolen row, and what the store is about at large.

In    Stage         the reference's rows; the victim's own texts, where known, score the answer
Out   Reading       how many of the ten nearest texts are the right ones; a histogram of topics, in words of the reference
Uses  geometry, audit.scores
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Int

from crossvec.audit.inputs import centred
from crossvec.audit.ladder import Stage
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import share
from crossvec.geometry import kmeans, nearest

K = 10
TOPICS = 20
ROWS_A_TOPIC = 50  # fewer rows of the reference make fewer topics
WORDS = 6
LISTED = 5  # topics told by their words


@dataclass(frozen=True)
class Neighbours:
    """The nearest texts of the reference; right are those that are nearest under the rows' true vectors."""

    name: ClassVar[str] = "neighbours"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "medium"

    def lacks(self, stage: Stage) -> str:
        if stage.home is None:
            return "the reference's texts, to embed them with the victim's model"
        if len(stage.home) <= 2 * K:
            return f"more than {2 * K} rows of reference"
        return ""

    def measure(self, stage: Stage) -> Reading:
        if stage.home is None:
            raise ValueError("the probe lacks a reference")  # `lacks` says so first
        home = centred(stage.home)
        arms = stage.arms()
        found = {name: _nearest(rows, home) for name, rows in arms.items()}
        details = {"searched": len(home), "topics": _topics(stage, arms, home)}
        if stage.true is None:
            return Reading((), details)
        right = found["ideal"] if "ideal" in found else _nearest(centred(stage.true), home)
        m, rows = len(home), len(right)
        hits = _shared(found["attack"], right)
        # Of all pairs of rows: how many of this row's answers another row's right answers hold.
        held = np.bincount(right.ravel(), minlength=m)
        shuffled = (held[found["attack"]].sum(1) / K - hits) / max(1, rows - 1)
        blind = {"chance": np.full(rows, K / m), "shuffled": shuffled}
        seen = {"naive": float(_shared(found["naive"], right).mean()) if "naive" in found else None}
        return Reading((share(f"right among the nearest {K}", hits, blind, seen, seed=stage.seed),), details)


def _nearest(rows: Float32[np.ndarray, "s d"], home: Float32[np.ndarray, "m d"]) -> Int[np.ndarray, "s k"]:
    return nearest(torch.from_numpy(rows), torch.from_numpy(home), K)[1].numpy()


def _shared(found: Int[np.ndarray, "s k"], right: Int[np.ndarray, "s k"]) -> Any:
    return (found[:, :, None] == right[:, None, :]).any(2).mean(1)


def _topics(
    stage: Stage, arms: dict[str, Float32[np.ndarray, "s d"]], home: Float32[np.ndarray, "m d"]
) -> list[dict[str, Any]]:
    """Return the reference's clusters, those with the largest part of the store first, with their shares and words."""
    clusters = max(2, min(TOPICS, len(home) // ROWS_A_TOPIC))
    belongs, centres = kmeans(torch.from_numpy(home), clusters, torch.Generator().manual_seed(stage.seed))
    parts = {"reference": belongs.numpy()}
    for name, rows in arms.items():
        parts[name] = nearest(torch.from_numpy(rows), centres, 1)[1][:, 0].numpy()
    shares = {name: np.bincount(part, minlength=clusters) / len(part) for name, part in parts.items()}
    words = _words(stage, belongs.numpy(), clusters)
    order = np.argsort(-shares["attack"], kind="stable")
    keys = {"attack": "store", "reference": "reference", "ideal": "store_truly"}
    return [
        {"words": words[i], **{keys[name]: float(part[i]) for name, part in shares.items() if name in keys}}
        for i in order[:LISTED]
    ]


def _words(stage: Stage, belongs: Int[np.ndarray, " m"], clusters: int) -> list[list[str]]:
    """Return the words that tell each cluster of the reference from the rest, none where its texts are not known."""
    if stage.case.reference_texts is None:
        return [[] for _ in range(clusters)]
    told: Sequence[str] = stage.case.reference_texts
    counts: list[Counter[str]] = [Counter() for _ in range(clusters)]
    for cluster, row in zip(belongs, stage.home_rows, strict=True):
        counts[cluster].update(set(re.findall(r"[^\W\d_]{4,}", told[row].lower())))
    total = sum(counts, Counter())
    sizes = np.bincount(belongs, minlength=clusters)

    def weight(word: str, cluster: int) -> float:
        inside = counts[cluster][word]
        rest = (total[word] - inside + 1) / (len(belongs) - sizes[cluster] + 1)
        return inside * math.log((inside / max(1, sizes[cluster])) / rest)

    return [sorted(counts[i], key=lambda word: (-weight(word, i), word))[:WORDS] for i in range(clusters)]
