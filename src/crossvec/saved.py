"""saved — the folder that a saved translator is: its layout, written all or nothing, and the errors of a place on disk.

In    card (JSON-able), tensors by name     what a Translator is made of
Out   FOLDER/translator.safetensors, card.json, README.md
Uses  aligners.heldout; aligners.maps (kinds that can be loaded); stores.atomic (names of what is not finished); safetensors;
      never pickle

A model card's README is written beside the numbers, so the folder explains itself where models are shared.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, contiguous_format

from crossvec.aligners.heldout import HeldOut
from crossvec.aligners.maps import KINDS
from crossvec.errors import TranslatorError, UnfinishedError, UsageError
from crossvec.stores.atomic import beside, remains

__all__ = ["SCHEMA", "cannot_write", "check_destination", "plain", "read", "write"]

SCHEMA = 1
"""The version of the folder's layout; a reader refuses a higher one."""

LONGEST = 1e19
"""Beyond it the square of a length is infinite in float32."""

TENSORS, CARD, README = "translator.safetensors", "card.json", "README.md"

_alone = threading.RLock()
"""Held while a thread of this process writes or reads a folder. What bears our number and is not finished is then left over
from a save that failed, or was killed: the process of a container that is started again has the number of the one before."""


def _unlock() -> None:
    """In a forked child the thread that held the lock is not there, and would never let it go."""
    global _alone
    _alone = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def write(folder: str | Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a translator's folder, all or nothing, and return its path.

    Threads that save to one folder do so one after the other; the last wins. Raises TranslatorError for what could not be
    loaded again, UsageError when the place cannot be written or holds something else, UnfinishedError when the disk is full.
    """
    card = plain({"schema": SCHEMA, **card})
    _check_loadable(card, tensors)
    with _alone:
        final = check_destination(folder)
        _write(final, card, tensors)
    return final


def _write(final: Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    # A copy each, because safetensors refuses tensors that share memory, as a map and its transpose do.
    copies = {name: tensor.detach().cpu().clone(memory_format=contiguous_format) for name, tensor in tensors.items()}
    draft = _draft(final)
    try:
        draft.mkdir()
        (draft / TENSORS).write_bytes(serialise(copies))
        (draft / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (draft / README).write_text(_readme(card, final.name), encoding="utf-8")
        _swap(draft, final)
    except BaseException as problem:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(problem, OSError):
            raise cannot_write(final, problem) from None
        raise


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the card and the tensors of a saved translator.

    Raises TranslatorError that says which file is missing, damaged or from a newer version.
    """
    place = Path(folder)
    try:
        with _alone:  # or a save in another thread could put its folder between the card and the tensors
            card = _read_card(place)
            stored = (place / TENSORS).read_bytes()
        tensors = parse(stored)
    except FileNotFoundError:
        raise TranslatorError(f"{place} lacks {TENSORS}", "copy the whole folder, or fit again") from None
    except (SafetensorError, ValueError) as problem:
        raise TranslatorError(f"{place / TENSORS} is damaged: {problem}", "copy it again, or fit again") from None
    if bad := _no_numbers(tensors):
        raise TranslatorError(f"{place / TENSORS} is damaged: {bad} holds NaN or infinity", "copy it again, or fit again")
    return card, tensors


def plain(value: Any) -> Any:
    """Return a value as strict JSON allows it: plain numbers, lists and dictionaries; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def check_destination(folder: str | Path) -> Path:
    """Return the absolute path of a folder that `save` may write, before any work is spent.

    A symbolic link is followed. Raises UsageError when something other than a translator is there, when this process works in
    the folder or below it, or when the place cannot be written.
    """
    if not os.fspath(folder):
        raise UsageError("the folder to write to has no name", "name one: ./translator")
    try:
        final = _followed(folder)
        with _alone:
            _refuse_others(final)
            final.parent.mkdir(parents=True, exist_ok=True)
            _settle(final)
            trial = _draft(final)
            trial.mkdir()
            trial.rmdir()
    except OSError as problem:
        raise cannot_write(Path(folder), problem) from None
    return final


def _refuse_others(final: Path) -> None:
    """Refuse a place that this process works in, and one where something other than a translator is."""
    if _works_in(final):
        raise UsageError(f"{final} is the current folder, or one above it; it was left alone", "name one in it: ./translator")
    if final.is_dir():
        strangers = sorted(found.name for found in final.iterdir() if found.name not in (TENSORS, CARD, README))
        if strangers or (any(final.iterdir()) and not (final / CARD).is_file()):
            what = f"holds {strangers[0]}, which is no part of a translator" if strangers else "is not a translator"
            raise UsageError(f"{final} exists and {what}; it was left alone", "name another folder")
    elif final.exists():
        raise UsageError(f"{final} exists and is not a folder; it was left alone", "name another folder")


def cannot_write(place: Path, problem: OSError) -> UsageError | UnfinishedError:
    """Return the error for a failed write: UnfinishedError for a full disk, UsageError for a place that takes no files."""
    reason = problem.strerror or str(problem)
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return UnfinishedError(
            f"could not finish writing {place}: {reason}; nothing was written", "free some space and run again"
        )
    return UsageError(f"cannot write {place}: {reason}", "name a folder that you may write to")


def _followed(folder: str | Path) -> Path:
    """Return the absolute path of a folder, or of the one that a link leads to: renaming the link itself would lose it.

    Steps back (`..`) are resolved too: nothing can be renamed to them.
    """
    place = Path(folder).absolute()
    return Path(os.path.realpath(place)) if place.is_symlink() or ".." in place.parts else place


def _works_in(folder: Path) -> bool:
    """Tell whether this process works in a folder or below it: swapping the folder would take its place from under it."""
    try:
        here = Path.cwd()
        return any(os.path.samefile(folder, place) for place in (here, *here.parents))
    except OSError:  # one of the two is not there
        return False


def _draft(final: Path) -> Path:
    """Return a hidden path beside a folder that no other call has; `remains` knows its form."""
    return beside(final, f"-{secrets.token_hex(4)}.tmp")


def _settle(final: Path) -> None:
    """Remove what killed writers left behind; what one had put aside, and had put nothing else in its place, is put back."""
    for old in _left(final, "old"):
        if not final.exists():
            old.rename(final)
    for left in (*_left(final, "old"), *_left(final, "tmp")):
        shutil.rmtree(left, ignore_errors=True)


def _left(final: Path, ending: str) -> Iterator[Path]:
    """Yield what writers that live no more left behind, and what has our number: nobody else in this process writes now."""
    yield from remains(final, ending)
    yield from final.parent.glob(f"{escape(beside(final, '-').name)}*.{ending}")


def _swap(draft: Path, final: Path) -> None:
    """Put the draft in the place of what is there; an interruption in between puts the old folder back.

    Where another process has put its own there in between, that stays.
    """
    if not final.exists():
        draft.rename(final)
        return
    old = draft.with_suffix(".old")
    try:
        final.rename(old)
        draft.rename(final)
    except BaseException:
        if not final.exists():
            old.rename(final)
        else:
            shutil.rmtree(old, ignore_errors=True)
        raise
    try:
        shutil.rmtree(old, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(old, ignore_errors=True)
        raise UnfinishedError(f"interrupted, but {final} is written, and whole") from None


def _read_card(place: Path) -> dict[str, Any]:
    if not place.exists():
        with suppress(OSError):  # a folder that may not be written, or is not there
            _settle(_followed(place))
    try:
        card = json.loads((place / CARD).read_text(encoding="utf-8"))
        schema = card["schema"]
    except (FileNotFoundError, NotADirectoryError):
        raise TranslatorError(f"there is no translator at {place}", "make one: crossvec fit SOURCE TARGET -o FOLDER") from None
    except (ValueError, KeyError, TypeError):
        raise TranslatorError(f"{place / CARD} is damaged or not a translator's card", "copy it again, or fit again") from None
    except RecursionError:
        raise TranslatorError(f"{place / CARD} is nested too deeply for a card", "copy it again, or fit again") from None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise TranslatorError(f"{place} has schema {schema!r}; this version reads up to {SCHEMA}", "upgrade crossvec")
    _check_frames(place, card.get("frames"))
    return card  # type: ignore[no-any-return]


def _check_frames(place: Path, frames: Any) -> None:
    """Refuse a side whose rows lie nowhere."""
    if side := _nowhere(frames):
        told = f"the 'frames' in {place / CARD} do not say where rows of the {side} lie: radius and norm are lengths above 0"
        raise TranslatorError(told, "copy it again, or fit again")


def _nowhere(frames: Any) -> str | None:
    """Return the side whose rows lie nowhere, None where there is none: a radius or a common norm is a length."""
    for side in ("source", "target"):
        try:
            lengths = frames[side]["radius"], 1.0 if frames[side]["norm"] is None else frames[side]["norm"]
            if all(type(length) in (int, float) and 0 < float(length) < LONGEST for length in lengths):
                continue
        except (KeyError, TypeError, OverflowError):
            pass
        return side
    return None


def _no_numbers(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, None where there is none."""
    return next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None)


