"""__main__ — run an experiment: `python -m experiments NAME`; finished rows are skipped.

In    NAME.toml; texts and encoders (hub, folders), or --data FOLDER of ready vectors
Out   OUT/NAME/ROW.json     scores beside the paper's figures; OUT/models: what was fitted
Uses  experiments.{plan, texts, scoring}
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossvec.errors import CrossvecError, UsageError
from experiments import plan as plans
from experiments.plan import Plan, Row
from experiments.texts import Clouds

ELSEWHERE = "name another folder with --out, or remove that file"

OUT = Path(__file__).resolve().parent / "results"


def main(words: list[str] | None = None) -> int:
    """Run what is asked for; return the exit code: 2 for what cannot be run as asked."""
    ask = argparse.ArgumentParser(prog="python -m experiments", description="Run a table of the vec2vec paper.")
    ask.add_argument("name", help=f"{', '.join(plans.names())}, or a TOML file")
    ask.add_argument("--data", type=Path, help="ready vectors, FOLDER/NAME.npy and FOLDER/splits.json, in place of texts")
    ask.add_argument("--download", action="store_true", help="allow fetching datasets and models from the Hugging Face hub")
    ask.add_argument("--dataset", action="append", default=[], metavar="NAME=FOLDER", help="a folder `save_to_disk` wrote")
    ask.add_argument("--encoder", action="append", default=[], metavar="NAME=ENCODER", help="a name or folder for crossvec")
    ask.add_argument("--rows", type=int, default=0, help="at most so many texts of each side")
    ask.add_argument("--held", type=int, default=0, help="at most so many texts to score on")
    ask.add_argument("--pool", action="append", default=[], metavar="NAME", help="score on this pool, not on all of them")
    ask.add_argument("-s", dest="settings", action="append", default=[], metavar="ALIGNER.key=value")
    ask.add_argument("--only", default="*", help="run the rows whose name matches")
    ask.add_argument("--device", default="auto")
    ask.add_argument("--out", type=Path, default=OUT, help="folder of results")
    ask.add_argument("--cache", type=Path, help="folder of encoded texts (default: OUT/vectors)")
    ask.add_argument("--list", action="store_true", help="name the rows that would run, and stop")
    ask.add_argument("--table", action="store_true", help="print the results that are there, and stop")
    given = ask.parse_args(words)
    try:
        return run(given)
    except CrossvecError as problem:
        sys.stderr.write(f"error: {problem}\n" + (f"  {problem.hint}\n" if problem.hint else ""))
        return problem.exit_code


def run(given: argparse.Namespace) -> int:
    """Run the rows that have no result yet."""
    plan = plans.load(given.name)
    if given.table:
        table(given.out / plan.name)
        return 0
    for name in ("rows", "held"):
        if getattr(given, name) < 0:
            raise UsageError(f"--{name} cannot be {getattr(given, name)}", "use a whole number such as 1000")
    plan = plan.scored_on(given.pool).changed(given.rows, given.held, settings_of(given.settings))
    from crossvec.aligners import create
    from experiments.texts import Folder, Texts

    if given.data:
        clouds: Any = Folder(given.data, given.held)
    else:
        places = (pairs_of(given.dataset, "--dataset"), pairs_of(given.encoder, "--encoder"))
        clouds = Texts(plans.shared(), given.cache or given.out / "vectors", given.download, given.device, *places, tell)
    if given.data or not given.list:  # to name rows nothing need be opened but a folder that says which spaces there are
        plan = clouds.spaces(plan)
    chosen = [row for row in plan.rows_of() if fnmatch.fnmatch(row.name, given.only)]
    if not chosen:
        names = [row.name for row in plan.rows_of()]
        raise UsageError(f"no row matches {given.only!r}", f"rows are named like {names[0]}")
    if given.list:
        say("\n".join(row.name for row in chosen))
        return 0
    for row in chosen:
        create(row.method.aligner, row.method.settings)  # a wrong setting of the last row is told before the first one
    for folder in (given.out / plan.name, given.out / "models"):
        make_folder(folder)
    todo = [row for row in chosen if not finished(given.out / plan.name, row, plan, clouds)]
    tell(f"{plan.name} ({plan.table}): {len(todo)} of {len(chosen)} rows to run", 0.0)
    from experiments.scoring import measure

    for number, row in enumerate(todo, 1):
        tell(f"[{number}/{len(todo)}] {row.name}", 0.0)
        found = measure(plan, row, clouds, given.out / "models", given.device, tell)
        write(given.out / plan.name, row, {"table": plan.table, **found})
    table(given.out / plan.name)
    return 0


def finished(folder: Path, row: Row, plan: Plan, clouds: Clouds) -> bool:
    """Return whether a row has its result; raises UsageError when what is there is of other settings, rows or pools."""
    path = folder / f"{row.name}.json"
    if not path.exists():
        return False
    told = read(path)
    names = [pool.name for pool in plan.pools]
    pools = {name: _size(told["scores"][name]) if name in told["scores"] else None for name in names}
    was = told["row"], told["encoders"], pools, {name: told["held"].get(name) for name in names}
    origins = {name: clouds.origin(name) for name in (row.source, row.target)}
    sizes = {pool.name: (min(pool.pool, pool.held), max(1, pool.held // max(pool.pool, 1))) for pool in plan.pools}
    drawn = {pool.name: clouds.drawn(pool) for pool in plan.pools}
    if was != (json.loads(json.dumps(row.to_json())), origins, sizes, drawn):
        raise UsageError(f"{path} is of other rows, pools or settings", ELSEWHERE)
    return True


def read(path: Path) -> dict[str, Any]:
    """Return a result; raises UsageError for what is none."""
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(told[key], dict) for key in ("row", "scores", "encoders", "held")):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no result", ELSEWHERE) from None
    return told


def _size(ways: dict[str, Any]) -> tuple[int, int]:
    """Return how large a result's pools are, and how many."""
    one = next(found for found in ways.values() if isinstance(found, dict))
    return one["pool"], one["pools"]


