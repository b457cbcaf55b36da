"""The laws of describing a space and of comparing two."""

import json
import sys

import numpy as np
import pytest
from scipy.stats import ortho_group

from crossvec.diagnostics import compare, feasibility, inspect
from crossvec.errors import SettingError, SpaceError
from crossvec.space import Space


def clustered(n: int = 1500, d: int = 48, seed: int = 0) -> np.ndarray:
    """Rows in skewed clusters of different sizes, float32, neither centred nor of unit length."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, d)) * np.linspace(2, 0.5, d)
    rows = centres[rng.choice(60, n, p=rng.dirichlet(np.full(60, 0.7)))] + 0.5 * rng.exponential(size=(n, d)) + 1
    return rows.astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def turn(d: int, seed: int = 0) -> np.ndarray:
    return ortho_group.rvs(d, random_state=seed).astype(np.float32)


def numbers(told, path=""):
    """Every number in a nested result, by its place."""
    for key, value in told.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, (int, float)):
            yield f"{path}{key}", value


# One space


def test_it_counts_and_measures_what_numpy_counts_and_measures():
    x = clustered()
    told = inspect(Space.of(x, name="mine"))
    lengths = np.linalg.norm(x.astype(float), axis=1)
    assert (told.name, told.rows, told.dim, told.scanned) == ("mine", 1500, 48, 1500)
    assert told.norms == pytest.approx(
        {"mean": lengths.mean(), "sd": lengths.std(), "low": lengths.min(), "high": lengths.max()}, rel=1e-5
    )
    assert not told.unit_norm
    cosines = unit(x.astype(float)) @ unit(x.astype(float)).T
    assert told.shape.mean_cosine == pytest.approx((cosines.sum() - 1500) / (1500 * 1499), abs=1e-5)
    assert told.shape.mean_length == pytest.approx(np.linalg.norm(unit(x.astype(float)).mean(0)), abs=1e-5)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.astype(float).T)))[::-1]
    shares = values / values.sum()
    assert told.shape.participation_ratio == pytest.approx(1 / (shares**2).sum(), rel=1e-4)
    assert told.shape.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
    assert told.shape.axes == {f"{q}%": int(np.searchsorted(shares.cumsum(), q / 100) + 1) for q in (50, 90, 99)}


def test_turning_a_space_changes_nothing_that_is_said_of_its_shape():
    x = clustered()
    before, after = (dict(numbers({"shape": inspect(Space.of(rows)).to_json()["shape"]})) for rows in (x, x @ turn(48)))
    assert after == pytest.approx(before, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("factor", [1e-12, 7, 1e9])
def test_scaling_a_space_changes_its_lengths_only(factor):
    x = clustered()
    before, after = (inspect(Space.of(rows)) for rows in (x, np.float32(factor) * x))
    assert dict(numbers({"s": after.to_json()["shape"]})) == pytest.approx(
        dict(numbers({"s": before.to_json()["shape"]})), rel=1e-4, abs=1e-4
    )
    assert after.norms["mean"] == pytest.approx(factor * before.norms["mean"], rel=1e-5)


@pytest.mark.parametrize("used", [1, 5, 20])
def test_a_flat_spectrum_over_some_axes_has_that_rank(used):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, used)) @ turn(24)[:used] + 1
    shape = inspect(Space.of(x)).shape
    assert shape.participation_ratio == pytest.approx(used, rel=0.05)
    assert shape.effective_rank == pytest.approx(used, rel=0.05)
    assert shape.axes["99%"] == used


def test_more_dimensions_than_rows_have_the_spectrum_of_the_rows():
    wide = np.random.default_rng(0).normal(size=(60, 400))
    shape = inspect(Space.of(wide)).shape
    values = np.linalg.svd(wide - wide.mean(0), compute_uv=False) ** 2
    assert shape.participation_ratio == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-4)


def test_a_common_shift_shows_as_anisotropy_and_in_nothing_centred():
    x = np.random.default_rng(0).normal(size=(1000, 32))
    near, far = (inspect(Space.of(x + shift)) for shift in (0, 10))
    assert near.shape.mean_cosine == pytest.approx(0, abs=0.01)
    assert far.shape.mean_cosine > 0.95
    assert any("centre rows" in note for note in far.notes)
    assert far.shape.effective_rank == pytest.approx(near.shape.effective_rank, rel=1e-4)
    assert far.shape.nearest == pytest.approx(near.shape.nearest, abs=1e-3)


def test_clusters_have_structure_and_a_gaussian_cloud_has_none():
    x = clustered(2000)
    gaussian = np.random.default_rng(1).normal(size=(2000, 48)) @ np.linalg.cholesky(np.cov(x.T)).T
    assert inspect(Space.of(x)).shape.structure > 0.1
    told = inspect(Space.of(gaussian))
    assert abs(told.shape.structure) < 0.02
    assert any("Gaussian" in note for note in told.notes)


def test_duplicates_are_counted_exact_and_near():
    x = clustered(500)
    near = x[:20] + 1e-3 * np.random.default_rng(0).normal(size=(20, 48)).astype(np.float32)
    told = inspect(Space.of(np.concatenate([x, x[:30], x[:5], near])))
    assert told.exact_duplicates == 35
    assert told.near_duplicates == 40
    assert any("35 of 555 rows repeat" in note for note in told.notes)
    clean = inspect(Space.of(x))
    assert (clean.exact_duplicates, clean.near_duplicates) == (0, 0)


def test_copies_of_rows_do_not_pass_for_structure():
    gaussian = np.random.default_rng(1).normal(size=(800, 48))
    assert abs(inspect(Space.of(np.repeat(gaussian, 2, axis=0))).shape.structure) < 0.03


def test_dead_dimensions_are_counted():
    x = clustered()
    x[:, [3, 9]] = 0
    x[:, 7] = 0.25
    told = inspect(Space.of(x))
    assert (told.constant_dims, told.zero_dims) == (3, 2)
    assert any("3 of 48 dimensions never change" in note for note in told.notes)


def quantised(how: str) -> np.ndarray:
    x = unit(clustered(2000, 64))
    rng = np.random.default_rng(0)
    if how == "int8":
        return np.round(127 * x / abs(x).max()).astype(np.int8)
    if how == "grid":
        return (np.round((x - x.min(0)) / np.ptp(x, axis=0) * 255) * np.ptp(x, axis=0) / 255 + x.min(0)).astype(np.float32)
    if how == "scale for each row":
        return unit(np.round(127 * x / abs(x).max(1, keepdims=True))).astype(np.float32)
    if how == "codebook":
        codes = rng.integers(256, size=(2000, 8))
        return np.concatenate([rng.normal(size=(256, 8))[codes[:, i]] for i in range(8)], axis=1).astype(np.float32)
    if how == "binary":
        return np.sign(x - x.mean(0)).astype(np.float32)
    if how == "float16":
        return x.astype(np.float16).astype(np.float32)
    if how == "bfloat16":
        return (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    if how == "float32, then cast":
        return x.astype(np.float32).astype(np.float64)
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("int8", "int8, as stored"),
        ("grid", "even grid (256 levels)"),
        ("scale for each row", "a scale for each row"),
        ("codebook", "a codebook"),
        ("binary", "binary"),
        ("float16", "float16, then cast"),
        ("bfloat16", "bfloat16, then cast"),
        ("float32, then cast", "float32, then cast"),
        ("none", "float32, no trace"),
    ],
)
def test_traces_of_quantisation_are_recognised(how, told):
    assert told in inspect(Space.of(quantised(how))).storage.looks_like


def test_cut_unit_rows_are_told_from_unit_rows():
    x = unit(clustered(800, 64) * np.linspace(3, 0.3, 64).astype(np.float32))
    whole, cut = inspect(Space.of(x)), inspect(Space.of(x[:, :32]))
    assert whole.unit_norm
    assert not cut.unit_norm
    assert any("never exceed 1" in note for note in cut.notes)
    assert any("first half of the dimensions" in note for note in whole.notes)
    assert not any("never exceed 1" in note for note in whole.notes)


def test_large_spaces_are_sampled_and_it_is_said_how(monkeypatch):
    from crossvec.diagnostics import profile

    monkeypatch.setattr(profile, "SCAN", 1000)
    monkeypatch.setattr(profile, "SCAN_SAMPLE", 700)
    told = inspect(Space.of(clustered(1500)), sample=300)
    assert (told.rows, told.scanned, told.shape.rows) == (1500, 700, 300)
    assert any("700 of 1,500" in note for note in told.notes)
    assert any("300 rows" in note for note in told.notes)


def odd(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "all rows equal": np.ones((200, 16)),
        "one dimension": rng.normal(size=(200, 1)),
        "two rows": rng.normal(size=(2, 16)),
        "two rows, equal": np.ones((2, 16)),
        "one direction": rng.uniform(1, 2, size=(200, 1)) * np.ones((1, 16)),
        "int8": rng.integers(1, 5, size=(200, 16)).astype(np.int8),
        "tiny values": 1e-12 * rng.normal(size=(200, 16)),
        "huge values": 1e12 * rng.normal(size=(200, 16)),
    }[kind]


KINDS = [
    "all rows equal",
    "one dimension",
    "two rows",
    "two rows, equal",
    "one direction",
    "int8",
    "tiny values",
    "huge values",
]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_spaces_are_described_without_nan(kind):
    told = inspect(Space.of(odd(kind)))
    json.dumps(told.to_json(), allow_nan=False)
    if "equal" in kind:
        assert (told.shape.participation_ratio, told.shape.effective_rank) == (0, 0)
        assert told.exact_duplicates == told.rows - 1


@pytest.fixture
def hasty(monkeypatch):
    """A trial of few starts, for what does not hang on what it finds."""
    module = sys.modules["crossvec.diagnostics.feasibility"]
    for name, value in {"STARTS": 128, "KEPT": 1, "KICKS": 0}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "two" not in kind])
def test_odd_spaces_are_compared_without_nan(kind, paired):
    likeness = compare(Space.of(odd(kind)), Space.of(clustered(200, 24)), paired=paired)
    json.dumps(likeness.to_json(), allow_nan=False)
    assert likeness.outlook != "feasible"


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_rows_cannot_be_described(n):
    with pytest.raises(SpaceError, match=f"has {n} row"):
        inspect(Space.of(clustered(5)).rows(0, n))


def test_a_sample_must_be_large_enough():
    with pytest.raises(SettingError, match="sample of 1"):
        inspect(Space.of(clustered(50)), sample=1)


# Two spaces


def test_a_turned_copy_is_alike_in_everything_but_its_coordinates():
    x = clustered()
    likeness = compare(Space.of(x), Space.of(x @ turn(48)), paired=True)
    assert likeness.spectra == pytest.approx(1, abs=1e-5)
    assert likeness.pairs.mutual_knn == pytest.approx(1, abs=0.01)
    assert likeness.pairs.cka == pytest.approx(1, abs=1e-5)
    assert likeness.pairs.cka_debiased == pytest.approx(1, abs=1e-5)
    assert likeness.pairs.identity_top1 < 0.05
    assert likeness.shared_axes == pytest.approx(likeness.shared_axes_chance, abs=0.1)


def test_shared_coordinates_are_seen_with_and_without_pairs():
    x = clustered(3000)
    halves = Space.of(x[::2]), Space.of(x[1::2])
    apart = compare(*halves, paired=False, trial=False)
    assert apart.shared_axes > 0.9
    assert any("identity" in reason for reason in apart.reasons)
    assert compare(halves[0], halves[0], paired=True).pairs.identity_top1 == 1
    turned = compare(halves[0], Space.of(x[1::2] @ turn(48)), paired=False, trial=False)
    assert not any("identity" in reason for reason in turned.reasons)


def test_breaking_the_pairs_lowers_row_by_row_likeness_to_chance_and_leaves_the_shapes():
    x, y = clustered(), clustered() @ turn(48)
    mixed = y[np.random.default_rng(0).permutation(len(y))]
    whole, broken = (compare(Space.of(x), Space.of(rows), paired=True) for rows in (y, mixed))
    assert broken.pairs.mutual_knn == pytest.approx(broken.pairs.mutual_knn_chance, abs=3e-3)
    assert abs(broken.pairs.cka_debiased) < 0.01
    assert broken.spectra == pytest.approx(whole.spectra, abs=1e-5)
    assert broken.nearest_distance == pytest.approx(whole.nearest_distance, abs=1e-5)
    assert broken.outlook == "unlikely"


def test_pairs_stay_pairs_when_rows_are_sampled():
    x = clustered()
    likeness = compare(Space.of(x), Space.of(x @ turn(48)), paired=True, sample=300)
    assert likeness.rows == 300
    assert likeness.pairs.mutual_knn > 0.98


def test_cka_is_its_formula_and_the_debiased_one_has_no_bias():
    rng = np.random.default_rng(0)
    x, y = clustered(300, 20), rng.normal(size=(300, 30))
    y[:, :10] += x[:, :10]
    pairs = compare(Space.of(x), Space.of(y), paired=True).pairs

    def centred_kernel(rows):
        rows = unit(rows.astype(float))
        rows = rows - rows.mean(0)
        return rows @ rows.T

    def u_centred(kernel):  # Székely and Rizzo 2014, the other way to the unbiased estimate
        n = len(kernel)
        kernel = kernel - np.diag(np.diag(kernel))
        sums = kernel.sum(1)
        kernel = kernel - sums[:, None] / (n - 2) - sums[None] / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        return kernel - np.diag(np.diag(kernel))

    k, m = centred_kernel(x), centred_kernel(y)
    assert pairs.cka == pytest.approx((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m), abs=1e-5)
    k, m = u_centred(k), u_centred(m)
    assert pairs.cka_debiased == pytest.approx((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m), abs=1e-5)
    unrelated = compare(Space.of(rng.normal(size=(200, 100))), Space.of(rng.normal(size=(200, 100))), paired=True).pairs
    assert unrelated.cka > 0.25
    assert abs(unrelated.cka_debiased) < 0.02


def test_comparing_is_symmetric():
    a, b = Space.of(clustered()), Space.of(clustered(1500, 30, seed=1))
    one, other = compare(a, b, paired=True), compare(b, a, paired=True)
    for name in ("spectra", "nearest_distance", "shared_axes", "shared_axes_chance", "outlook"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)
    assert one.pairs.cka_debiased == pytest.approx(other.pairs.cka_debiased, abs=1e-5)
    assert one.pairs.mutual_knn == pytest.approx(other.pairs.mutual_knn, abs=1e-3)


def test_spaces_of_one_world_look_feasible(world):
    likeness = compare(Space.of(world.x), Space.of(world.y), paired=False)
    assert likeness.outlook == "feasible"
    assert likeness.pairs is None
    assert likeness.to_json()["pairs"] is None


def test_noise_few_rows_and_unlike_spectra_are_spoken_against():
    x = Space.of(clustered(2500))
    rng = np.random.default_rng(0)
    noise = compare(x, Space.of(rng.normal(size=(2500, 48))), paired=False, trial=False)
    assert noise.outlook == "unlikely"
    assert any("second space is nearly featureless" in reason for reason in noise.reasons)
    few = compare(x.rows(0, 1000), x.rows(1000, 2000), paired=False, trial=False)
    assert few.outlook == "doubtful"
    assert any("1,000 rows a side are few" in reason for reason in few.reasons)
    flat = Space.of(rng.exponential(size=(2500, 400)))
    assert any("spectra differ" in reason for reason in compare(x, flat, paired=False, trial=False).reasons)


def trial_of(x: np.ndarray, y: np.ndarray):
    return feasibility(Space.of(x), Space.of(y))


@pytest.fixture(scope="module")
def found(world):
    return trial_of(world.x, world.y)


def test_a_trial_finds_all_between_views_of_one_world_and_nothing_in_a_gaussian_cloud(world, found):
    rng = np.random.default_rng(0)
    assert (found.rows, found.axes) == ({"a": 3000, "b": 3000}, 20)
    assert min(found.reliability.values()) > 0.8
    assert min(found.recovered.values()) > 0.95
    assert found.agreement > found.agreement_null + 0.2
    assert found.share > 0.9
    gaussian = rng.normal(size=(3000, 20)) @ np.linalg.cholesky(np.cov(world.y.T)).T + world.y.mean(0)
    nothing = trial_of(world.x, gaussian)
    assert nothing.recovered["a"] > 0.95 > 0.5 > nothing.recovered["b"]
    assert nothing.reliability["b"] < 0.4
    assert nothing.share is None or nothing.share < 0.3


def test_a_trial_knows_its_own_truth_only_with_rows_enough(world, found):
    few = trial_of(world.x[:60], world.y[:60])
    for side in "ab":
        assert few.recovered[side] < found.recovered[side] - 0.3
        assert few.reliability[side] < found.reliability[side] - 0.2


def test_a_trial_sees_neither_rotation_nor_scale_nor_shift(world, found):
    moved = trial_of(7 * world.x @ turn(24) + 3, world.y)
    assert moved.reliability == pytest.approx(found.reliability, abs=0.02)
    assert moved.agreement == pytest.approx(found.agreement, abs=0.02)
    assert moved.recovered == pytest.approx(found.recovered, abs=0.05)


@pytest.mark.usefixtures("hasty")
def test_a_trial_of_very_wide_spaces_goes_by_some_of_their_rows(world):
    """Of 4,000 dimensions, 24 are used."""
    wide = world.x[:600] @ np.linalg.qr(np.random.default_rng(0).normal(size=(4000, 24)))[0].T.astype(np.float32)
    told, plain = (feasibility(Space.of(rows), Space.of(world.y[:600])) for rows in (wide, world.x[:600]))
    assert told.axes == plain.axes == 20
    assert told.reliability["a"] == pytest.approx(plain.reliability["a"], abs=0.02)
    assert feasibility(Space.of(wide[:12]), Space.of(wide[12:30])).axes == 5


@pytest.mark.usefixtures("hasty")
def test_a_trial_looks_at_no_more_rows_than_memory_allows(world, monkeypatch):
    monkeypatch.setattr(sys.modules["crossvec.diagnostics.feasibility"], "MOST_VALUES", 24 * 500)
    assert trial_of(world.x, world.y).rows == {"a": 500, "b": 600}


@pytest.mark.usefixtures("hasty")
def test_a_trial_is_made_where_there_are_no_pairs_unless_the_user_says(twins):
    spaces = Space.of(twins.x), Space.of(twins.y)
    assert compare(*spaces, paired=True).trial is None
    assert compare(*spaces, paired=True, trial=True).trial is not None
    assert compare(*spaces, paired=False, trial=False).trial is None
    told = []
    likeness = compare(*spaces, paired=False, progress=lambda doing, fraction: told.append((fraction, doing)))
    assert likeness.trial == feasibility(*spaces)
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
    assert told[-1][0] == 1
    assert likeness.to_json()["trial"]["recovered"]["a"] == likeness.trial.recovered["a"]


def test_the_outlook_rests_on_the_trial(world):
    assert "third moments agree" in compare(Space.of(world.x), Space.of(world.y), paired=False).reasons[0]
    lost = compare(Space.of(world.x[:40]), Space.of(world.y), paired=False)
    assert any("found again in a rotated half" in reason for reason in lost.reasons)
    assert lost.outlook == "unlikely"


def test_pairs_are_taken_from_equal_ids_unless_the_user_says():
    x = clustered(400)
    ids = [f"text {i}" for i in range(400)]
    with_ids, others = Space.of(x, ids), Space.of(x @ turn(48), ids)
    assert compare(with_ids, others).pairs is not None
    assert compare(with_ids, others, paired=False, trial=False).pairs is None
    assert compare(Space.of(x), others, trial=False).pairs is None
    assert compare(Space.of(x), others, paired=True).pairs is not None


def test_pairs_of_different_sizes_are_refused_with_the_way_out():
    x = Space.of(clustered(400))
    with pytest.raises(SpaceError, match="cannot be pairs") as told:
        compare(x, x.rows(0, 300), paired=True)
    assert "rows=0:300" in told.value.hint


def test_partners_of_rows_left_out_are_left_out_too():
    x = clustered(400)
    holes = x.copy(), x @ turn(48)
    holes[0][[3, 200]] = np.nan
    holes[1][[3, 5]] = np.nan
    ids = range(400)
    for paired in (True, None):
        likeness = compare(*(Space.of(rows, ids, bad_rows="drop") for rows in holes), paired=paired)
        assert (likeness.rows, likeness.pairs.left_out) == (397, 3)
        assert likeness.pairs.mutual_knn == pytest.approx(1, abs=0.01)


def test_too_few_rows_are_refused():
    x = Space.of(clustered(400))
    with pytest.raises(SpaceError, match="has 11 rows; this needs at least 12"):
        compare(x, x.rows(0, 11), paired=False)


def test_results_are_plain_and_same_seed_same_result():
    a, b = Space.of(clustered()), Space.of(clustered(seed=3))
    first, again = (compare(a, b, paired=True, seed=5, sample=500).to_json() for _ in range(2))
    assert first == again
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    profile = inspect(a).to_json()
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
