"""The laws of evaluation, on a small honest translator: a matrix between two frames."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crossvec.errors import SettingError, SpaceError, TranslatorError
from crossvec.evaluation import evaluate
from crossvec.space import Space


@dataclass
class Frame:
    mean: np.ndarray


@dataclass
class Matrix:
    """rows -> (rows - source mean) W + target mean, whose inverse is the transpose."""

    weight: np.ndarray
    source: Frame
    target: Frame

    def translate(self, rows: np.ndarray) -> np.ndarray:
        return ((rows - self.source.mean) @ self.weight + self.target.mean).astype(np.float32)

    def inverse(self) -> "Matrix":
        return Matrix(self.weight.T, self.target, self.source)


class OneWay(Matrix):
    inverse = None


def planted(n: int = 400, dx: int = 20, dy: int = 28, noise: float = 0.0, shift: float = 3.0, seed: int = 0):
    """Return a source, a target that is the source turned, shifted and disturbed, and the translator that knows the turn."""
    rng = np.random.default_rng(seed)
    weight = np.linalg.qr(rng.normal(size=(max(dx, dy), min(dx, dy))))[0]
    weight = weight if dx > dy else weight.T
    x = rng.normal(size=(n, dx)) * np.linspace(2, 1, dx) + rng.normal(size=dx)
    y = (x - x.mean(0)) @ weight + shift * rng.normal(size=dy) + noise * rng.normal(size=(n, dy))
    translator = Matrix(weight.astype(np.float32), Frame(x.mean(0)), Frame(y.mean(0)))
    return Space.of(x.astype(np.float32)), Space.of(y.astype(np.float32)), translator


def test_a_planted_map_is_perfect_both_ways_and_back():
    source, target, translator = planted()
    scores = evaluate(translator, source, target, bootstrap=0)
    for direction in (scores.forward, scores.backward, scores.inverse):
        assert (direction.top1, direction.mean_rank, direction.foscttm) == (1, 1, 0)
        assert direction.cosine_centred == pytest.approx(1, abs=1e-5)
        assert direction.csls.top1 == 1
    assert scores.warnings == ()


def test_the_numbers_are_those_of_a_float64_reference():
    source, target, translator = planted(noise=2.0)
    scores = evaluate(translator, source, target, k=5)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    rows, y = translator.translate(source.array()).astype(float), target.array().astype(float)
    q, p = unit(rows - translator.target.mean), unit(y - translator.target.mean)
    s = q @ p.T
    ranks = 1 + (s > s.diagonal()[:, None]).sum(1)
    back = 1 + (s > s.diagonal()[None]).sum(0)
    assert scores.forward.cosine == pytest.approx((unit(rows) * unit(y)).sum(1).mean(), abs=1e-5)
    assert scores.forward.cosine_centred == pytest.approx(s.diagonal().mean(), abs=1e-5)
    assert scores.forward.mean_rank == pytest.approx(ranks.mean())
    assert scores.forward.foscttm == pytest.approx((ranks.mean() - 1) / 399)
    assert scores.backward.mean_rank == pytest.approx(back.mean())
    for k in (1, 5, 10):
        assert scores.forward.top[k] == pytest.approx((ranks <= k).mean())
        assert scores.backward.top[k] == pytest.approx((back <= k).mean())


def test_the_json_has_exactly_the_keys_of_the_contract():
    source, target, translator = planted(noise=1.0)
    told = json.loads(json.dumps(evaluate(translator, source, target, bootstrap=50).to_json(), allow_nan=False))
    assert list(told) == ["pool", "left_out", "forward", "backward", "controls", "warnings", "inverse"]
    ranking = {"top1", "top10", "mean_rank", "foscttm"}
    means = {"cosine", "cosine_centred"}
    for side in ("forward", "backward"):
        assert set(told[side]) == ranking | means | {"intervals", "csls"}
        assert set(told[side]["intervals"]) == ranking | means
        assert set(told[side]["csls"]) == ranking | {"intervals"}
    assert list(told["controls"]) == ["identity", "mean", "shuffled"]
    for control in told["controls"].values():
        assert set(control) == ranking | means | {"intervals"}
    assert told["pool"] == 400


def test_every_interval_holds_its_point():
    source, target, translator = planted(noise=2.0)
    scores = evaluate(translator, source, target, bootstrap=200)
    for direction in (scores.forward, scores.backward, *scores.controls.values()):
        told = direction.to_json()
        for name, (low, high) in told["intervals"].items():
            assert low - 1e-9 <= told[name] <= high + 1e-9, name


def test_a_shifted_target_mean_raises_raw_cosine_but_no_retrieval():
    """The anisotropy trap: the mean control looks almost right by raw cosine and finds nothing."""
    source, target, translator = planted(noise=1.0, shift=30.0)
    scores = evaluate(translator, source, target, bootstrap=0)
    mean = scores.controls["mean"]
    assert mean.cosine > 0.9
    assert mean.cosine_centred == 0
    assert mean.top1 == pytest.approx(1 / 400)
    assert mean.mean_rank == pytest.approx(401 / 2)
    assert mean.foscttm == pytest.approx(0.5)


@pytest.mark.parametrize("jitter", [0, 1e-7])
def test_a_translator_that_answers_one_row_scores_exactly_at_chance(jitter):
    source, target, translator = planted()

    class Constant(OneWay):
        def translate(self, rows):
            noise = jitter * np.random.default_rng(len(rows)).normal(size=(len(rows), 28))
            return (self.target.mean * (1 + noise)).astype(np.float32)

    scores = evaluate(Constant(translator.weight, translator.source, translator.target), source, target)
    for direction in (scores.forward, scores.backward, scores.forward.csls, scores.backward.csls):
        assert direction.top1 == pytest.approx(1 / 400)
        assert direction.foscttm == pytest.approx(0.5)
    assert any("not above chance" in remark for remark in scores.warnings)


def test_permuting_the_pairs_lowers_everything_to_chance():
    source, target, translator = planted(n=1000)
    shuffled = target.take(np.random.default_rng(1).permutation(1000))
    scores = evaluate(translator, source, shuffled, bootstrap=0)
    for direction in (scores.forward, scores.backward, scores.inverse, scores.controls["shuffled"]):
        assert direction.top1 < 0.01
        assert direction.foscttm == pytest.approx(0.5, abs=0.05)
        assert abs(direction.cosine_centred) < 0.05


def test_the_shuffled_control_is_at_chance_where_the_translator_is_perfect():
    scores = evaluate(*reordered(planted(n=1000)), bootstrap=0)
    assert scores.forward.top1 == 1
    assert scores.controls["shuffled"].top1 < 0.01
    assert scores.controls["shuffled"].foscttm == pytest.approx(0.5, abs=0.05)


def reordered(parts):
    source, target, translator = parts
    return translator, source, target


@pytest.mark.parametrize(("dx", "dy"), [(20, 20), (20, 30), (30, 20)])
def test_the_identity_control_copies_centred_rows_cut_or_filled_to_fit(dx, dy):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(300, max(dx, dy))) * np.linspace(2, 0.3, max(dx, dy))
    x, y = (whole[:, :d] + rng.normal(size=d) for d in (dx, dy))
    translator = OneWay(np.eye(dx, dy)[:, ::-1], Frame(x.mean(0)), Frame(y.mean(0)))
    scores = evaluate(translator, Space.of(x), Space.of(y), bootstrap=0)
    assert scores.controls["identity"].top1 > 0.99
    assert scores.controls["identity"].cosine_centred > 0.9
    assert scores.inverse is None
    assert "inverse" not in scores.to_json()


def test_it_says_when_copying_is_as_good_as_translating():
    source, _, _ = planted()
    mean = source.array().mean(0)
    scores = evaluate(Matrix(np.eye(20), Frame(mean), Frame(mean)), source, source, bootstrap=0)
    assert any("already share coordinates" in remark for remark in scores.warnings)


def test_a_common_shift_of_the_target_changes_no_retrieval():
    source, target, translator = planted(noise=2.0)
    far = np.full(28, 5.0, dtype=np.float32)
    moved = replace(translator, target=Frame(translator.target.mean + far))
    one = evaluate(translator, source, target, bootstrap=0)
    other = evaluate(moved, source, Space.of(target.array() + far), bootstrap=0)
    assert other.forward.mean_rank == pytest.approx(one.forward.mean_rank, rel=0.01)
    assert other.forward.cosine_centred == pytest.approx(one.forward.cosine_centred, abs=1e-3)
    assert other.forward.cosine > one.forward.cosine


def test_the_ceiling_is_scored_on_the_same_pool():
    source, target, best = planted(noise=1.5)
    worse = replace(best, weight=best.weight + 0.3 * np.random.default_rng(0).normal(size=best.weight.shape))
    scores = evaluate(worse, source, target, ceiling=best, bootstrap=0)
    alone = evaluate(best, source, target, bootstrap=0)
    assert scores.ceiling == (alone.forward, alone.backward)
    assert scores.share_of_ceiling == pytest.approx(scores.forward.top1 / alone.forward.top1)
    assert scores.to_json()["ceiling"]["share_of_top1"] < 1


def test_the_inverse_is_scored_in_the_frame_of_the_source():
    source, target, translator = planted(noise=1.0)
    scores = evaluate(translator, source, target, bootstrap=0)
    turned = evaluate(translator.inverse(), target, source, bootstrap=0)
    assert scores.inverse == turned.forward


def test_an_inverse_that_cannot_be_had_is_told_and_not_scored():
    source, target, translator = planted()

    class NoWayBack(Matrix):
        def inverse(self):
            raise TranslatorError("this map has no inverse")

    scores = evaluate(NoWayBack(translator.weight, translator.source, translator.target), source, target, bootstrap=0)
    assert scores.inverse is None
    assert any("no inverse" in remark for remark in scores.warnings)


def test_a_fitted_translator_is_scored_between_its_controls_and_its_ceiling(twins):
    from crossvec.fitting import fit

    rows = np.arange(len(twins.x))
    few, all_pairs = (
        fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=np.stack([rows[:count]] * 2, axis=1))
        for count in (60, 1000)
    )
    scores = evaluate(few, Space.of(twins.eval_x), Space.of(twins.eval_y), ceiling=all_pairs)
    assert scores.share_of_ceiling < 1
    for direction, best in ((scores.forward, scores.ceiling[0]), (scores.backward, scores.ceiling[1])):
        for control in scores.controls.values():
            assert control.intervals["top1"][1] < direction.intervals["top1"][0]
        assert direction.top1 < best.top1
        assert direction.cosine_centred < best.cosine_centred
    assert scores.inverse.top1 > 10 * scores.chance


def test_same_seed_same_scores():
    source, target, translator = planted(noise=2.0)
    one, two = (evaluate(translator, source, target, seed=4, bootstrap=100).to_json() for _ in range(2))
    assert one == two


def test_progress_rises_from_nothing_to_one():
    source, target, translator = planted()
    told = []
    evaluate(translator, source, target, bootstrap=0, progress=lambda doing, fraction: told.append((fraction, doing)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert {"translation", "identity control", "inverse"} <= {doing for _, doing in told}


def test_spaces_of_different_sizes_are_no_pairs():
    source, target, translator = planted()
    with pytest.raises(SpaceError, match="400 rows and the target 399") as told:
        evaluate(translator, source, target.rows(0, 399))
    assert "rows=0:399" in told.value.hint


def test_pairs_with_two_ids_are_told():
    source, target, translator = planted(n=120)
    ids = [f"text {i}" for i in range(120)]
    told = evaluate(translator, replace(source, ids=ids), replace(target, ids=[*ids[:-1], "another"]), bootstrap=0).warnings
    assert any("1 of 120 pairs have two ids, such as 'text 119' and 'another'" in words for words in told)
    assert not any("ids" in words for words in evaluate(translator, replace(source, ids=ids), target, bootstrap=0).warnings)


@pytest.mark.parametrize("wrong", [np.ones((3, 20)), [[1.0]], "a.npy", Path("a.npy"), None])
def test_what_is_no_space_is_refused_with_how_to_make_one(wrong, unchecked):
    source, target, translator = planted(n=120)
    for sides in ((wrong, target), (source, wrong)):
        with pytest.raises(SpaceError, match="not a Space") as refused:
            evaluate(translator, *sides)
        assert ("Space.of" if isinstance(wrong, (np.ndarray, list)) else "crossvec.open") in refused.value.hint


def test_scores_do_not_depend_on_torchs_default_type():
    source, target, translator = planted(n=120)
    expected = evaluate(translator, source, target)
    torch.set_default_dtype(torch.float64)
    try:
        assert evaluate(translator, source, target) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_same_ids_in_another_order_are_refused():
    source, target, translator = planted()
    ids = [f"text {i}" for i in range(400)]
    with pytest.raises(SpaceError, match="another order"):
        evaluate(translator, Space.of(source.array(), ids), Space.of(target.array(), ids[::-1]))
    evaluate(translator, Space.of(source.array(), ids), Space.of(target.array(), range(400)), bootstrap=0)


@pytest.mark.parametrize("n", [0, 1])
def test_a_pool_of_one_or_none_is_refused(n):
    source, target, translator = planted()
    with pytest.raises(SpaceError, match="cannot be searched"):
        evaluate(translator, source.rows(0, n), target.rows(0, n))


def test_a_tiny_pool_and_repeated_targets_are_remarked():
    source, target, translator = planted(n=20)
    again = np.arange(20) // 2
    scores = evaluate(translator, source.take(again), target.take(again), bootstrap=0)
    assert any("pool of 20 pairs is small" in remark for remark in scores.warnings)
    assert any("10 of 20 target rows repeat" in remark for remark in scores.warnings)
    assert scores.forward.top1 == 0.5
    assert scores.to_json()["warnings"] == list(scores.warnings)


def test_a_translator_for_other_spaces_is_refused_with_the_way_out():
    source, target, translator = planted()
    with pytest.raises(TranslatorError, match="20 dimensions to 28; source and target have 28 and 20") as told:
        evaluate(translator, target, source)
    assert told.value.hint == "swap source and target"
    with pytest.raises(TranslatorError, match="the ceiling carries"):
        evaluate(translator, source, target, ceiling=translator.inverse())


def test_a_translator_that_answers_nan_cannot_win():
    source, target, translator = planted()
    translator.weight = translator.weight.copy()
    translator.weight[2, 3] = np.nan
    with pytest.raises(TranslatorError, match="row 0 has NaN"):
        evaluate(translator, source, target)


@pytest.mark.parametrize("bad", [{"k": 0}, {"csls_neighbours": -1}, {"bootstrap": -5}])
def test_impossible_settings_are_refused_by_name(bad):
    source, target, translator = planted()
    with pytest.raises(SettingError, match=next(iter(bad))):
        evaluate(translator, source, target, **bad)


GROWTH = """
import resource, sys
import numpy as np
from test_evaluation import OneWay, evaluate, planted
source, target, known = planted(n=16_384, noise=1.0)
translator = OneWay(known.weight, known.source, known.target)
evaluate(translator, source.rows(0, 500), target.rows(0, 500))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate(translator, source, target, bootstrap=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
def test_no_matrix_of_the_pool_against_itself_is_ever_held():
    pytest.importorskip("resource", reason="this system does not tell the peak memory")
    told = subprocess.run([sys.executable, "-c", GROWTH], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert int(told.stdout) < 16_384**2 * 4 / 3


def spoiled(space: Space, *rows: int) -> Space:
    """The space with these rows left out, as it comes from a file with bad_rows=drop."""
    vectors = space.array().copy()
    vectors[list(rows)] = np.nan
    return Space.of(vectors, space.ids, bad_rows="drop")


def test_partners_of_rows_left_out_are_left_out_too_and_told():
    source, target, translator = planted()
    scores = evaluate(translator, spoiled(source, 0, 7, 399), spoiled(target, 7, 8), bootstrap=0)
    assert (scores.pool, scores.left_out) == (396, 4)
    assert scores.forward.top1 == scores.backward.top1 == 1
    assert any("4 pairs were left out" in remark for remark in scores.warnings)
    assert evaluate(translator, source, target, bootstrap=0).left_out == 0
