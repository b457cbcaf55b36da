"""audit_dependencies — ask for the known vulnerabilities of all that is installed, and say of how much nobody could be asked.

In    the environment that runs this; pip-audit, which asks PyPI, and then OSV
Out   a line for each finding, and one that counts; exit code 0 none is known, 1 some are, 4 not all could be asked about

pip-audit alone ends well when it could not ask about anything: it calls that "No known vulnerabilities found". So each service
is first asked about one package that it must know.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from typing import Any

SERVICES = ("pypi", "osv")
FOUND, UNASKED = 1, 4

KNOWN = "numpy"
"""A package that every service of this kind knows: one that does not is no such service, whatever answers in its name."""

ACCEPTED: dict[str, str] = {}
"""Findings that do not touch crossvec, or that nobody has mended yet: the identifier, and why it may stay."""


def main() -> int:
    reports = []
    for service in SERVICES:
        report = asked(service)
        if report is None:
            continue
        reports.append(report)
        if not skipped(report):
            break
    if not reports:
        print("NOT ASKED: no service of known vulnerabilities can be reached from here; this says nothing about any package")
        return UNASKED
    code, lines = told(min(reports, key=lambda report: len(skipped(report))))
    print("\n".join(lines))
    return code


def asked(service: str) -> dict[str, Any] | None:
    """Return what a service says of all that is installed; None, and a line that says why, when it cannot be asked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as one:
        one.write(f"{KNOWN}=={version(KNOWN)}\n")
        one.flush()
        first, why = audited(service, "-r", one.name, "--disable-pip", "--no-deps")
    if first and skipped(first):
        why = f"it does not even know {KNOWN} {version(KNOWN)}"
    if why:
        print(f"{service} could not be asked: {why}")
        return None
    report, why = audited(service)
    if why:
        print(f"{service} stopped answering: {why}")
    return report


def audited(service: str, *words: str) -> tuple[dict[str, Any] | None, str]:
    """Return pip-audit's report, or None and why there is none."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "-s", service, *words]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(run.stdout), ""
    except ValueError:
        return None, (run.stderr.strip().splitlines() or ["no answer"])[-1][:200]


def skipped(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the packages about which the service said nothing; crossvec itself is published nowhere it could be looked up."""
    return [it for it in report["dependencies"] if "skip_reason" in it and it["name"] != "crossvec"]


def told(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit code and what to say of one report of pip-audit."""
    answered = [it for it in report["dependencies"] if "skip_reason" not in it]
    flaws = [(it, flaw) for it in answered for flaw in it["vulns"]]
    left = [(it, flaw) for it, flaw in flaws if ACCEPTED.keys().isdisjoint({flaw["id"], *flaw.get("aliases", [])})]
    lines = [
        f"{it['name']} {it['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for it, flaw in left
    ]
    known = {it["name"] for it, _ in left}
    accepted = f", {len(flaws) - len(left)} findings are accepted" if len(left) < len(flaws) else ""
    lines.append(f"{len(answered)} packages were asked about, {len(known)} have known vulnerabilities{accepted}")
    unasked = skipped(report)
    if unasked:
        names = ", ".join(it["name"] for it in unasked[:5]) + (" …" if len(unasked) > 5 else "")
        lines.append(f"NOT ASKED: {len(unasked)} packages ({names}); this says nothing about them")
    return FOUND if left else UNASKED if unasked or not answered else 0, lines


if __name__ == "__main__":
    sys.exit(main())
