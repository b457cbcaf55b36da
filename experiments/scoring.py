"""scoring — fit one row of an experiment and score it as the paper does, with the controls that it lacks.

In    Row, Clouds
Out   scores by pool and direction, the verdict, seconds
Uses  crossvec.fitting, crossvec.metrics
Paper arXiv:2505.12540      section 4.2: mean cosine, top-1, mean rank, in pools of texts

Rows are compared as they are, without centring, as in the paper; `centred` has the same numbers after the target's mean is
taken off. Both ways to search are told: the paper defines `forward`, from translation to targets; its code ranks `backward`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossvec.aligners import Step, aligner_class, silent
from crossvec.errors import TranslatorError
from crossvec.fitting import fit
from crossvec.geometry import unit
from crossvec.machine import peak_memory
from crossvec.metrics import centred, cosines, retrieve
from crossvec.space import Space
from crossvec.translator import Translator
from experiments.plan import Plan, Pool, Row
from experiments.texts import Array, Clouds

TOP = (1, 16)


def measure(plan: Plan, row: Row, clouds: Clouds, models: Path, device: str, progress: Step = silent) -> dict[str, Any]:
    """Return what a row's file holds beside where it was measured."""
    translator, seconds = fitted(row, clouds, models, device, progress)
    scores: dict[str, Any] = {}
    for pool in plan.pools:
        found: dict[str, Any] = {}
        ways = [(row.source, row.target, translator)]
        if not pool.images:
            try:
                ways.append((row.target, row.source, translator.inverse()))
            except TranslatorError as problem:
                found["not_scored"] = f"{row.target}-{row.source}: {problem}"
        for source, target, way in ways:
            told = scored(way, *clouds.pool(pool, source, target), pool)
            if pool.images:  # what the target's own captions find: the most that a translation can hope for
                captions, images = map(torch.from_numpy, clouds.pool(pool, target, target))
                told["controls"]["native"] = in_pools(captions, images, pool.pool)
            found[f"{source}-{target}"] = {**told, "published": plan.figures(pool.name, row, source, target)}
        scores[pool.name] = found
    return {
        "scores": scores,
        "verdict": translator.verdict.to_json() if translator.verdict else None,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "settings": translator.card["settings"],
        "encoders": {name: clouds.origin(name) for name in (row.source, row.target)},
        "held": {pool.name: clouds.drawn(pool) for pool in plan.pools},
        "versions": translator.card["versions"],
    }


def fitted(row: Row, clouds: Clouds, models: Path, device: str, progress: Step) -> tuple[Translator, dict[str, float]]:
    """Return the translator of a row: fitted now, or before for another experiment that asked for the same."""
    origins = {name: clouds.origin(name) for name in (row.source, row.target)}
    told = {**row.to_json(), "experiment": "", "origins": origins}
    told["method"] = {**asdict(row.method), "name": ""}
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    folder = models / f"{row.source}-{row.target}-{row.method.aligner}-{row.seed}-{key}"
    if (folder / "card.json").exists():
        translator = Translator.load(folder)
        return translator, {"fit": translator.card["seconds"]}
    kind = aligner_class(row.method.aligner)
    paired = bool(getattr(kind, "needs_pairs", False))
    settings = dict(row.method.settings)
    if "checkpoint" in getattr(kind, "__dataclass_fields__", {}):
        settings |= {"checkpoint": str(models / "checkpoints" / folder.name), "every": settings.get("every", 1000)}
    x = clouds.train("source", row.source, row.source_rows)
    y = clouds.train("source" if paired else "target", row.target, row.source_rows if paired else row.target_rows)
    cpu = time.process_time()
    translator = fit(
        Space.of(x, name=row.source),
        Space.of(y, name=row.target),
        row.method.aligner,
        pairs=np.stack([np.arange(len(x))] * 2, axis=1) if paired else None,
        seed=row.seed,
        settings=settings,
        device=device,
        max_rows=None,
        progress=progress,
    )
    translator.save(folder)
    return translator, {"fit": translator.card["seconds"], "fit_cpu": round(time.process_time() - cpu, 3)}


def scored(translator: Translator, x: Array, y: Array, pool: Pool) -> dict[str, Any]:
    """Return the paper's numbers of one direction, the same of centred rows, and controls."""
    mean = translator.target.mean.float().cpu()
    given, true = torch.from_numpy(x), torch.from_numpy(y)
    mapped = torch.from_numpy(translator.translate(x))
    width = true.shape[1] - given.shape[1]
    order = torch.randperm(len(true), generator=torch.Generator().manual_seed(0))
    rows: Mapping[str, tuple[Tensor, Tensor]] = {
        "translated": (mapped, true),
        "identity": (torch.nn.functional.pad(given, (0, width)), true),  # a negative width cuts
        "mean": (mean.expand_as(true), true),
        "shuffled": (mapped, true[order]),
    }
    found = {name: in_pools(*pair, pool.pool) for name, pair in rows.items()}
    found["centred"] = in_pools(centred(mapped, mean), centred(true, mean), pool.pool)
    told = found.pop("translated")
    size = int(told["pool"])
    return {**told, "chance_rank": (size + 1) / 2, "centred": found.pop("centred"), "controls": found}


def in_pools(a: Tensor, b: Tensor, most: int) -> dict[str, Any]:
    """Return cosine, hits and ranks of pairs, in pools of `most` (a rest that fills none is left out), and the rank's error."""
    size = min(most, len(a))
    ranks: dict[str, list[Tensor]] = {"forward": [], "backward": []}
    top: dict[str, dict[int, list[float]]] = {side: {k: [] for k in TOP} for side in ranks}
    near = []
    for start in range(0, len(a) - size + 1, size):
        p, q = (unit(rows[start : start + size]) for rows in (a, b))
        near.append(cosines(p, q))
        both = retrieve(p, q, csls_neighbours=0).plain
        for side in ranks:
            one = getattr(both, side)
            ranks[side].append(one.mid)
            for k in TOP:
                top[side][k].append(one.top(k))
    told: dict[str, Any] = {"cosine": float(torch.cat(near).double().mean()), "pool": size, "pools": len(near)}
    for side, prefix in (("forward", ""), ("backward", "backward_")):
        every = torch.cat(ranks[side])
        spread = float(torch.stack([rank.var() for rank in ranks[side]]).mean())
        told |= {f"{prefix}top{k}": float(np.mean(top[side][k])) for k in TOP}
        told |= {f"{prefix}mean_rank": float(every.mean()), f"{prefix}mean_rank_error": (spread / len(every)) ** 0.5}
    return told
