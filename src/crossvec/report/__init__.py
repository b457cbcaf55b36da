"""report — says what came out, as text for people and as JSON for scripts.

In    Scores, Profile, Likeness, Verdict, Translator
Out   rich renderables; strict JSON text; a picture (see `picture`)
Uses  report.text, safe
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from crossvec.diagnostics import Profile
from crossvec.report.text import (
    aligner,
    bars,
    fitted,
    following,
    likeness,
    plugins,
    profile,
    scores,
    translated,
    verdict,
    written,
)
from crossvec.safe import escaped
from crossvec.saved import plain
from crossvec.stores import Description

__all__ = [
    "aligner",
    "as_json",
    "bars",
    "fitted",
    "fitted_record",
    "following",
    "likeness",
    "plugins",
    "profile",
    "profile_record",
    "scores",
    "translated",
    "verdict",
    "written",
]


def as_json(record: Mapping[str, Any]) -> str:
    """Return one JSON object; NaN and infinity, which JSON has not, become null."""
    text = json.dumps(plain(record), indent=2, ensure_ascii=False, allow_nan=False)
    text = text.encode("utf-8", "backslashreplace").decode()  # half a character, which an id may be, as JSON's own escape
    return escaped(text)


def profile_record(place: Description, it: Profile | None) -> dict[str, Any]:
    """Return what `crossvec inspect --format json` prints: what the place tells, then what was measured where anything was."""
    told = asdict(place)
    return {"store": told.pop("url"), **told, **({**it.to_json(), "rows": place.rows} if it else {})}


def fitted_record(translator: Any, folder: Any = None) -> dict[str, Any]:
    """Return what `crossvec fit --format json` prints (the contract for scripts), with what was tried."""
    card = translator.card
    tried = [{key: one[key] for key in ("aligner", "seconds", "verdict")} for one in card.get("trace", ())]
    return {
        "folder": None if folder is None else str(folder),
        "aligner": card["aligner"],
        "seconds": card["seconds"],
        "peak_memory_bytes": card["peak_memory_bytes"],
        "verdict": translator.verdict.to_json() if translator.verdict else None,
        "held_out": card.get("held_out"),
        "status": translator.status,
        "tried": tried,
    }
