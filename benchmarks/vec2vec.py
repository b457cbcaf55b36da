"""vec2vec — measure the network: from a linear start, from nothing, term by term, and with a few pairs.

In    DATA/NAME.npy (n, d) with row i one text in every file; DATA/splits.json: source, target, eval
Out   results/vec2vec/PART-SOURCE-TARGET-VARIANT-SEED.json     scores of the linear start and of the end
Uses  crossvec.aligners, record

A row whose file exists is skipped, so an interrupted run goes on where it stopped. Linear maps are found once a direction and
seed and kept in a folder of their own, with the seconds that took; each row runs in its own process. Scores are of the centred
rows of the `eval` split, both directions, by pairs that no fit sees: what a fit chooses by is the label-free score beside them.
In the ablation nothing is chosen: the end is the last step, so that harm shows. The part `gpu` trains on CUDA; starts are
found, and all is scored, on the processor.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from record import DATA, RESULTS, gpu, save, versions

Row = dict[str, Any]

DIRECTIONS = [("wordllama", "potion"), ("minilm", "potion")]
SEEDS = {"warm": 5, "gpu": 5, "scratch": 5, "ablation": 1, "pairs": 3}
PUBLISHED = {"preset": "scratch", "start": "warm", "steps": 150, "warmup": 10, "ema": 0.9, "looks": 3, "precision": "bf16"}
WARM = {"precision": "bf16"}
SHORT = {**WARM, "steps": 100, "looks": 2}
BOUNDED = {"preset": "scratch", "steps": 1000, "looks": 10, "precision": "bf16"}

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "warm": {"small": WARM, "small-fp32": {}},
    "gpu": {"full": {"preset": "full", "precision": "bf16"}},
    "scratch": {"bounded": BOUNDED, "whole": {"preset": "scratch"}},
    "ablation": {
        "default": SHORT,
        "published": PUBLISHED,
        "published-slow": {**PUBLISHED, "rate": 2e-5},
        "published-without-adversarial": {**PUBLISHED, "without": "adversarial, latent"},
        "published-only-adversarial": {**PUBLISHED, "without": "rec, cycle, vsp, cycle_vsp, latent"},
        "without-rec": {**SHORT, "without": "rec"},
        "without-nearness": {**SHORT, "without": "nearness", "softness": 0.8},
        "with-cycle": {**SHORT, "cycle": 1.0, "detach_cycle": "no"},
        "with-vsp": {**SHORT, "vsp": 1.0, "vsp_form": "paper"},
        "with-adversarial": {**SHORT, "adversarial": 1.0},
        "with-latent": {**SHORT, "latent": 1.0},
        "shallow": {**SHORT, "adapter_depth": 1, "backbone_depth": 1},
        "wide": {**SHORT, "width": 512},
        "noisy": {**SHORT, "dropout": 0.1},
        "default-fp32": {**SHORT, "precision": "fp32"},
        "noisy-rows": {**SHORT, "noise": 0.3, "precision": "fp32"},
        "noisier-rows": {**SHORT, "noise": 1.0, "precision": "fp32"},
        "slow": {**SHORT, "rate": 2e-4},
        "frozen-backbone": {**SHORT, "frozen": "backbone"},
        "frozen-adapters": {**SHORT, "frozen": "adapters"},
    },
    "pairs": {str(pairs): {**SHORT, "pairs": pairs} for pairs in (0, 10, 100, 1000)},
}
"""By part and variant, the aligner's settings; `pairs` are known pairs drawn from the source split."""


def rows_of(part: str) -> Iterator[Row]:
    for seed in range(SEEDS[part]):
        for source, target in DIRECTIONS:
            for variant, settings in VARIANTS[part].items():
                yield {
                    "part": part,
                    "source": source,
                    "target": target,
                    "variant": variant,
                    "seed": seed,
                    "settings": settings,
                }


def place(row: Row) -> Path:
    name = "-".join(str(row[key]) for key in ("part", "source", "target", "variant", "seed"))
    return RESULTS / "vec2vec" / f"{name}.json"


