"""fitting — from two spaces to a Translator: centre, align, judge, and try again while it is worth it.

In    source Space (n, dx), target Space (m, dy), perhaps pairs (p, 2) of row numbers
Out   Translator            with its verdict, and a card that says what was tried
Uses  space, translator, aligners, aligners.heldout, verdict
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crossvec.aligners import Aligner, Alignment, Effort, Map, Step, aligner_class, create, part, silent
from crossvec.aligners.heldout import Carries, HeldOut, held_out
from crossvec.errors import SettingError, SpaceError, UsageError
from crossvec.space import Space
from crossvec.translator import Frame, Translator
from crossvec.verdict import Verdict, judge

__all__ = ["ENOUGH_ROWS", "SEEDS", "fit", "peak_memory", "pick_device"]

ENOUGH_ROWS = 50_000
"""Rows of each side that a fit looks at unless told otherwise: more cost time and memory and move the result little."""

FEWEST_ROWS = 50
"""Below this no cloud has a shape that could be told from another's."""

SEEDS: dict[str, int] = {"quick": 1, "standard": 3, "thorough": 8}
"""How many seeds `auto` tries, at each effort, before it settles for the best verdict it has seen."""

FEW_PAIRS = 1000
"""Below this `auto` also learns without pairs: measured on three real encoders, a good unpaired map beats 300 pairs."""

ENOUGH_FOR_SHAPE = 1000
"""Rows of each side below which `auto` with pairs does not learn without them too: minutes, and sampling hides the shape."""

PAIRED: dict[str, tuple[str, ...]] = {
    "quick": ("procrustes", "ridge"),
    "standard": ("procrustes", "ridge"),
    "thorough": ("procrustes", "ridge", "low-rank", "mlp"),
}
"""The aligners that `auto` compares on pairs held out, at each effort."""

FEWEST_PAIRS = 10
"""Below this nothing is compared: `auto` takes Procrustes, which needs no choice and sends to zero what no pair speaks of."""

CLUSTERS, ENOUGH_FOR_CLUSTERS = 100, 10_000
"""What every second attempt of `auto` cuts each side into, and the rows of each side that third moments within them need."""

