"""scale — what two of Ray's workers cost beside one process that does the same: Parquet shards in, Parquet shards out.

In    --rows N x 384, random unit vectors made here, in --shards files; a linear map to 256 dimensions
Out   results/scale/ROWS.json     seconds by the clock and of processors, ratios per core, peak memory of a worker, the machine
Uses  record, crossvec.scale; ray; the parent only starts children, so that each child's memory is its own

The stream reads, translates and writes shard by shard in one process with one thread. The workers do it under a ledger. Both
sync every file. Clocks are told beside processor seconds, since other work on the machine stretches only the former; Ray's own
processes count as the workers' cost. The cluster's start is told apart: it is paid once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

DX, DY, BATCH, SEED = 384, 256, 8192, 0
WORKERS = 2


def translator() -> Any:
    import torch

    from crossvec.aligners.maps import Linear
    from crossvec.translator import Frame, Translator

    turn = torch.linalg.qr(torch.randn(DX, DY, generator=torch.Generator().manual_seed(SEED))).Q
    maps = Linear(turn, torch.zeros(DY)), Linear(turn.T.contiguous(), torch.zeros(DX))
    return Translator(*maps, Frame(torch.full((DX,), 0.01), 1.0, 1.0), Frame(torch.full((DY,), 0.01), 1.0, 1.0))


def fill(folder: Path, rows: int, shards: int) -> dict[str, Any]:
    import numpy as np

    from crossvec import stores
    from crossvec.space import Space

    rng = np.random.default_rng(SEED)
    edges = np.linspace(0, rows, shards + 1).astype(int)

    def batches(start: int, stop: int) -> Any:
        for at in range(start, stop, BATCH):
            x = rng.standard_normal((min(BATCH, stop - at), DX), dtype=np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            yield Space.of(x, np.arange(at, at + len(x)))

    folder.mkdir(parents=True)
    for number, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        stores.open(folder / f"{number:04d}.parquet").write(batches(int(start), int(stop)))
    return {"bytes": sum(path.stat().st_size for path in folder.iterdir())}


def stream(source: Path, dest: Path) -> dict[str, Any]:
    from crossvec import stores
    from crossvec.machine import peak_memory

    work = translator()
    dest.mkdir()
    wall, cpu = time.perf_counter(), time.process_time()
    rows = sum(
        stores.open(dest / path.name).write(work.stream(stores.open(path).read(BATCH))) for path in sorted(source.iterdir())
    )
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {"rows": rows, "seconds": seconds, "peak_memory_bytes": peak_memory()}


def workers(source: Path, dest: Path) -> dict[str, Any]:
    from crossvec.scale import engines
    from crossvec.scale.job import translation

    started = time.perf_counter()
    with engines.session(engines.Ray(asked=WORKERS)):
        begun = time.perf_counter()
        before = processors()
        job = translation(translator(), str(source), str(dest), batch=BATCH)
        outcome = job.run(engines.Ray(asked=WORKERS))
        wall, cpu = time.perf_counter() - begun, processors() - before
        peaks = [json.loads(note.read_text())["done"]["peak_memory_bytes"] for note in (dest / "_crossvec/done").iterdir()]
    return {
        "rows": outcome.rows,
        "seconds": {"wall": wall, "cpu": cpu, "start": begun - started},
        "peak_memory_bytes": max(peaks),
        "memory_said_bytes": job.needed,
    }


def processors() -> float:
    """Processor seconds of this process and of everything that it has started, Ray's own processes too."""
    ticks, parents, used = os.sysconf("SC_CLK_TCK"), {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(int(field) for field in fields[11:15]) / ticks

    def ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    return sum(seconds for process, seconds in used.items() if ours(process))


def run(*words: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(words[0], told, file=sys.stderr, flush=True)
    return told


def measure(rows: int, shards: int, folder: Path, rounds: int) -> dict[str, Any]:
    load = record.load()
    place = Path(tempfile.mkdtemp(prefix="crossvec-scale-", dir=folder))
    told = []
    try:
        run("fill", place / "in", rows, shards)
        for number in range(rounds):
            one = {}
            for who in ("stream", "workers"):
                one[who] = run(who, place / "in", place / f"{who}-{number}")
                if who == "workers":
                    same(place / f"stream-{number}", place / f"workers-{number}")
            for who in one:
                shutil.rmtree(place / f"{who}-{number}")
            alone, both = (one[who]["seconds"] for who in ("stream", "workers"))
            one["ratio_per_core"] = {"wall": WORKERS * both["wall"] / alone["wall"], "cpu": both["cpu"] / alone["cpu"]}
            told.append(one)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {
        "what": f"{rows:,} x {DX} -> {DY} float32, {shards} Parquet shards to {shards}, with ids",
        "rows": rows,
        "workers": WORKERS,
        "rounds": told,
        "load_before": load,
        "versions": record.versions("ray", "torch", "numpy", "pyarrow"),
    }


def same(one: Path, other: Path) -> None:
    """Stop unless both folders hold the same files, byte for byte."""
    import filecmp

    names = sorted(path.name for path in one.iterdir())
    equal, wrong, missing = filecmp.cmpfiles(one, other, names, shallow=False)
    if wrong or missing or len(equal) != len(list(other.glob("*.parquet"))):
        raise SystemExit(f"the workers wrote something else than the stream: {wrong or missing}")


def child(what: str, *words: str) -> dict[str, Any]:
    if what == "fill":
        return fill(Path(words[0]), int(words[1]), int(words[2]))
    import torch

    torch.set_num_threads(1)
    return {"stream": stream, "workers": workers}[what](Path(words[0]), Path(words[1]))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:])))
        return
    ask = argparse.ArgumentParser(prog="scale.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--shards", type=int, default=16)
    ask.add_argument("--rounds", type=int, default=1)
    ask.add_argument("--folder", type=Path, help="where 15 GB are free  [default: the system's place for temporary files]")
    given = ask.parse_args()
    told = measure(given.rows, given.shards, given.folder, given.rounds)
    record.save(record.RESULTS / "scale" / f"{given.rows}.json", told, sort=False)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
