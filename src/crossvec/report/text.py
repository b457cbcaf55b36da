"""text — renders results for a terminal: few tables, plain words, the next thing to type.

In    Scores, Profile, Likeness, Verdict, Translator
Out   rich renderables
Uses  rich, safe
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from crossvec.aligners.heldout import HeldOut
from crossvec.diagnostics import Likeness, Profile
from crossvec.evaluation import Direction, Ranking, Scores
from crossvec.safe import safe
from crossvec.stores import Description
from crossvec.translator import Translator
from crossvec.verdict import Verdict

COLOUR = {
    "aligned": "green",
    "uncertain": "yellow",
    "failed": "red",
    "feasible": "green",
    "doubtful": "yellow",
    "unlikely": "red",
}
MEANING = {
    "aligned": "translated rows land among their counterparts",
    "uncertain": "it may have worked: check it on a few known pairs before you rely on it",
    "failed": "do not use it: nothing says that the two spaces were brought together",
}
BAR = 40
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Rows(Table):
    """A table of text as it stands: a name from a file neither steers the terminal nor is taken for rich's markup."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        super().add_row(*(Text(safe(cell)) for cell in cells), style=style, end_section=end_section)


def verdict(it: Verdict) -> RenderableType:
    """Say what the verdict is, what it means and what it rests on."""
    status = it.status, f"bold {COLOUR[it.status]}"
    head = line(("verdict: ", "bold"), status, f", probability {it.probability:.2f}; {MEANING[it.status]}")
    return Group(head, _pairs("evidence, gathered without labels", it.evidence)) if it.evidence else head


def fitted(translator: Translator, folder: Any = None) -> RenderableType:
    """Say how a translator was made, how it was judged, and how to use it."""
    card = translator.card
    tried = list(card.get("trace", ()))
    parts: list[RenderableType] = [
        line((card["what"], "bold")),
        line(f"{card['aligner']}, {card['seconds']:.1f} s, {_memory(card['peak_memory_bytes'])} peak memory"),
    ]
    if len(tried) > 1:
        table = _table("tried", "seed", "seconds", "verdict", "probability")
        for one in tried:
            judged = one["verdict"]
            seed = str(one["settings"].get("seed", ""))
            table.add_row(one["aligner"], seed, f"{one['seconds']:.1f}", judged["status"], f"{judged['probability']:.2f}")
        parts.append(table)
    if held := [one for one in card.get("compared", ()) if "pairs" in one]:
        table = _table("on pairs held out, mean rank", "among the target's rows", "among translated rows", "")
        for one in held:
            ranks = (f"{one[way]:.2f}" for way in ("among_target", "among_translated"))
            table.add_row(one["aligner"], *ranks, "kept" if one["aligner"] == card["aligner"] else "")
        parts.append(table)
    if held_out := translator.held_out:
        parts.append(_by_pairs(held_out))
        if it := translator.verdict:
            parts.append(note(f"the verdict, which looks at no pairs: {it.status}, probability {it.probability:.2f}"))
    elif translator.verdict:
        parts.append(verdict(translator.verdict))
    parts += [note(told) for one in tried if (told := _sick(one))]
    if folder is not None:
        parts.append(line(f"saved to {folder}"))
        if translator.status == "aligned":
            parts.append(following(f"crossvec translate {folder} SOURCE DEST"))
        else:
            parts.append(following(f"crossvec evaluate {folder} SOURCE TARGET   (known pairs), or fit with --effort thorough"))
    return Group(*parts)


def _sick(tried: Mapping[str, Any]) -> str:
    """Say which trainings of an attempt ended, and of what, where none of them was healthy; "" for others."""
    if tried["evidence"].get("healthy") != 0.0:
        return ""
    ends = ", ".join(f"seed {one['seed']} of {one['ended']}" for one in tried["steps"] if one.get("ended"))
    return f"every training of {tried['aligner']} ended sick ({ends}): try other rows, more of them, or another preset"