def make_folder(folder: Path) -> None:
    """Make a folder for results; raises UsageError where none can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"cannot write to {folder}: {problem.strerror}", "name another folder with --out") from None


def write(folder: Path, row: Row, found: dict[str, Any]) -> None:
    """Write a result in one go, so that an interruption leaves none or a whole one."""
    whole = {
        "row": row.to_json(),
        **found,
        "machine": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    half = folder / f"{row.name}.tmp"
    half.write_text(json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    half.replace(folder / f"{row.name}.json")


def table(folder: Path) -> None:
    """Print every result that is there, beside the paper's figures and the controls."""
    say(f"{'row':44} {'pool':10} {'direction':22} {'cosine / top-1 / rank':24} {'paper':20} {'identity':20} shuffled")
    for path in sorted(folder.glob("*.json")):
        for pool, ways in read(path)["scores"].items():
            for way, found in ways.items():
                if not isinstance(found, dict):
                    continue
                lines = [found, found["published"], found["controls"]["identity"], found["controls"]["shuffled"]]
                told = [f"{f['cosine']:.2f} / {f['top1']:.2f} / {f['mean_rank']:.2f}" if f else "–" for f in lines]
                say(f"{path.stem:44} {pool:10} {way:22} {told[0]:24} {told[1]:20} {told[2]:20} {told[3]}")


def settings_of(given: list[str]) -> dict[str, dict[str, str]]:
    """Return settings by aligner; raises UsageError."""
    found: dict[str, dict[str, str]] = {}
    for word in given:
        key, equals, value = word.partition("=")
        aligner, dot, name = key.partition(".")
        if not (equals and dot and name):
            raise UsageError(f"-s {word} is no setting", "write -s vec2vec.steps=1000")
        found.setdefault(aligner, {})[name] = value
    return found


def pairs_of(given: list[str], option: str) -> dict[str, str]:
    """Return what stands for each short name; raises UsageError."""
    found = dict(word.partition("=")[::2] for word in given)
    for name, place in found.items():
        if not place:
            raise UsageError(f"{option} {name} says no place", f"write {option} NAME=FOLDER")
    return found


def say(line: str) -> None:
    """Write a line of results to stdout."""
    sys.stdout.write(f"{line}\n")


_told = [""]


def tell(doing: str, _fraction: float) -> None:
    """Say on stderr what is being done, once."""
    if doing != _told[0]:
        _told[0] = doing
        sys.stderr.write(f"{doing}\n")


if __name__ == "__main__":
    sys.exit(main())
