"""run — feed a parser damaged files until it has seen as many as were asked for, and write down what came of it.

In    names of targets (all unless given), how many inputs, a seed
Out   one JSON file a target, and a line each on stdout; exit code 1 when there is a finding
Uses  targets, mutate; atheris for `--engine atheris`, where it is installed

    python fuzz/run.py npy parquet --inputs 100000
    python fuzz/run.py npy --replay 4711 --seed 0 > input.npy       # the very bytes of one input

A finding is an exception that is no CrossvecError, a file that was half read, ten seconds of computing, memory beyond a GiB, or
the death of the process. Inputs run in a process of their own, so that death is noted too, and the next input goes on. By
itself every input is `mutate` of one valid file and depends on target, seed and its number alone; with atheris, libFuzzer
chooses which inputs to change again by the code they reach, and asks `mutate` for half of the changes.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import functools
import importlib
import importlib.metadata
import json
import mmap
import os
import platform
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)  # looked up at every opening
HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "fuzz"
LIBRARIES = ("numpy", "pyarrow", "h5py", "faiss-cpu", "safetensors", "torch", "hypothesis", "atheris")

COMPUTING = 10.0  # seconds of processor time for one input of a few KiB
SILENCE = 1800.0  # seconds without a next input after which a worker is taken to wait for ever: busy machines make all wait
MEMORY = 1 << 30  # bytes of address space beyond what a worker has when it begins
ENDED = 40  # a worker that ends itself so often tells nothing new


class Board:
    """What a worker shows to its parent in memory that both see: which input it is at, and what came of the others."""

    FIELDS = "<qqq"  # inputs begun, read, refused

    def __init__(self, size: int = 1 << 17) -> None:
        self.memory = mmap.mmap(-1, size)
        self.begun, self.read, self.refused = 0, 0, 0

    def begin(self, data: bytes) -> None:
        self.begun += 1
        data = data[: len(self.memory) - 64]
        self.memory[:40] = struct.pack("<qqqqq", self.begun, self.read, self.refused, len(data), 0)
        self.memory[64 : 64 + len(data)] = data

    def seen(self) -> tuple[int, int, int, bytes]:
        begun, read, refused, size, _ = struct.unpack("<qqqqq", self.memory[:40])
        return begun, read, refused, self.memory[64 : 64 + size]

    def end(self) -> None:
        self.memory[:24] = struct.pack(self.FIELDS, self.begun, self.read, self.refused)


class Slow(BaseException):
    """One input took too long."""


def made(target: Any, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return input `number`: the valid files themselves come first."""
    if number < len(seeds):
        return seeds[number]
    rng = random.Random(zlib.crc32(f"{target.name}/{seed}/{number}".encode()))
    return changed(target, seeds[rng.randrange(len(seeds))], rng)


def changed(target: Any, data: bytes, rng: random.Random) -> bytes:
    """Return the bytes changed with knowledge of their format, without any, or both."""
    mutate = importlib.import_module("mutate")
    if target.structured and rng.random() < 0.7:
        data = rng.choice(target.structured)(data, rng)
        if rng.random() < 0.8:
            return data
    return mutate.havoc(data, rng)


def tried(target: Any, folder: Path, data: bytes, board: Board, sink: Any) -> None:
    """Run one input, and write a finding to `sink` when there is one."""
    board.begin(data)
    signal.setitimer(signal.ITIMER_VIRTUAL, COMPUTING)
    try:
        try:
            target.check(folder, data)
            board.read += 1
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except Exception as problem:
        if type(problem).__module__ == "crossvec.errors":
            board.refused += 1
            return
        _note(sink, board.begun, data, problem)
    except Slow as problem:
        _note(sink, board.begun, data, problem)


def _note(sink: Any, number: int, data: bytes, problem: BaseException) -> None:
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if f"{os.sep}crossvec{os.sep}" in frame.filename] or frames
    names = {"HalfRead": "half read", "Slow": "slow", "MemoryError": "memory"}
    kind = names.get(type(problem).__name__, "escaped")
    told = {
        "kind": kind,
        "what": f"{type(problem).__name__}: {problem}"[:300],
        "where": f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}",
    }
    sink.write(json.dumps(told | {"input": number - 1, "data": base64.b64encode(data[:4096]).decode()}) + "\n")
    sink.flush()


def _slow(_number: int, _frame: Any) -> None:
    raise Slow(f"more than {COMPUTING:.0f} s of computing")


def _limited() -> None:
    signal.signal(signal.SIGVTALRM, _slow)
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 1 << 20
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _mutating(name: str, seed: int, start: int, stop: int, folder: Path, board: Board, sink: Any) -> None:
    """Try inputs start to stop."""
    target = _target(name)
    seeds = target.seeds(_fresh(folder / "seeds"))
    place = _fresh(folder / "place")
    _limited()
    board.begun = start
    for number in range(start, stop):
        tried(target, place, made(target, seeds, seed, number), board, sink)
    board.end()


