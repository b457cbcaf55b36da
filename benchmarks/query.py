"""query — what the translation of one query costs, beside the encoder's own time.

In    saved translators (--translator FOLDER), and linear ones made here, dims --dims
Out   results/query/query.json: microseconds a query on the clock and on the CPU, median and 99th percentile, by map and dims
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from record import RESULTS, load, save, versions

from crossvec.aligners.maps import Linear
from crossvec.translator import Frame, Translator


def made(dx: int, dy: int, bias: bool) -> Translator:
    """A linear translator of these dims, as `moments` (no bias) and `ridge` (bias) learn; what is in it costs the same."""
    generator = torch.Generator().manual_seed(0)
    weight, back = (torch.randn(shape, generator=generator) for shape in ((dx, dy), (dy, dx)))
    shift = 0.01 if bias else 0.0
    frames = (Frame(torch.full((d,), 0.1 / d**0.5), 1.0, 1.0) for d in (dx, dy))
    return Translator(Linear(weight, torch.full((dy,), shift)), Linear(back, torch.full((dx,), shift)), *frames)


def timed(translator: Translator, queries: int) -> dict[str, float]:
    rows = np.random.default_rng(1).standard_normal((queries, 1, translator.source.dim)).astype(np.float32)
    for row in rows[:100]:
        translator.translate(row)
    took = []
    for row in rows:
        start = time.perf_counter_ns(), time.thread_time_ns()
        translator.translate(row)
        took.append((time.perf_counter_ns() - start[0], time.thread_time_ns() - start[1]))
    wall, cpu = np.array(took).T / 1000
    tails = {f"{name}_p99_us": round(float(np.percentile(each, 99)), 1) for name, each in (("wall", wall), ("cpu", cpu))}
    return {"wall_median_us": round(float(np.median(wall)), 1), "cpu_median_us": round(float(np.median(cpu)), 1), **tails}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--translator", type=Path, action="append", default=[])
    asked.add_argument("--dims", nargs="*", default=["384:128", "384:768", "1536:384", "3072:1536"])
    asked.add_argument("--queries", type=int, default=2000)
    asked.add_argument("--out", type=Path, default=RESULTS / "query" / "query.json")
    given = asked.parse_args()
    torch.set_num_threads(1)
    cases = [(str(path.name), Translator.load(path)) for path in given.translator]
    for dims in given.dims:
        dx, dy = map(int, dims.split(":"))
        cases += [("with bias" if bias else "without bias", made(dx, dy, bias)) for bias in (False, True)]
    told = {
        "threads": 1,
        "load_before": load(),
        "versions": versions("torch"),
        "queries": given.queries,
        "cases": [
            {"translator": name, "dx": t.source.dim, "dy": t.target.dim, "map": t.forward.kind, **timed(t, given.queries)}
            for name, t in cases
        ],
    }
    save(given.out, told, sort=False)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