def _check_loadable(card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse to save what `load` would refuse to read."""
    for side, kind in (card.get("maps") or {}).items():
        if kind not in KINDS:
            told = f"the {side} map is of the kind {kind!r}, which could not be loaded again; nothing was written"
            raise TranslatorError(told, "let the aligner return Linear or Residual of crossvec.aligners.maps: docs/plugins.md")
    if bad := _no_numbers(tensors):
        told = f"{bad} holds NaN or infinity, and could not be loaded again; nothing was written"
        raise TranslatorError(told, "fit again, with other settings")
    if side := _nowhere(card.get("frames")):
        told = f"the frame of the {side} could not be loaded again; nothing was written"
        raise TranslatorError(told, "its radius and norm are lengths above 0: make it with Frame.of(space)")


def _readme(card: Mapping[str, Any], name: str) -> str:
    """Return the model card in Markdown, with the front matter that model hubs read."""
    source, target = ({"name": side, **card["frames"][side], **(card.get(side) or {})} for side in ("source", "target"))
    verdict = card.get("verdict")
    judged = f"**{verdict['status']}**, probability {verdict['probability']:.2f}" if verdict else "not judged"
    held = HeldOut.read(card.get("held_out"))
    by_pairs = _by_pairs(held)
    evidence = "".join(f"| {key} | {value} |\n" for key, value in ((verdict or {}).get("evidence") or {}).items())
    return f"""---
library_name: crossvec
tags: [embeddings, vector-translation, crossvec]
---
# {name}

Translates embeddings of `{source["name"]}` ({source["dim"]} dimensions) into the space of `{target["name"]}`
({target["dim"]} dimensions), and back.

## How it was made
| | |
|---|---|
| aligner | {card.get("aligner", "unknown")} |
| known pairs | {card.get("pairs", "unknown")} |
| source rows | {source.get("rows", "unknown")} |
| target rows | {target.get("rows", "unknown")} |
| effort, seed | {card.get("effort", "unknown")}, {card.get("seed", "unknown")} |
| made | {card.get("date", "unknown")}, in {card.get("seconds", "unknown")} s |
| versions | {", ".join(f"{k} {v}" for k, v in (card.get("versions") or {}).items()) or "unknown"} |

## Verdict
{by_pairs}{judged}. {"This" if held else "It"} is judged from the two clouds alone, without labels.

| evidence | value |
|---|---|
{evidence}
## Use
```console
crossvec translate {name} SOURCE.npy DEST.npy
crossvec evaluate {name} SOURCE.npy TARGET.npy   # row i is one text in both
```
```python
from crossvec import Translator

rows = Translator.load("{name}").translate(source_rows)  # (k, {source["dim"]}) -> (k, {target["dim"]})
```

## Limits
It knows the rows it was fitted on. Rows of another language, topic or model version may land in the wrong place: evaluate on a
few known pairs before you rely on it. `card.json` holds every setting, the evidence and what was tried.
"""


def _by_pairs(held: HeldOut | None) -> str:
    """Return what the model card says of known pairs that were held out, which decide unless they are too few to tell."""
    if not held:
        return ""
    decide = "" if held.status == "uncertain" else ", and they decide"
    return (
        f"Known pairs held out say **{held.status}**{decide}: of {held.pairs} the partner was found at rank"
        f" {held.among_target:.2f} among {held.pool} rows of the target, and at rank {held.among_translated:.2f} by"
        " the target's rows among translated ones (geometric means, 1 is best).\n\nThe verdict: "
    )
