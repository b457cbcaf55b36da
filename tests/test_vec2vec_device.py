"""test_vec2vec_device — training on another device than the processor: nothing is left behind, and the result comes back.

Where there is no GPU a step runs on torch's `meta` device, which has shapes and no numbers: an operation between its tensors
and the processor's fails there as it would on a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from conftest import make_world
from torch import Generator, Tensor

from crossvec.aligners import Alignment, Linear
from crossvec.aligners.vec2vec import PRESETS, Vec2Vec
from crossvec.aligners.vec2vec.data import Rows
from crossvec.aligners.vec2vec.neural import Neural
from crossvec.aligners.vec2vec.run import prepared, train
from crossvec.geometry import unit

TINY: dict[str, Any] = {"width": 16, "batch": 32, "steps": 12, "looks": 2, "warmup": 2}
DIMS = (12, 9)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def drawn(device: str) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    x, y = (unit(torch.randn(300, d, generator=generator)).to(device) for d in DIMS)
    return x, y


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device of shapes alone; torch knows no mixed precision there."""
    monkeypatch.setattr(torch, "autocast", lambda *_words, **_named: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_words: False)
    return torch.device("meta")


@pytest.mark.slow
@pytest.mark.parametrize("rows_are", ["meta", "cpu"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_step_leaves_nothing_on_the_processor(preset: Any, rows_are: str, meta: torch.device) -> None:
    spaces = {name: Rows.of(rows) for name, rows in zip("xy", drawn(rows_are), strict=True)}
    settings = Vec2Vec(**TINY, preset=preset, noise=0.1, pseudo=1.0)
    pairs = torch.arange(20).repeat(2, 1).T
    training = prepared(settings, spaces, lambda _network: 0.0, pairs=pairs, device=meta)
    for _ in range(2):
        training.step()
    assert {"rec", "supervised", "pseudo"} <= training._sums.keys()
    assert {told.device for told in training._sums.values()} == {meta}
    assert {tensor.device for flat in (training.generator, training.critics) for tensor in flat.tensors().values()} == {meta}


def test_the_device_of_shapes_does_notice_what_is_left_behind(meta: torch.device) -> None:
    spaces = {name: Rows.of(rows) for name, rows in zip("xy", drawn("meta"), strict=True)}
    training = prepared(Vec2Vec(**TINY, preset="scratch"), spaces, lambda _network: 0.0, device=meta)
    training.network.backbone.to_empty(device="cpu")
    with pytest.raises(RuntimeError, match="device"):
        training.step()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains_on_a_gpu_in_every_precision(preset: Any, precision: Any) -> None:
    x, y = drawn("cuda")
    learned = Vec2Vec(**TINY, preset=preset, precision=precision).fit(x, y)
    assert learned.map(x).device.type == "cuda" and learned.map(x).isfinite().all()
    assert learned.trace[0]["ended"] == "all steps"


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_improves_on_the_start_as_the_processor_does() -> None:
    world = make_world(n=3000, m=3000, pool=2, dx=24, dy=16, latent=16, clusters=40, paired=True)
    x, y = (unit(torch.from_numpy(rows) - torch.from_numpy(rows).mean(0)) for rows in (world.x, world.y))
    u, _, vt = torch.linalg.svd(x.T @ y, full_matrices=False)
    start = Alignment(Linear.of(u @ vt), Linear.of((u @ vt).T.contiguous()))
    nearness = {}
    for device in ("cpu", "cuda"):
        spaces = {"x": Rows.of(x.to(device)), "y": Rows.of(y.to(device))}
        found = train(Vec2Vec(width=32, steps=60), spaces, linear=lambda: {("x", "y"): start}, device=torch.device(device))
        there = Neural.of(found.best.network.cpu(), "x", "y")
        nearness[device] = float((there(x) * y).sum(1).mean())
    begun = float((unit(start.map(x)) * y).sum(1).mean())
    assert nearness["cuda"] >= begun
    assert nearness["cuda"] == pytest.approx(nearness["cpu"], abs=0.02)
