"""test_audit — what an audit may claim: planted leaks are found; where nothing is, or nothing is sure, none is claimed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from test_audit_world import Planted, planted

from crossvec.audit import Audit, Case, Labels, Policy, Reading, Score, Stage, Waiver, _untranslated_do_as_well, audit
from crossvec.audit.ladder import Held
from crossvec.audit.probes.alignment import Alignment
from crossvec.audit.probes.membership import Membership
from crossvec.errors import UsageError
from crossvec.space import Space

TODAY = date(2026, 11, 22)


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted()


@pytest.fixture(scope="module")
def found(world: Planted) -> Audit:
    """An audit with everything an owner can give but pairs and the victim's model."""
    return audit(world.case(), quick=True, today=TODAY)


def claimed(it: Audit) -> set[tuple[str, str]]:
    return {(one.rung, one.probe) for one in it.findings}


def test_a_planted_leak_is_found_by_every_probe_that_should_see_it(found: Audit) -> None:
    assert claimed(found) == {("domain", name) for name in ("alignment", "attributes", "membership", "neighbours")}
    assert (found.verdict, found.exit_code) == ("leaks", 1)
    assert found.rungs[1].seeds == (1, 1)


def test_every_score_stands_beside_what_does_not_look_and_what_is_not_translated(found: Audit) -> None:
    for (rung, probe), reading in found.readings.items():
        for score in reading.scores:
            assert score.controls[score.over] == pytest.approx(score.chance)
            assert score.low <= score.value <= score.high
            assert score.lift_low <= score.lift <= score.lift_high
            # A text of this world is "text" and a number, which no direction spells: inversion has nothing to find in it.
            assert rung == "vectors" or probe == "inversion" or score.value > score.controls["naive"] + 0.01


def test_a_translation_reaches_no_more_than_the_true_rows(found: Audit) -> None:
    top = found.readings["domain", "attributes"].scores[0]
    assert top.controls["ideal"] > 0.9
    assert 0.8 < (top.of_ideal or 0) < 1.1


def test_labels_dealt_to_the_wrong_rows_raise_no_finding(world: Planted) -> None:
    rng = np.random.default_rng(5)
    shuffled = [world.truth[row] for row in rng.permutation(len(world.truth))]
    it = audit(world.known_model(truth=shuffled), probes=["attributes"], quick=True)
    assert not it.findings
    assert (it.verdict, it.exit_code) == ("nothing found", 0)


@pytest.mark.parametrize("kind", ["gaussian", "each row's coordinates shuffled"])
def test_vectors_that_have_nothing_to_do_with_the_texts_end_inconclusive(world: Planted, kind: str) -> None:
    rng, rows = np.random.default_rng(1), world.victim().array()
    noise = rng.standard_normal(rows.shape).astype(np.float32) if kind == "gaussian" else rng.permuted(rows, axis=1)
    it = audit(world.case(victim=Space.of(noise)), quick=True)
    assert it.rungs[1].status == "failed"
    assert not it.findings
    assert (it.verdict, it.exit_code) == ("inconclusive", 3)
    assert any("failed" in note for note in it.notes)


def test_what_leaks_by_the_owners_texts_is_found_though_the_attacker_cannot_be_sure_of_it(world: Planted) -> None:
    # The victim's own model as the reference, with rows too few for the verdict. Whether so few are found at all hangs on the
    # last bits of the processor's sums, so several numbers of rows are tried.
    def few(rows: int) -> Case:
        texts = world.victim_texts[:rows]
        return world.case(victim=Space.of(world.reference_model.encode(texts)), texts=texts, truth=world.truth[:rows])

    tried = ((case, audit(case, probes=["alignment", "attributes"], quick=True)) for case in map(few, (95, 110, 125)))
    case, it = next((case, it) for case, it in tried if it.rungs[0].status == "aligned")
    assert it.rungs[0].attackers_status == "failed"
    assert claimed(it) == {("domain", "alignment"), ("domain", "attributes")}
    assert it.exit_code == 1
    assert any("without being sure" in note for note in it.notes)
    # Nobody's texts tell anything where the owner gives none: then what the attacker can know decides, and nothing is claimed.
    blind = audit(replace(case, texts=None), probes=["attributes"], quick=True)
    assert (blind.rungs[0].status, blind.findings, blind.exit_code) == ("failed", (), 3)


