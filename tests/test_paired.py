"""test_paired — pairs give the planted map exactly, ten pairs do no harm, and what is chosen is chosen on pairs left out."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from conftest import World
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners import paired
from crossvec.aligners.maps import Linear
from crossvec.aligners.paired import PairedLowRank, PairedMLP, PairedProcrustes, PairedRidge, ridge
from crossvec.errors import SettingError
from crossvec.geometry import unit

ALL = [PairedProcrustes(), PairedRidge(), PairedLowRank(), PairedMLP(hidden=32, epochs=5, rate=1e-3)]
each = pytest.mark.parametrize("aligner", ALL, ids=lambda a: a.name)


def rotation(dx: int, dy: int, generator: torch.Generator) -> Tensor:
    q = torch.linalg.qr(torch.randn(max(dx, dy), max(dx, dy), generator=generator))[0]
    return q[:dx, :dy].contiguous()


def planted(n: int, dx: int, dy: int, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows with a falling spectrum that live in min(dx, dy) dims, and the same rows rotated, with noise."""
    generator = torch.Generator().manual_seed(seed)
    inner = min(dx, dy)
    z = torch.randn(n, inner, generator=generator) * torch.arange(1, inner + 1) ** -0.5
    x = z @ rotation(inner, dx, generator)
    y = z @ rotation(inner, dy, generator)
    return unit(x), unit(y + noise * z.std() * torch.randn(y.shape, generator=generator))


def line_up(n: int) -> Tensor:
    return torch.arange(n)[:, None].repeat(1, 2)


def mean_rank(mapped: Tensor, truth: Tensor) -> float:
    scores = unit(mapped) @ unit(truth).T
    return float((scores > scores.diagonal()[:, None]).sum(1).float().mean()) + 1


@pytest.mark.parametrize(("dx", "dy"), [(12, 12), (20, 12), (12, 20)])
def test_procrustes_recovers_a_planted_rotation_exactly(dx: int, dy: int) -> None:
    x, y = planted(200, dx, dy)
    learned = PairedProcrustes().fit(x, y, pairs=line_up(200))
    assert torch.allclose(learned.map(x), y, atol=1e-5)
    assert torch.allclose(learned.inverse(y), x, atol=1e-5)


@each
@pytest.mark.parametrize(("dx", "dy"), [(12, 12), (20, 12), (12, 20)])
def test_enough_pairs_recover_a_planted_rotation_of_rows_never_seen(aligner: PairedRidge, dx: int, dy: int) -> None:
    x, y = planted(900, dx, dy)
    learned = aligner.fit(x, y, pairs=line_up(600))
    assert torch.cosine_similarity(learned.map(x[600:]), y[600:]).mean() > 0.99
    assert torch.cosine_similarity(learned.inverse(y[600:]), x[600:]).mean() > 0.99


@each
def test_pairs_may_name_rows_in_any_order(aligner: PairedRidge) -> None:
    x, y = planted(400, 10, 10)
    moved = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    learned = aligner.fit(x, y[moved], pairs=torch.stack([moved, torch.arange(400)], dim=1))
    assert torch.cosine_similarity(learned.map(x), y).mean() > 0.99


@each
def test_the_world_of_two_encoders_is_learned_from_its_pairs(aligner: PairedRidge, twins: World) -> None:
    x, y, ex, ey = map(torch.from_numpy, (twins.x, twins.y, twins.eval_x, twins.eval_y))
    mx, my = x.mean(0), y.mean(0)
    learned = aligner.fit(unit(x - mx), unit(y - my), pairs=line_up(len(x)))
    assert mean_rank(learned.map(unit(ex - mx)), unit(ey - my)) < 0.03 * len(ex)
    assert mean_rank(learned.inverse(unit(ey - my)), unit(ex - mx)) < 0.03 * len(ex)


@each
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_more_pairs_never_hurt_and_ten_already_help(aligner: PairedRidge, noise: float) -> None:
    x, y = planted(1500, 64, 64, noise)
    ranks = [mean_rank(aligner.fit(x, y, pairs=line_up(p)).map(x[1000:]), y[1000:]) for p in (10, 30, 100, 300, 1000)]
    assert ranks[0] < 125, "a quarter of the pool's 500; chance is 250"
    assert all(after < 1.1 * before for before, after in pairwise(ranks)), ranks
    assert ranks[-1] < 1.5


