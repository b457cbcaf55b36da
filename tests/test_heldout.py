"""test_heldout — partners held out tell maps apart: exact maps rank first, useless ones by chance, and `auto` heeds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import orthonormal
from rich.console import Console
from torch import Tensor

from crossvec.aligners import Alignment, Linear, create
from crossvec.aligners import heldout as module
from crossvec.aligners.heldout import HeldOut, held_out
from crossvec.fitting import FEWEST_PAIRS, fit
from crossvec.geometry import unit
from crossvec.report.text import fitted
from crossvec.space import Space
from crossvec.translator import Translator
from crossvec.verdict import Verdict


def same(n: int) -> Tensor:
    return torch.arange(n)[:, None].repeat(1, 2)


def turned(n: int, d: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Linear]:
    """Unit rows, the same rows rotated, and the rotation."""
    rng = np.random.default_rng(seed)
    x = unit(torch.from_numpy(rng.standard_normal((n, d))).float())
    weight = torch.from_numpy(orthonormal(d, d, rng)).float()
    return x, x @ weight, Linear.of(weight)


def stretched(n: int, d: int = 12, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two encoders of one text that are a stretch apart, which no rotation is near, with some noise."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d))
    stretch = orthonormal(d, d, rng) * np.geomspace(8, 0.2, d) @ orthonormal(d, d, rng)
    return z.astype(np.float32), (z @ stretch + noise * rng.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("p", [3, 7, 40, 1200])
def test_an_exact_map_finds_every_partner_first_and_each_pair_is_judged_by_maps_of_others(p: int) -> None:
    x, y, rotation = turned(1500)
    taught: list[set[int]] = []

    def learn(some: Tensor) -> Alignment:
        taught.append(set(some[:, 0].tolist()))
        return Alignment(rotation, rotation)

    found = held_out(learn, x, y, same(p))
    assert found is not None
    assert (round(found.among_target, 6), round(found.among_translated, 6)) == (1.0, 1.0)
    assert found.pool >= len(x) - p
    if p < module.ENOUGH:
        assert found.pairs == p and len(taught) == min(module.FOLDS, p)
        assert all(sum(number not in some for some in taught) == 1 for number in range(p)), "each is held out once"
    else:
        assert found.pairs == p // 5 and len(taught) == 1 and len(taught[0]) == p - p // 5


def test_a_map_that_says_nothing_ranks_by_chance() -> None:
    x, y, _ = turned(1500)
    nothing = Linear.of(torch.zeros(8, 8))
    found = held_out(lambda _: Alignment(nothing, nothing), x, y, same(50))
    assert found is not None
    assert found.among_target == pytest.approx(found.pool / 2, rel=0.02)
    assert found.among_translated == pytest.approx(found.pool / 2, rel=0.02)


def test_which_of_two_maps_is_better_depends_on_the_search() -> None:
    good, bad = HeldOut(1.5, 9.0, 10, 100, 0.0, 1.0), HeldOut(3.0, 2.0, 10, 100, 0.0, 1.0)
    assert good.rank("queries") < bad.rank("queries")
    assert good.rank("rows") > bad.rank("rows")
    assert bad.rank("both") == pytest.approx(6**0.5)


@pytest.mark.parametrize(("p", "status"), [(4, "uncertain"), (10, "uncertain"), (40, "aligned"), (1200, "aligned")])
def test_an_exact_map_is_believed_once_enough_pairs_were_held_out(p: int, status: str) -> None:
    x, y, rotation = turned(1500)
    found = held_out(lambda _: Alignment(rotation, rotation), x, y, same(p))
    assert found is not None and found.status == status
    assert found.low < 1 and found.high > 0.9


@pytest.mark.parametrize("p", [10, 60, 1200])
def test_a_map_learned_from_pairs_that_are_none_is_called_failed(p: int) -> None:
    x, y, _ = turned(1500, d=32)
    wrong = torch.stack([torch.arange(p), torch.randperm(p, generator=torch.Generator().manual_seed(0))], dim=1)
    found = held_out(lambda some: create("procrustes").fit(x, y, pairs=some), x, y, wrong)
    assert found is not None and found.status == "failed"
    assert found.low < 0.1


def test_more_pairs_say_the_same_more_surely() -> None:
    x, y = (unit(torch.from_numpy(rows)) for rows in stretched(1000))
    one = create("ridge").fit(x, y, pairs=same(500))
    few, many = (held_out(lambda _: one, x, y, same(p)) for p in (30, 900))
    assert few and many
    assert many.high - many.low < few.high - few.low
    assert few.low < (many.low + many.high) / 2 < few.high


def noise(n: int, d: int = 64) -> tuple[Tensor, Tensor]:
    """Two clouds that have nothing in common, of which a map can learn few pairs by heart."""
    generator = torch.Generator().manual_seed(0)
    x, y = (unit(torch.randn(n, d, generator=generator)) for _ in range(2))
    return x, y


@pytest.mark.parametrize("how", ["the same pairs", "copies of the rows"])
def test_pairs_given_again_and_again_are_no_more_evidence_than_once(how: str) -> None:
    (x, y), times = noise(600), 15
    pairs = same(40).repeat(times, 1)
    if how == "copies of the rows":
        x, y = (torch.cat([side[40:].contiguous(), side[:40].repeat(times, 1)]) for side in (x, y))
        pairs = same(40 * times) + 560
    found = held_out(lambda some: create("procrustes").fit(x, y, pairs=some), x, y, pairs)
    assert found is not None and found.status == "failed"
    assert found.pairs == 40


def test_pairs_that_share_a_row_are_never_on_both_sides() -> None:
    x, y, rotation = turned(300)
    pairs = torch.cat([same(20), torch.tensor([[0, 1], [5, 200], [100, 7]])])
    taught: list[Tensor] = []

    def learn(some: Tensor) -> Alignment:
        taught.append(some)
        return Alignment(rotation, rotation)

    found = held_out(learn, x, y, pairs)
    assert found is not None and found.pairs == 19  # 0 and 1 hang together
    for some in taught:
        left = pairs[~(pairs[:, None] == some).all(2).any(1)]
        assert not torch.isin(left[:, 0], some[:, 0]).any() and not torch.isin(left[:, 1], some[:, 1]).any()
    assert held_out(learn, x, y, torch.stack([torch.zeros(30, dtype=torch.long), torch.arange(30)], dim=1)) is None


def test_chance_is_near_nothing_on_sides_of_any_size() -> None:
    x, y = noise(4000)[0], noise(60)[1]
    lost = Linear.of(turned(9, d=64)[2].weight)
    found = held_out(lambda _: Alignment(lost, lost), x, y, same(60))
    assert found is not None
    assert (found.low + found.high) / 2 == pytest.approx(0, abs=0.06)


def test_a_map_to_what_are_no_numbers_is_called_failed() -> None:
    x, y, _ = turned(100)
    broken = Linear.of(torch.full((8, 8), torch.nan))
    found = held_out(lambda _: Alignment(broken, broken), x, y, same(100))
    assert found is not None and found.status == "failed"


def test_two_pairs_leave_nothing_to_hold_out() -> None:
    x, y, rotation = turned(60)
    assert held_out(lambda _: Alignment(rotation, rotation), x, y, same(2)) is None


def auto(x: np.ndarray, y: np.ndarray, p: int, **how: Any) -> dict[str, Any]:
    rows = np.stack([np.arange(p)] * 2, axis=1)
    return dict(fit(Space.of(x), Space.of(y), pairs=rows, max_rows=None, **how).card)


@pytest.mark.parametrize("name", ["procrustes", "ridge", "mlp"])
def test_pairs_held_out_decide_whether_a_paired_map_arrived(name: str) -> None:
    """Too few rows for the verdict, which looks at no pairs, and yet there is no doubt."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((110, 16)).astype(np.float32)
    y = (z @ orthonormal(16, 16, rng)).astype(np.float32)
    pairs = np.stack([np.arange(100)] * 2, axis=1)
    right, wrong = (fit(Space.of(z), Space.of(y), name, pairs=some) for some in (pairs, np.c_[pairs[:, 0], pairs[::-1, 1]]))
    assert right.card["held_out"]["status"] == right.status == "aligned"
    assert right.verdict is not None and right.verdict.status == "failed"
    assert wrong.card["held_out"]["status"] == wrong.status == "failed"


