"""test_audit_scores — the numbers that findings rest on: what guessing scores, what the interval is worth, what a file says."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_audit_canaries import Hashed
from test_audit_world import TOPICS, Planted, planted

from crossvec.audit import Case, Labels, Probe, Severity, Stage, audit, names
from crossvec.audit.canaries import plant
from crossvec.audit.fingerprints import Fingerprint, built_in, resemblance, spread
from crossvec.audit.inputs import centred, resized
from crossvec.audit.labels import names_in
from crossvec.audit.ladder import RUNGS, Rung
from crossvec.audit.probes import create
from crossvec.audit.probes.attributes import Attributes, best, calibrated, correct
from crossvec.audit.scores import area, area_under, caught, share
from crossvec.errors import UsageError
from crossvec.space import Space


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(600, 300)


def stage(world: Planted, **changes: object) -> Stage:
    """The rung of an attacker who has the victim's model: no translator, so no time."""
    given: dict[str, object] = {"reference": world.reference(), "reference_texts": world.reference_texts}
    kept = plant(4, Hashed(), lambda count, _draw: list(range(count)), seed=0)
    case = world.known_model(**given, planted=kept, **changes)
    home = world.victim_model.encode(world.reference_texts)
    return Stage(Rung("encoder"), case, case.split(400, 0), home, np.arange(300), case.own_encoder, 0)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 5, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    by_hand = np.mean([(a > b) + 0.5 * (a == b) for a, b in product(p, q)])
    assert area_under(p, q) == pytest.approx(by_hand)
    assert area_under(p, q) + area_under(q, p) == pytest.approx(1)


def test_scores_without_a_difference_seldom_look_like_one() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(area("auc", rng.random(30), rng.random(60)).lift_low > 0 for _ in range(400))
    assert alarms <= 8  # 1 in 200 is promised: 2 expected, more than 8 happens once in ten thousand
    alarms = 0
    for seed in range(400):
        guess, truth = rng.integers(4, size=300), rng.integers(4, size=300)
        blind = {"commonest": (truth == np.bincount(truth).argmax()).astype(float)}
        alarms += share("top", (guess == truth).astype(float), blind, seed=seed).lift_low > 0
    assert alarms <= 8


def test_more_labels_looked_at_widen_the_interval() -> None:
    p, q = np.arange(30.0) + 5, np.arange(40.0)
    one, twenty = area("auc", p, q), area("auc", p, q, tests=20)
    assert one.value == twenty.value
    assert twenty.low < one.low


def test_no_more_strangers_are_caught_than_allowed() -> None:
    rng = np.random.default_rng(2)
    for size in (30, 100, 350):
        strangers = rng.standard_normal(size)
        assert caught(strangers, strangers, 0.01).mean() <= 0.01
    assert caught(np.array([9.0]), rng.standard_normal(50), 0.01).all()


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_the_best_labels_are_those_with_the_largest_scores(k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).standard_normal((20, 6))
    found = best(scores, k)
    threshold = -np.sort(-scores, axis=1)[:, k - 1]
    assert (np.take_along_axis(scores, found, 1) >= threshold[:, None]).all()
    assert correct(found, np.ones((20, 6), bool)).all()
    assert not correct(found, np.zeros((20, 6), bool)).any()


def test_a_label_that_everything_resembles_wins_no_row() -> None:
    rng = np.random.default_rng(3)
    labels = centred(rng.standard_normal((5, 12)).astype(np.float32))
    rows = centred(rng.standard_normal((300, 12)).astype(np.float32), 0.0)
    drawn = centred(rows + 2 * labels[0], 0.0)  # every text, of the store and of the reference, leans to the first label
    plain = np.bincount((drawn @ labels.T).argmax(1), minlength=5) / 300
    fair = np.bincount(calibrated(drawn, labels, drawn).argmax(1), minlength=5) / 300
    assert plain[0] > 0.8
    assert fair[0] < 0.4


