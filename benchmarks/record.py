"""record — what every benchmark leaves beside its numbers, and how a result is written: whole or not at all.

In    a result as a dictionary that JSON can hold
Out   results/NAME/ROW.json     the result, and machine, commit and date
Uses  git, where there is a checkout; nothing of crossvec, so that a parent process that only starts others stays small
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DATA = Path(os.environ.get("CROSSVEC_WIKI") or HERE.parent.parent / "shared" / "data" / "wiki")


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"system": platform.platform(terse=True), "cpu": cpu, "cores": cores, "threads": int(threads) if threads else cores}


def gpu(device: str) -> dict[str, str]:
    """The model of the GPU that was measured on; nothing where it was the processor."""
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name(device)}


def load() -> float:
    """How many processes wanted a core in the last minute: clocks mean little beside many."""
    return round(os.getloadavg()[0], 2)


def commit() -> str:
    """The commit measured; a plus sign says that the source differs from it. Empty for a copy without git."""
    if not shutil.which("git"):
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "../src") else "")


def versions(*packages: str) -> dict[str, str]:
    """The versions of these packages, of which `python` may be one."""
    return {name: platform.python_version() if name == "python" else metadata.version(name) for name in packages}


def save(path: Path, result: dict[str, Any], *, sort: bool = True) -> None:
    """Write a result with machine, commit and date; `sort=False` where the order of its keys is an order of its own."""
    about = {"machine": machine(), "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    text = json.dumps({**result, **about}, indent=1, sort_keys=sort, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.tmp")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