@pytest.mark.parametrize(("near", "status"), [(900, "aligned"), (300, "uncertain"), (100, "failed")])
def test_where_some_rows_arrive_what_is_not_found_is_no_all_clear(found: Audit, near: int, status: str) -> None:
    rung = replace(found.rungs[1], own=Held(near, 1000))
    assert rung.status == status
    it = replace(found, rungs=(rung,), findings=())
    assert it.exit_code == (0 if status == "aligned" else 3)


def test_rows_that_do_not_lie_where_the_named_model_puts_their_texts_are_no_all_clear(world: Planted) -> None:
    it = audit(world.known_model(victim=Space.of(np.roll(world.victim().array(), 1, axis=0))), quick=True)
    assert it.rungs[1].status == "failed"
    assert (it.verdict, it.exit_code, it.findings) == ("inconclusive", 3, ())
    assert any("another model" in note for note in it.notes)


def test_an_audit_in_which_nobody_reads_the_vectors_is_no_all_clear(world: Planted) -> None:
    it = audit(Case(world.victim()), quick=True)
    assert (it.verdict, it.exit_code) == ("inconclusive", 3)
    assert {"alignment", "inversion"} <= {probe for _, probe, needs in it.not_run if "--reference" in needs}
    only = audit(Case(world.victim()), probes=["fingerprint"], quick=True)
    assert (only.verdict, only.exit_code) == ("nothing found", 0)


def test_an_attack_that_was_broken_off_is_no_all_clear_and_no_word_on_untranslated_rows(found: Audit) -> None:
    reading = replace(found.readings["domain", "inversion"], unfinished="0 seconds were not enough")
    it = replace(found, findings=(), readings={("domain", "inversion"): reading})
    assert (it.verdict, it.exit_code) == ("inconclusive", 3)
    score = Score.against("shuffled", 0.1, "token F1", 0.1, 0.1, 0.1, 100, controls={"naive": 0.3})
    assert _untranslated_do_as_well(Reading((score,)))
    # Untranslated rows recover words too that other rows' texts share as much: a higher value, and no lift.
    assert not _untranslated_do_as_well(Reading((replace(score, lifts={"naive": 0.01}),)))


def test_who_has_the_model_needs_no_translator(world: Planted) -> None:
    it = audit(world.known_model(), quick=True)
    assert [rung.name for rung in it.rungs] == ["vectors", "encoder"]
    assert {("encoder", "alignment"), ("encoder", "attributes"), ("encoder", "membership")} <= claimed(it)
    assert it.readings["encoder", "alignment"].scores[0].value > 0.95
    assert ("encoder", "neighbours", "the reference's texts, to embed them with the victim's model") in it.not_run


def test_known_pairs_stand_in_for_a_verdict_that_few_rows_do_not_allow() -> None:
    world = planted(260, 260)
    shared = world.victim_texts[:120]
    reference = world.reference_texts + shared
    pairs = np.stack([np.arange(120), 260 + np.arange(120)], axis=1)
    case = world.case(reference=Space.of(world.reference_model.encode(reference)), reference_texts=reference, pairs=pairs)
    it = audit(case, quick=True)
    rung = it.rungs[2]
    assert (rung.name, rung.status) == ("pairs", "aligned")
    # One rung below, the attacker has none of the texts that are in the store.
    assert it.rungs[1].translator is not None
    assert it.rungs[1].translator.card["target"]["rows"] == 260
    assert rung.held is not None
    assert rung.held.low > 0.1
    assert ("pairs", "alignment") in claimed(it)


def test_rows_of_known_pairs_and_rows_kept_out_are_never_scored(world: Planted) -> None:
    pairs = np.stack([np.arange(40), np.arange(40)], axis=1)
    split = world.case(pairs=pairs).split(500, 0)
    assert len(split.scored) == 500
    assert not set(split.scored) & set(range(40))
    assert not set(split.absent) & (set(split.present) | set(range(40)))
    assert set(split.scored) <= set(split.present)


def test_without_texts_a_finding_rests_on_the_verdict(found: Audit, world: Planted) -> None:
    bare = Case(world.victim(), world.reference())
    stage = Stage(found.rungs[1], bare, bare.split(100, 0), world.reference().array(), np.arange(1500), None, 0)
    score = Alignment().measure(stage).scores[0]
    assert score.name == "verdict probability"
    assert score.lift_low > 0
    assert "texts" in Membership().lacks(replace(stage, encoder=world.reference_model))