@pytest.mark.parametrize("dim", [3, 5, 8])
def test_untranslated_rows_are_cut_or_filled(dim: int) -> None:
    rows = np.arange(10, dtype=np.float32).reshape(2, 5)
    made = resized(rows, dim)
    np.testing.assert_array_equal(made[:, : min(dim, 5)], rows[:, :dim])
    assert not made[:, 5:].any()


@pytest.mark.parametrize(
    ("value", "names_"),
    [(None, set()), ("a", {"a"}), ("a| b ", {"a", "b"}), (["a", "b"], {"a", "b"}), ([], set()), (3, {"3"}), ("", set())],
)
def test_the_labels_of_a_row_are_a_list_or_text_with_bars(value: object, names_: set[str]) -> None:
    assert names_in(value) == names_


def test_several_labels_a_row_count_as_the_paper_counts_them(world: Planted) -> None:
    both = [names | {f"topic {(int(next(iter(names)).split()[1]) + 1) % TOPICS}"} for names in world.truth]
    one, two = (Attributes().measure(stage(world, truth=truth)).scores[0] for truth in (world.truth, both))
    assert two.value >= one.value


def test_unknown_labels_dealt_at_random_raise_no_alarm(world: Planted) -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(40):
        at = stage(world, truth=[world.truth[row] for row in rng.permutation(600)])
        alarms += any(score.gates and score.lift_low > 0.02 for score in Attributes().measure(at).scores)
    assert alarms <= 2


@pytest.mark.parametrize("name", names())
def test_a_probe_keeps_the_contract(name: str, world: Planted) -> None:
    probe = create(name)
    assert isinstance(probe, Probe)
    assert is_dataclass(probe)
    assert probe.name == name
    assert set(probe.rungs) <= set(RUNGS)
    assert probe.severity in get_args(Severity)
    bare = Case(world.victim())
    nothing = Stage(Rung("vectors"), bare, bare.split(100, 0), None, np.empty(0, np.int64), None, 0)
    for at in (nothing, stage(world)):
        if probe.lacks(at):
            assert at is nothing, "with every input there is, a probe that climbs this rung runs"
            continue
        reading = probe.measure(at)
        told = json.dumps([one.to_json() for one in reading.scores] + [dict(reading.details)], allow_nan=False)
        assert not [text for text in world.victim_texts if f'{text}"' in told]
        for score in reading.scores:
            assert score.low <= score.value <= score.high
            assert score.over in score.controls


def test_a_registered_model_is_read_back_and_resembles_itself_alone(tmp_path) -> None:  # noqa: ANN001
    from crossvec.audit.fingerprints import read, write

    rng = np.random.default_rng(5)
    scale = rng.uniform(0.5, 2, 64)
    space = Space.of((rng.standard_normal((800, 64)) * scale).astype(np.float32))
    one = Fingerprint.of(space, "mine", cuts=True)
    write(tmp_path / "models.json", [one, Fingerprint("other", 128)])
    again = read(tmp_path / "models.json")
    assert again == [one, Fingerprint("other", 128)]
    assert resemblance(spread(space), again[0]) > 0.999
    assert resemblance(spread(Space.of(space.array()[:, :32])), again[0]) > 0.99
    assert abs(resemblance(rng.permutation(spread(space)), again[0])) < 0.5
    assert again[0].fits(32) and not again[1].fits(32)


def test_the_models_that_come_along_can_be_read_and_some_are_measured() -> None:
    models = built_in()
    assert len({one.name for one in models}) == len(models)
    assert sum(one.spread is not None for one in models) >= 3


def test_a_sample_of_a_known_model_is_recognised() -> None:
    from crossvec.sample import load

    rows = load().eval_source  # wordllama, other passages than those it was measured on
    it = audit(Case(rows), probes=["fingerprint"], quick=True)
    assert it.readings["vectors", "fingerprint"].details["resembles"][0]["model"].startswith("wordllama")
    assert [one.probe for one in it.findings] == ["fingerprint"]


def test_labels_need_two_names_and_a_sentence_for_each() -> None:
    assert Labels.of(["a", "b"]).sentences["a"][0] == "This text is about a."
    with pytest.raises(UsageError, match="has no sentence"):
        Labels({"a": ("x",), "b": ()})