ENOUGH_TO_TRAIN = 2000
"""Rows of each side below which vec2vec is not tried: samples too small to say whether it helps."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One aligner under one seed, with what came out and how long it took.

    `held_out` is how known pairs are met that the map did not learn from; None where there are fewer than three, and of vec2vec
    with pairs, whose training is not done twice. `seen` is what vec2vec and the map before it are compared by.
    """

    aligner: Aligner
    alignment: Alignment
    verdict: Verdict
    seconds: float
    held_out: HeldOut | None
    seen: Sequence[Mapping[str, float]] = ()

    def merit(self, carries: Carries) -> tuple[float, float]:
        """Return what the attempts of one fit are compared by: known pairs where there are any, then the verdict."""
        return _merit(self.held_out, carries), self.verdict.probability

    def record(self) -> dict[str, Any]:
        """Return what the card keeps of it."""
        return {
            "aligner": self.aligner.name,
            "settings": _settings(self.aligner),
            "seconds": round(self.seconds, 3),
            "verdict": self.verdict.to_json(),
            "held_out": self.held_out.to_json() if self.held_out else None,
            **({"label_free": [dict(one) for one in self.seen]} if self.seen else {}),
            "evidence": dict(self.alignment.evidence),
            "steps": [dict(step) for step in self.alignment.trace],
        }


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
    where = pick_device(device)
    known = _check_pairs(pairs, source, target)
    plan = _plan(aligner, (len(source), len(target)), known, effort, seed, settings or {})
    _check_sizes(source, target, known, plan)

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
        compared = _compared(paired, x, y, known, seed, part(step, 0.0, 0.3))
        paired = [max(compared, key=lambda one: _merit(one[1], carries))[0]]
        searching = part(step, 0.3, 1.0)
    tried: list[Attempt] = []
    for number, one in enumerate(left := paired + others):
        found = next((held for other, held in compared if other is one), None)
        tried.append(_attempt(one, x, y, known, found, _nth(searching, number, len(left)), seed=seed))
        if tried[-1].verdict.status == "aligned" and not one.needs_pairs:
            break
    best = max(tried, key=lambda attempt: attempt.merit(carries))
    if may_train and best.verdict.status == "aligned":
        seen, trained, helped = _trained(best, x, y, seed, part(step, 0.6, 1.0))
        tried = [seen if one is best else one for one in tried] + [trained]
        best = trained if helped else seen
    step("done", 1.0)

    card = {
        "what": f"translates {source.name or 'the source'} ({source.dim}) into {target.name or 'the target'} ({target.dim})",
        "source": {"name": source.name, "rows": len(source), "rows_used": rows_used[0], "dim": source.dim},
        "target": {"name": target.name, "rows": len(target), "rows_used": rows_used[1], "dim": target.dim},
        "aligner": best.aligner.name,
        "settings": _settings(best.aligner),
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


def pick_device(name: str) -> torch.device:
    """Return the device to compute on: auto is the first GPU that CUDA sees, else the CPU.

    Raises SettingError when the device asked for is not there.
    """
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise SettingError(f"there is no device {name!r}", "use auto, cpu, cuda or mps")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise SettingError(f"this machine, or this build of torch, has no {name} device", "use --device cpu, or auto")
    return torch.device(name)


def peak_memory() -> int | None:
    """Return the most memory this process has held so far, in bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB, macOS in bytes


def _check_pairs(pairs: Any, source: Space, target: Space) -> Int[np.ndarray, "p 2"] | None:
    if pairs is None:
        return None
    known = np.asarray(pairs)
    if known.ndim != 2 or known.shape[1] != 2 or known.dtype.kind not in "iu":
        raise UsageError(
            f"pairs have shape {known.shape} and type {known.dtype}", "give row numbers as integers of shape (p, 2)"
        )
    if len(known) < 2:
        raise UsageError(f"{len(known)} pair cannot fix a map", "give at least two pairs; 100 and more are worth having")
    for column, (name, space) in enumerate((("source", source), ("target", target))):
        outside = known[(known[:, column] < 0) | (known[:, column] >= len(space)), column]
        if len(outside):
            raise UsageError(f"pairs name row {outside[0]} of the {name}, which has {len(space)} rows", "count rows from 0")
    return known.astype(np.int64)


def _plan(
    name: str,
    rows: tuple[int, int],
    known: Int[np.ndarray, "p 2"] | None,
    effort: Effort,
    seed: int,
    settings: Mapping[str, Any],
) -> list[Aligner]:
    """Return what to try, in order; made before any work, so that a wrong setting costs no time."""
    if name != "auto":
        if getattr(aligner_class(name), "needs_pairs", False) and known is None:
            raise UsageError(f"the aligner {name} learns from known pairs", "give them with --pairs FILE, or use -a auto")
        return [_made(name, effort, seed, settings)]
    plan = []
    if known is not None:
        able = PAIRED.get(effort, PAIRED["standard"]) if len(known) >= FEWEST_PAIRS else ("procrustes",)
        plan += [_made(one, effort, seed, settings) for one in able]
    if known is None or (len(known) < FEW_PAIRS and min(rows) >= ENOUGH_FOR_SHAPE):
        for number in range(SEEDS.get(effort, 1)):
            # Where the whole clouds did not do, the sides may be about different things.
            other = {"clusters": CLUSTERS} if number % 2 and min(rows) >= ENOUGH_FOR_CLUSTERS else {}
            plan.append(_made("moments", effort, seed + number, {**other, **settings}))
    return plan


def _made(name: str, effort: Effort, seed: int, settings: Mapping[str, Any]) -> Aligner:
    own = set(getattr(aligner_class(name), "__dataclass_fields__", ()))
    common = {key: value for key, value in (("effort", effort), ("seed", seed)) if key in own}
    return create(name, {**common, **settings})


def _check_sizes(source: Space, target: Space, known: Int[np.ndarray, "p 2"] | None, plan: list[Aligner]) -> None:
    for name, space in (("source", source), ("target", target)):
        if len(space) < 2:
            rows = f"{len(space)} row{'' if len(space) == 1 else 's'}"
            raise SpaceError(f"the {name} has {rows}: that is no cloud", "give more rows; thousands are worth having")
        if known is None and len(space) < FEWEST_ROWS and plan[0].name not in ("identity", "mean"):
            raise SpaceError(
                f"the {name} has {len(space)} rows; learning without pairs needs {FEWEST_ROWS} or more, thousands to succeed",
                "give more rows, or known pairs with --pairs FILE",
            )


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


def _compared(
    paired: Sequence[Aligner], x: Tensor, y: Tensor, known: Int[np.ndarray, "p 2"], seed: int, step: Step
) -> list[tuple[Aligner, HeldOut | None]]:
    """Return how each of several paired aligners meets pairs held out; the same pairs for all."""
    pairs, found = torch.from_numpy(known).to(x.device), []
    for number, one in enumerate(paired):
        step(f"comparing {one.name} on pairs held out", number / len(paired))
        found.append((one, held_out(partial(_learned, one, x, y), x, y, pairs, seed=seed)))
    return found


def _learned(one: Aligner, x: Tensor, y: Tensor, pairs: Tensor) -> Alignment:
    return one.fit(x, y, pairs=pairs)


def _merit(held: HeldOut | None, carries: Carries) -> float:
    return -held.rank(carries) if held else -math.inf


def _attempt(
    one: Aligner,
    x: Tensor,
    y: Tensor,
    known: Int[np.ndarray, "p 2"] | None,
    found: HeldOut | None,
    step: Step,
    *,
    seed: int,
) -> Attempt:
    """Fit and judge; `found` is what was found on pairs held out already."""
    started = time.perf_counter()
    pairs = None if known is None else torch.from_numpy(known).to(x.device)
    own = int(getattr(one, "seed", 0))
    told = {"verdict": _sure(x, y, own)} if getattr(one, "tells_verdict", False) else {}
    alignment = one.fit(x, y, pairs=pairs if _learns_from_pairs(one) else None, progress=step, **told)
    step("judging", 1.0)
    verdict = judge(x, y, alignment, seed=own)
    if pairs is not None and found is None and not getattr(one, "uses_pairs", False):
        step("meeting pairs held out", 1.0)
        learn = partial(_learned, one, x, y) if one.needs_pairs else lambda _: alignment
        found = held_out(learn, x, y, pairs, seed=seed)
    return Attempt(one, alignment, verdict, time.perf_counter() - started, found)


def _trained(found: Attempt, x: Tensor, y: Tensor, seed: int, step: Step) -> tuple[Attempt, Attempt, bool]:
    """Return an attempt with what is seen of it without pairs, vec2vec's from its rotation on, and whether that helps.

    A sick training, or one with a verdict that is lower, does not help.
    """
    from crossvec.aligners.vec2vec import Vec2Vec
    from crossvec.aligners.vec2vec.after import helps, rotation, seen

    started = time.perf_counter()
    one = Vec2Vec(seed=seed)
    start = rotation(x, y, found.alignment)
    alignment = one.fit(
        x, y, start=start, verdict=_sure(x, y, seed), progress=lambda doing, part: step(f"vec2vec: {doing}", part)
    )
    verdict = judge(x, y, alignment, seed=seed)
    before, after = (seen(x, y, it, seed=seed) for it in (found.alignment, alignment))
    trained = Attempt(one, alignment, verdict, time.perf_counter() - started, None, after)
    healthy = alignment.evidence["healthy"] > 0 and verdict.status == "aligned"
    return replace(found, seen=before), trained, healthy and helps(before, after)


def _sure(x: Tensor, y: Tensor, seed: int) -> Callable[[Map], float]:
    """Return what gives the verdict's probability of a map that is still being learned."""
    return lambda map_: judge(x, y, Alignment(map_, map_), seed=seed).probability


def _learns_from_pairs(one: Aligner) -> bool:
    return one.needs_pairs or getattr(one, "uses_pairs", False)


def _nth(step: Step, number: int, count: int) -> Step:
    """Return a Step that reports a whole attempt as its share of the fit."""
    label = f" (attempt {number + 1} of up to {count})" if number else ""
    share = part(step, number / count, (number + 1) / count)
    return lambda doing, fraction: share(doing + label, fraction)


def _settings(one: Aligner) -> dict[str, Any]:
    return asdict(cast(Any, one)) if is_dataclass(one) else {}


def _versions() -> dict[str, str]:
    known = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    try:
        return {"crossvec": version("crossvec"), **known}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return known
