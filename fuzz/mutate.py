"""mutate — change a valid file into one that its parser may never have seen.

In    bytes, a random generator                     one valid file of the target's corpus
Out   bytes                                         with damage where it hurts: lengths, numbers, names, nesting, the last bytes
Uses  nothing of crossvec

`havoc` knows nothing of formats. Every other mutator takes a format apart, damages what lies inside and puts the outside right
again, so that the damage gets past checksums and lengths: zip members, gzip, the headers of .npy and safetensors, JSON trees.
"""

from __future__ import annotations

import ast
import copy
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

LARGEST = 1 << 14
"""Inputs are cut here: small ones are quick, and what a parser does wrong it does wrong with few bytes."""

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
]
NUMBERS += [-number for number in NUMBERS[1:]] + [2**63, 2**64 - 1, 2**64, 10**30]
WORDS = [
    "0",
    "-1",
    "1e999",
    "NaN",
    "Infinity",
    "null",
    "true",
    "\0",
    "\ud7ff",
    "é",
    "\u202e",
    "../",
    "/",
    "?",
    "&",
    "=",
    ":",
    "%00",
]
WORDS += [
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "\\",
    "\n",
    "\r",
    "\t",
    ",",
    " ",
    ".",
    "#",
    "9" * 30,
    "a" * 300,
    "[" * 2000,
    "1_0",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**70,
    -(2**63),
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "a",
]
VALUES += [
    "\0",
    "\ud7ff",
    "nan",
    "../../x",
    "/",
    [],
    {},
    [None],
    [[]],
    {"": None},
    [0] * 50,
    "a" * 300,
    [1.5, "a"],
    {"a": {"b": []}},
]


