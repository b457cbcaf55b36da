"""options — what the verbs share: the common options, `-s key=value`, `--config file.toml` and how a result is put out.

In    command line and TOML file; the command line wins
Out   click decorators; one JSON object or one text report on stdout
Uses  click
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crossvec.errors import SettingError, UsageError, did_you_mean
from crossvec.safe import safe

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crossvec.space import Space

C = TypeVar("C", bound=Callable[..., Any])
SETTINGS = "settings"

STORES = (
    "A store is a file of vectors (vectors.npy, items.parquet), or a database by its address: qdrant://host:6333/books,"
    " pgvector://me@host/db/table, chroma:///folder/books, … `crossvec plugins` lists all of them, docs/stores.md says how each"
    " is addressed. A slice of the rows may follow: ?rows=0:36000."
)
"""What the help of every verb ends with that takes stores."""

PIPE_WIDTH = 120
"""Columns of a text report that goes to a file or another program."""

LISTED = 10  # row numbers that a note names


class Finite(click.FloatRange):
    """A number in a range; what is no number, or without end, is refused: `nan` is neither below nor above any bound."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        number = super().convert(value, parameter, context)
        return number if math.isfinite(number) else self.fail(f"{value!r} is no number to reckon with", parameter, context)


class Verbs(click.Group):
    """A group that lists its verbs in the order of use and knows what a mistyped one should have been."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, context: click.Context, words: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if words and not words[0].startswith("-") and words[0] not in self.commands:
            raise UsageError(f"there is no verb {words[0]!r}", did_you_mean(words[0], list(self.commands)))
        return super().resolve_command(context, words)


def out(format: str, record: dict[str, Any], text: RenderableType | Callable[[], RenderableType]) -> None:
    """Put a result on stdout: the record as one JSON object, or the text; a callable text is only made when it is wanted."""
    if format == "json":
        from crossvec import report

        click.echo(report.as_json(record))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(text() if callable(text) else text, crop=False)


def refuse_itself(source: str, dest: str) -> None:
    """Raise UsageError when a verb would write over what it reads."""
    from crossvec.stores.address import same_place

    if same_place(source, dest):
        raise UsageError(f"{dest} is the source itself: its rows would be lost", "write to another place, then move it")


def opened(url: str) -> Space:
    """Return the space in a store, and tell the user which rows `?bad_rows=drop` left out."""
    from crossvec import stores

    space = stores.open(url).load()
    if space.dropped:
        advise(f"note: left out of {url}, {dropped_rows(len(space.dropped), space.dropped)}")
    return space


def dropped_rows(count: int, rows: Sequence[int]) -> str:
    """Return how many bad rows were left out, and which; `rows` may be cut short."""
    some = [f"{row:,}" for row in rows[:LISTED]]
    more = " …" if count > len(some) else ""
    return f"{count:,} bad row{'' if count == 1 else 's'}: {', '.join(some)}{more}"


def advise(text: str) -> None:
    """Tell the user something on stderr."""
    click.echo("\n".join(map(safe, text.split("\n"))), err=True)


def _read_config(context: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Make a TOML file's keys the defaults of this verb's options."""
    if path is None:
        return None
    import tomllib

    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"cannot read the config file {path}: {problem.strerror}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(f"{path} is not TOML: {problem}", 'write lines such as  effort = "thorough"') from None
    known = {p.name: p for p in context.command.params if p.name and p.name not in ("config", "help")}
    given = {key.replace("-", "_"): value for key, value in table.items()}
    for key, value in given.items():
        if key not in known:
            raise SettingError(f"{path}: there is no key {key!r} for crossvec {context.info_name}", did_you_mean(key, known))
        several = known[key].nargs != 1 or getattr(known[key], "multiple", False)
        if isinstance(value, dict) != (key == SETTINGS) or (isinstance(value, list) and not several):
            raise SettingError(
                f"{path}: the key {key!r} has the wrong shape",
                "[settings] is the one table; the rest are values, lists where a word may be given several times",
            )
    context.meta[SETTINGS] = given.pop(SETTINGS, {})
    # As words, as on the command line: click takes defaults of other types on trust.
    words = {key: [str(one) for one in value] if isinstance(value, list) else str(value) for key, value in given.items()}
    context.default_map = {**(context.default_map or {}), **words}
    return path


def _read_settings(context: click.Context, _parameter: click.Parameter, words: tuple[str, ...]) -> dict[str, Any]:
    settings = dict(context.meta.get(SETTINGS, {}))
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise SettingError(f"-s takes key=value, not {word!r}", "for example  -s starts=4096")
        settings[key.strip().replace("-", "_")] = value.strip()
    return settings


def verb(command: C) -> C:
    """Add what every verb has: --format and --config."""
    formats = click.Choice(["text", "json"])
    command = click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_read_config,
        help="TOML file of this verb's options; [settings] as -s.",
    )(command)
    return click.option("--format", type=formats, default="text", show_default=True, help="What stdout holds.")(command)


effort = click.option(
    "--effort",
    type=click.Choice(["quick", "standard", "thorough"]),
    default="standard",
    show_default=True,
    help="How hard to try.",
)
seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="The same seed gives the same result."
)
device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True, help="Where to compute."
)
paired = click.option("--paired", is_flag=True, help="Row i of both stores is one text.")
settings = click.option(
    "-s", SETTINGS, multiple=True, metavar="KEY=VALUE", callback=_read_settings, help="A setting of the aligner; repeatable."
)
