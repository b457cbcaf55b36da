"""service — what `crossvec serve` costs beside the bare product and a bare server, and whether it holds for ten minutes.

In    made-up rows, 256 a request; a linear translator with a bias; wrk (Debian's package), which sends the load
Out   results/service/load-DX-DY.json     rounds of: the product alone, an echo, the service at several concurrencies
      results/service/soak.json           ten minutes of rows, texts and refusals: memory over time

The echo is what uvicorn and the kernel take for bodies of the same size when nothing is done with them. Wall seconds tell
what a client sees on this machine, the load's own work included; seconds of the CPU tell what the server spends, and are the
fairer number where other work shares the cores. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import numpy as np
from record import RESULTS, save, versions

BATCH = 256
CONCURRENCIES = (1, 4, 16, 64)
ECHO_AT = 4
SOURCES = Path(__file__).resolve().parents[1] / "src"
TICKS = os.sysconf("SC_CLK_TCK")
WARM_SECONDS, SAMPLE_SECONDS = 60, 5

SCRIPT = """
local parts = {}
for line in io.lines(os.getenv("REQUESTS")) do
  local path, kind, file = line:match("(%S+) (%S+) (%S+)")
  local body = io.open(file, "rb"):read("*a")
  parts[#parts + 1] = wrk.format("POST", path, {["Content-Type"] = kind, ["Content-Length"] = #body}, body)
end
local turn = 0
request = function()
  turn = turn % #parts + 1
  return parts[turn]
end
done = function(summary, latency, requests)
  io.write(string.format('\\nRESULT {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read a body and answer with as many bytes as the translation would have."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    answer = b"\0" * int(os.environ["ECHO_BYTES"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


def product(dx: int, dy: int, seconds: float) -> dict[str, float]:
    """Multiply, and count; in a process of its own, as the server is."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((BATCH, dx), dtype=np.float32), rng.standard_normal((dx, dy), dtype=np.float32)
    for _ in range(20):
        x @ w
    batches, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for _ in range(10):
            x @ w
        batches += 10
    wall, spent = time.perf_counter() - started, time.process_time() - cpu
    return {"rows_per_second": BATCH * batches / wall, "cpu_ms": 1000 * spent / batches}


def translator(folder: Path, dx: int, dy: int) -> None:
    import torch

    from crossvec.aligners import Linear
    from crossvec.translator import Frame, Translator

    made = torch.Generator().manual_seed(0)
    there, back = (torch.randn(a, b, generator=made) / a**0.5 for a, b in ((dx, dy), (dy, dx)))
    frames = [Frame(torch.randn(d, generator=made) / 40, 1.0, 1.0) for d in (dx, dy)]
    maps = (Linear(w, torch.randn(w.shape[1], generator=made) / 100) for w in (there, back))
    Translator(*maps, *frames).save(folder)


@contextmanager
def running(command: list[str], url: str | None = None, **environment: str) -> Iterator[tuple[int, str]]:
    """Run a server until the block ends: its process and its URL, which the service prints itself."""
    told = {**os.environ, "PYTHONPATH": f"{SOURCES}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=told) as process:
        try:
            if url is None:
                assert process.stdout is not None
                lines = [process.stdout.readline()]
                while lines[-1] not in ("}\n", ""):
                    lines.append(process.stdout.readline())
                url = json.loads("".join(lines))["url"]
            for _ in range(600):
                try:
                    urlopen(f"{url}/readyz", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield process.pid, url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024


def wrk(url: str, requests: Path, connections: int, seconds: float) -> subprocess.Popen[str]:
    script = requests.with_suffix(".lua")
    script.write_text(SCRIPT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{int(seconds)}s", "--timeout", "30s", "-s", str(script), f"{url}/"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "REQUESTS": str(requests)})


def result(load: subprocess.Popen[str]) -> dict[str, Any]:
    out = load.communicate()[0]
    return json.loads(next(line for line in out.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))


def loaded(pid: int, url: str, requests: Path, connections: int, seconds: float) -> dict[str, Any]:
    before = cpu_seconds(pid)
    told = result(wrk(url, requests, connections, seconds))
    spent = cpu_seconds(pid) - before
    assert told["requests"] and not (told["refused"] or told["broken"]), told
    return {
        "rows_per_second": BATCH * told["requests"] / told["seconds"],
        "cpu_ms": 1000 * spent / told["requests"],
        "p50_ms": told["p50"],
        "p99_ms": told["p99"],
    }


def asked(place: Path, name: str, *lines: tuple[str, str, bytes]) -> Path:
    """Write what wrk will ask for, in turn: path, Content-Type, body."""
    told = []
    for number, (path, kind, body) in enumerate(lines):
        file = place / f"{name}-{number}.body"
        file.write_bytes(body)
        told.append(f"{path} {kind} {file}")
    to = place / f"{name}.requests"
    to.write_text("\n".join(told) + "\n")
    return to


def npy(rows: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def serve(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "crossvec", "serve", str(folder), *more, "--threads", "2", "--port", "0", "--format", "json"]


def load(place: Path, dx: int, dy: int, rounds: int, seconds: float) -> dict[str, Any]:
    translator(place / "t", dx, dy)
    rows = np.random.default_rng(0).standard_normal((BATCH, dx), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    binary = asked(place, "npy", ("/v1/translate/t", "application/x-npy", npy(rows)))
    decimal = asked(place, "json", ("/v1/translate/t", "application/json", json.dumps({"vectors": rows.tolist()}).encode()))
    bare = [sys.executable, "-m", "uvicorn", "service:echo", "--port", "18734", "--http", "httptools", "--no-access-log"]
    bare += ["--lifespan", "off", "--log-level", "warning"]
    taken = []
    with (
        running(serve(place / "t")) as (pid, url),
        running(bare, "http://127.0.0.1:18734", ECHO_BYTES=str(len(npy(rows[:, :1] * np.ones(dy, np.float32))))) as (
            other,
            echo_url,
        ),
    ):
        for number in range(rounds):
            one: dict[str, Any] = {"product": alone(dx, dy, seconds)}
            one["echo"] = loaded(other, echo_url, binary, ECHO_AT, seconds)
            for connections in CONCURRENCIES:
                one[f"npy-{connections}"] = loaded(pid, url, binary, connections, seconds)
            one[f"json-{ECHO_AT}"] = loaded(pid, url, decimal, ECHO_AT, seconds)
            taken.append(one)
            print(number + 1, json.dumps(one), file=sys.stderr)
    middle = {what: {key: median(one[what][key] for one in taken) for key in taken[0][what]} for what in taken[0]}
    times = {
        what: {
            # Each round's own ratio: what else the machine does changes from round to round.
            "wall": median(one["product"]["rows_per_second"] / one[what]["rows_per_second"] for one in taken),
            "cpu": median(one[what]["cpu_ms"] / one["product"]["cpu_ms"] for one in taken),
        }
        for what in middle
        if what != "product"
    }
    what = f"{BATCH} x {dx} -> {dy} float32 a request"
    return {"what": what, "batch": BATCH, "dims": [dx, dy], "medians": middle, "times_the_product": times, "rounds": taken}


def alone(dx: int, dy: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--product", str(dx), str(dy), str(seconds)]
    told = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=told).stdout)


def soak(place: Path, seconds: float) -> dict[str, Any]:
    """Ask for rows, texts and things that are refused, in turn, and watch the memory."""
    translator(place / "t", 256, 128)
    rows = np.random.default_rng(0).standard_normal((BATCH, 256), dtype=np.float32)
    texts = json.dumps({"model": "t", "input": ["the longest river", "a city in the north"] * 4}).encode()
    binary = ("/v1/translate/t", "application/x-npy", npy(rows))
    kinds = [
        *[binary] * 4,
        ("/v1/translate/t", "application/json", json.dumps({"vectors": rows[:32].tolist()}).encode()),
        ("/v1/embeddings", "application/json", texts),
        ("/v1/translate/t", "application/x-npy", npy(rows)[:5000]),
        ("/v1/translate/t", "application/json", b'{"vectors": [[1, "x"]]}'),
        ("/v1/translate/none", "application/x-npy", npy(rows[:4])),
        ("/v1/translate/t", "application/x-npy", npy(rows[:4, :9])),
    ]
    refused = 4
    samples = []
    with running(serve(place / "t", "-m", "wordllama")) as (pid, url):
        started = time.monotonic()
        under_load = wrk(url, asked(place, "mixed", *kinds), 2, seconds)
        while under_load.poll() is None:
            samples.append((round(time.monotonic() - started, 1), resident(pid)))
            time.sleep(SAMPLE_SECONDS)
        told = result(under_load)
    warm = [(at, size) for at, size in samples if at >= WARM_SECONDS] or samples
    at, size = np.array(warm).T
    slope = float(np.polyfit(at / 3600, size / 2**20, 1)[0]) if len(warm) > 2 else 0.0
    assert not told["broken"], told
    assert abs(told["refused"] / told["requests"] - refused / len(kinds)) < 0.01, told
    return {
        "what": "rows as .npy and JSON, texts, and four in ten requests refused; 2 connections",
        "seconds": told["seconds"],
        "requests": told["requests"],
        "refused": told["refused"],
        "p50_ms": told["p50"],
        "p99_ms": told["p99"],
        "resident_start_bytes": warm[0][1],
        "resident_end_bytes": warm[-1][1],
        "resident_peak_bytes": max(size for _, size in samples),
        "slope_mib_per_hour": slope,
        "samples": samples,
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("part", nargs="?", choices=["load", "soak"])
    ask.add_argument("--dims", type=int, nargs=2, default=(384, 256))
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--seconds", type=float, help="of each measurement of a load (4), or of the soak (600)")
    ask.add_argument("--product", nargs=3, type=float, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.product:
        print(json.dumps(product(int(given.product[0]), int(given.product[1]), given.product[2])))
        return
    if not given.part:
        ask.error("name a part: load or soak")
    if not shutil.which("wrk"):
        ask.error("wrk is not installed: apt-get install wrk")
    sys.path.insert(0, str(SOURCES))
    with tempfile.TemporaryDirectory() as place:
        if given.part == "load":
            name = f"load-{given.dims[0]}-{given.dims[1]}"
            told = load(Path(place), *given.dims, given.rounds, given.seconds or 4)
        else:
            name, told = "soak", soak(Path(place), given.seconds or 600)
    packages = ("python", "numpy", "torch", "fastapi", "starlette", "uvicorn", "httptools", "orjson", "pydantic")
    told |= {"error": None, "versions": versions(*packages)}
    save(RESULTS / "service" / f"{name}.json", told, sort=False)


if __name__ == "__main__":
    main()