def _guided(name: str, seed: int, start: int, stop: int, folder: Path, board: Board, sink: Any) -> None:
    """Let libFuzzer try inputs start to stop. It ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["crossvec"]):
        target = _target(name)
        seeds = target.seeds(_fresh(folder / "seeds"))
        place, corpus = _fresh(folder / "place"), _fresh(folder / "corpus")
        for number, data in enumerate(seeds):
            (corpus / str(number)).write_bytes(data)
            tried(target, place, data, Board(), sink)  # imports what is imported when first used
    _limited()
    board.begun = start

    def one(data: bytes) -> None:
        tried(target, place, data, board, sink)
        board.end()

    def other(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        return (changed(target, data, rng) if rng.random() < 0.5 else atheris.Mutate(data, len(data)))[:most]

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    runs = f"-runs={stop - start}"
    options = [
        runs,
        f"-seed={seed + start + 1}",
        "-max_len=16384",
        "-timeout=60",
        "-rss_limit_mb=0",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=other)
    atheris.Fuzz()


ENGINES = {"mutate": _mutating, "atheris": _guided}


def fuzz(name: str, inputs: int, seed: int, engine: str = "mutate") -> dict[str, Any]:
    """Run a target in processes that may die, and return the record of it."""
    begun, ended = time.monotonic(), 0
    start, read, refused, findings = 0, 0, 0, []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as held:
        folder = Path(held)
        while start < inputs and ended < ENDED:
            board = Board()
            process = os.fork()
            if not process:
                _leave(ENGINES[engine], name, seed, start, inputs, folder, board)
            status, silent = _watched(process, board)
            now, new_read, new_refused, data = board.seen()
            findings += [json.loads(line) for line in (folder / "findings").read_text().splitlines()]
            read, refused = read + new_read, refused + new_refused
            if not silent and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
                start = inputs
                break
            ended += 1
            how = (
                "silence"
                if silent
                else signal.Signals(os.WTERMSIG(status)).name
                if os.WIFSIGNALED(status)
                else f"exit {os.WEXITSTATUS(status)}"
            )
            if now <= start and not data:
                raise SystemExit(f"the worker of {name} cannot begin: {how}")
            told = {"kind": "slow" if silent else "killed", "what": how, "where": "", "input": now - 1}
            findings.append(told | {"data": base64.b64encode(data[:4096]).decode()})
            start = now
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "parser": name,
        "engine": engine,
        "seed": seed,
        "inputs": start,
        "read": read,
        "refused": refused,
        "findings": _sorted(findings),
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _leave(engine: Any, name: str, seed: int, start: int, stop: int, folder: Path, board: Board) -> None:
    """Do a worker's work, and end its process without its parent's clean-up."""
    code = 1
    try:
        with open(folder / "findings", "w") as sink:
            os.chdir(_fresh(folder / "here"))
            engine(name, seed, start, stop, folder, board, sink)
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _watched(process: int, board: Board) -> tuple[int, bool]:
    """Wait for a worker, and kill one that is at the same input for too long; return its status, and whether it was killed."""
    at, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status, False
        now = board.seen()[0]
        if now != at:
            at, since = now, time.monotonic()
        elif time.monotonic() - since > SILENCE:
            os.kill(process, signal.SIGKILL)
            return os.waitpid(process, 0)[1], True
        time.sleep(0.02)


def _sorted(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one finding of each sort, the shortest input of it, and how many there were."""
    sort = Counter((it["kind"], it["what"].split(":")[0], it["where"]) for it in findings)
    shortest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for it in sorted(findings, key=lambda it: len(it["data"])):
        shortest.setdefault((it["kind"], it["what"].split(":")[0], it["where"]), it)
    return [it | {"times": sort[key]} for key, it in shortest.items()]


def _target(name: str) -> Any:
    return {target.name: target for target in importlib.import_module("targets").TARGETS}[name]


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _versions() -> dict[str, str]:
    told = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            told[name] = version(name)
        except PackageNotFoundError:
            continue
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default="mutate")
    parser.add_argument("--results", type=Path, help=f"folder for the records, such as {RESULTS.relative_to(HERE.parent)}")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="write the bytes of one input of one target to stdout")
    given = parser.parse_args()
    sys.path[:0] = [str(HERE)]
    if given.engine == "mutate":  # before forking; libFuzzer's workers must import it themselves, to see where inputs go
        targets = importlib.import_module("targets")
        known = [target.name for target in targets.TARGETS]
    else:
        known = given.targets
    if strange := sorted(set(given.targets) - set(known)):
        parser.error(f"there is no target {strange[0]}; known: {', '.join(known)}")
    if given.replay is not None:
        target = _target(given.targets[0])
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.buffer.write(made(target, target.seeds(Path(folder)), given.seed, given.replay))
        return
    found = 0
    for name in given.targets or known:
        record = fuzz(name, given.inputs, given.seed, given.engine)
        found += len(record["findings"])
        print(
            f"{name}: {record['inputs']:,} inputs, {record['read']:,} read, {record['refused']:,} refused, "
            f"{len(record['findings'])} findings, {record['seconds']:.0f} s",
            flush=True,
        )
        for it in record["findings"]:
            print(
                f"  {it['kind']}, {it['times']} times, first shortest {it['input']}: {it['what']} at {it['where']}", flush=True
            )
        if given.results:
            given.results.mkdir(parents=True, exist_ok=True)
            ending = "" if given.engine == "mutate" else f"-{given.engine}"
            (given.results / f"{name}{ending}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
