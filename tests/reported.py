"""reported — audits that the tests of reports look at: one that leaks, one that failed, one with findings that are accepted.

No search is made in any of them, so that they take a second: the attackers know pairs, or the model.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import numpy as np
from test_audit_world import Planted, planted

from crossvec.audit import Audit, Case, Policy, Recovered, Waiver, audit
from crossvec.audit.defences import named
from crossvec.space import Space

DAY = date(2026, 11, 22)
TEXT = re.compile(r"\btext \d+")
"""Every text of the planted world is its number: "text 17"."""

KNOWN = 200


def known_pairs(world: Planted, order: np.ndarray) -> Case:
    """What an attacker has who knows every text of its reference to be in the store."""
    texts = world.victim_texts[:KNOWN]
    reference = Space.of(world.reference_model.encode(texts), name="known")
    pairs = np.stack([order, np.arange(KNOWN)], axis=1)
    return world.case(reference=reference, reference_texts=texts, pairs=pairs)


def leaking() -> Audit:
    """The pairs are right, and two defences were tried."""
    case = known_pairs(planted(400, 200), np.arange(KNOWN))
    return audit(case, quick=True, defences=[named("none"), named("rotate")], today=DAY)


def failed() -> Audit:
    """The pairs are wrong: no translator can be learned."""
    wrong = np.random.default_rng(0).permutation(KNOWN)
    return audit(known_pairs(planted(400, 200), wrong), quick=True, today=DAY)


def accepted() -> Audit:
    """The attacker has the model. Every finding from high on is waived, the rest are below what the policy fails for."""
    waivers = tuple(Waiver(probe, "the list is public", date(2999, 1, 1)) for probe in ("alignment", "membership"))
    return audit(planted(400, 200).known_model(), quick=True, policy=Policy("high", waivers=waivers), today=DAY)


def recovering(it: Audit, text: str, truth: str | None) -> Audit:
    """The same audit, in which this was recovered of twelve rows on every rung that was read."""
    told = tuple(Recovered(row, "static", text, truth) for row in range(12))
    return replace(it, readings={key: replace(reading, recovered=told) for key, reading in it.readings.items()})


def renamed(it: Audit, name: str) -> Audit:
    """The same audit of a store, and with labels, of another name."""
    readings = {}
    for key, reading in it.readings.items():
        details = dict(reading.details)
        if "labels" in details:
            details["labels"] = [{**one, "label": f"{name} {one['label']}"} for one in details["labels"]]
            details["confusion"] = {**details["confusion"], "labels": [name, *details["confusion"]["labels"][1:]]}
        scores = tuple(replace(one, name=f"{one.name} {name}") for one in reading.scores)
        readings[key] = replace(reading, scores=scores, details=details)
    findings = tuple(replace(one, score=replace(one.score, name=f"{one.score.name} {name}")) for one in it.findings)
    return replace(it, store={**it.store, "name": name}, readings=readings, findings=findings)
