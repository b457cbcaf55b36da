"""test_audit_defences — what each defence does to rows, and that a secret key which moves all rows alike comes out broken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_audit_world import planted

from crossvec.audit import defend
from crossvec.audit.defences import DEFENCES, STANDARD, named
from crossvec.errors import UsageError
from crossvec.report.audit.markdown import defences


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((400, 48)).astype(np.float32) + 0.3
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("one", STANDARD, ids=lambda one: one.name)
def test_a_defence_is_named_as_it_says_and_is_the_same_for_the_same_key(one, rows: np.ndarray) -> None:  # noqa: ANN001
    assert named(one.name) == one
    made = one.apply(rows, 7)
    assert made.dtype == np.float32
    assert len(made) == len(rows)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, one.apply(rows, 7))


@pytest.mark.parametrize("kind", ["rotate", "permute"])
def test_a_secret_isometry_keeps_every_inner_product_and_another_key_gives_other_rows(kind: str, rows: np.ndarray) -> None:
    made = named(kind).apply(rows, 1)
    np.testing.assert_allclose(made @ made.T, rows @ rows.T, atol=1e-5)
    assert abs(cosines(made, rows)).mean() < 0.9
    assert not np.allclose(made, named(kind).apply(rows, 2))


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_noise_turns_rows_by_as_much_as_its_strength_says(sigma: float, rows: np.ndarray) -> None:
    made = named(f"noise:{sigma}").apply(rows)
    assert cosines(made, rows).mean() == pytest.approx(1 / math.sqrt(1 + 48 * sigma**2), abs=0.003)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("beta", [1.1, 2.5, 7.2])
def test_scale_and_perturb_moves_rows_within_a_ball_of_a_quarter_of_beta(beta: float, rows: np.ndarray) -> None:
    made = named(f"scale-and-perturb:{beta}").apply(rows, 3)
    # Uniform in a ball of 48 dimensions nearly all lies near its surface: the root of d / (d + 2) of it, on average.
    away = beta / 4
    lengths = np.linalg.norm(made, axis=1)
    factor = math.sqrt((lengths**2).mean() / (1 + away**2 * 48 / 50))
    assert 1 <= factor <= 10
    gram = (made @ made.T / factor**2)[np.triu_indices(len(rows), 1)]
    assert np.corrcoef(gram, (rows @ rows.T)[np.triu_indices(len(rows), 1)])[0, 1] == pytest.approx(
        1 / math.sqrt(1 + (away**2 * 2 + away**4) / 48 / np.var(rows @ rows.T)), abs=0.15
    )


def test_quantisation_leaves_the_values_it_should(rows: np.ndarray) -> None:
    step = np.abs(rows).max(0) / 127
    assert (np.abs(named("int8").apply(rows) - rows) <= step / 2 + 1e-7).all()
    assert set(np.unique(named("binary").apply(rows))) == {-1.0, 1.0}
    made = named("pq:4").apply(rows)
    assert len(np.unique(made[:, :4], axis=0)) <= 256
    assert cosines(made, rows).mean() > 0.6


def test_truncation_keeps_the_first_coordinates_and_the_lengths(rows: np.ndarray) -> None:
    made = named("truncate:0.25").apply(rows)
    assert made.shape == (400, 12)
    assert cosines(made, rows[:, :12]).min() > 1 - 1e-5
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_mean_removal_leaves_no_common_direction(rows: np.ndarray) -> None:
    assert np.linalg.norm(rows.mean(0)) > 0.2
    assert np.linalg.norm(named("demean").apply(rows).mean(0)) < 0.05


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rotat", "no defence 'rotat'"),
        ("rotate:2", "has no strength"),
        ("noise:-1", "cannot be -1"),
        ("noise:much", "cannot be much"),
        ("truncate:2", "cannot be 2"),
        ("pq:2.5", "cannot be 2.5"),
    ],
)
def test_a_defence_that_cannot_be_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        named(name)
    assert refused.value.hint


def test_every_kind_of_defence_is_among_those_that_are_compared() -> None:
    assert {one.kind for one in STANDARD} == set(DEFENCES)


def test_a_secret_rotation_is_broken_without_pairs_and_costs_a_search_nothing() -> None:
    world = planted()
    (trial,) = defend(world.case(), [named("rotate")])
    assert trial.recall > 0.99
    assert (trial.verdict, trial.broken_by) == ("broken", "domain")
    assert trial.scores["domain", "alignment"].lift_low > 0.2
    assert "| rotate | yes | 1.000 | broken | domain |" in defences([trial])
