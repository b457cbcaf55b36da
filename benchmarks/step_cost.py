"""step_cost — what a training step of vec2vec costs beside the matrix products in it.

In    preset, precision, batch, dims, device
Out   results/step-cost/ROW.json     seconds of a step, FLOPs counted, seconds of the same products alone, shares of the step's
                                    time by kind of work, machine, versions
Uses  record, crossvec.aligners.vec2vec

The floor is measured, not quoted: every product of a step (its shapes, layouts and type are taken from the step itself) is done
again, alone, on tensors of its own, and steps and products take turns, so that a busy machine slows both; what is told is the
median over turns of how many times the products a step takes. FLOPs are 2 m k n a product. A step is what `Training.step` does:
batches, both updates and the average included. Shares are the profiler's, of a few steps more. The first step is told beside,
with the processor time of compilers that it started: what `--compile` costs once (with TORCHINDUCTOR_CACHE_DIR empty).
A processor without instructions for bf16 emulates it: such rows say so, and have a name of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from record import RESULTS, gpu, save, versions
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from crossvec.aligners.vec2vec import Vec2Vec
from crossvec.aligners.vec2vec.data import Rows
from crossvec.aligners.vec2vec.memory import kept
from crossvec.aligners.vec2vec.run import prepared
from crossvec.aligners.vec2vec.training import Training
from crossvec.geometry import fast_type, unit

PRODUCTS = {"aten::mm": 0, "aten::addmm": 1, "aten::bmm": 0}
"""Operations that are matrix products, and where their two factors begin among the arguments."""

KINDS = {
    "products": "mm$",
    "activations and norms": "silu|layer_norm|batch_norm",
    "all pairs of rows": "softmax|amax|exp_|addmv|sub_",
    "casts and copies": "copy|aten::cat$|index$|clone",
    "updates and averages": "adam|lerp|::fill_|zero_|mul_$|AccumulateGrad",
    "sums and other arithmetic": "aten::(add|sum|mean|mul|div|neg|sub|abs|sgn|eq|masked_fill|linalg_vector_norm|clamp)",
    "fused by the compiler": "CompiledFxGraph",
}
"""Kinds of work by the names of what the profiler saw; the first that fits counts, and the rest is dispatch."""

WARM_UP = 5
ROWS = 4096
PROFILED = 3


@dataclass(frozen=True)
class Product:
    """One matrix product: the sizes and strides of both factors, and their type."""

    left: tuple[tuple[int, ...], tuple[int, ...]]
    right: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        *batch, rows, inner = self.left[0]
        return 2 * rows * inner * self.right[0][-1] * (batch[0] if batch else 1)


class Counting(TorchDispatchMode):
    """Takes down every matrix product that is done inside, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = PRODUCTS.get(function._schema.name)
        if first is not None:
            a, b = args[first : first + 2]
            self.products.append(Product((tuple(a.shape), a.stride()), (tuple(b.shape), b.stride()), a.dtype))
        return function(*args, **(kwargs or {}))


def products_of(training: Training) -> list[Product]:
    """Every product of the training's next step, which is taken."""
    with Counting() as counting:
        training.step()
    return counting.products


def alone(products: list[Product], device: torch.device) -> Callable[[], None]:
    """A function that does these products and nothing else."""

    def factor(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        made = torch.empty_strided(shape, stride, dtype=dtype, device=device)
        return made.copy_(torch.randn(shape, device=device))

    factors = [(factor(*p.left, p.dtype), factor(*p.right, p.dtype)) for p in products]

    def all_of_them() -> None:
        for a, b in factors:
            torch.matmul(a, b)

    return all_of_them


def seconds_of(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - started
    # Processor time: what others do on the machine is not counted.
    started = time.process_time()
    work()
    return time.process_time() - started


def shares(step: Callable[[], None]) -> dict[str, float]:
    """The share of a step's time, 0 to 1, that each kind of work takes by itself."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(PROFILED):
            step()
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        kind = next((kind for kind, names in KINDS.items() if re.search(names, event.key)), "dispatch and the rest")
        spent[kind] += event.self_cpu_time_total
    return {kind: round(time / spent.total(), 3) for kind, time in spent.most_common()}


def measure(row: dict[str, Any]) -> dict[str, Any]:
    device = torch.device(row["device"])
    generator = torch.Generator().manual_seed(0)
    clouds = [unit(torch.randn(ROWS, d, generator=generator)).to(device) for d in row["dims"]]
    spaces = {name: Rows.of(cloud) for name, cloud in zip("xy", clouds, strict=True)}
    settings = Vec2Vec(preset=row["preset"], precision=row["precision"], batch=row["batch"], compile=row["compile"])
    training = prepared(settings, spaces, lambda _network: 0.0, device=device)
    counted = prepared(Vec2Vec(**{**vars(settings), "compile": False}), spaces, lambda _network: 0.0, device=device)
    products = products_of(counted)
    floor = alone(products, device)
    begun = sum(os.times()[:4])
    training.step()
    first = sum(os.times()[:4]) - begun
    with kept():
        for _ in range(WARM_UP):
            training.step()
            floor()
        times = [(seconds_of(training.step, device), seconds_of(floor, device)) for _ in range(row["steps"])]
        spent = shares(training.step) if device.type == "cpu" else {}
    step, least = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(step / least for step, least in times)
    flops = sum(product.flops for product in products)
    return {
        "flops": flops,
        "products": len(products),
        "seconds": {"first_step": round(first, 2), "step": step, "floor": least},
        "times_the_floor": round(statistics.median(ratios), 3),
        "middle_half_of_turns": [round(ratios[len(ratios) * quarter // 4], 3) for quarter in (1, 3)],
        "shares": spent,
        "gflops": {"step": round(flops / step / 1e9, 1), "floor": round(flops / least / 1e9, 1)},
        **gpu(row["device"]),
        "versions": versions("torch"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="scratch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dims", type=int, nargs=2, default=[256, 256])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    row = vars(parser.parse_args())
    row["emulated"] = row["precision"] == "bf16" and fast_type(row["device"]) != torch.bfloat16
    found = measure(row)
    name = "-".join(
        [row["preset"], row["precision"], str(row["batch"]), *map(str, row["dims"]), row["device"]]
        + ["compiled"] * row["compile"]
        + ["emulated"] * row["emulated"]
    )
    save(RESULTS / "step-cost" / f"{name}.json", {"row": row, **found})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
