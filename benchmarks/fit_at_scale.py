"""fit_at_scale — what a fit costs, and what it gains, from 10,000 to 1,000,000 rows a side.

In    DATA/NAME.npy (n, d) with row i one text in every file; DATA/splits.json: source, target, eval
Out   results/fit-at-scale/SHAPE-ROWS.json    seconds, CPU seconds, peak memory, scores on the real rows of `eval`, verdict
Uses  crossvec.geometry, the `crossvec` command, record

There are 36,000 real rows a side. A row made for more is a real one moved by up to half toward one of the ten nearest on its
own side: a denser cloud, not a wider one. Every size is the beginning of one file of made rows; scores are of real rows.
`wide` is the rows of three encoders side by side, 768 columns, weighted differently on each side, the target turned by a random
rotation: it measures memory and time only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import DATA, RESULTS, save

from crossvec.geometry import nearest, unit

SHAPES = {"minilm-wordllama": (("minilm",), ("wordllama",)), "wide": (("minilm", "wordllama", "potion"),) * 2}
WEIGHTS = {"source": (1.0, 1.0, 1.0), "target": (0.8, 1.0, 1.2)}
ROWS = (10_000, 36_000, 100_000, 300_000, 1_000_000)
BLOCK = 50_000


def real(data: Path, shape: str, side: str, split: str) -> torch.Tensor:
    """Return the unit rows of a split on one side, in the order of their texts."""
    names = SHAPES[shape][side == "target"]
    first, last = json.loads((data / "splits.json").read_text())[split]
    parts = [np.load(data / f"{name}.npy", mmap_mode="r", allow_pickle=False)[first:last] for name in names]
    weights = WEIGHTS[side] if len(names) > 1 else (1.0,)
    rows = torch.cat([w * unit(torch.from_numpy(p.astype(np.float32))) for w, p in zip(weights, parts, strict=True)], dim=1)
    if shape == "wide" and side == "target":
        turn = torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1], generator=torch.Generator().manual_seed(9)))[0]
        rows = rows @ turn
    return unit(rows)


def made(data: Path, shape: str, side: str, rows: int, folder: Path) -> Path:
    """Write so many made rows of a side, unless they are there, and return their file."""
    path = folder / f"{shape}-{side}-{rows}.npy"
    if path.exists():
        return path
    x = real(data, shape, side, side)
    centred = unit(x - x.mean(0))
    near = nearest(centred, centred, 11)[1][:, 1:]
    generator = torch.Generator().manual_seed(0 if side == "source" else 1)
    half = path.with_suffix(".tmp")
    whole = np.lib.format.open_memmap(half, "w+", dtype=np.float32, shape=(rows, x.shape[1]))
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        i = torch.randint(len(x), (count,), generator=generator)
        j = near[i, torch.randint(10, (count,), generator=generator)]
        t = torch.rand(count, 1, generator=generator) / 2
        whole[first : first + count] = unit((1 - t) * x[i] + t * x[j]).numpy()
    whole.flush()
    half.replace(path)
    return path


def measure(data: Path, shape: str, rows: int, effort: str, folder: Path) -> None:
    place = RESULTS / "fit-at-scale" / f"{shape}-{rows}{'' if effort == 'standard' else f'-{effort}'}.json"
    if place.exists():
        return
    ends = {side: made(data, shape, side, max(ROWS), folder) for side in ("source", "target")}
    out = folder / f"{shape}-{rows}"
    sliced = [f"{path}?rows=0:{rows}" for path in ends.values()]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-m",
        "crossvec",
        "fit",
        *sliced,
        "-o",
        out,
        "-a",
        "moments",
        "--max-rows",
        rows,
        "--effort",
        effort,
    ]
    done = subprocess.run([*map(str, command), "--format", "json"], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout)
    from crossvec import Translator, evaluate
    from crossvec.space import Space

    held = [Space.of(real(data, shape, side, "eval").numpy()) for side in ("source", "target")]
    scores = evaluate(Translator.load(out), *held).to_json()
    found = {
        "rows": rows,
        "shape": shape,
        "effort": effort,
        "dims": [space.dim for space in held],
        "seconds": round(time.perf_counter() - begun, 1),
        "fit_seconds": told["seconds"],
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_bytes": told["peak_memory_bytes"],
        "verdict": told["verdict"],
        "scores": scores,
    }
    save(place, found)
    top1 = scores["forward"]["top1"]
    print(shape, rows, f"{told['seconds']:.0f} s", f"{told['peak_memory_bytes'] / 2**30:.2f} GiB", f"top-1 {top1}", flush=True)


def main() -> None:
    wanted = argparse.ArgumentParser(description="Fit clouds of growing size; finished sizes are skipped.")
    wanted.add_argument("--data", type=Path, default=DATA)
    wanted.add_argument("--shape", choices=SHAPES, default="minilm-wordllama")
    wanted.add_argument("--effort", choices=("quick", "standard", "thorough"), default="standard")
    wanted.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    wanted.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "crossvec-scale", help="for made rows")
    given = wanted.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    for rows in given.rows:
        measure(given.data, given.shape, rows, given.effort, given.folder)


if __name__ == "__main__":
    main()
