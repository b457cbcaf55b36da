"""plan — what a migration would do, measured on a sample, before anything is written.

In    Store, Store, a Translator or what one is learned from
Out   Plan: rows, dims, disk, time, what changes and what is kept, doubts, the retention to expect, what would raise it
Uses  migration.reading, .origin, .learning, .gate; stores
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from crossvec.migration.gate import Gate, Retention, deciding, fitted_width, judge, neighbours, retention
from crossvec.migration.learning import FEWEST, Truth
from crossvec.migration.reading import Sample
from crossvec.stores import Description
from crossvec.stores.collection import Collection
from crossvec.stores.turns import Turn
from crossvec.translator import Translator

__all__ = ["Plan", "Probe", "estimate"]


@dataclass(frozen=True, eq=False)
class Probe:
    """What retention is measured with: rows of the source, some also as the new model makes them, perhaps queries.

    `old_queries` (q, dx) are of the old model, `new_queries` (p, dy) of the new one. `metrics` are those of source and
    destination.
    """

    sample: Sample
    truth: Truth | None
    metrics: tuple[str | None, str | None]
    old_queries: Float32[np.ndarray, "q dx"] | None = None
    new_queries: Float32[np.ndarray, "p dy"] | None = None
    seed: int = 0

    def score(
        self, translator: Translator, rows: Float32[np.ndarray, "n dy"], there: Bool[np.ndarray, " n"]
    ) -> dict[str, Retention]:
        """Measure retention in `rows`, the sample's translations, as far as they are `there`; empty where too few are."""
        scores = {}
        old, new = self.metrics
        if int(there.sum()) >= FEWEST:
            before, after = self.sample.vectors[there], rows[there]
            own = self.old_queries is None
            asked = before if self.old_queries is None else self.old_queries
            carried = after if self.old_queries is None else translator.translate(self.old_queries)
            one, other = neighbours(asked, before, old, own), neighbours(carried, after, new, own)
            scores["old neighbours"] = retention("old neighbours", one, other, len(before), seed=self.seed)
        if self.truth is not None:
            truth = self.truth.take(np.flatnonzero(there[self.truth.at]))
            if len(truth) >= FEWEST:
                own = self.new_queries is None
                asked = truth.vectors if self.new_queries is None else self.new_queries
                pools = truth.vectors, rows[truth.at], fitted_width(self.sample.vectors[truth.at], truth.vectors.shape[1])
                best, found, copied = (neighbours(asked, pool, new, own) for pool in pools)
                before = self.sample.vectors[truth.at]
                by_old = neighbours(before, before, old, own) if own else None  # queries of the new model mean nothing to it
                scores["re-embedding"] = retention("re-embedding", best, found, len(truth), copied, self.seed, by_old)
        return scores


@dataclass(frozen=True, eq=False)
class Plan:
    """What a migration would do.

    `seconds` holds what was measured on the sample: reading and translating all rows; how fast the destination writes is not
    known before it does. `bytes` are those of vectors and payload, without the destination's indexes. `worth`: the retention
    that numbers of pairs reach on rows held out. `doubts` speak against the rows being the translator's; `notes` do not.
    `vector` is the one that was asked for of a row that has several. `switch`: which names change when the gate passes, None
    when nobody asked for that.
    """

    source: Description
    dest: str
    dest_metric: str | None
    translator: Translator
    probe: Probe
    seconds: dict[str, float]
    bytes: int
    scores: dict[str, Retention]
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    worth: tuple[tuple[int, Retention], ...] = ()
    pairs: int = 0
    resumes: int = 0
    vector: str = ""
    switch: Turn | None = None

    @property
    def expected(self) -> Retention | None:
        """The retention that decides: against true re-embedding where it is known."""
        return deciding(self.scores)

    @property
    def trusted(self) -> bool:
        """Whether the translator's status is `aligned` and nothing speaks against it."""
        return self.translator.status == "aligned" and not self.doubts

    def gate(self, least: float) -> Gate:
        """Return the gate to expect."""
        return judge(self.expected, least, self.trusted)

    @property
    def changes(self) -> dict[str, str]:
        """What will be different afterwards, and what stays."""
        source, target = self.source, self.translator.target
        lengths = "as the new model gives them" if target.norm is None else f"all {target.norm:.3g}"
        old, new = source.metric, self.dest_metric
        return {
            "dimensions": f"{source.dim:,} -> {target.dim:,}",
            "metric": f"{old or 'none told'} -> {new or 'none told'}" if old != new else f"{old or 'none told'}, as before",
            "lengths of rows": lengths + (", scaled to 1 by the source" if source.normalised else ""),
            "ids": "the same" if source.ids else "the rows' numbers: the source has none",
            "payload": ", ".join(source.payload) or "none",
            "other vectors": ", ".join(name for name in source.named if name != self.vector) or "none",
            "scores": "another model's: thresholds on similarity must be set anew",
            **({"names": f"when the gate says PASS, {self.switch.how}"} if self.switch else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        verdict = self.translator.verdict
        return {
            "source": self.source.url,
            "dest": self.dest,
            "rows": self.source.rows,
            "dims": {"source": self.source.dim, "dest": self.translator.target.dim},
            "metric": {"source": self.source.metric, "dest": self.dest_metric},
            "changes": self.changes,
            "fields_kept": list(self.source.payload),
            "seconds": self.seconds,
            "bytes": self.bytes,
            "verdict": verdict.to_json() if verdict else None,
            "status": self.translator.status,
            "pairs": self.pairs,
            "worth": [{"pairs": count, **it.to_json()} for count, it in self.worth],
            "expected": {name: it.to_json() for name, it in self.scores.items()},
            "resumes_after": self.resumes,
        }


def estimate(sample: Sample, rows: int, translator: Translator) -> tuple[dict[str, float], int]:
    """Return the seconds that reading and translating all rows would take, and the bytes of what is written."""
    some = sample.vectors[: max(1, min(len(sample), 8192))]
    translator.translate(some[:64])  # the first call pays for what is loaded lazily
    started = time.perf_counter()
    translator.translate(some)
    pace = (time.perf_counter() - started) / len(some)
    seconds = {"read": round(rows / sample.rate, 3), "translate": round(rows * pace, 3)}
    return seconds, int(rows * (4 * translator.target.dim + sample.payload_bytes))


def dest_metric(dest: Any, told: Description) -> str | None:
    """Return the metric that the destination has or would be made with; None for files."""
    if not isinstance(dest, Collection):
        return told.metric
    asked = dest.address.options.get("metric")
    return asked or (dest.describe().metric if dest.exists() else told.metric or "cosine")
