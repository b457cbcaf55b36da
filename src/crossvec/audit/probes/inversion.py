"""inversion — look for the texts behind stolen rows, with nothing learned from the rows themselves.

In    Stage         its encoder, the reference's texts; the victim's own texts score what is found
Out   Reading       leakage measures of each engine beside naive and ideal; the recovered texts, apart from the details
Uses  audit.inversion, audit.leakage
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from crossvec.audit import inversion
from crossvec.audit.inversion import Budget, Inverter, Known, Targets
from crossvec.audit.ladder import Stage
from crossvec.audit.leakage import measures, words
from crossvec.audit.probes import Reading, Recovered, Severity
from crossvec.audit.scores import FEWEST, Score
from crossvec.errors import UsageError


@dataclass(frozen=True)
class Inversion:
    """Text inversion of `documents` rows, drawn by seed, by each of the `engines` that can run.

    `budget_seconds` are shared by engines and arms; where they are not enough the result is what was found by then, and depends
    on the machine. `model` is a causal language model for the engine `language`, a folder or a name of the Hugging Face hub,
    fetched only with `download`. Unless `engines` says otherwise that engine runs only where there is a model: the one learned
    here from the reference's texts is weak.
    """

    name: ClassVar[str] = "inversion"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "critical"

    engines: tuple[str, ...] | None = None
    documents: int = 100
    budget_seconds: float = 60.0
    model: str | None = None
    download: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.documents < FEWEST:
            raise UsageError(f"{self.documents} documents say nothing about leakage", f"use {FEWEST} or more, better 100")
        if not self.budget_seconds >= 0:
            raise UsageError(f"a budget of {self.budget_seconds} seconds is not possible", "use 0 or more")
        self._engines()

    def lacks(self, stage: Stage) -> str:
        if stage.encoder is None:
            return "the model of the space, to try texts with"
        known = _known(stage)
        needs = [engine.lacks(known) for engine in self._engines()]
        return "" if "" in needs else ", or ".join(dict.fromkeys(needs))

    def measure(self, stage: Stage) -> Reading:
        known = _known(stage)
        engines = [engine for engine in self._engines() if not engine.lacks(known)]
        drawn = np.sort(np.random.default_rng(stage.seed).permutation(len(stage.split.scored))[: self.documents])
        arms = {name: rows[drawn] for name, rows in stage.arms().items()}
        rows = stage.split.scored[drawn]
        truths = stage.case.texts_of(rows) if stage.case.texts is not None else None
        scored = truths is not None and sum(bool(words(text)) for text in truths) >= FEWEST
        budget, todo = Budget(self.budget_seconds), len(engines) * len(arms)
        scores: list[Score] = []
        recovered: list[Recovered] = []
        told: list[dict[str, Any]] = []
        for engine in engines:
            found: dict[str, list[str]] = {}
            line: dict[str, Any] = {"engine": engine.name, "proposes": getattr(engine, "writer", None), "finished": True}
            for arm, targets in arms.items():
                share = budget.part(1 / todo)
                found[arm] = engine.invert(targets, known, budget=share, seed=stage.seed)
                line["finished"] &= not share.spent
                line[arm] = _reached(found[arm], targets, known)
                todo -= 1
            told.append(line)
            recovered += _recovered(rows, engine.name, found["attack"], truths)
            if truths is not None and scored:
                scores += _scores(engine.name, truths, found, known, stage.seed)
        details: dict[str, Any] = {"documents": len(rows), "cosine_reached": told, "reference_texts": len(known.texts)}
        if truths is not None and not scored:
            details["note"] = f"fewer than {FEWEST} of the texts hold a word"
        return Reading(tuple(scores), details, tuple(recovered))

    def _engines(self) -> list[Inverter]:
        """Return the engines asked for; raises UsageError for a name that is none."""
        asked = self.engines or ("static", "retrieval", *(("language",) if self.model else ()))
        own = {"model": self.model, "download": self.download, "device": self.device}
        return [inversion.create(name, **(own if name == "language" else {})) for name in asked]


def _known(stage: Stage) -> Known:
    """Return what the attacker has on this rung."""
    if stage.encoder is None:
        raise ValueError("the probe lacks an encoder")  # `lacks` says so first
    texts = stage.case.reference_texts
    if stage.home is None:
        return Known.of(stage.encoder, stage.translated(stage.crowd))
    return Known.of(stage.encoder, stage.home, None if texts is None else [texts[row] for row in stage.home_rows], stage.seed)


def _reached(texts: list[str], targets: Targets, known: Known) -> float:
    """Return the mean cosine of what was found to what was looked for: all that an attacker sees of its success."""
    return float(np.einsum("sd,sd->s", known.directions(texts), targets).mean())


def _recovered(rows: Int[np.ndarray, " s"], engine: str, found: list[str], truths: list[str] | None) -> list[Recovered]:
    owned = truths if truths is not None else [None] * len(rows)
    return [Recovered(int(row), engine, text, truth) for row, text, truth in zip(rows, found, owned, strict=True)]


def _scores(engine: str, truths: list[str], found: dict[str, list[str]], known: Known, seed: int) -> list[Score]:
    """Return the measures of the attack, each with the value that the other arms have among its controls."""
    by_arm = {arm: measures(truths, texts, encoder=known.encoder, seed=seed) for arm, texts in found.items()}
    values = {arm: {score.name: score.value for score in scores} for arm, scores in by_arm.items() if arm != "attack"}
    scored = []
    for score in by_arm["attack"]:
        seen = {arm: known_as[score.name] for arm, known_as in values.items() if score.name in known_as}
        scored.append(replace(score, name=f"{score.name} ({engine})", controls={**score.controls, **seen}))
    return scored