def test_the_same_seed_gives_the_same_audit(world: Planted) -> None:
    one, other = (audit(world.known_model(), quick=True, seed=3) for _ in range(2))
    assert one.findings
    assert [finding.to_json() for finding in one.findings] == [finding.to_json() for finding in other.findings]


@pytest.mark.parametrize(("until", "counts"), [(date(2026, 11, 22), False), (date(2026, 11, 21), True)])
def test_a_waiver_holds_to_its_last_day_and_no_longer(world: Planted, until: date, counts: bool) -> None:
    policy = Policy(waivers=(Waiver("attributes", "a public store", until),))
    it = audit(world.known_model(), probes=["attributes"], policy=policy, quick=True, today=TODAY)
    assert len(it.findings) == 1
    assert (it.findings[0].waiver is None) == counts
    assert it.exit_code == (1 if counts else 0)
    assert any("ended" in note for note in it.notes) == counts


def test_a_finding_below_what_the_policy_fails_on_is_told_and_changes_no_exit_code(world: Planted) -> None:
    it = audit(world.known_model(), probes=["attributes"], policy=Policy(fail_on="high"), quick=True)
    assert [one.severity for one in it.findings] == ["medium"]
    assert it.exit_code == 0


def test_a_threshold_above_the_lift_makes_no_finding(world: Planted) -> None:
    it = audit(world.known_model(), probes=["attributes"], policy=Policy(thresholds={"attributes": 0.99}), quick=True)
    assert not it.findings


def test_a_probe_asked_for_by_name_that_cannot_run_is_refused_with_what_it_needs(world: Planted) -> None:
    with pytest.raises(UsageError, match="attributes cannot run: it needs labels"):
        audit(world.known_model(labels=None, truth=None), probes=["attributes"], quick=True)
    begun: list[str] = []
    with pytest.raises(UsageError, match="attributes cannot run: it needs the labels that the victim's rows have"):
        audit(world.case(truth=None), probes=["attributes"], progress=lambda doing, part: begun.append(doing))
    assert not begun, "nothing is learned for a question that cannot be asked"
    with pytest.raises(UsageError, match="alignment cannot run: it needs an attacker who can read"):
        audit(Case(world.victim()), probes=["alignment"])
    with pytest.raises(UsageError, match="no probe 'atributes'") as refused:
        audit(Case(world.victim()), probes=["atributes"])
    assert "did you mean attributes" in refused.value.hint


def test_a_reference_that_holds_texts_of_the_store_is_told(world: Planted) -> None:
    assert world.case().shared == 0
    both = [*world.victim_texts[:3], *world.reference_texts[3:]]
    assert world.case(reference_texts=both).shared == 3
    assert world.case(reference_texts=both, pairs=np.array([[0, 0], [1, 1]])).shared == 1
    assert Case(world.victim(), world.victim()).shared == len(world.victim_texts)
    it = audit(world.known_model(reference=world.reference(), reference_texts=both), probes=["fingerprint"], quick=True)
    assert any(note.startswith("3 texts of the reference are in the store too") for note in it.notes)


def test_a_case_that_does_not_fit_together_is_refused(world: Planted) -> None:
    case = world.case()
    with pytest.raises(UsageError, match="5 texts cannot belong to 1,500 rows"):
        replace(case, texts=world.victim_texts[:5])
    with pytest.raises(UsageError, match="gives 16 dimensions and the reference has 14"):
        replace(case, encoder=world.victim_model)
    with pytest.raises(UsageError, match=r"no row has a label .* \(sports, weather\)") as refused:
        replace(case, labels=Labels.of(["sports", "weather"]), truth=[frozenset({text}) for text in world.victim_texts])
    assert not any(text in str(refused.value) for text in world.victim_texts), "a wrong column's values are the owner's"
    with pytest.raises(UsageError, match="too few to say anything"):
        Case(world.victim(10)).split(100, 0)


def test_a_report_holds_no_text_of_the_victim_and_every_score(found: Audit, world: Planted) -> None:
    from crossvec.report.audit.markdown import markdown

    page = markdown(found)
    told = page + repr(found.to_json())
    assert not [text for text in world.victim_texts if f"{text} " in told or f"{text}'" in told]
    assert all(score.name in page for reading in found.readings.values() for score in reading.scores)
    assert page.index("## Findings") < page.index("## Evidence") < page.index("## Method and limits")
    assert "OWASP LLM09:2026" in page
