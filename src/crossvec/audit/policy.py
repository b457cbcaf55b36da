"""policy — what an owner tolerates: thresholds, waivers that expire, and from which severity on an audit fails.

In    crossvec.toml, its table [audit]
Out   Policy
Uses  ladder, probes

    [audit]
    fail_on = "medium"              # the least severity that fails; lower findings are told and change no exit code

    [audit.thresholds]
    attributes = 0.05               # a finding only where the lower bound of the lift lies above this

    [[audit.waivers]]
    probe = "alignment"
    rung = "domain"                 # left out: every rung
    reason = "the store is public"
    until = 2027-06-30              # the last day on which it holds
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, get_args

from crossvec.audit.ladder import RUNGS
from crossvec.audit.probes import Severity, names
from crossvec.errors import UsageError

__all__ = ["FILE", "SEVERITIES", "Policy", "Waiver", "read"]

FILE = "crossvec.toml"
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

KEYS = {"fail_on", "thresholds", "waivers"}

THRESHOLDS: dict[str, float] = {
    "fingerprint": 0.2,
    **dict.fromkeys(("attributes", "membership", "neighbours", "inversion"), 0.02),
}
"""Unless the policy says otherwise. With many rows a lift too small to matter is not luck either; 0 for probes not named."""


@dataclass(frozen=True)
class Waiver:
    """A finding that the owner has accepted, why, and for how long."""

    probe: str
    reason: str
    until: date
    rung: str | None = None

    def covers(self, probe: str, rung: str, today: date) -> bool:
        """Tell whether this waives a finding today."""
        return self.probe == probe and self.rung in (None, rung) and today <= self.until


@dataclass(frozen=True)
class Policy:
    """Thresholds by probe, waivers, and the least severity that fails an audit."""

    fail_on: Severity = "medium"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()

    def threshold(self, probe: str) -> float:
        """Return what the lower bound of a lift must lie above."""
        return self.thresholds.get(probe, THRESHOLDS.get(probe, 0.0))

    def fails(self, severity: Severity) -> bool:
        """Tell whether a finding of this severity fails the audit."""
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.fail_on)

    def waiver(self, probe: str, rung: str, today: date) -> Waiver | None:
        """Return the waiver that covers a finding today, if any."""
        return next((one for one in self.waivers if one.covers(probe, rung, today)), None)

    def expired(self, today: date) -> list[Waiver]:
        """Return the waivers that no longer hold."""
        return [one for one in self.waivers if today > one.until]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        waivers = [{"probe": w.probe, "rung": w.rung, "reason": w.reason, "until": w.until.isoformat()} for w in self.waivers]
        return {"fail_on": self.fail_on, "thresholds": {**THRESHOLDS, **self.thresholds}, "waivers": waivers}


def read(path: str | Path) -> Policy:
    """Read the table [audit] of a TOML file, beside which others may stand. Raises UsageError where it is wrong or missing."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"cannot read the policy {path}: {problem.strerror or problem}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(f"{path} is not TOML: {problem}", 'write  [audit]  and then  fail_on = "medium"') from None
    if tables and "audit" not in tables:
        # A policy that is not read would be kept to by nobody, and nobody would know.
        raise UsageError(f"{path} has no table [audit]", "write  [audit]  above what it says")
    if stray := sorted(KEYS & set(tables)):
        raise UsageError(f"{path} has {stray[0]} outside of [audit], where nobody reads it", "write it below  [audit]")
    told = tables.get("audit", {})
    _only(told, KEYS, f"[audit] of {path}")
    fail_on, thresholds, waivers = told.get("fail_on", "medium"), told.get("thresholds", {}), told.get("waivers", [])
    if fail_on not in SEVERITIES:
        raise UsageError(f"{path}: fail_on cannot be {fail_on!r}", f"use one of {', '.join(SEVERITIES)}")
    _only(thresholds, set(names()), f"[audit.thresholds] of {path}")
    for probe, least in thresholds.items():
        if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least < 1:
            raise UsageError(f"{path}: the threshold of {probe} cannot be {least!r}", "use a number from 0 to below 1")
    if not isinstance(waivers, list):
        raise UsageError(f"{path}: waivers are no list", "begin each with [[audit.waivers]]")
    return Policy(fail_on, {name: float(least) for name, least in thresholds.items()}, tuple(_waiver(w, path) for w in waivers))


def _waiver(told: Any, path: str | Path) -> Waiver:
    where = f"a waiver of {path}"
    _only(told, {"probe", "rung", "reason", "until"}, where)
    probe, rung, reason, until = (told.get(key) for key in ("probe", "rung", "reason", "until"))
    if probe not in names():
        raise UsageError(f"{where} waives {probe!r}, which is no probe", f"known: {', '.join(names())}")
    if rung is not None and rung not in RUNGS:
        raise UsageError(f"{where} names the rung {rung!r}", f"known: {', '.join(RUNGS)}")
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"{where} gives no reason", 'write  reason = "why this is accepted"')
    # A datetime is a date to Python, and would make the comparison with a day fail.
    if type(until) is not date:
        raise UsageError(f"{where} does not say until when it holds", "write  until = 2027-06-30")
    return Waiver(probe, reason, until, rung)


def _only(told: Any, known: set[str], where: str) -> None:
    if not isinstance(told, Mapping):
        raise UsageError(f"{where} is no table", f"known keys: {', '.join(sorted(known))}")
    for key in told:
        if key not in known:
            raise UsageError(f"{where} has a key {key!r}", f"known: {', '.join(sorted(known))}")
