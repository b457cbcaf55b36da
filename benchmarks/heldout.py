"""heldout — measure: what pairs held out say of a map, and what the map does: where must the line be drawn?

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json: source, eval
Out   results/held-out/SOURCE-TARGET.json    a run for each number of pairs, aligner and seed: nearness, status, top-1 over the
                                             ceiling, verdict
Uses  record; crossvec.fitting, evaluation

The ceiling is Procrustes on all pairs there are here. Control: as many pairs whose partners are shuffled.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from record import DATA, RESULTS, save, versions

from crossvec.evaluation import evaluate
from crossvec.fitting import fit
from crossvec.space import Space

DIRECTIONS = (("minilm", "potion"), ("minilm", "wordllama"), ("wordllama", "potion"))
ROWS = 12_000
PAIRS = (10, 20, 40, 80, 160, 320, 1000, 3000, ROWS)
SEEDS = 2


def measured(folder: Path, source: str, target: str) -> dict[str, Any]:
    """Fit and score every case of a direction, with a line on standard error for each."""
    splits = json.loads((folder / "splits.json").read_text())
    known, unseen = (np.arange(*splits[name]) for name in ("source", "eval"))
    sides = [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in (source, target)]
    x, y = (Space.of(np.asarray(side[known[:ROWS]], np.float32)) for side in sides)
    held_x, held_y = (Space.of(np.asarray(side[unseen], np.float32)) for side in sides)

    def one(p: int, name: str, seed: int, shuffled: bool) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        at = np.sort(rng.choice(ROWS, p, replace=False))
        pairs = np.stack([at, rng.permutation(at) if shuffled else at], axis=1)
        started = time.process_time()
        learned = fit(x, y, name, pairs=pairs, seed=seed)
        seconds = time.process_time() - started
        scores = evaluate(learned, held_x, held_y)
        return {
            "pairs": p,
            "aligner": name,
            "seed": seed,
            "shuffled": shuffled,
            "held_out": learned.card["held_out"],
            "verdict": learned.verdict.status if learned.verdict else None,
            "top1": {"forward": scores.forward.top1, "backward": scores.backward.top1},
            "fit_cpu_seconds": round(seconds, 2),
        }

    ceiling = one(ROWS, "procrustes", 0, shuffled=False)["top1"]
    runs = []
    for p, seed in product(PAIRS, range(SEEDS)):
        for name, shuffled in (("procrustes", False), ("ridge", False), ("procrustes", True)):
            run = one(p, name, seed, shuffled)
            run["share"] = {way: run["top1"][way] / ceiling[way] for way in ceiling}
            runs.append(run)
            told = run["held_out"]
            print(
                f"{source} {target} {p} {name}{' shuffled' if shuffled else ''} {seed}: nearness {told['low']:.3f} to"
                f" {told['high']:.3f} {told['status']}, share {run['share']['forward']:.3f} {run['share']['backward']:.3f},"
                f" verdict {run['verdict']}",
                file=sys.stderr,
                flush=True,
            )
    return {"source": source, "target": target, "rows": ROWS, "ceiling": ceiling, "runs": runs}


def main() -> None:
    """Measure the directions that have no result yet."""
    ask = argparse.ArgumentParser(prog="heldout.py", description=__doc__.splitlines()[0])
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors (or set CROSSVEC_WIKI)")
    folder = ask.parse_args().data
    for source, target in DIRECTIONS:
        where = RESULTS / "held-out" / f"{source}-{target}.json"
        if not where.exists():
            save(where, {**measured(folder, source, target), "versions": versions("python", "torch", "numpy")})


if __name__ == "__main__":
    main()