def test_few_pairs_leave_what_they_do_not_speak_of_at_zero() -> None:
    """An arbitrary completion of the rotation would add noise to every row."""
    x, y = planted(800, 64, 64)
    learned = PairedProcrustes().fit(x, y, pairs=line_up(10))
    weight = learned.map.tensors()["weight"]
    assert torch.linalg.matrix_rank(weight) == 10
    u, _, vt = torch.linalg.svd(x[:10].T @ y[:10])
    assert mean_rank(learned.map(x[10:]), y[10:]) < 0.5 * mean_rank(x[10:] @ (u @ vt), y[10:])


@given(p=st.integers(1, 60), dx=st.integers(1, 24), dy=st.integers(1, 24))
@hypothesis(max_examples=25, deadline=None)
def test_an_orthogonal_map_never_stretches_and_its_inverse_is_its_transpose(p: int, dx: int, dy: int) -> None:
    generator = torch.Generator().manual_seed(p)
    x, y = unit(torch.randn(p + 1, dx, generator=generator)), unit(torch.randn(p + 1, dy, generator=generator))
    learned = PairedProcrustes().fit(x, y, pairs=line_up(p + 1))
    weight = learned.map.tensors()["weight"]
    assert torch.equal(learned.inverse.tensors()["weight"], weight.T)
    stretch = torch.linalg.svdvals(weight)
    assert torch.allclose(stretch * stretch, stretch, atol=1e-5), "each direction is kept as long as it is, or dropped"
    assert learned.evidence["rank"] <= min(p + 1, dx, dy)