def test_known_pairs_decide_over_maps_that_did_not_learn_from_them_too() -> None:
    rng = np.random.default_rng(4)
    z = rng.standard_normal((300, 16)).astype(np.float32)
    pairs = np.stack([np.arange(100)] * 2, axis=1)
    same_space, other = (fit(Space.of(z), Space.of(to.astype(np.float32)), "identity", pairs=pairs) for to in (z, z[::-1]))
    assert (same_space.status, other.status) == ("aligned", "failed")


def test_too_few_pairs_to_tell_leave_a_verdict_of_aligned_as_it_is() -> None:
    x, y = stretched(400)
    known = fit(Space.of(x), Space.of(y), "identity", pairs=np.stack([np.arange(12)] * 2, axis=1))
    held = {**known.card["held_out"], "low": 0.7, "high": 1.0, "status": "uncertain"}
    unsure = replace(known, card={**known.card, "held_out": held})
    for said, status in (("aligned", "aligned"), ("uncertain", "uncertain"), ("failed", "uncertain")):
        assert replace(unsure, verdict=Verdict(said, 0.5, {})).status == status
    failed = replace(known, card={**known.card, "held_out": {**held, "low": 0.0, "high": 0.1, "status": "failed"}})
    assert replace(failed, verdict=Verdict("aligned", 0.9, {})).status == "failed"


