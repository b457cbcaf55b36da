"""atomic — write a file completely or not at all.

In    a path     where the file shall be
Out   a path     beside it, to write to; it takes the file's name when everything is on the disk
Uses  errors

After an exception (Ctrl-C included) the old file stands and nothing else is left. After a power cut or `kill -9` the old file
stands too; a hidden `.part` file may then lie beside it until the next write to the same path, which removes it.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crossvec.errors import StoreError, UnfinishedError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LONGEST_NAME = 200  # bytes; file systems allow 255, and the temporary name adds up to 32


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; when the block ends well, it replaces `path` in one step.

    A symbolic link is followed, and the permissions of a file that is replaced are kept. Raises StoreError when the folder is
    missing or the target may not be written, UnfinishedError when the disk is full.
    """
    target = Path(os.path.realpath(path))
    mode = _writable_mode(target, path)
    for left in remains(target, "part"):
        with suppress(OSError):  # it may be gone already, or not be ours
            left.unlink()
    part = beside(target, f"-{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(path) from error
        raise StoreError(f"{path} cannot be written: {error.strerror}", "choose another folder") from error
    try:
        yield part
        _to_disk(part)
        if mode is not None:
            part.chmod(mode)
        os.replace(part, target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if _is_no_room(error):
            raise _no_room(path) from error
        raise
    to_disk(target.parent)


def _writable_mode(target: Path, named: Path) -> int | None:
    """Return the permissions of the file to replace, None when there is none yet; raise when it may not be."""
    if not target.parent.is_dir():
        raise StoreError(f"{named} cannot be written: there is no folder {named.parent}", f"make it: mkdir -p {named.parent}")
    if not target.exists():
        return None
    mode = target.stat().st_mode
    if not stat.S_ISREG(mode):
        raise StoreError(f"{named} is not a file that can be replaced", "name a file")
    if not mode & 0o222 or not os.access(target, os.W_OK):  # the owner's wish, even where root could overrule it
        raise StoreError(f"{named} is read-only", f"choose another name, or allow it: chmod u+w {named}")
    return stat.S_IMODE(mode)


def beside(target: Path, ending: str) -> Path:
    """Return a hidden path beside this one that tells which process of which machine writes it."""
    return target.with_name(f"{_stem(target)}{os.getpid()}{ending}")


def remains(target: Path, ending: str) -> list[Path]:
    """Return what writers to this path left behind that were killed on this machine; nobody else would ever remove it."""
    if os.name != "posix":
        return []  # elsewhere nothing tells whether a process lives without harming it
    known = re.compile(rf"{re.escape(_stem(target))}(\d+)(-[0-9a-f]{{8}})?\.{ending}")
    entries = os.listdir(target.parent) if os.access(target.parent, os.R_OK) else []
    found = {entry: known.fullmatch(entry) for entry in entries}
    return [target.with_name(entry) for entry, match in found.items() if match and not _lives(int(match[1]))]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _stem(target: Path) -> str:
    """Return how the temporary names of this machine's writers begin: process numbers mean nothing on another machine."""
    short = target.name.encode(errors="surrogateescape")[:LONGEST_NAME].decode(errors="ignore")
    return f".{short}.{zlib.crc32(platform.node().encode()):08x}-"


def to_disk(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can be asked for that."""
    if os.name == "posix":
        _to_disk(folder)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_no_room(error: BaseException) -> bool:
    """Tell a full disk, also where a library gives only the text of the system's message."""
    return isinstance(error, OSError) and (error.errno in NO_ROOM or os.strerror(errno.ENOSPC) in str(error))


def _no_room(path: Path) -> UnfinishedError:
    return UnfinishedError(
        f"there is no room left to write {path}; nothing there was changed", "free some space, or write to another disk"
    )