def _by_pairs(it: HeldOut) -> RenderableType:
    """Say what known pairs say of a map that has not learned from them."""
    return line(
        ("pairs held out: ", "bold"),
        (it.status, f"bold {COLOUR[it.status]}"),
        f", {it.pairs:,} find their partner among {it.pool:,} at rank {it.among_target:.2f}, and are found at rank"
        f" {it.among_translated:.2f} (geometric means; nearness {max(it.low, 0):.2f} to {min(it.high, 1):.2f} of 1)",
    )


def translated(record: Mapping[str, Any]) -> RenderableType:
    """Say how many rows were written where."""
    return line(f"{record['rows']:,} rows written to {record['dest']} in {record['seconds']:.1f} s")


def written(path: Any) -> RenderableType:
    """Say that a file is there now."""
    return line(f"wrote {path}")


def scores(it: Scores) -> RenderableType:
    """Tabulate both directions, CSLS, the controls and the ceiling over one pool."""
    tops = [k for k in sorted(it.forward.top) if k > 1]
    table = _table("", "top-1", "", *(f"top-{k}" for k in tops), "rank", "FOSCTTM", "cosine", "centred")
    rows: list[tuple[str, Direction, str]] = [
        ("source to target", it.forward, "bold"),
        ("target to source", it.backward, "bold"),
    ]
    if it.inverse:
        rows.append(("inverse translator", it.inverse, ""))
    if it.ceiling:
        rows += [("ceiling, to target", it.ceiling[0], ""), ("ceiling, to source", it.ceiling[1], "")]
    for name, one, style in rows:
        table.add_row(name, *_scored(one), style=style)
        if one.csls:
            table.add_row("  by CSLS", *_ranked(one.csls), "", "", style="dim")
    table.add_section()
    for name, one in it.controls.items():
        table.add_row(f"control: {name}", *_scored(one), style="dim")
    guessed = [f"{min(1.0, k * it.chance):.3f}" for k in tops]
    table.add_row("guessing", f"{it.chance:.3f}", "", *guessed, f"{(it.pool + 1) / 2:.1f}", "0.500", "", "", style="dim")
    meaning = "rank: mean rank of the true match · centred: cosine after centring · ceiling: a translator fitted on other pairs"
    return Group(line((f"{it.pool:,} pairs", "bold")), table, line((meaning, "dim")), *map(note, it.warnings))


def profile(place: Description, it: Profile | None) -> RenderableType:
    """Tabulate what a store says that it holds, and what its vectors are like where two or more could be measured."""
    head = _pairs(f"{place.url}, {place.format} of {place.dtype}", _held(place))
    if it is None:
        return Group(head, note("fewer than two rows with a usable vector: there is nothing to measure"))
    told = it.to_json()
    notes, _, _, _ = (told.pop(name) for name in ("notes", "name", "rows", "dim"))
    nested = {name: told.pop(name) for name in list(told) if isinstance(told[name], Mapping)}
    tables = (_pairs(name, values) for name, values in nested.items())
    return Group(head, _pairs(f"measured on {told.pop('scanned'):,} rows", told), *tables, *map(note, notes))


def _held(place: Description) -> dict[str, Any]:
    """Return what a place tells without reading vectors; of a file nothing that only databases have."""
    held: dict[str, Any] = {
        "rows": place.rows if place.exact else f"about {place.rows:,}",
        "dimensions": place.dim,
        "ids": (place.id_type or "yes") if place.ids else "none",
        "payload": place.payload,
    }
    if place.size is not None:
        held["bytes"] = place.size
    if place.metric is not None:
        held["compared by"] = place.metric
    if place.metric is not None or place.normalised is not None:
        held["scales rows to unit length"] = place.normalised
    if place.named:
        held["vectors of a row"] = place.named
    return held


