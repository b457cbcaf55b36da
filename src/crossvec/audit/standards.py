"""standards — where each kind of finding stands in the catalogues that auditors cite.

In    a probe's name
Out   names of entries; none for a probe that was installed
Paper OWASP LLM08:2025 and LLM09:2026; NIST AI 100-2 E2025, privacy attacks; MITRE ATLAS
"""

from __future__ import annotations

__all__ = ["entries"]

WEAKNESS = ("OWASP LLM08:2025 Vector and Embedding Weaknesses", "OWASP LLM09:2026")

ENTRIES: dict[str, tuple[str, ...]] = {
    "fingerprint": WEAKNESS,
    "alignment": WEAKNESS,
    "attributes": (*WEAKNESS, "NIST AI 100-2: property inference"),
    "membership": (*WEAKNESS, "NIST AI 100-2: membership inference", "MITRE ATLAS AML.T0024.000"),
    "neighbours": (*WEAKNESS, "NIST AI 100-2: data reconstruction"),
    "inversion": (*WEAKNESS, "NIST AI 100-2: data reconstruction"),
    "canaries": (*WEAKNESS, "NIST AI 100-2: data reconstruction"),
}


def entries(probe: str) -> tuple[str, ...]:
    """Return the entries that a finding of this probe belongs to."""
    return ENTRIES.get(probe, ())
