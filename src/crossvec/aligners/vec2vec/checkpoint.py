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

VERSION = 1


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, all or nothing, making its folder where it is missing.

    Raises UsageError when the place cannot be written and UnfinishedError when the disk is full.
    """
    whole = serialise(
        {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        {FACTS: json.dumps({"version": VERSION, **facts}, allow_nan=False)},
    )
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    make_folder(path.parent)
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


def make_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises UsageError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as problem:
        raise _unwritable(folder, problem) from None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a checkpoint's tensors and facts.

    Raises UsageError when the file is damaged or from a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(json.loads((file.metadata() or {})[FACTS]))
            version = int(facts.pop("version", VERSION + 1))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as problem:
        raise UsageError(f"{path} is no checkpoint of vec2vec: {problem}", "remove it to start anew") from None
    if version > VERSION:
        raise UsageError(f"{path} was written by a newer version", "upgrade crossvec, or remove the file to start anew")
    return tensors, facts


def refuse_other(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise SettingError naming what differs between the run that left a checkpoint and the run that would go on from it."""
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    if changed:
        told = ", ".join(f"{key} {was.get(key)!r} instead of {now.get(key)!r}" for key in changed[:4])
        raise SettingError(f"{path} is from another run: {told}", "use the same settings, or another checkpoint folder")


def _unwritable(path: Path, problem: OSError) -> UsageError | UnfinishedError:
    reason = problem.strerror or str(problem)
    if isinstance(problem, (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError)):
        return UsageError(f"cannot write {path}: {reason}", "name a folder that you may write to")
    return UnfinishedError(f"cannot finish writing {path}: {reason}", "free some space; the last one stands")
