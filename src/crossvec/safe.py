"""safe — text that comes from files, as one line that neither steers a terminal nor is shown in another order than it has.

In    names of stores, columns and labels, reasons of waivers: whatever somebody else may have written
Out   the same without control characters, line breaks and what turns the direction of reading; messages without passwords
Uses  nothing
"""

from __future__ import annotations

import re

__all__ = ["escaped", "safe", "without_passwords"]

TURNS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""What turns the direction of reading: with it "gpj.exe" can be shown as "exe.jpg"."""

TURNING = re.compile(f"[{TURNS}]+")
STEERING = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
UNSEEN = re.compile(rf"[\x7f-\x9f\u2028\u2029{TURNS}]")

WORD = re.compile(r"[^\s'\"]+")
SCHEME = re.compile(r"[A-Za-z][\w+.-]*:/*|[\w.+=-]*/+|")
"""What an address begins with, its colon or a slash forgotten too."""


def safe(text: object) -> str:
    """Return text that a terminal, XML and SVG can be given; blanks at its ends stay."""
    return STEERING.sub(" ", TURNING.sub("", str(text)))


def without_passwords(text: str) -> str:
    """Return text in which USER:PASSWORD before an @ is "…": a mistyped address is repeated before it is understood."""
    return WORD.sub(_without_password, text)


def _without_password(found: re.Match[str]) -> str:
    before, at, after = found[0].rpartition("@")
    if not at or after.startswith(("http://", "https://")):  # a model and its server: openai:MODEL@URL
        return found[0]
    scheme = SCHEME.match(before)[0]  # type: ignore[index]
    if ":" in before[len(scheme) :]:
        return f"{scheme}…@{after}"
    return f"…@{after}" if scheme.endswith(":") else found[0]


def escaped(json: str) -> str:
    """Return the same JSON, in which what JSON allows and a terminal obeys is written as JSON's own escapes."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json)
