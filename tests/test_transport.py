"""test_transport — the couplings are POT's; Procrustes reads them right; without shared coordinates they fail, as published."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from crossvec.aligners.transport import EarthMover, Gromov, Sinkhorn
from crossvec.errors import MissingExtraError, SettingError
from crossvec.geometry import unit

SMALL = [Gromov(rows=80), Gromov(rows=80, entropy=0.05), Sinkhorn(rows=80), EarthMover(rows=80)]
each = pytest.mark.parametrize("aligner", SMALL, ids=["gromov", "entropic gromov", "sinkhorn", "emd"])


def cloud(n: int, d: int, seed: int) -> Tensor:
    """Skewed rows: a cloud that no rotation carries onto itself."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.rand(n, d, generator=generator) ** 3 * torch.arange(d, 0, -1)
    return unit(z - z.mean(dim=0))


def rotation(d: int, seed: int = 7) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed)))[0]


@pytest.fixture(autouse=True)
def _pot() -> None:
    pytest.importorskip("ot")


@pytest.mark.parametrize("aligner", SMALL[2:], ids=["sinkhorn", "emd"])
def test_a_small_turn_in_shared_coordinates_is_undone(aligner: Sinkhorn) -> None:
    """The one case that these can solve: the two sides already lie nearly on each other."""
    x = cloud(80, 6, 0)
    turn = torch.linalg.matrix_exp(0.03 * (rotation(6) - rotation(6).T))
    learned = aligner.fit(x, x @ turn)
    assert torch.linalg.matrix_norm(learned.map.tensors()["weight"] - turn) < 0.5 * torch.linalg.matrix_norm(
        turn - torch.eye(6)
    )
    assert torch.allclose(learned.inverse(learned.map(x)), x, atol=1e-4)


@each
def test_the_map_is_semi_orthogonal(aligner: Gromov) -> None:
    for dx, dy in ((6, 4), (4, 6)):
        weight = aligner.fit(cloud(200, dx, 0), cloud(150, dy, 1)).map.tensors()["weight"]
        assert torch.allclose(torch.linalg.svdvals(weight), torch.ones(4), atol=1e-5)


@each
def test_a_rotated_copy_of_other_rows_is_not_found(aligner: Gromov) -> None:
    """What the literature reports, and why there are other aligners: a guess would find 1 in 300."""
    d, turn = 16, rotation(16)
    generator = torch.Generator().manual_seed(0)
    x, other, held_out = (unit(torch.randn(n, d, generator=generator)) for n in (300, 300, 300))
    mapped = aligner.fit(x, other @ turn).map(held_out)
    found = (mapped @ (held_out @ turn).T).argmax(dim=1) == torch.arange(300)
    assert found.float().mean() < 0.1


def test_gromov_finds_a_rotation_of_the_very_same_rows() -> None:
    """Not so with its default start where distances are unspecific; these rows have few alike."""
    x, turn = cloud(60, 5, 3), rotation(5)
    learned = Gromov(rows=60).fit(x, x @ turn)
    assert learned.evidence["distance"] < 0.05
    assert torch.cosine_similarity(learned.map(x), x @ turn).mean() > 0.9


def test_exact_transport_costs_no_more_than_entropic() -> None:
    x, y = cloud(80, 6, 0), cloud(80, 6, 1)
    exact, entropic = EarthMover(rows=80).fit(x, y).evidence, Sinkhorn(rows=80).fit(x, y).evidence
    assert exact["distance"] <= entropic["distance"] + 1e-9
    assert entropic["marginal_error"] < 1e-6


def test_a_small_entropy_does_not_underflow() -> None:
    x, y = cloud(40, 6, 0), cloud(40, 6, 1)
    close = Sinkhorn(rows=40, entropy=0.002).fit(x, y).evidence["distance"]
    assert close == pytest.approx(EarthMover(rows=40).fit(x, y).evidence["distance"], abs=0.02)


@each
def test_sides_of_different_numbers_of_rows_are_coupled(aligner: Gromov) -> None:
    learned = aligner.fit(cloud(30, 5, 0), cloud(70, 5, 1))
    assert learned.map(cloud(30, 5, 0)).isfinite().all()


@each
def test_a_missing_library_is_named_with_its_install_line(aligner: Gromov, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(MissingExtraError, match="POT") as refused:
        aligner.fit(cloud(30, 5, 0), cloud(30, 5, 1))
    assert refused.value.hint == "pip install 'crossvec[ot]'"


@pytest.mark.parametrize(
    ("kind", "setting"),
    [(Gromov, {"entropy": -1.0}), (Sinkhorn, {"entropy": 0.0}), (EarthMover, {"rows": 1}), (Gromov, {"iterations": 0})],
)
def test_impossible_settings_are_refused(kind: type, setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))) as refused:
        kind(**setting)
    assert refused.value.hint
