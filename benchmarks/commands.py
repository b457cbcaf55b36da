"""commands — what single commands take that something was promised of: `--help`, the demo, and `evaluate` on a large pool.

In    nothing: the packaged sample, and made-up rows
Out   results/commands/NAME.json    wall and CPU seconds of each round, peak memory, and what the command said
Uses  record; the `crossvec` command, each time in a process of its own

`evaluate` scores 65,536 pairs of 768 columns: every query against the whole pool, both ways, plain and by CSLS. Beside it is
one product of two such clouds, by the same number of threads.
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
from typing import Any

import numpy as np
import torch
from record import RESULTS, load, save, versions

from crossvec.aligners import Linear
from crossvec.translator import Frame, Translator

PAIRS, COLUMNS = 65_536, 768
ROUNDS = {"help": 9, "demo": 1, "evaluate": 1}


def took(words: list[str]) -> dict[str, Any]:
    """Run crossvec and return seconds, peak memory, exit code and the JSON that it printed, if any."""
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = subprocess.Popen([sys.executable, "-m", "crossvec", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    return {
        "wall": round(time.perf_counter() - wall, 3),
        "cpu": round(used.ru_utime + used.ru_stime, 3),
        # Linux counts in KiB, and from what the parent held when it forked: of a command that holds less nothing is told.
        "peak_memory_bytes": used.ru_maxrss * 1024 if used.ru_maxrss > 2 * before else None,
        "exit_code": os.waitstatus_to_exitcode(status),
        "said": json.loads(said) if said.startswith(b"{") else None,
    }


def pairs(folder: Path) -> list[str]:
    """Write two clouds of near copies and a translator that leaves rows as they are; return what `evaluate` is to be given."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((PAIRS, COLUMNS), dtype=np.float32)
    for name in ("x", "y"):
        np.save(folder / f"{name}.npy", rows)
        rows += 3 * rng.standard_normal(rows.shape, dtype=np.float32)
    frame, same = Frame(torch.zeros(COLUMNS), 1.0, None), Linear.of(torch.eye(COLUMNS))
    Translator(same, same, frame, frame).save(folder / "t")
    return ["evaluate", str(folder / "t"), *(str(folder / f"{name}.npy") for name in ("x", "y")), "--format", "json"]


def product() -> dict[str, float]:
    """Return what one product of two such clouds takes, by blocks."""
    rows = torch.randn(PAIRS, COLUMNS)
    wall, cpu = time.perf_counter(), time.process_time()
    for block in rows.split(1024):
        block @ rows.T
    return {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}


def main() -> None:
    """Measure what has no result yet."""
    ask = argparse.ArgumentParser(prog="commands.py", description=__doc__.splitlines()[0])
    ask.add_argument("names", nargs="*", help="all, unless named")
    for name in ask.parse_args().names or ROUNDS:
        where = RESULTS / "commands" / f"{name}.json"
        if where.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            words = {
                "help": lambda: ["--help"],
                "demo": lambda: ["demo", "-o", f"{folder}/demo", "--format", "json"],  # noqa: B023 — called at once
                "evaluate": lambda: pairs(Path(folder)),  # noqa: B023
            }[name]()
            before = load()
            rounds = [took(words) for _ in range(ROUNDS[name])]
        beside = {"product": product()} if name == "evaluate" else {}
        save(where, {"rounds": rounds, **beside, "load_before": before, "versions": versions("python", "torch", "numpy")})


if __name__ == "__main__":
    main()