def measure(row: Row, folder: Path, starts: Path) -> dict[str, Any]:
    import numpy as np
    import torch

    from crossvec.aligners.vec2vec import Neural, Vec2Vec
    from crossvec.aligners.vec2vec.data import Rows
    from crossvec.aligners.vec2vec.health import built_in
    from crossvec.aligners.vec2vec.run import train
    from crossvec.geometry import unit
    from crossvec.machine import peak_memory
    from crossvec.metrics import retrieve

    splits = json.loads((folder / "splits.json").read_text())
    wanted = dict(row["settings"])
    pairs = wanted.pop("pairs", 0)
    ends = {end: np.load(folder / f"{row[end]}.npy", mmap_mode="r", allow_pickle=False) for end in ("source", "target")}

    def read(end: str, split: str) -> torch.Tensor:
        return unit(torch.from_numpy(np.asarray(ends[end][slice(*splits[split])], dtype=np.float32)))

    seen = {end: read(end, end) for end in ends}
    means = {end: rows.mean(0) for end, rows in seen.items()}
    spaces = {end: unit(rows - means[end]) for end, rows in seen.items()}
    held = {end: unit(read(end, "eval") - means[end]) for end in ends}

    def scored(there: Any, back: Any) -> dict[str, Any]:
        told = {}
        for name, map_, a, b in (("forward", there, "source", "target"), ("backward", back, "target", "source")):
            mapped = unit(map_(held[a]))
            ranks = retrieve(mapped, held[b], csls_neighbours=0).plain.forward
            told[name] = {"top1": ranks.top(1), "mean_rank": ranks.mean_rank, "cosine": float((mapped * held[b]).sum(1).mean())}
        return told

    settings = Vec2Vec(**wanted, seed=row["seed"])
    found: dict[str, Any] = {"scores": {}, "seconds": {}}
    linear = {}
    if settings.warm:
        alignment, found["seconds"]["start"] = started(spaces, starts / f"{row['source']}-{row['target']}-{row['seed']}")
        found["scores"]["start"] = scored(alignment.map, alignment.inverse)
        linear = {("source", "target"): alignment}
    known = None
    if pairs:  # rows of the source's texts join the target, so that partners are there
        texts = np.sort(np.random.default_rng(row["seed"]).choice(np.arange(*splits["source"]), pairs, replace=False))
        more = unit(torch.from_numpy(np.asarray(ends["target"][texts], dtype=np.float32))) - means["target"]
        known = torch.stack([torch.from_numpy(texts), torch.arange(pairs) + len(spaces["target"])], dim=1)
        spaces["target"] = torch.cat([spaces["target"], unit(more)])
    wall, cpu = time.perf_counter(), time.process_time()
    device = torch.device("cuda" if row["part"] == "gpu" else "cpu")
    rows = {end: Rows.of(rows.to(device)) for end, rows in spaces.items()}
    score = built_in(rows, settings.seed, device)
    seen: list[float] = []

    def judged(network: Any) -> float:
        seen.append(score(network))
        return float(len(seen)) if row["part"] == "ablation" else seen[-1]

    best = train(settings, rows, linear=lambda: linear, pairs=known, scores=judged, device=device)
    found["seconds"] |= {
        "train": round(time.perf_counter() - wall, 1),
        "train_cpu": round(time.process_time() - cpu, 1),
    }
    maps = (Neural.of(best.best.network.cpu(), a, b) for a, b in (("source", "target"), ("target", "source")))
    found["scores"]["end"] = scored(*maps)
    seen = seen[-len(best.best.looks) :]  # sick trainings come before
    looks = [
        {"step": look.step, "score": value, "told_apart": look.told_apart, "parts": look.record()["parts"]}
        for look, value in zip(best.best.looks, seen, strict=True)
    ]
    return {
        **found,
        "label_free": {"start": seen[0], "end": max(seen), "best_step": best.best.step, "looks": looks},
        "ended": [record["ended"] for record in best.trace],
        "healthy": best.healthy,
        "peak_memory_bytes": peak_memory(),
        "recipe": {**vars(settings.recipe()), **vars(settings.objective(pairs=pairs))},
        **gpu(device.type),
        "versions": versions("torch", "numpy"),
        "error": None,
    }


def started(spaces: dict[str, Any], kept: Path) -> tuple[Any, float]:
    """The linear maps of `moments`, and the seconds of processor time that finding them took, now or before."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from crossvec.aligners import Alignment
    from crossvec.aligners.maps import Linear
    from crossvec.aligners.moments import Moments

    names = ("there.weight", "there.bias", "back.weight", "back.bias")
    file = kept.with_suffix(".safetensors")
    if not file.exists():
        cpu = time.process_time()
        made = Moments(seed=int(kept.name.split("-")[-1]), finish="orthogonal").fit(spaces["source"], spaces["target"])
        cpu = time.process_time() - cpu
        both = (made.map.weight, made.map.bias, made.inverse.weight, made.inverse.bias)  # type: ignore[attr-defined]
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        save_file({name: tensor.contiguous() for name, tensor in zip(names, both, strict=True)}, part, {"seconds": str(cpu)})
        part.replace(file)
    with safe_open(file, framework="pt") as kept_maps:
        w, b, v, c = (kept_maps.get_tensor(name) for name in names)
        return Alignment(Linear(w, b), Linear(v, c)), round(float(kept_maps.metadata()["seconds"]), 1)


def child(row: Row, folder: Path, starts: Path) -> None:
    save(place(row), {"row": row, **measure(row, folder, starts)})


def table(part: str) -> None:
    """Print what there is of a part."""
    for row in rows_of(part):
        if place(row).exists():
            told = json.loads(place(row).read_text(encoding="utf-8"))
            for stage, both in told["scores"].items():
                ways = "   ".join(
                    f"{s['top1']:.4f} {s['mean_rank']:7.2f} {s['cosine']:.4f}" for s in (both["forward"], both["backward"])
                )
                print(f"{place(row).stem:58} {stage:7} {ways}")


def main() -> int:
    ask = argparse.ArgumentParser(prog="vec2vec.py", description="Measure the network; finished rows are skipped.")
    ask.add_argument("part", nargs="?", choices=list(VARIANTS))
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors (or set CROSSVEC_WIKI)")
    ask.add_argument(
        "--starts", type=Path, default=Path(tempfile.gettempdir()) / "crossvec-starts", help="folder of linear maps"
    )
    ask.add_argument("--only", default="*", help="run the rows whose name matches")
    ask.add_argument("--table", action="store_true", help="print the rows that are there, and stop")
    ask.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.row:
        child(given.row, given.data, given.starts)
        return 0
    if not given.part:
        ask.error(f"name a part: {', '.join(VARIANTS)}")
    if given.table:
        table(given.part)
        return 0
    broken = 0
    for row in rows_of(given.part):
        if fnmatch.fnmatch(place(row).stem, given.only) and not place(row).exists():
            print(place(row).stem, file=sys.stderr, flush=True)
            words = [
                sys.executable,
                __file__,
                "--row",
                json.dumps(row),
                "--data",
                str(given.data),
                "--starts",
                str(given.starts),
            ]
            broken += subprocess.run(words, check=False).returncode != 0
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
