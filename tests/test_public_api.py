"""test_public_api — what `import crossvec` promises: the names, their documentation, and that asking costs nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import click
import pytest

import crossvec
from crossvec.cli import cli


def test_public_names_are_sorted_and_listed() -> None:
    assert crossvec.__all__ == sorted(crossvec.__all__)
    assert set(crossvec.__all__) == set(crossvec._HOMES)
    assert set(crossvec.__all__) <= set(dir(crossvec))


@pytest.mark.parametrize("name", crossvec.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(crossvec, name)
    assert inspect.getdoc(thing)
    home = importlib.import_module(f"crossvec.{crossvec._HOMES[name]}")
    assert thing is getattr(home, name)


@pytest.mark.parametrize("name", [n for n in crossvec.__all__ if n[0].isupper()])
def test_every_public_method_is_documented(name: str) -> None:
    kind = getattr(crossvec, name)
    bare = [n for n, f in vars(kind).items() if not n.startswith("_") and callable(getattr(kind, n)) and not inspect.getdoc(f)]
    assert not bare


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'translat'"):
        crossvec.translat  # noqa: B018


def verbs(group: click.Group) -> Iterator[click.Command]:
    """Every command that does something, those of groups too."""
    for command in group.commands.values():
        assert command.help
        assert command.short_help
        yield from verbs(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("command", list(verbs(cli)), ids=lambda command: command.name)
def test_every_verb_and_every_option_says_what_it_does(command: click.Command) -> None:
    assert not [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert {"--format", "--config"} <= {word for p in command.params for word in p.opts}


def test_what_the_docstring_calls_is_public() -> None:
    assert crossvec.__doc__
    shown = {word.split("(")[0] for word in crossvec.__doc__.replace("(", "( ").split() if word.startswith("crossvec.")}
    assert shown
    assert {word.removeprefix("crossvec.") for word in shown} <= set(crossvec.__all__)
