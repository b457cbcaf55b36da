"""limits — refuses settings that no fit could use, in the words of whoever typed them.

In    an aligner's dataclass, the least values of its whole numbers, the ranges of the others
Out   nothing, or SettingError with a value to type instead
Uses  errors
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crossvec.errors import SettingError

__all__ = ["Range", "check", "meant"]

SEEDS = 2**32
"""Seeds are below it, which every generator takes."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `above` leaves out `low` itself, `below` `high`. `such` is one a user might type."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    such: float = 0.5

    def __contains__(self, value: float) -> bool:
        # NaN compares as false with everything, so it is in no range.
        high_enough = self.low < value if self.above else self.low <= value
        return high_enough and (value < self.high if self.below else value <= self.high) and math.isfinite(value)

    def __str__(self) -> str:
        start = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        end = "below" if self.below else "at most"
        return start if self.high == math.inf else f"{start} and {end} {self.high:g}"


def check(aligner: Any, least: Mapping[str, int] | None = None, **ranges: Range) -> None:
    """Refuse a dataclass with a value that its fit could not use.

    Whole numbers are at least what `least` says for them, 0 for `seed` and 1 for the others when it says nothing; a seed is
    below SEEDS. Every field that is a float has a range, and a field of choices holds one of them; one that may be None is left
    alone where it is. Raises SettingError, naming the field.
    """
    for key, hint in get_type_hints(type(aligner)).items():
        if key not in (field.name for field in fields(aligner)):
            continue
        value, wanted = getattr(aligner, key), meant(hint)
        if value is None and wanted is not hint:
            continue
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                raise _refusal(key, value, f"use one of {', '.join(get_args(wanted))}")
        elif wanted is int:
            low = (least or {}).get(key, 0 if key == "seed" else 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise _refusal(key, value, f"use a whole number of at least {low}, for example -s {key}={max(low, 10)}")
            if key == "seed" and value >= SEEDS:
                raise _refusal(key, value, f"use a whole number below {SEEDS:,}, for example -s seed=10")
        elif wanted is bool:
            if not isinstance(value, bool):
                raise _refusal(key, value, "use true or false")
        elif wanted is str:
            if not isinstance(value, str):
                raise _refusal(key, value, "use words")
        elif wanted is float:
            if not isinstance(value, (int, float)) or isinstance(value, bool) or value not in ranges[key]:
                raise _refusal(key, value, f"use a number {ranges[key]}, for example -s {key}={ranges[key].such:g}")


def meant(hint: Any) -> Any:
    """Return a field's type without the None that leaves it to a preset."""
    others = [one for one in get_args(hint) if one is not NoneType]
    return others[0] if NoneType in get_args(hint) else hint


def _refusal(key: str, value: Any, hint: str) -> SettingError:
    return SettingError(f"{key} cannot be {value!r}", hint)
