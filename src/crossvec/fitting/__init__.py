"""fitting — from two spaces to a Translator: centre, align, judge, and try again while it is worth it.

In    source Space (n, dx), target Space (m, dy), perhaps pairs (p, 2) of row numbers
Out   Translator            with its verdict, and a card that says what was tried
Uses  space, translator, aligners, machine, and the siblings plan, attempts
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from operator import index
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crossvec.aligners import Aligner, Effort, Step, part, silent
from crossvec.aligners.heldout import Carries, HeldOut
from crossvec.errors import SettingError
from crossvec.fitting.attempts import Attempt, attempted, compared_on, merit, settings_of, trained_from
from crossvec.fitting.plan import FEWEST_PAIRS, FEWEST_ROWS, SEEDS, check_pairs, check_sizes, planned
from crossvec.machine import peak_memory, pick_device
from crossvec.space import Space, require_space
from crossvec.translator import Frame, Translator, described

__all__ = ["ENOUGH_ROWS", "FEWEST_PAIRS", "FEWEST_ROWS", "SEEDS", "fit"]

ENOUGH_ROWS = 50_000
"""Rows of each side that a fit looks at unless told otherwise: more cost time and memory and move the result little."""

ENOUGH_TO_TRAIN = 2000
"""Rows of each side below which vec2vec is not tried: samples too small to say whether it helps."""


def fit(
    source: Space,
    target: Space,
    aligner: str = "auto",
    *,
    pairs: Int[np.ndarray, "p 2"] | Sequence[Any] | None = None,
    carries: Carries = "both",
    effort: Effort = "standard",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    max_rows: int | None = ENOUGH_ROWS,
    progress: Step | None = None,
) -> Translator:
    """Learn to translate rows of `source` (n, dx) into the space of `target` (m, dy), and judge the result.

    `aligner` is a name from `aligners.names()`, or "auto": paired aligners when `pairs` (row pairs[i, 0] of the source is row
    pairs[i, 1] of the target) are given, and `moments` when there are none or few, under one seed after another until the
    verdict is `aligned` or the effort is spent. Kept is what finds partners held out at the best rank, in the search that
    `carries` says will be made: "rows" in which the target model's queries search, "queries" that search the target's rows,
    or "both" (see `aligners.heldout`). Without pairs it is the highest verdict probability. The verdict looks at no pairs; the
    card's `held_out` is what those say that were held out, its `trace` lists the attempts, its `compared` the paired aligners.
    Without pairs and with effort "thorough", "auto" then trains vec2vec from the rotation in a map that is `aligned`, and keeps
    it if it helps (see `aligners.vec2vec.after`).
    `settings` are the aligner's own fields. `max_rows` bounds the rows looked at on each side (a sample; None for all).
    The same seed on the same machine gives the same translator.

    Raises SpaceError for spaces that cannot be aligned, SettingError for an unknown aligner, setting or device, UsageError for
    pairs that name no rows.
    """
    started = time.perf_counter()
    step = progress or silent
    for side, space in (("source", source), ("target", target)):
        require_space(space, f"the {side}")
    where = pick_device(device)
    if carries not in get_args(Carries):
        raise SettingError(f"carries cannot be {carries!r}", f"use one of {', '.join(get_args(Carries))}")
    seed = _whole("seed", seed)
    max_rows = None if max_rows is None else _whole("max_rows", max_rows)
    known = check_pairs(pairs, source, target)
    plan = planned(aligner, (len(source), len(target)), known, effort, seed, settings or {})
    check_sizes(source, target, known, plan)

    step("reading", 0.0)
    source_rows, target_rows, known = _sample(source, target, known, max_rows, seed)
    frames = Frame.of(source_rows, "source"), Frame.of(target_rows, "target")
    x, y = (_directions(frame, rows, where) for frame, rows in zip(frames, (source_rows, target_rows), strict=True))
    rows_used = len(source_rows), len(target_rows)
    del source_rows, target_rows

    may_train = aligner == "auto" and effort == "thorough" and known is None and min(rows_used) >= ENOUGH_TO_TRAIN
    searching = part(step, 0.0, 0.6) if may_train else step
    paired, others = [one for one in plan if one.needs_pairs], [one for one in plan if not one.needs_pairs]
    compared: list[tuple[Aligner, HeldOut | None]] = []
    if len(plan) > 1 and known is not None and paired:
        compared = compared_on(paired, x, y, known, seed, part(step, 0.0, 0.3))
        paired = [max(compared, key=lambda one: merit(one[1], carries))[0]]
        searching = part(step, 0.3, 1.0)
    tried: list[Attempt] = []
    for number, one in enumerate(left := paired + others):
        found = next((held for other, held in compared if other is one), None)
        tried.append(attempted(one, x, y, known, found, _nth(searching, number, len(left)), seed=seed))
        if tried[-1].verdict.status == "aligned" and not one.needs_pairs:
            break
    best = max(tried, key=lambda attempt: attempt.merit(carries))
    if may_train and best.verdict.status == "aligned":
        seen, trained, helped = trained_from(best, x, y, seed, part(step, 0.6, 1.0))
        tried = [seen if one is best else one for one in tried] + [trained]
        best = trained if helped else seen
    step("done", 1.0)

    card = {
        "what": described(source.name or "the source", source.dim, target.name or "the target", target.dim),
        "source": {"name": source.name, "rows": len(source), "rows_used": rows_used[0], "dim": source.dim},
        "target": {"name": target.name, "rows": len(target), "rows_used": rows_used[1], "dim": target.dim},
        "aligner": best.aligner.name,
        "settings": settings_of(best.aligner),
        "pairs": 0 if known is None else len(known),
        "effort": effort,
        "seed": seed,
        "device": str(where),
        "versions": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": peak_memory(),
        "carries": carries,
        "held_out": best.held_out.to_json() if best.held_out else None,
        "compared": [{"aligner": one.name, **(held.to_json() if held else {})} for one, held in compared],
        "trace": [attempt.record() for attempt in tried],
    }
    maps = best.alignment.map, best.alignment.inverse
    return Translator(*maps, *frames, card=card, verdict=best.verdict).to("cpu")


def _whole(name: str, value: Any) -> int:
    try:
        return index(value)
    except TypeError:
        raise SettingError(f"{name} cannot be {value!r}", f"use a whole number, such as {name}=3") from None


def _sample(
    source: Space, target: Space, known: Int[np.ndarray, "p 2"] | None, most: int | None, seed: int
) -> tuple[Space, Space, Int[np.ndarray, "q 2"] | None]:
    """Return at most `most` rows of each side, the paired ones first in line, and the pairs renumbered to match."""
    if most is None or (len(source) <= most and len(target) <= most):
        return source, target, known
    if most < 2:
        raise SettingError(f"max_rows cannot be {most}", "use a number such as 50000")
    generator = np.random.default_rng(seed)
    if known is not None and len(known) > most:
        known = known[np.sort(generator.choice(len(known), most, replace=False))]
    kept = []
    for column, space in enumerate((source, target)):
        wanted = np.unique(known[:, column]) if known is not None else np.empty(0, np.int64)
        others = np.setdiff1d(np.arange(len(space)), wanted, assume_unique=True)
        more = generator.choice(others, max(0, min(most, len(space)) - len(wanted)), replace=False)
        kept.append(np.sort(np.concatenate([wanted, more])))
    if known is not None:
        known = np.stack([np.searchsorted(rows, known[:, column]) for column, rows in enumerate(kept)], axis=1)
    return source.take(kept[0]), target.take(kept[1]), known


def _directions(frame: Frame, space: Space, where: torch.device) -> Tensor:
    # By batches, so that only one copy of the rows is ever whole.
    return torch.cat([frame.centre(torch.from_numpy(batch.array()))[0] for batch in space.batches()]).to(where)


def _nth(step: Step, number: int, count: int) -> Step:
    """Return a Step that reports a whole attempt as its share of the fit."""
    label = f" (attempt {number + 1} of up to {count})" if number else ""
    share = part(step, number / count, (number + 1) / count)
    return lambda doing, fraction: share(doing + label, fraction)


def _versions() -> dict[str, str]:
    known = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    try:
        return {"crossvec": version("crossvec"), **known}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return known
