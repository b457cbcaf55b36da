"""test_probe — what every probe promises, built in or installed; a new one is held to this by being in the table.

The attacker here has the model itself, so that nothing need be learned: what a probe finds is its own test's matter.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import get_args

import numpy as np
import pytest
from test_audit_world import Planted, planted

from crossvec.audit import Case, Probe, Reading, Severity, Stage, audit
from crossvec.audit.ladder import RUNGS, climb
from crossvec.audit.probes import create, names
from crossvec.space import Space

ROUNDING = 1e-12

every_probe = pytest.mark.parametrize("name", names())


@functools.cache
def world() -> Planted:
    return planted(400, 400)


def known(**changes: object) -> Case:
    """Everything that an owner can give, so that few probes lack anything."""
    given = {"reference": world().reference(), "reference_texts": world().reference_texts, "encoder": world().reference_model}
    return world().known_model(**{**given, **changes})


def stages(probe: Probe, case: Case) -> list[Stage]:
    """The rungs without a fit that this probe has something to say on."""
    rungs = [name for name in ("vectors", "encoder") if name in probe.rungs and (name == "vectors" or case.own_encoder)]
    split = case.split(200, 0)
    told = {"effort": "quick", "seed": 0, "max_rows": 300, "device": "cpu", "progress": lambda doing, part: None}
    return [climb(name, case, split, **told) for name in rungs]


def measured(probe: Probe, case: Case) -> list[Reading]:
    return [probe.measure(stage) for stage in stages(probe, case) if not probe.lacks(stage)]


@every_probe
def test_it_is_a_frozen_dataclass_under_its_own_name(name: str) -> None:
    made = create(name)
    assert isinstance(made, Probe) and dataclasses.is_dataclass(made)
    assert made.name == name and made == create(name)
    assert made.severity in get_args(Severity)
    assert made.rungs and set(made.rungs) <= set(RUNGS)
    assert len((type(made).__doc__ or "").splitlines()[0]) > 20
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]


@every_probe
def test_what_it_lacks_is_said_in_words_that_follow_needs(name: str) -> None:
    probe = create(name)
    for stage in (*stages(probe, Case(world().victim())), *stages(probe, known())):
        lacks = probe.lacks(stage)
        assert lacks == "" or (len(lacks.split()) > 1 and not lacks.endswith(".") and not lacks.startswith("needs"))


@every_probe
def test_every_score_stands_beside_a_blind_guess(name: str) -> None:
    for reading in measured(create(name), known()):
        for score in reading.scores:
            assert score.low - ROUNDING <= score.value <= score.high + ROUNDING
            assert score.lift_low - ROUNDING <= score.lift <= score.lift_high + ROUNDING
            assert score.controls[score.over] == pytest.approx(score.chance)
            assert score.name and score.n > 0


@every_probe
def test_the_same_seed_gives_the_same_reading(name: str) -> None:
    first, second = (measured(create(name), known()) for _ in range(2))
    assert [[score.to_json() for score in it.scores] for it in first] == [
        [score.to_json() for score in it.scores] for it in second
    ]


@every_probe
def test_details_are_plain_values_and_hold_no_text_of_the_victim(name: str) -> None:
    for reading in measured(create(name), known()):
        told = json.dumps(dict(reading.details), allow_nan=False)
        assert not [text for text in world().victim_texts if re.search(rf"\b{text}\b", told)]


@every_probe
def test_rows_that_say_nothing_of_their_texts_raise_no_finding(name: str) -> None:
    noise = Space.of(np.random.default_rng(1).standard_normal((400, 16)).astype(np.float32))
    case = known(victim=noise, reference=None, reference_texts=None, encoder=None)
    assert not audit(case, probes=[create(name)], quick=True).findings
