"""turns — the contract of a switch: one name leads to the rows of another, and its own rows stay under a third.

In    two places of one database, or two files of one disk
Out   Turn                     which names change, and how; nothing is ever deleted
Uses  errors

Both places are renamed, the one of the old rows first, or, where the name is an alias, that is pointed at the new rows. In a
database with transactions, with an alias, and with files on most disks, this is one step. Elsewhere a kill may fall between the
two names: the first name leads nowhere then, both places are whole, and `switch` goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol, runtime_checkable

from crossvec.errors import StoreError
from crossvec.stores import Store

__all__ = ["Stage", "Switchable", "Turn", "free_name", "stage_of"]

Stage = Literal["before", "between", "after"]


@dataclass(frozen=True)
class Turn:
    """What a switch changes: `name` leads to what is now `new`, and what it led to is `aside`, both of them names.

    `alias` says that `name` is an alias, so that `new` and `aside` stay the names of two collections. `how` says in words what
    happens, `notes` what else stays with the old rows.
    """

    name: str
    new: str
    aside: str
    how: str
    alias: bool = False
    notes: tuple[str, ...] = ()


@runtime_checkable
class Switchable(Protocol):
    """A Store whose name can be given to the rows of another."""

    def turn(self, dest: Store) -> Turn:
        """Tell what switching to `dest` would do; raises StoreError, with what to do instead, when it cannot be done."""
        ...

    def stage(self, turn: Turn, known: bool = False) -> Stage:
        """Tell how far a switch is; `known`: it was completed once, and the old rows may be deleted by now.

        Raises StoreError when neither is so, because somebody else changed these names.
        """
        ...

    def unready(self, turn: Turn) -> str:
        """Tell what is missing before applications can ask for the new rows; empty when nothing is."""
        ...

    def switch(self, turn: Turn) -> None:
        """Do what is left of a switch; nothing when it is done. Raises StoreError when it cannot be done."""
        ...


def free_name(wanted: str, taken: Callable[[str], object]) -> str:
    """Return the name, or the first of name_2, name_3, … that is not `taken`, a function that tells."""
    return next(name for name in (wanted if i == 1 else f"{wanted}_{i}" for i in count(1)) if not taken(name))


def stage_of(turn: Turn, name: bool, new: bool, aside: bool, known: bool, where: str) -> Stage:
    """Tell how far a switch is from which names there are. Raises StoreError when somebody else changed them."""
    if new and aside and not name:
        return "between"
    if new and name and not aside:
        return "before"
    if name and (known or (aside and not new)):  # one that is known may be followed by a DEST of the same name
        return "after"
    there = [held for held, is_there in ((turn.name, name), (turn.new, new), (turn.aside, aside)) if is_there]
    raise StoreError(
        f"the names in {where} were changed by somebody else: of {turn.name}, {turn.new} and {turn.aside} there are"
        f" {', '.join(there) or 'none'}",
        f"the old rows were to be {turn.aside}, the new ones {turn.name}: rename them so, or delete the migration's journal",
    )
