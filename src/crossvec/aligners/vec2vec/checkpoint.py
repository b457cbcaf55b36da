"""checkpoint — one file that training can go on from: tensors as safetensors, facts as JSON in the same file's header.

In    tensors by name, facts (JSON-able)
Out   PATH                  one safetensors file, replaced in one step: after a kill the old one stands
Uses  safetensors; never pickle

Tensors and facts share a file because two files cannot be replaced in one step.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from crossvec.errors import SettingError, UnfinishedError, UsageError

FACTS = "crossvec"
"""The header's key for the facts."""

WRONG = (errno.ENAMETOOLONG, errno.EROFS, errno.EINVAL)
"""What else is wrong with a name, and not with the disk."""

VERSION = 2
"""2: tensors and facts have their marks."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, all or nothing, making its folder where it is missing.

    Raises UsageError when the place cannot be written and UnfinishedError when the disk is full.
    """
    kept = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    whole = serialise(kept, {FACTS: json.dumps({"version": VERSION, "marks": _marks(kept, facts), **facts}, allow_nan=False)})
    refuse_what_is_no_file(path)
    make_folder(path.parent)
    part = _part(path)
    try:
        try:
            with open(part, "xb") as file:
                file.write(whole)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as problem:
        raise _unwritable(path, problem) from None


def refuse_place(path: Path) -> None:
    """Make a file's folder where there is none. Raises UsageError where the file could not be written, by trying it."""
    refuse_what_is_no_file(path)
    make_folder(path.parent)
    part = _part(path)
    try:
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as problem:
        raise _unwritable(path, problem) from None


def refuse_what_is_no_file(path: Path) -> None:
    """Raise UsageError where something else than a file has this name, or nothing can have it."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # where it could be is for others to say
    except (OSError, ValueError) as problem:  # a name that is too long, or holds a zero byte
        raise UsageError(f"{str(path)!r} cannot be a file's name: {problem}", "give another name") from None
    raise UsageError(f"{path} is no file", "name one that is, or is not there yet")


def make_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises UsageError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except ValueError as problem:
        raise UsageError(f"{str(folder)!r} cannot be a folder's name: {problem}", "give another name") from None
    except OSError as problem:
        raise _unwritable(folder, problem) from None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a checkpoint's tensors and facts.

    Raises UsageError when the file is damaged or from a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(json.loads((file.metadata() or {})[FACTS]))
            version, marks = int(facts.pop("version", VERSION + 1)), dict(facts.pop("marks", {}))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            found = _marks(tensors, facts)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as problem:
        raise UsageError(f"{path} is no checkpoint of vec2vec: {problem}", "remove it to start anew") from None
    if version != VERSION:
        age, hint = ("a newer", "upgrade crossvec, or remove") if version > VERSION else ("an older", "remove")
        raise UsageError(f"{path} was written by {age} version", f"{hint} the file to start anew")
    for name, mark_now in found.items():
        if marks.get(name) != mark_now:
            raise UsageError(f"{path} is damaged: {name} is not what was written", "remove it to start anew")
    return tensors, facts


def mark(tensor: Tensor) -> str:
    """Return eight hexadecimal digits that tell a tensor's bytes from others (CRC-32): damage, not malice, is looked for."""
    rows = tensor.detach().cpu().contiguous().flatten()
    return f"{zlib.crc32(rows.view(torch.uint8).numpy().data):08x}"


def _marks(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, str]:
    told = json.dumps(facts, sort_keys=True).encode()
    return {FACTS: f"{zlib.crc32(told):08x}", **{name: mark(tensor) for name, tensor in tensors.items()}}


def refuse_other(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise SettingError naming what differs between the run that left a checkpoint and the run that would go on from it."""
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    if changed:
        told = ", ".join(f"{key} {was.get(key)!r} instead of {now.get(key)!r}" for key in changed[:4])
        raise SettingError(f"{path} is from another run: {told}", "use the same settings, or another checkpoint folder")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _unwritable(path: Path, problem: OSError) -> UsageError | UnfinishedError:
    reason = problem.strerror or str(problem)
    if isinstance(problem, (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError)) or problem.errno in WRONG:
        return UsageError(f"cannot write {path}: {reason}", "name a folder that you may write to")
    return UnfinishedError(f"cannot finish writing {path}: {reason}", "free some space; the last one stands")
