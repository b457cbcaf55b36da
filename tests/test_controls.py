"""test_controls — the floor: what no learning gets is chance, unless two models share coordinates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crossvec.aligners.controls import Identity, Mean
from crossvec.geometry import unit


def cloud(n: int, d: int, seed: int) -> Tensor:
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def top1(mapped: Tensor, truth: Tensor) -> float:
    best = (unit(mapped) @ unit(truth).T).argmax(dim=1)
    return float((best == torch.arange(len(truth))).float().mean())


def test_identity_finds_every_partner_of_a_space_and_itself() -> None:
    x = cloud(300, 12, 0)
    assert top1(Identity().fit(x, x).map(x), x) == 1


def test_identity_is_at_chance_between_rotated_spaces() -> None:
    x = cloud(500, 12, 0)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    assert top1(Identity().fit(x, x @ rotation).map(x), x @ rotation) < 0.05


@pytest.mark.parametrize(("dx", "dy"), [(5, 3), (3, 5)])
def test_identity_pads_with_zeros_or_cuts(dx: int, dy: int) -> None:
    x, y = cloud(9, dx, 0), cloud(9, dy, 1)
    learned = Identity().fit(x, y)
    expected = torch.zeros(9, dy)
    expected[:, : min(dx, dy)] = x[:, : min(dx, dy)]
    assert torch.equal(learned.map(x), expected)
    assert torch.equal(learned.inverse(learned.map(x))[:, : min(dx, dy)], x[:, : min(dx, dy)])


def test_mean_sends_every_row_to_the_centre() -> None:
    x, y = cloud(9, 5, 0), cloud(9, 3, 1)
    learned = Mean().fit(x, y)
    assert torch.equal(learned.map(x), torch.zeros(9, 3))
    assert torch.equal(learned.inverse(y), torch.zeros(9, 5))
