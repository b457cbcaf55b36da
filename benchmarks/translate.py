"""translate — what `crossvec translate` costs beside the bare work: read, one matrix product, write.

In    ROWS (default 1,000,000) x 384 made-up rows in .npy, a linear translator with a bias to 256 dimensions
Out   results/translate/ROWS-THREADS.json: seconds of each of five interleaved rounds, their ratios, peak memory, the machine

Both sides end with fsync, so that neither is flattered by a disk cache that has yet to be written. Each runs in a process of
its own, which is where peak memory is read; starting it and importing are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from record import RESULTS, save, versions

from crossvec import stores
from crossvec.aligners import Linear
from crossvec.translator import Frame, Translator

DX, DY, BATCH = 384, 256, 8192


def bare(source: Path, dest: Path) -> None:
    x = np.load(source, mmap_mode="r")
    w = np.random.default_rng(1).standard_normal((DX, DY), dtype=np.float32)
    y = np.lib.format.open_memmap(dest, "w+", np.float32, (len(x), DY))
    for start in range(0, len(x), BATCH):
        np.matmul(x[start : start + BATCH], w, out=y[start : start + BATCH])
    y.flush()
    with open(dest, "rb+") as file:
        os.fsync(file.fileno())


def ours(folder: Path, source: Path, dest: Path) -> None:
    translator = Translator.load(folder)
    stores.open(dest).write(translator.stream(stores.open(source).read()))


def translator(folder: Path) -> None:
    made = torch.Generator().manual_seed(0)
    there, back = (torch.randn(a, b, generator=made) / a**0.5 for a, b in ((DX, DY), (DY, DX)))
    frames = [Frame(torch.randn(d, generator=made) / 40, 1.0, 1.0) for d in (DX, DY)]
    maps = (Linear(w, torch.randn(w.shape[1], generator=made) / 100) for w in (there, back))
    Translator(*maps, *frames).save(folder)


def child(what: str, *paths: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs="+")
    given = parser.parse_args()
    if given.child:
        what, *paths = given.child
        started = time.perf_counter()
        (bare if what == "bare" else ours)(*map(Path, paths))
        seconds = time.perf_counter() - started
        # Not getrusage: its peak is that of the parent, which has touched the whole source, when a child begins.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = int(status["VmHWM"].split()[0]) * 1024
        print(json.dumps({"seconds": seconds, "peak_memory_bytes": peak}))
        return
    with tempfile.TemporaryDirectory() as place:
        source, dest, folder = Path(place, "x.npy"), Path(place, "y.npy"), Path(place, "translator")
        x = np.lib.format.open_memmap(source, "w+", np.float32, (given.rows, DX))
        rng = np.random.default_rng(0)
        for start in range(0, given.rows, BATCH):
            part = rng.standard_normal((min(BATCH, given.rows - start), DX), dtype=np.float32)
            x[start : start + BATCH] = part / np.linalg.norm(part, axis=1, keepdims=True)
        x.flush()
        translator(folder)
        rounds = []
        for number in range(given.rounds):
            one = {"bare": child("bare", source, dest)}
            dest.unlink()
            one["crossvec"] = child("crossvec", folder, source, dest)
            dest.unlink()
            one["ratio"] = one["crossvec"]["seconds"] / one["bare"]["seconds"]
            print(
                number + 1, *(f"{what} {one[what]['seconds']:.2f} s" for what in ("bare", "crossvec")), f"{one['ratio']:.2f}x"
            )
            rounds.append(one)
    told = {
        "what": f"{given.rows:,} x {DX} -> {DY} float32, .npy to .npy, fsync on both sides",
        "rows": given.rows,
        "ratio": median(one["ratio"] for one in rounds),
        "peak_memory_bytes": max(one["crossvec"]["peak_memory_bytes"] for one in rounds),
        "rounds": rounds,
        "versions": versions("python", "numpy", "torch"),
    }
    save(RESULTS / "translate" / f"{given.rows}-{os.environ.get('OMP_NUM_THREADS', 'all')}.json", told, sort=False)
    print(f"median {told['ratio']:.2f}x, peak {told['peak_memory_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
