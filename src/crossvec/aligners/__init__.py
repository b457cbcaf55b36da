"""aligners — contract, table and door: from two centred clouds to an Alignment.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length (the Translator does that and undoes it)
Out   Alignment             a map x -> y, a map y -> x, and the label-free evidence gathered on the way
Uses  aligners.{maps, limits}

An aligner is a frozen dataclass whose fields are its settings. Each sibling module holds one family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.metadata import entry_points
from inspect import getdoc
from os import PathLike
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners.limits import meant
from crossvec.aligners.maps import Linear, Map, Residual
from crossvec.errors import SettingError, did_you_mean

__all__ = [
    "ALIGNERS",
    "Aligner",
    "Alignment",
    "Effort",
    "Linear",
    "Map",
    "Residual",
    "Status",
    "Step",
    "about",
    "create",
    "names",
    "settings",
]

Effort = Literal["quick", "standard", "thorough"]
Status = Literal["aligned", "uncertain", "failed"]
"""Whether an alignment arrived."""
Step = Callable[[str, float], None]
"""Progress: called with what is being done and the fraction of the fit that is finished, from 0 to 1."""


def silent(_doing: str, _fraction: float) -> None:
    """Report no progress."""


def part(progress: Step, begun: float, ended: float) -> Step:
    """Return a Step that reports a whole as the part of another from `begun` to `ended`."""
    return lambda doing, fraction: progress(doing, begun + (ended - begun) * min(max(fraction, 0.0), 1.0))


@dataclass(frozen=True, eq=False)
class Alignment:
    """What an aligner learned.

    `evidence` holds label-free numbers an aligner can only gather while it fits (agreement of restarts, objective), for the
    Verdict; `trace` tells what was tried, one JSON-able record a step.
    """

    map: Map
    inverse: Map
    evidence: Mapping[str, float] = field(default_factory=dict)
    trace: tuple[Mapping[str, Any], ...] = ()


@runtime_checkable
class Aligner(Protocol):
    """A frozen dataclass of settings with one method.

    One that learns without pairs, and from pairs too where there are some, says so by a class attribute `uses_pairs = True`;
    one whose `fit` takes `verdict`, the Verdict's probability of a map, to tell while it learns, by `tells_verdict = True`. One
    with presets has a method `in_full()`: by setting the value that a fit takes, where that is not the field's own.
    """

    name: ClassVar[str]
    needs_pairs: ClassVar[bool]

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn maps between two centred clouds of unit rows; row `pairs[i, 0]` of x is row `pairs[i, 1]` of y."""
        ...


ALIGNERS: dict[str, str] = {
    "moments": "crossvec.aligners.moments:Moments",
    "anchors": "crossvec.aligners.anchors:Anchors",
    "gromov": "crossvec.aligners.transport:Gromov",
    "sinkhorn": "crossvec.aligners.transport:Sinkhorn",
    "emd": "crossvec.aligners.transport:EarthMover",
    "vec2vec": "crossvec.aligners.vec2vec:Vec2Vec",
    "universal": "crossvec.aligners.vec2vec.pair:PairOfUniversal",
    "procrustes": "crossvec.aligners.paired:PairedProcrustes",
    "ridge": "crossvec.aligners.paired:PairedRidge",
    "low-rank": "crossvec.aligners.paired:PairedLowRank",
    "mlp": "crossvec.aligners.paired:PairedMLP",
    "identity": "crossvec.aligners.controls:Identity",
    "mean": "crossvec.aligners.controls:Mean",
}
"""Built-in aligners by name, imported when asked for; installed packages add theirs under `crossvec.aligners`."""


def names() -> list[str]:
    """Return the names of all aligners, built in and installed."""
    return [*ALIGNERS, *sorted(e.name for e in entry_points(group="crossvec.aligners") if e.name not in ALIGNERS)]


def aligner_class(name: str) -> type:
    """Return the class of an aligner; raises SettingError with the nearest name when there is none."""
    if name in ALIGNERS:
        module, attribute = ALIGNERS[name].split(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    for entry in entry_points(group="crossvec.aligners"):
        if entry.name == name:
            return entry.load()  # type: ignore[no-any-return]
    raise SettingError(f"there is no aligner {name!r}", did_you_mean(name, names()))


def settings(name: str) -> dict[str, Any]:
    """Return an aligner's settings and their defaults."""
    made = aligner_class(name)()
    return {f.name: getattr(made, f.name) for f in fields(made)}


def about(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what an aligner is and, for each setting, the value that a fit with these options takes, and what else it takes.

    Raises SettingError as `create` does.
    """
    made = create(name, options)
    taken = {f.name: getattr(made, f.name) for f in fields(made)}  # type: ignore[arg-type]
    if hasattr(made, "in_full"):
        taken |= made.in_full()
    hints = get_type_hints(type(made))
    rows = [{"name": key, "value": value, "takes": _takes(meant(hints[key]))} for key, value in taken.items()]
    return {"name": name, "about": getdoc(type(made)) or "", "settings": rows}


def _takes(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return " | ".join(map(str, get_args(wanted)))
    return {bool: "true | false", int: "whole number", float: "number", str: "words"}.get(wanted, str(wanted))


def create(name: str, options: Mapping[str, Any] | None = None) -> Aligner:
    """Make an aligner from its name and settings, such as a card's; strings are converted to each field's type.

    Raises SettingError for an unknown aligner, an unknown setting or a value that does not fit, naming the nearest right one.
    """
    kind = aligner_class(name)
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    values = {}
    for key, value in (options or {}).items():
        if key not in known:
            raise SettingError(f"the aligner {name} has no setting {key!r}", did_you_mean(key, known))
        wanted = meant(hints[key])
        values[key] = None if value is None and wanted is not hints[key] else _convert(key, value, wanted)
    return kind(**values)  # type: ignore[no-any-return]


def _convert(key: str, value: Any, wanted: Any) -> Any:
    if value is None:
        raise SettingError(f"{key} cannot be left open", "leave it out, and it is what it is by default")
    choices = get_args(wanted) if get_origin(wanted) is Literal else None
    if choices is not None:
        if value not in choices:
            raise SettingError(f"{key} cannot be {value!r}", f"use one of {', '.join(map(str, choices))}")
        return value
    if wanted is bool:
        if str(value).lower() in {"true", "1", "yes", "on"}:
            return True
        if str(value).lower() in {"false", "0", "no", "off"}:
            return False
        raise SettingError(f"{key} cannot be {value!r}", "use true or false")
    if wanted in (int, float, str):
        if isinstance(value, bool) or (wanted is str and not isinstance(value, (str, PathLike))):
            raise SettingError(f"{key} cannot be {value!r}", "use words" if wanted is str else f"use a number such as {key}=1")
        try:
            if wanted is int and isinstance(value, float) and not value.is_integer():
                raise ValueError("a part of a whole number would be lost")
            return wanted(value)
        except (TypeError, ValueError, OverflowError):
            raise SettingError(f"{key} cannot be {value!r}", f"use a number such as {key}=1") from None
    return value
