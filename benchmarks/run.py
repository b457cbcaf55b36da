"""run — measure: one row of a suite at a time, each in its own process, each leaving one JSON file.

In    suite.toml; DATA/NAME.npy (n, d) with row i one text in every file; DATA/splits.json: source, target, eval
Out   results/SUITE/ROW.json     settings, scores with controls, verdict, seconds, peak memory, machine, versions, commit
Uses  record; crossvec.fitting, evaluation: the parent process imports neither, so that a child's peak memory is its own

A row whose file exists is skipped, so an interrupted run goes on where it stopped. A row that fails or runs out of time is
written too, with its error and no scores: it counts as a failure in every table.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from record import DATA, HERE, RESULTS, save

SUITES = tomllib.loads((HERE / "suite.toml").read_text(encoding="utf-8"))

Row = dict[str, Any]


def rows_of(suite: str) -> Iterator[Row]:
    """Every row of a suite, quick controls and ceilings of a direction before its searches."""
    plan = SUITES[suite]
    for rows in plan["rows"]:
        for source, target in plan["directions"]:
            for aligner in [*plan["once"], *plan["seeded"]]:
                for seed in range(plan["seeds"] if aligner in plan["seeded"] else 1):
                    settings = dict(plan.get("variants", {}).get(aligner, {}))
                    method = settings.pop("aligner", aligner)
                    row = {"source": source, "target": target, "rows": rows, "aligner": aligner, "seed": seed}
                    yield {"suite": suite, **row, "method": method, "settings": settings}


def name(row: Row) -> str:
    return f"{row['source']}-{row['target']}-{row['rows']}-{row['aligner']}-{row['seed']}"


def place(row: Row) -> Path:
    return RESULTS / row["suite"] / f"{name(row)}.json"


def write(row: Row, result: dict[str, Any]) -> None:
    save(place(row), {"row": row, **result})


def measure(row: Row, folder: Path) -> dict[str, Any]:
    """Fit and score one row, in this process."""
    import numpy as np

    from crossvec.aligners import aligner_class
    from crossvec.evaluation import evaluate
    from crossvec.fitting import fit
    from crossvec.machine import peak_memory
    from crossvec.space import Space

    splits = json.loads((folder / "splits.json").read_text())
    vectors = {
        encoder: np.load(folder / f"{encoder}.npy", mmap_mode="r", allow_pickle=False)
        for encoder in (row["source"], row["target"])
    }
    paired = row["method"] != "auto" and aligner_class(row["method"]).needs_pairs
    rng = np.random.default_rng(row["seed"])

    def drawn(split: str) -> np.ndarray:
        start, stop = splits[split]
        if row["rows"] > stop - start:
            raise ValueError(f"the split {split} has {stop - start} rows, not {row['rows']}")
        if row["rows"] == stop - start:
            return np.arange(start, stop)
        return np.sort(rng.choice(np.arange(start, stop), row["rows"], replace=False))

    def space(encoder: str, numbers: np.ndarray) -> Space:
        return Space.of(np.asarray(vectors[encoder][numbers], dtype=np.float32), name=encoder)

    seen = drawn("source")
    source, target = space(row["source"], seen), space(row["target"], seen if paired else drawn("target"))
    held_out = np.arange(*splits["eval"])
    pairs = np.stack([np.arange(row["rows"])] * 2, axis=1) if paired else None

    wall, cpu = time.perf_counter(), time.process_time()
    translator = fit(source, target, row["method"], pairs=pairs, seed=row["seed"], settings=row["settings"])
    seconds = {"fit": round(time.perf_counter() - wall, 2), "fit_cpu": round(time.process_time() - cpu, 2)}
    memory = peak_memory()

    wall = time.perf_counter()
    scores = evaluate(translator, space(row["source"], held_out), space(row["target"], held_out)).to_json()
    seconds["evaluate"] = round(time.perf_counter() - wall, 2)
    return {
        "scores": scores,
        "verdict": translator.verdict.to_json() if translator.verdict else None,
        "seconds": seconds,
        "peak_memory_bytes": memory,
        "settings": translator.card["settings"],
        "versions": translator.card["versions"],
        "error": None,
    }


def child(row: Row, folder: Path) -> None:
    from crossvec.errors import CrossvecError

    try:
        write(row, measure(row, folder))
    except (CrossvecError, MemoryError) as refused:
        write(row, {"error": f"{type(refused).__name__}: {refused}"})


def parent(suite: str, folder: Path, only: str, again: bool) -> int:
    todo = [row for row in rows_of(suite) if fnmatch.fnmatch(name(row), only) and (again or not place(row).exists())]
    print(f"{suite}: {len(todo)} rows to run", file=sys.stderr)
    broken = 0
    for number, row in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {name(row)}", end=" ", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--row", json.dumps(row), "--data", str(folder)]
        limit = SUITES[suite]["limit"]
        place(row).unlink(missing_ok=True)
        try:
            done = subprocess.run(command, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            write(row, {"error": f"not finished after {limit} s"})
        else:
            if done.returncode < 0:
                write(row, {"error": f"killed by signal {-done.returncode}"})
            elif done.returncode:  # a bug, here or in crossvec: nothing is written, so the row runs again once it is mended
                print("broke", file=sys.stderr)
                broken += 1
                continue
        print(summary(json.loads(place(row).read_text(encoding="utf-8"))), file=sys.stderr)
    return 1 if broken else 0


def summary(result: dict[str, Any]) -> str:
    if result["error"]:
        return str(result["error"])
    scores, verdict = result["scores"]["forward"], result["verdict"]
    said = verdict["status"] if verdict else "not judged"
    return f"top-1 {scores['top1']:.3f}  rank {scores['mean_rank']:.1f}  {result['seconds']['fit']} s  {said}"


def main() -> int:
    ask = argparse.ArgumentParser(prog="run.py", description="Run a benchmark suite; finished rows are skipped.")
    ask.add_argument("suite", nargs="?", choices=list(SUITES), help="a table of suite.toml")
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors (or set CROSSVEC_WIKI)")
    ask.add_argument("--only", default="*", help="run the rows whose name matches, such as 'minilm-potion-*-moments-*'")
    ask.add_argument("--again", action="store_true", help="run rows again that have a result")
    ask.add_argument("--list", action="store_true", help="name the rows that would run, and stop")
    ask.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.row:
        child(given.row, given.data)
        return 0
    if not given.suite:
        ask.error(f"name a suite: {', '.join(SUITES)}")
    if given.list:
        names = [name(row) for row in rows_of(given.suite) if given.again or not place(row).exists()]
        print("\n".join(fnmatch.filter(names, given.only)))
        return 0
    if not (given.data / "splits.json").is_file():
        ask.error(f"{given.data} has no splits.json: give the folder of the vectors with --data, or set CROSSVEC_WIKI")
    return parent(given.suite, given.data, given.only, given.again)


if __name__ == "__main__":
    sys.exit(main())
