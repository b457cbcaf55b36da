"""sarif — an audit's findings for code scanning: a rule for each probe, a result for each finding, waivers as suppressions.

In    Audit, and the file that findings are shown at
Out   one SARIF 2.1.0 log as plain values; no text of the victim
Uses  audit, report.audit.words
Paper OASIS SARIF 2.1.0, sections 3.19 to 3.35 and 3.49 to 3.52; GitHub's list of the properties that it reads

A vector store has no line of code. GitHub shows nothing without one, so each result points at the policy file, where a
finding is accepted or its threshold changed, and names the store as a logical location.
"""

from __future__ import annotations

import hashlib
from typing import Any

from crossvec import __version__
from crossvec.audit import Audit, Finding
from crossvec.audit.policy import FILE
from crossvec.audit.probes import create
from crossvec.audit.standards import entries
from crossvec.report.audit import words

__all__ = ["sarif"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"

LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}

RISK = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}
"""What GitHub sorts alerts by: above 9 critical, from 7 high, from 4 medium."""


def sarif(it: Audit, *, policy: str = FILE) -> dict[str, Any]:
    """Return the log; `policy` is the path of the policy file from the root of the repository."""
    probes = list(dict.fromkeys(one.probe for one in words.outcomes(it)))
    rules = [_rule(probe) for probe in probes]
    run = {
        "tool": {"driver": {"name": "crossvec", "version": __version__, "semanticVersion": __version__, "rules": rules}},
        "automationDetails": {"id": f"crossvec-audit/{words.clean(it.store['name'] or 'store')}"},
        "invocations": [
            {"executionSuccessful": True, "exitCode": it.exit_code, "toolExecutionNotifications": _notifications(it)}
        ],
        "results": [_result(it, one, probes, policy) for one in it.findings],
        "properties": {"verdict": it.verdict},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(probe: str) -> dict[str, Any]:
    told, severity = words.told(probe), create(probe).severity
    catalogues = entries(probe)
    named = f" Catalogues: {'; '.join(catalogues)}." if catalogues else ""
    text = f"{told.leaks} {told.remedy}{named}"
    listed = "\n".join(f"- {entry}" for entry in catalogues)
    return {
        "id": _rule_id(probe),
        "name": "".join(word.capitalize() for word in probe.replace("-", " ").replace("_", " ").split()),
        "shortDescription": {"text": told.asks},
        "fullDescription": {"text": told.leaks},
        "help": {"text": text, "markdown": f"**{told.leaks}**\n\n{told.remedy}\n\n{listed}".rstrip()},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {
            "tags": ["security", "privacy", "embeddings", *catalogues],
            "security-severity": RISK[severity],
            "precision": "high",
        },
    }


def _result(it: Audit, one: Finding, probes: list[str], policy: str) -> dict[str, Any]:
    store, score = words.clean(it.store["name"] or "store"), one.score
    message = (
        f"{words.told(one.probe).leaks} Who could: {words.whom(one.rung)}. How sure: {words.sure(score)} "
        f"({words.clean(score.name)} {score.value:.3f}, interval {score.low:.3f} to {score.high:.3f}, "
        f"against {score.chance:.3f} by {score.over})."
    )
    where = f"{store}/{one.rung}/{one.probe}"
    waived = one.waiver
    accepted = (
        []
        if waived is None
        else [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{words.clean(waived.reason)} (until {waived.until.isoformat()})",
            }
        ]
    )
    return {
        "ruleId": _rule_id(one.probe),
        "ruleIndex": probes.index(one.probe),
        "kind": "fail",
        "level": LEVELS[one.severity],
        "message": {"text": message},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": policy}, "region": {"startLine": 1}},
                "logicalLocations": [{"name": store, "fullyQualifiedName": where, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"crossvecFinding/v1": hashlib.sha256(where.encode()).hexdigest()},
        # Where one result has suppressions all must, or a reader cannot tell "none" from "not looked at".
        "suppressions": accepted,
        "properties": {"rung": one.rung, "severity": one.severity, "lift": score.lift, "liftLow": score.lift_low, "n": score.n},
    }


def _notifications(it: Audit) -> list[dict[str, Any]]:
    told = [("warning", note) for note in it.notes]
    told += [("note", f"{probe} was not measured on the rung {rung}: it needs {needs}") for rung, probe, needs in it.not_run]
    return [{"level": level, "message": {"text": words.clean(text)}} for level, text in told]


def _rule_id(probe: str) -> str:
    return f"crossvec/{probe}"
