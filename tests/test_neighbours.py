"""test_neighbours — an index finds nearly what comparing everything finds, and says plainly when it cannot be had."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crossvec import geometry, sample
from crossvec.aligners import create
from crossvec.aligners import neighbours as module
from crossvec.aligners.neighbours import LARGE, Carried, neighbours, pick
from crossvec.errors import MissingExtraError
from crossvec.geometry import nearest, unit


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "fast_type", lambda _device: torch.float32)


def cloud(n: int, d: int, seed: int) -> Tensor:
    """Unit rows near a curved sheet of few dimensions, as embeddings lie; the same sheet for any two seeds."""
    fixed, generator = torch.Generator().manual_seed(9), torch.Generator().manual_seed(seed)
    inside = torch.randn(n, 5, generator=generator)
    return unit(torch.tanh(inside @ torch.randn(5, 2 * d, generator=fixed)) @ torch.randn(2 * d, d, generator=fixed))


@pytest.mark.parametrize("columns", [256, 254], ids=["whole codes", "padded codes"])
def test_an_index_finds_most_true_neighbours_of_real_rows_with_their_own_cosines(columns: int) -> None:
    x = torch.from_numpy(sample.load().source.array())[:12_000, :columns]
    x = unit(x - x.mean(0))
    queries, keys = x[:300], x[300:]
    values, places = neighbours(Carried(queries), Carried(keys), 10, index="ivf")
    best = nearest(queries, keys, 10)[1]
    recall = sum(len(set(a) & set(b)) for a, b in zip(places.tolist(), best.tolist(), strict=True)) / best.numel()
    assert recall > 0.9
    own = (queries[:, None] * keys[places]).sum(2)
    assert torch.allclose(values, own, atol=2e-3)  # compared again in float16


@pytest.mark.parametrize("index", ["exact", "ivf"])
def test_blocks_and_maps_change_nothing(index: module.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys, turn = cloud(150, 12, 1), cloud(900, 12, 2), torch.linalg.qr(torch.randn(12, 12))[0]
    whole = neighbours(Carried(unit(queries @ turn)), Carried(keys), 5, index=index)
    monkeypatch.setattr(module, "BLOCK", 64)
    values, places = neighbours(Carried(queries, turn), Carried(keys), 5, index=index)
    assert torch.allclose(values, whole[0], atol=1e-5)
    assert (places == whole[1]).float().mean() > 0.99  # ties of rounding


def test_lists_with_too_few_keys_leave_no_hole() -> None:
    keys = cloud(40, 8, 2)
    values, places = neighbours(Carried(cloud(20, 8, 1)), Carried(keys), 40, index="ivf")
    assert int(places.min()) >= 0 and int(places.max()) < 40
    assert bool(torch.isfinite(values).all())


def test_auto_takes_the_index_where_comparing_all_would_take_hours() -> None:
    assert pick("auto", LARGE - 1, "cpu") == "exact"
    assert pick("auto", LARGE, "cpu") == "ivf"
    assert pick("auto", LARGE, "cuda") == "exact"
    assert pick("exact", LARGE, "cpu") == "exact"


def test_without_faiss_auto_compares_all_and_asking_for_the_index_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert pick("auto", LARGE, "cpu") == "exact"
    with pytest.raises(MissingExtraError, match="FAISS") as refused:
        create("moments", {"index": "ivf"})
    assert "crossvec[faiss]" in refused.value.hint
