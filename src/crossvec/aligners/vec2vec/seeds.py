"""seeds — several trainings of one network, each under its own seed; those that fall ill are replaced, the best is kept.

In    what makes a Training for a seed
Out   Found                 the best Outcome by its label-free score, and a record of every seed tried
Uses  aligners.vec2vec.{training, live, health}

A GAN may collapse under one seed and converge under the next (of 15 published runs across backbones 3 did), so a sick training
is ended as soon as it is named and the next seed starts. Sick trainings count only where none was healthy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossvec.aligners import Step
from crossvec.aligners.vec2vec.distributed import Group
from crossvec.aligners.vec2vec.live import Live
from crossvec.aligners.vec2vec.network import Network
from crossvec.aligners.vec2vec.training import Outcome, Training

REPLACED = 3
"""Sick trainings that are replaced by another seed, at most."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best training, how many were healthy, and what each seed came to."""

    best: Outcome
    healthy: int
    trace: tuple[dict[str, Any], ...]


def best_of(
    make: Callable[[int], Training],
    first: int,
    wanted: int,
    events: Path | None,
    progress: Step,
    verdict: Callable[[Network], float] | None = None,
) -> Found:
    """Train seeds `first`, `first` + 1, ... until `wanted` were healthy, or as many as that and REPLACED more were tried.

    `verdict` is told with each look.
    """
    best: Outcome | None = None
    trace: list[dict[str, Any]] = []
    healthy = 0
    seed = first
    while healthy < wanted and seed - first < wanted + REPLACED:
        training = make(seed)
        folder = events / f"seed-{seed}" if events and Group.now().leads else None
        part = _part(progress, healthy, wanted, seed)
        live = Live(part, training.recipe.steps, folder=folder, since=training.done, verdict=verdict)
        try:
            outcome = training.run(live)
        finally:
            live.close()
        healthy += outcome.healthy
        if not outcome.healthy:
            progress(f"seed {seed} ended of {outcome.ended} after {outcome.looks[-1].step} steps", healthy / wanted)
        trace.append(
            {
                "seed": seed,
                "settings": training.settings(),
                "ended": outcome.ended,
                "score": outcome.score if outcome.score == outcome.score else None,
                "step": outcome.step,
                "looks": [look.record() for look in outcome.looks],
            }
        )
        if best is None or (outcome.healthy, outcome.score) > (best.healthy, best.score):
            best = outcome
        seed += 1
    assert best is not None
    return Found(best, healthy, tuple(trace))


def _part(progress: Step, healthy: int, wanted: int, seed: int) -> Step:
    """Report one training as its share of the whole; one that replaces a sick one shares that one's place."""
    reached = healthy / wanted
    told = f" (seed {seed})" if wanted > 1 else ""
    return lambda doing, fraction: progress(doing + told, min(1.0, reached + fraction / wanted))