def test_the_status_is_saved_and_turned_round_and_without_pairs_it_is_the_verdicts(tmp_path: Path) -> None:
    x, y = stretched(400)
    pairs = np.stack([np.arange(300)] * 2, axis=1)
    known = fit(Space.of(x), Space.of(y), "ridge", pairs=pairs)
    again = Translator.load(known.save(tmp_path / "known"))
    assert again.status == again.inverse().status == known.status == known.card["held_out"]["status"]
    assert f"**{known.status}**, and they decide" in (tmp_path / "known" / "README.md").read_text()
    unknown = fit(Space.of(x), Space.of(y), "identity")
    assert unknown.card["held_out"] is None
    assert unknown.verdict is not None and unknown.status == unknown.verdict.status
    assert replace(unknown, verdict=None).status is None
    assert replace(unknown, card={"held_out": {"status": "splendid"}}).status == unknown.status, "a card may be edited"


def test_what_a_card_tells_is_read_back_and_what_it_does_not_tell_whole_is_none() -> None:
    whole = HeldOut(1.5, 9.0, 10, 100, 0.9, 1.0)
    assert HeldOut.read(whole.to_json()) == whole
    old = {key: value for key, value in whole.to_json().items() if key not in ("low", "high", "status")}
    for told in (old, None, [], "aligned", 7, {**whole.to_json(), "low": float("nan")}, {**whole.to_json(), "pairs": None}):
        assert HeldOut.read(told) is None
    for value in ("many", True, [1], 10**400):
        assert HeldOut.read({**whole.to_json(), "pool": value}) is None


@pytest.mark.parametrize("told", [{"among_target": 1.2, "among_translated": 1.3, "pairs": 9, "pool": 90}, [1], {"pairs": "x"}])
def test_a_card_of_an_older_version_or_of_another_hand_is_shown_and_saved_again(told: Any, tmp_path: Path) -> None:
    x, y = stretched(60)
    made = fit(Space.of(x), Space.of(y), "procrustes", pairs=np.stack([np.arange(50)] * 2, axis=1))
    old = replace(made, card={**made.card, "held_out": told})
    again = Translator.load(old.save(tmp_path / "old"))
    assert made.verdict is not None and again.held_out is None and again.status == made.verdict.status
    assert "Known pairs held out" not in (tmp_path / "old" / "README.md").read_text()
    console = Console(width=200)
    with console.capture() as shown:
        console.print(fitted(again))
    assert "verdict:" in shown.get()


@pytest.mark.parametrize("carries", ["rows", "queries", "both"])
def test_auto_takes_a_regression_where_no_rotation_fits(carries: Any) -> None:
    x, y = stretched(1500)
    card = auto(x, y, 1100, carries=carries)
    assert (card["aligner"], card["carries"]) == ("ridge", carries)
    said = ("aligner", "status")
    ranks = {one["aligner"]: HeldOut(**{k: v for k, v in one.items() if k not in said}) for one in card["compared"]}
    assert set(ranks) == {"procrustes", "ridge"}
    assert ranks["ridge"].rank(carries) < ranks["procrustes"].rank(carries)
    assert [one["aligner"] for one in card["trace"]] == ["ridge"]


def test_auto_takes_the_rotation_where_one_fits_and_pairs_are_fewer_than_a_regression_needs() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((45, 32))
    noise = 0.7 * rng.standard_normal(z.shape)
    card = auto(z.astype(np.float32), (z @ orthonormal(32, 32, rng) + noise).astype(np.float32), 45)
    assert card["aligner"] == "procrustes"
    assert {one["aligner"] for one in card["compared"]} == {"procrustes", "ridge"}


def test_below_ten_pairs_auto_compares_nothing_that_needs_a_choice() -> None:
    x, y = stretched(40)
    card = auto(x, y, FEWEST_PAIRS - 1)
    assert (card["aligner"], card["compared"]) == ("procrustes", [])


def test_with_all_effort_auto_compares_more() -> None:
    x, y = stretched(40)
    assert [one["aligner"] for one in auto(x, y, 30, effort="thorough")["compared"]] == [
        "procrustes",
        "ridge",
        "low-rank",
        "mlp",
    ]


def test_the_choice_is_the_same_every_time() -> None:
    x, y = stretched(40)
    one, again = (auto(x, y, 30)["compared"] for _ in range(2))
    assert one == again


@pytest.mark.parametrize("name", ["procrustes", "ridge"])
def test_ranks_fall_as_pairs_grow(name: str) -> None:
    x, y = (unit(torch.from_numpy(rows)) for rows in stretched(1200))
    one = create(name)
    found = [held_out(lambda some: one.fit(x, y, pairs=some), x, y, same(p)) for p in (20, 900)]
    assert found[0] and found[1]
    assert found[1].rank("both") < found[0].rank("both")
