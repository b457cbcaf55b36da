"""audit_dependencies — ask for the known vulnerabilities of all that is installed, and say of how much nobody could be asked.

In    the environment that runs this; pip-audit, which asks PyPI, and then OSV
Out   a line for each finding, and one that counts; exit code 0 none is known, 1 some are, 4 not all could be asked about

pip-audit alone ends well when it could not ask about anything: it calls that "No known vulnerabilities found".
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SERVICES = ("pypi", "osv")
FOUND, UNASKED = 1, 4


def main() -> int:
    reports = []
    for service in SERVICES:
        command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "-s", service]
        run = subprocess.run(command, capture_output=True, text=True)
        try:
            reports.append(json.loads(run.stdout))
        except ValueError:
            print(f"{service} could not be asked: {(run.stderr.strip().splitlines() or ['no answer'])[-1][:200]}")
            continue
        if not skipped(reports[-1]):
            break
    code, lines = told(min(reports, key=lambda report: len(skipped(report)), default={"dependencies": []}))
    print("\n".join(lines))
    return code


def skipped(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the packages about which the service said nothing; crossvec itself is published nowhere it could be looked up."""
    return [it for it in report["dependencies"] if "skip_reason" in it and it["name"] != "crossvec"]


def told(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit code and what to say of one report of pip-audit."""
    asked = [it for it in report["dependencies"] if "skip_reason" not in it]
    known = [it for it in asked if it["vulns"]]
    lines = [
        f"{it['name']} {it['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for it in known
        for flaw in it["vulns"]
    ]
    unasked = skipped(report)
    lines.append(f"{len(asked)} packages were asked about, {len(known)} have known vulnerabilities")
    if unasked or not asked:
        names = ", ".join(it["name"] for it in unasked[:5]) + (" …" if len(unasked) > 5 else "")
        lines.append(f"NOT ASKED: {len(unasked)} packages ({names or 'nothing answered'}); this says nothing about them")
    return FOUND if known else UNASKED if unasked or not asked else 0, lines


if __name__ == "__main__":
    sys.exit(main())
