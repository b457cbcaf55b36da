"""test_audit_gate — what a gate must not let pass: where nothing could be scored, or seen to arrive, exit 0 is never given."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import orthonormal
from test_audit_world import Planted, planted

from crossvec.audit import Audit, Finding, Policy, Reading, Score, audit
from crossvec.audit import policy as policies
from crossvec.audit.ladder import Held, Rung
from crossvec.audit.scores import certainty
from crossvec.cli import audit as command
from crossvec.errors import UsageError
from crossvec.report.audit import junit, words
from crossvec.space import Space


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(600, 100)


def looked(world: Planted, **changes: Any) -> Audit:
    return audit(world.known_model(**changes), probes=["attributes"], quick=True)


# Did the rows arrive?


@pytest.mark.parametrize("whose", ["the named model's", "another's"])
def test_without_a_text_nothing_shows_that_rows_are_the_named_models(world: Planted, whose: str) -> None:
    rows = world.victim().array()
    others = np.random.default_rng(3).standard_normal(rows.shape).astype(np.float32)
    it = looked(world, texts=None, victim=Space.of(others if whose == "another's" else rows))
    assert it.rungs[-1].status == "uncertain" and it.rungs[-1].to_json()["status"] == "uncertain"
    assert it.exit_code == (3 if whose == "another's" else 1), "what is found counts all the same"
    assert any("nothing shows that the rows lie" in note for note in it.notes)
    assert words.WITNESS in words.to_do(it)
    assert "nothing shows that the rows lie" in junit.junit(it)


def test_with_texts_rows_that_were_rotated_failed(world: Planted) -> None:
    rows = world.victim().array()
    turn = orthonormal(rows.shape[1], rows.shape[1], np.random.default_rng(3)).astype(np.float32)
    it = looked(world, victim=Space.of(rows @ turn))
    assert (it.rungs[-1].status, it.exit_code) == ("failed", 3)


# Was anything scored?


def test_rows_without_a_text_are_searched_and_not_scored(world: Planted) -> None:
    texts = ["" if row in (0, 17) else text for row, text in enumerate(world.victim_texts)]
    case = world.known_model(texts=texts)
    split = case.split(1000, 0)
    assert not {0, 17} & {*split.scored, *split.absent} and {0, 17} <= {*split.present}
    it = audit(case, probes=["attributes"], quick=True)
    assert it.exit_code == 1 and it.rungs[-1].own is not None
    assert "2 rows of the store have no text: they are searched, and not scored" in it.notes


def test_a_stores_texts_are_used_though_one_is_blank() -> None:
    one = Space.of(np.eye(4, dtype=np.float32), payload={"text": ["a", " ", "c", "d"]})
    assert command._own_texts(one) == ["a", "", "c", "d"]
    assert command._own_texts(Space.of(np.eye(2, dtype=np.float32), payload={"text": ["", " "]})) is None


@pytest.mark.parametrize(("labelled", "told"), [(0, "no scored row has"), (1, "1 scored row has"), (9, "9 scored rows have")])
def test_labels_of_too_few_rows_leave_the_question_open(world: Planted, labelled: int, told: str) -> None:
    scored = world.known_model().split(100, 0).scored
    keep = {*scored[:labelled], *np.setdiff1d(np.arange(600), scored)[:1]}  # one that is not scored, so that a label is there
    truth = [label if row in keep else frozenset() for row, label in enumerate(world.truth)]
    case = replace(world.known_model(truth=truth))
    reading = _measured(case, most=100)
    assert reading.scores == () and told in reading.unfinished


def _measured(case: Any, most: int) -> Reading:
    from crossvec.audit.ladder import ahead
    from crossvec.audit.probes.attributes import Attributes

    return Attributes().measure(ahead("encoder", case, case.split(most, 0), 0))


def an_audit(*readings: tuple[str, str, Reading], **more: Any) -> Audit:
    rungs = (Rung("vectors"), Rung("encoder", own=Held(99, 100)))
    return Audit(
        {"name": "s", "rows": 9, "dim": 2}, rungs, {(rung, probe): reading for rung, probe, reading in readings}, (), **more
    )


A_SCORE = Score("top-1", 0.1, 0.0, 0.2, 0.1, "chance", 0.0, -0.1, 0.1, 100)


def test_an_attack_that_nothing_scores_is_no_all_clear() -> None:
    seen = ("vectors", "fingerprint", Reading((A_SCORE,)))
    read = ("encoder", "attributes", Reading((A_SCORE,)))
    told = ("encoder", "inversion", Reading((), {"documents": 100}))
    assert an_audit(seen, told).exit_code == 3
    assert "came to a score" in junit.junit(an_audit(seen, told))
    assert an_audit(seen, read, told).exit_code == 0
    assert an_audit(seen).exit_code == 0, "who asks for the fingerprint alone is answered"


def test_a_question_that_was_broken_off_without_a_score_is_an_error_of_junit() -> None:
    it = an_audit(("encoder", "attributes", Reading((), unfinished="no scored row has one of the labels")))
    assert it.exit_code == 3
    assert words.outcomes(it)[0].state == "unknown"


def test_what_is_tolerated_is_not_told_as_nothing() -> None:
    low = Finding("fingerprint", "vectors", replace(A_SCORE, lift_low=0.5), "low")
    it = replace(an_audit(("vectors", "fingerprint", Reading((A_SCORE,)))), findings=(low,))
    assert it.exit_code == 0
    assert words.meaning(it) == words.ACCEPTED != words.meaning(replace(it, findings=()))


# Is the policy kept?


def test_no_threshold_makes_a_sure_translation_pass() -> None:
    sure, unsure = certainty("verdict probability", 0.93, 0.8), certainty("verdict probability", 0.7, 0.8)
    for threshold in (0.0, 0.2, 0.99):
        assert sure.above(threshold) and not unsure.above(threshold)
    assert not replace(A_SCORE, lift_low=0.1).above(0.2) and replace(A_SCORE, lift_low=0.3).above(0.2)
    assert not replace(A_SCORE, lift_low=0.3, gates=False).above(0.2)


@pytest.mark.parametrize("line", ['fail_on = "low"', "thresholds = {attributes = 0.1}", "waivers = []"])
def test_a_rule_outside_of_the_table_audit_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "crossvec.toml"
    file.write_text(f"{line}\n\n[audit]\n\n[other]\nfail_on = 3\n")
    with pytest.raises(UsageError, match="outside of"):
        policies.read(file)
    file.write_text('[audit]\nfail_on = "low"\n\n[other]\nfail_on = 3\n')
    assert policies.read(file) == Policy("low")


@pytest.mark.parametrize("kind", ["a link to nothing", "a folder"])
def test_a_policy_that_is_there_and_cannot_be_read_is_not_passed_over(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command._policy(None) is None
    if kind == "a folder":
        Path(policies.FILE).mkdir()
    else:
        os.symlink("nowhere.toml", policies.FILE)
    with pytest.raises(UsageError, match="cannot read the policy"):
        command._policy(None)


def test_a_reference_that_is_too_small_is_refused_and_not_left_out(world: Planted) -> None:
    few = world.reference().take(np.arange(49))
    with pytest.raises(UsageError, match="the reference has 49 rows"):
        world.known_model(reference=few)
    world.known_model(reference=few, pairs=np.stack([np.arange(20)] * 2, axis=1))