def likeness(it: Likeness) -> RenderableType:
    """Say whether a fit without pairs looks feasible, and tabulate how alike two spaces are."""
    told = it.to_json()
    one, other, pairs, trial, outlook, reasons = (told.pop(name) for name in ("a", "b", "pairs", "trial", "outlook", "reasons"))
    table = _table("shape", "a", "b")
    for name in one:
        table.add_row(_words(name), _shown(one[name]), _shown(other[name]))
    head = line(("a fit without pairs looks ", "bold"), (outlook, f"bold {COLOUR[outlook]}"))
    parts = [head, *(line(f"  {reason}") for reason in reasons), _pairs("both", told), table]
    more = {"pairs": pairs, "trial: a short search on third moments": trial}
    return Group(*parts, *(_pairs(title, values) for title, values in more.items() if values))


def plugins(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> RenderableType:
    """List what can be named on the command line, where it comes from and what it still needs."""
    parts: list[RenderableType] = []
    for kind, rows in kinds.items():
        table = _table("name", "from", "needs")
        for row in rows:
            table.add_row(row["name"], row["origin"], _needs(row))
        parts += [line((kind, "bold")), table if rows else line(("none", "dim"))]
    return Group(*parts)


def aligner(told: Mapping[str, Any]) -> RenderableType:
    """Tell what an aligner is, and what a fit takes for each of its settings."""
    table = _table("name", "value", "takes")
    for row in told["settings"]:
        value = row["value"]
        shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(row["name"], shown, row["takes"])
    lines = map(line, told["about"].split("\n"))
    return Group(*lines, Text(), table, following(f"crossvec fit A B -o OUT -a {told['name']} -s NAME=VALUE"))


def bars(title: str, values: Mapping[str, float], most: float = 1.0) -> RenderableType:
    """Draw named values between 0 and `most` as bars."""
    table = Rows(box=None, show_header=False, pad_edge=False)
    for name, value in values.items():
        eighths = round(8 * BAR * min(max(value / most, 0), 1))
        table.add_row(name, f"{value:.3f}", EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8].strip())
    return Group(line((title, "bold")), table)


def following(command: str) -> Text:
    """Say what to type next."""
    return line(("next: ", "dim"), (command, "cyan"))


def _needs(row: Mapping[str, Any]) -> str:
    if not row.get("extra"):
        return ""
    return f"{row['extra']}, installed" if row["installed"] else f"pip install 'crossvec[{row['extra']}]'"


def listed(values: Mapping[str, Any]) -> Table:
    """List named values, one a line."""
    table = Rows(box=None, show_header=False, pad_edge=False)
    for key, value in values.items():
        table.add_row(f"  {_words(key)}", _shown(value))
    return table


def _pairs(title: str, values: Mapping[str, Any]) -> RenderableType:
    return Group(line((title, "bold")), listed(values))


def _words(key: str) -> str:
    return key.replace("_", " ")


def note(text: str) -> Text:
    """Say what a reader should know before relying on the rest."""
    return Text(safe(f"note: {text}"), style="yellow")


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        # Sentences hold spaces and commas themselves.
        return ("; " if any(isinstance(item, str) for item in value) else " ").join(map(_shown, value)) or "none"
    return str(value)


def _scored(one: Direction) -> tuple[str, ...]:
    return (*_ranked(one), f"{one.cosine:.3f}", f"{one.cosine_centred:.3f}")


def _ranked(one: Ranking) -> tuple[str, ...]:
    low, high = one.intervals["top1"]
    tops = [f"{share:.3f}" for k, share in sorted(one.top.items()) if k > 1]
    return f"{one.top1:.3f}", f"±{(high - low) / 2:.3f}", *tops, f"{one.mean_rank:.1f}", f"{one.foscttm:.4f}"


def _table(*columns: str) -> Table:
    table = Rows(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or columns[0] == "name" else "right", no_wrap=True)
    return table


def line(*parts: str | tuple[str, str]) -> Text:
    """Return text that is never broken, so that a command or a path in it can be copied."""
    plain = (safe(part) if isinstance(part, str) else (safe(part[0]), part[1]) for part in parts)
    return Text.assemble(*plain, no_wrap=True, overflow="ignore")


def _memory(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.2f} GiB"
