"""safe — text that comes from files, as one line that neither steers a terminal nor is shown in another order than it has.

In    names of stores, columns and labels, reasons of waivers: whatever somebody else may have written
Out   the same without control characters, line breaks and what turns the direction of reading
Uses  nothing
"""

from __future__ import annotations

import re

__all__ = ["escaped", "safe"]

TURNS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""What turns the direction of reading: with it "gpj.exe" can be shown as "exe.jpg"."""

TURNING = re.compile(f"[{TURNS}]+")
STEERING = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
UNSEEN = re.compile(rf"[\x7f-\x9f\u2028\u2029{TURNS}]")


def safe(text: object) -> str:
    """Return text that a terminal, XML and SVG can be given; blanks at its ends stay."""
    return STEERING.sub(" ", TURNING.sub("", str(text)))


def escaped(json: str) -> str:
    """Return the same JSON, in which what JSON allows and a terminal obeys is written as JSON's own escapes."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json)
