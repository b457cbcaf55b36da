"""exits — the border between crossvec and the shell: every end of a command becomes one exit code and at most two lines.

In    a click group and its arguments
Out   0 fine · 1 a gate failed · 2 wrong usage · 3 inconclusive · 4 could not finish; `error: …` and `hint: …` on stderr
Uses  errors, safe

With `--format json` an error is the one JSON object on stdout as well, so a script never parses prose. CROSSVEC_DEBUG=1 shows
the traceback.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import click

from crossvec.errors import CrossvecError
from crossvec.safe import safe, without_passwords

WRONG_USAGE, COULD_NOT_FINISH = 2, 4
WRONG_PATH = {getattr(errno, f"E{name}") for name in "NOENT NOTDIR ISDIR NAMETOOLONG ACCES PERM ROFS LOOP".split()}
OUT_OF_SPACE = "free some space, or write elsewhere; nothing was half-written"


def run(cli: click.Group, arguments: list[str]) -> int:
    """Run a command and return the exit code to leave with."""
    try:
        return int(cli.main(arguments, prog_name="crossvec", standalone_mode=False) or 0)
    except BrokenPipeError:  # the reader of our output, such as `head`, has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_FINISH
    except BaseException as problem:
        if isinstance(problem, SystemExit) or (os.environ.get("CROSSVEC_DEBUG") == "1" and isinstance(problem, Exception)):
            raise
        code, message, hint = _explain(problem)
    lines = [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    with suppress(OSError):  # a full disk may be where we are told to speak: the exit code is left to tell
        click.echo("\n".join(lines), err=True)
    if _wants_json(arguments):
        with suppress(OSError):
            click.echo(json.dumps({"error": message, "hint": hint, "exit_code": code}))
    return code


def stop_politely() -> None:
    """Let a polite kill clean up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def _explain(problem: BaseException) -> tuple[int, str, str]:
    """Return the exit code, the message and the hint that an error deserves."""
    if isinstance(problem, CrossvecError):
        return problem.exit_code, _one_line(str(problem)), _one_line(problem.hint)
    if isinstance(problem, (KeyboardInterrupt, click.Abort)):
        return COULD_NOT_FINISH, "interrupted, nothing was written", ""
    if isinstance(problem, click.UsageError):
        command = problem.ctx.command_path if problem.ctx else "crossvec"
        return problem.exit_code, _one_line(problem.format_message()), f"{command} --help shows what it takes"
    if isinstance(problem, click.ClickException):
        return WRONG_USAGE, _one_line(problem.format_message()), ""
    if isinstance(problem, MemoryError) or _is_out_of_memory(problem):
        return (
            COULD_NOT_FINISH,
            "out of memory",
            "use fewer rows (--max-rows 20000, or STORE?rows=0:20000), or another --device",
        )
    if isinstance(problem, OSError):
        where = f"{problem.filename}: " if problem.filename else ""
        reason = _one_line(f"{where}{problem.strerror or problem}")
        if problem.errno in WRONG_PATH:
            return WRONG_USAGE, reason, "check the path"
        return COULD_NOT_FINISH, f"could not finish: {reason}", OUT_OF_SPACE
    return (
        COULD_NOT_FINISH,
        _one_line(f"unexpected {type(problem).__name__}: {problem}"),
        "this is a bug in crossvec: run again with CROSSVEC_DEBUG=1 and report what it shows",
    )


def _is_out_of_memory(problem: BaseException) -> bool:
    # torch has a class for GPUs only; on the CPU it is a RuntimeError with this text.
    return type(problem).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(problem)


def _one_line(text: str) -> str:
    return " ".join(without_passwords(safe(text)).split())


def _wants_json(arguments: list[str]) -> bool:
    # Read from the words themselves, because an error may come before click has understood them.
    return "--format=json" in arguments or ("--format", "json") in zip(arguments, arguments[1:], strict=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
