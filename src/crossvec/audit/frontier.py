"""frontier — what each defence costs a search and what it still gives away to an attacker who knows of it.

In    Case, defences
Out   Trial for each: recall@10 kept, scores by rung, and the lowest rung that breaks it
Uses  defences, ladder, probes, metrics

The attacker is adaptive: it has the defended vectors, knows how they were made but not the key, and learns its translator from
them. So on the rung `encoder` it embeds its own texts with the victim's model and translates into that model's own space:
having the model is not having the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from crossvec import metrics
from crossvec.aligners import Effort, Step, silent
from crossvec.audit.defences import STANDARD, Defence
from crossvec.audit.inputs import QUICK, Case, Split, remembering
from crossvec.audit.ladder import RungName, Stage, allowed, climb, encoded
from crossvec.audit.policy import Policy
from crossvec.audit.probes import create
from crossvec.audit.scores import LEVEL, RESAMPLES, Score
from crossvec.errors import UsageError
from crossvec.geometry import unit
from crossvec.space import Space

__all__ = ["SCHEMA", "Trial", "defend"]

SCHEMA = "crossvec-defences/1"
"""Keys may be added under one number; none is renamed or given another meaning."""

PROBES = ("alignment", "attributes")
"""The two that a translation must allow before anything else can be read."""

SEARCHED = 5000
K = 10


@dataclass(frozen=True)
class Trial:
    """What one defence came to.

    `recall`, with its interval: the share of each row's ten nearest rows that are still its nearest afterwards, by cosine.
    `scores` by rung and probe, `status` of the translator by rung; `broken_by` is the lowest rung on which a score is a
    finding.
    """

    defence: Defence
    recall: float
    recall_low: float
    recall_high: float
    status: dict[str, str]
    scores: dict[tuple[str, str], Score]
    broken_by: str | None

    @property
    def verdict(self) -> str:
        """Return broken, unbroken where every rung's translator was sure and nothing was found, else inconclusive."""
        if self.broken_by:
            return "broken"
        return "unbroken" if all(one == "aligned" for one in self.status.values()) else "inconclusive"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "defence": self.defence.name,
            "keyed": self.defence.keyed,
            "verdict": self.verdict,
            "broken_by": self.broken_by,
            "recall_at_10": {"value": self.recall, "low": self.recall_low, "high": self.recall_high},
            "status": self.status,
            "scores": [{"rung": rung, "probe": probe, **score.to_json()} for (rung, probe), score in self.scores.items()],
        }


def defend(
    case: Case,
    defences: Sequence[Defence] = STANDARD,
    *,
    policy: Policy | None = None,
    scored: int = QUICK.scored,
    max_rows: int = QUICK.learned,
    effort: Effort = "quick",
    seed: int = 0,
    device: str = "auto",
    progress: Step = silent,
) -> list[Trial]:
    """Try each defence: apply it to the store, attack what comes out on every rung that translates, and search in it.

    Raises UsageError for a case without a reference: a defence against nobody keeps everything.
    """
    if case.reference is None:
        raise UsageError("defences are measured against an attacker, who needs texts", "give a reference: --reference STORE")
    rules, case = policy or Policy(), remembering(case)
    split = case.split(scored, seed)
    rungs = [rung for rung in allowed(case) if rung in ("domain", "pairs")]
    faced: list[tuple[str, Case]] = [(rung, case) for rung in rungs]
    if own := _own_model(case):
        faced.append(("encoder", own))
    given: dict[str, Any] = {"effort": effort, "seed": seed, "max_rows": max_rows, "device": device}
    rows = case.victim.array()
    trials = []
    for number, defence in enumerate(defences):
        # The key is the owner's own: it must not be the seed of the attacker's search.
        kept = defence.apply(rows, seed + 1_000_003)
        stored = Space(kept, case.victim.ids, name=case.victim.name)
        status: dict[str, str] = {}
        scores: dict[tuple[str, str], Score] = {}
        broken_by = None
        for place, (rung, one) in enumerate(faced):

            def step(doing: str, part: float, at: float = number + place / len(faced), what: str = defence.name) -> None:
                progress(f"{what}: {doing}", (at + part / len(faced)) / len(defences))

            climbed: RungName = "pairs" if rung == "pairs" else "domain"
            stage = climb(climbed, replace(one, victim=stored, own_encoder=None), split, progress=step, **given)
            status[rung] = stage.rung.status
            found = _measured(stage)
            scores |= {(rung, probe): score for probe, score in found.items()}
            leaks = any(score.above(rules.threshold(probe)) for probe, score in found.items())
            if leaks and stage.rung.status != "failed" and broken_by is None:
                broken_by = rung
        trials.append(Trial(defence, *_recall(rows, kept, split, seed), status, scores, broken_by))
    progress("done", 1.0)
    return trials


def _own_model(case: Case) -> Case | None:
    """Return the case of an attacker who embeds its texts with the victim's model; None where it lacks one or the other."""
    if case.own_encoder is None or case.reference_texts is None:
        return None
    home = Space.of(encoded(case.own_encoder, case.reference_texts), name=case.own_encoder.name, bad_rows="drop")
    texts = [case.reference_texts[row] for row in home.numbers]
    return replace(case, reference=home, reference_texts=texts, encoder=case.own_encoder, own_encoder=None, pairs=None)


def _measured(stage: Stage) -> dict[str, Score]:
    found = {}
    for name in PROBES:
        probe = create(name)
        if not probe.lacks(stage) and (scores := probe.measure(stage).scores):
            found[name] = scores[0]
    return found


def _recall(
    rows: Float32[np.ndarray, "n d"], kept: Float32[np.ndarray, "n e"], split: Split, seed: int
) -> tuple[float, float, float]:
    """Return recall@10 of a search among the defended rows for what the search among the rows as they were finds."""
    drawn = np.sort(np.random.default_rng(seed).permutation(split.present)[:SEARCHED])
    before, after = (unit(torch.from_numpy(np.ascontiguousarray(cloud[drawn]))) for cloud in (rows, kept))
    shared = metrics.neighbour_overlap(after, before, min(K, len(drawn) - 1), seed=seed).double().numpy()
    low, high = metrics.bootstrap(shared[:, None], RESAMPLES, LEVEL, seed)[0]
    return float(shared.mean()), float(low), float(high)