def havoc(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one to eight small damages of any kind."""
    held = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        rng.choice(DAMAGES)(held, rng)
    return bytes(held[:LARGEST])


def text(data: bytes, rng: random.Random) -> bytes:
    """Return a text with numbers, words and lines changed; what is no UTF-8 gets havoc."""
    try:
        told = data.decode()
    except UnicodeDecodeError:
        return havoc(data, rng)
    for _ in range(1 << rng.randrange(3)):
        kind = rng.randrange(6)
        spots = [found.span() for found in re.finditer(r"-?\d+(\.\d+)?" if kind == 0 else r"[\w.-]+", told)]
        if kind <= 2 and spots:
            start, stop = rng.choice(spots)
            new = str(rng.choice(NUMBERS)) if kind == 0 else rng.choice(WORDS) if kind == 1 else told[slice(*rng.choice(spots))]
            told = told[:start] + new + told[stop:]
        elif kind == 3:
            at = rng.randint(0, len(told))
            told = told[:at] + rng.choice(WORDS) + told[at:]
        elif kind == 4:
            lines = told.splitlines(keepends=True) or [""]
            at = rng.randrange(len(lines))
            lines[at : at + 1] = rng.choice(
                [[], [lines[at]] * 2, [rng.choice(lines)], lines[at : at + 1] + [rng.choice(lines)]]
            )
            told = "".join(lines)
        else:
            start = rng.randint(0, len(told))
            told = told[:start] + told[start + rng.randint(0, 20) :]
    return told.encode("utf-8", "surrogatepass")[:LARGEST]


def tree(data: bytes, rng: random.Random) -> bytes:
    """Return a JSON text with one to four values of its tree changed, lost, doubled or put elsewhere."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return text(data, rng)
    return json.dumps(_grown(told, rng), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")[:LARGEST]


def lines_of_trees(data: bytes, rng: random.Random) -> bytes:
    """Return lines of JSON of which some were changed as trees."""
    lines = data.splitlines() or [b"{}"]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        lines[at] = tree(lines[at], rng)
    return b"\n".join(lines)[:LARGEST] + rng.choice([b"", b"\n"])


def npy(data: bytes, rng: random.Random) -> bytes:
    """Return a .npy file whose header tells something else, its length put right."""
    if len(data) < 10 or data[:6] != b"\x93NUMPY":
        return havoc(data, rng)
    size = struct.unpack("<H", data[8:10])[0]
    header, rest = data[10 : 10 + size], data[10 + size :]
    try:
        told = ast.literal_eval(header.decode("latin1").strip())
        key = rng.choice(["descr", "fortran_order", "shape", "shape"])
        shapes = [(rng.choice(NUMBERS), told["shape"][-1]), (told["shape"][0], rng.choice(NUMBERS)), (rng.choice(NUMBERS),) * 2]
        odd = [(), (1,), (2, 3, 4), (1.5, 2), ("a", 2), (True, 3), [2, 3], None, (0, 3), (-1, 3), (3, 0)]
        kinds = [
            "<f2",
            "<f8",
            ">f4",
            "|i1",
            "<i8",
            "|O",
            "<U9",
            "|V0",
            "<c8",
            "",
            "f",
            [("a", "<f4")],
            "<f4,<f4",
            None,
            4,
            "<f99",
        ]
        told[key] = rng.choice({"descr": kinds, "fortran_order": [True, 1, None, "x"], "shape": shapes + odd}[key])
        header = f"{told!r}\n".encode("latin1", "replace")
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError, MemoryError, RecursionError):
        header = text(header, rng)
    return data[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + rest


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file whose header is another tree, its length put right."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else len(data)
    if size > len(data) - 8:
        return havoc(data, rng)
    header = tree(data[8 : 8 + size], rng)
    return (len(header).to_bytes(8, "little") + header + data[8 + size :])[:LARGEST]


def zipped(inner: Mutator) -> Mutator:
    """Return a mutator of one member of a zip, which is then packed again with right checksums."""

    def mutator(data: bytes, rng: random.Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(name, archive.read(name)[:LARGEST]) for name in archive.namelist()]
        except (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError):
            return havoc(data, rng)
        if not members:
            return havoc(data, rng)
        at = rng.randrange(len(members))
        members[at] = (members[at][0], inner(members[at][1], rng))
        if rng.random() < 0.1:
            members.insert(rng.randrange(len(members)), rng.choice(members))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, held in members:
                # The member's own object, because a name that is there twice warns.
                archive.filelist and archive.NameToInfo.clear()
                archive.writestr(name, held)
        return packed.getvalue()[:LARGEST]

    return mutator


def gzipped(inner: Mutator) -> Mutator:
    """Return a mutator of what gzip holds."""

    def mutator(data: bytes, rng: random.Random) -> bytes:
        try:
            return gzip.compress(inner(gzip.decompress(data)[:LARGEST], rng), 1, mtime=0)
        except (OSError, EOFError, zlib.error):
            return havoc(data, rng)

    return mutator


def _flip(held: bytearray, rng: random.Random) -> None:
    if held:
        held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)


def _byte(held: bytearray, rng: random.Random) -> None:
    if held:
        held[rng.randrange(len(held))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def _number(held: bytearray, rng: random.Random) -> None:
    """Put an integer of 1, 2, 4 or 8 bytes where one may stand: a length-field attack."""
    size = rng.choice([1, 2, 4, 4, 8, 8])
    if len(held) < size:
        return
    at = rng.randrange(len(held) - size + 1)
    at -= at % size if rng.random() < 0.5 else 0
    was = int.from_bytes(held[at : at + size], "little")
    new = rng.choice([*NUMBERS, was + 1, was - 1, was * 2, was // 2, len(held)])
    held[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, rng.choice(["little", "little", "big"]))


def _cut(held: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(held))
    del held[at : at + rng.choice([1, 1, 2, 4, 8, 32, len(held)])]


def _double(held: bytearray, rng: random.Random) -> None:
    start = rng.randint(0, len(held))
    at = rng.randint(0, len(held))
    held[at:at] = held[start : start + rng.choice([1, 4, 16, 64])]


def _insert(held: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(held))
    held[at:at] = rng.choice([rng.randbytes(rng.randint(1, 8)), bytes(rng.randint(1, 32)), rng.choice(WORDS).encode()[:64]])


def _tail(held: bytearray, rng: random.Random) -> None:
    """Damage the last bytes, where Parquet, Arrow and zip keep what they know."""
    if held:
        at = len(held) - 1 - min(rng.randrange(400), len(held) - 1)
        held[at] = rng.randrange(256)


DAMAGES = (_flip, _byte, _number, _number, _cut, _double, _insert, _tail)


def _grown(told: Any, rng: random.Random) -> Any:
    for _ in range(rng.randint(1, 4)):
        nodes = list(_nodes(told))[:400]
        if not nodes or rng.random() < 0.03:
            return copy.deepcopy(rng.choice(VALUES))
        holder, key = rng.choice(nodes)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, its = rng.choice(nodes)
            # A copy, so that nothing comes to hold itself.
            holder[key] = json.loads(json.dumps(other[its])) if _has(other, its) else None
        elif kind == 2 and isinstance(holder, dict):
            holder[rng.choice(["", "a", "\ud7ff", key.upper(), f"{key} ", "__class__"])] = holder[key]
        elif kind == 2:
            holder.insert(key, holder[key])
        elif kind == 3 and isinstance(holder[key], (int, float)):
            holder[key] = rng.choice([*NUMBERS, holder[key] + 1, -holder[key], holder[key] * 1e30, str(holder[key])])
        elif kind == 4 and isinstance(holder[key], str):
            holder[key] = text(holder[key].encode("utf-8", "surrogatepass"), rng).decode("utf-8", "ignore")
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return told


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _nodes(told: Any) -> Any:
    """Yield (holder, key) of every value below the root."""
    todo = [told]
    while todo:
        held = todo.pop()
        keys = list(held) if isinstance(held, dict) else range(len(held)) if isinstance(held, list) else ()
        for key in keys:
            yield held, key
            todo.append(held[key])