@pytest.mark.parametrize("intercept", [0.0, 1.0])
@pytest.mark.parametrize("d", [6, 60], ids=["more pairs than dims", "fewer pairs than dims"])
def test_the_left_out_error_is_that_of_leaving_each_pair_out(d: int, intercept: float) -> None:
    """Refitting without each pair, with the penalty and intercept that were chosen, gives the error that was reported."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(25, d, generator=generator)
    y = x @ torch.randn(d, 4, generator=generator) + 0.5 * torch.randn(25, 4, generator=generator) + 50 * intercept
    _, chosen = ridge(x, y, generator)
    assert chosen["intercept"] == intercept
    whole, truth = x.double(), y.double()
    centred = whole - whole.mean(0) * intercept
    penalty = chosen["penalty"] * float(centred.square().sum()) / d
    error = 0.0
    for i in range(25):
        rest = torch.arange(25) != i
        mx, my = whole[rest].mean(0) * intercept, truth[rest].mean(0) * intercept
        a, b = whole[rest] - mx, truth[rest] - my
        weight = torch.linalg.solve(a.T @ a + penalty * torch.eye(d, dtype=torch.float64), a.T @ b)
        error += float(((whole[i] - mx) @ weight + my - truth[i]).square().sum())
    assert chosen["left_out_error"] == pytest.approx(error / float(truth.square().sum()), rel=1e-5)


def test_ridge_takes_an_intercept_only_where_it_helps() -> None:
    """Pairs from one corner of both spaces have means of their own; pairs from everywhere do not."""
    x, y = planted(400, 12, 12, noise=0.3)
    everywhere = PairedRidge().fit(x, y, pairs=line_up(40))
    assert everywhere.evidence["intercept"] == 0
    shifted = unit(y + 0.7 * torch.eye(12)[0])
    corner = PairedRidge().fit(x, shifted, pairs=line_up(400))
    assert corner.evidence["intercept"] == 1
    assert torch.cosine_similarity(corner.map(x), shifted).mean() > 0.95


def test_more_noise_asks_for_more_penalty() -> None:
    chosen = []
    for noise in (0.0, 1.0, 6.0):
        x, y = planted(150, 24, 24, noise)
        chosen.append(PairedRidge().fit(x, y, pairs=line_up(150)).evidence["penalty"])
    assert chosen == sorted(chosen) and chosen[0] < chosen[-1]


def test_the_rank_of_a_planted_low_rank_map_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    x = unit(torch.randn(1000, 40, generator=generator))
    thin = torch.randn(40, 4, generator=generator) @ torch.randn(4, 32, generator=generator)
    y = unit(unit(x @ thin) + 0.15 * torch.randn(1000, 32, generator=generator))
    learned = PairedLowRank().fit(x, y, pairs=line_up(600))
    assert learned.evidence["rank"] == 4
    assert torch.linalg.matrix_rank(learned.map.tensors()["weight"]) == 4
    full = PairedRidge().fit(x, y, pairs=line_up(600))
    truth = x[600:] @ thin
    found = [float(torch.cosine_similarity(one.map(x[600:]), truth).mean()) for one in (learned, full)]
    assert found[0] > found[1], "confining to the right axes drops noise"


def test_full_rank_is_kept_where_a_lower_one_does_not_clearly_win() -> None:
    x, y = planted(500, 16, 16, noise=0.2)
    assert PairedLowRank().fit(x, y, pairs=line_up(500)).evidence["rank"] == 16
    assert PairedLowRank().fit(x, y, pairs=line_up(20)).evidence["rank"] == 16


def test_the_residual_finds_a_bend_that_no_linear_map_can() -> None:
    generator = torch.Generator().manual_seed(0)
    x = unit(torch.randn(3000, 6, generator=generator))
    y = unit(torch.cat([x[:, :3], x[:, :3] * x[:, 3:] * 4], dim=1))
    net = PairedMLP(hidden=64, contrast=0.0, rate=1e-2, epochs=20).fit(x, y, pairs=line_up(2500))
    line = PairedRidge().fit(x, y, pairs=line_up(2500))
    held_out = [float(torch.cosine_similarity(one.map(x[2500:]), y[2500:]).mean()) for one in (net, line)]
    assert net.evidence["epochs"] > 0
    assert held_out[0] > held_out[1] + 0.1


def test_contrast_finds_more_partners_than_ridge() -> None:
    x, y = planted(2600, 24, 24, noise=1.5)
    net = PairedMLP(hidden=64, contrast=3.0, rate=1e-3, epochs=10).fit(x, y, pairs=line_up(2000))
    line = PairedRidge().fit(x, y, pairs=line_up(2000))
    assert mean_rank(net.map(x[2000:]), y[2000:]) < 0.95 * mean_rank(line.map(x[2000:]), y[2000:])


def test_with_too_few_pairs_to_judge_by_the_residual_is_the_ridge() -> None:
    x, y = planted(500, 32, 32, noise=0.5)
    net, line = (aligner.fit(x, y, pairs=line_up(40)) for aligner in (PairedMLP(), PairedRidge()))
    assert net.evidence["epochs"] == 0
    assert torch.allclose(net.map(x), line.map(x), atol=1e-6)


def test_rows_that_do_not_span_their_dims_are_no_trouble() -> None:
    x, y = planted(300, 8, 30)
    assert torch.linalg.matrix_rank(y) == 8
    for aligner in ALL:
        back = aligner.fit(y, x, pairs=line_up(300)).map(y)
        assert torch.cosine_similarity(back, x).mean() > 0.99, aligner.name


def test_ridge_of_one_thing_said_twice_is_linear_and_finite() -> None:
    x, y = planted(30, 6, 6)
    learned, evidence = ridge(x[[0] * 20], y[[0] * 20], torch.Generator())
    assert isinstance(learned, Linear)
    assert learned(x).isfinite().all()
    assert 0 <= evidence["left_out_error"] < 1


@each
@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (torch.zeros(0, 2, dtype=torch.long), "too few"),
        (torch.zeros(1, 2, dtype=torch.long), "too few"),
        (torch.tensor([[0, 0], [1, 99]]), "target row 99"),
        (torch.tensor([[0, 0], [-1, 1]]), "source row -1"),
    ],
    ids=["none", "one", "beyond the end", "before the start"],
)
def test_pairs_that_cannot_be_are_refused_in_words(aligner: PairedRidge, pairs: Tensor, why: str) -> None:
    x, y = planted(50, 4, 4)
    with pytest.raises(SettingError, match=why) as refused:
        aligner.fit(x, y, pairs=pairs)
    assert refused.value.hint


@pytest.mark.parametrize("pairs", [torch.zeros(5, 3, dtype=torch.long), torch.zeros(5, 2), torch.zeros(5, dtype=torch.long)])
def test_pairs_of_another_shape_or_type_are_refused_in_words(pairs: Tensor) -> None:
    """Asked of the check itself: under these tests jaxtyping stops such a call before `fit` begins."""
    x, y = planted(50, 4, 4)
    with pytest.raises(SettingError, match=r"pairs are \(5") as refused:
        paired._known(x, y, pairs, "ridge")
    assert "(p, 2)" in refused.value.hint


@pytest.mark.parametrize("setting", [{"hidden": 0}, {"epochs": 0}, {"rate": 0.0}, {"contrast": -1.0}])
def test_impossible_settings_of_the_net_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        PairedMLP(**setting)  # type: ignore[arg-type]
