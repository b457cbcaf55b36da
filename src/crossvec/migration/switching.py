"""switching — give the source's name to the new rows when the gate has passed, or finish what was begun of that.

In    Store, Store, a Turn that was planned, the Journal
Out   names changed and the journal "switched", or the reason why not
Uses  stores.turns, migration.journal

The journal says "switching", and where the old rows will be, before any name changes: the next run finishes a killed one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossvec.errors import StoreError, UsageError
from crossvec.migration.journal import Journal
from crossvec.stores import Store
from crossvec.stores.turns import Switchable, Turn

__all__ = ["carry_out", "planned", "resumed"]

BY_HAND = "leave --switch out, and point your application at DEST when the gate passes"


def planned(source: Store, dest: Store) -> Turn:
    """Return which names a switch would change. Raises UsageError or StoreError when it cannot be done."""
    here, there = getattr(source, "address", None), getattr(dest, "address", None)
    if here is None or there is None or not isinstance(source, Switchable):
        told = f"{getattr(source, 'format', 'this store')} has no way to give one place the name of another"
        raise StoreError(told, BY_HAND)
    if here.rows is not None:
        raise UsageError(f"{here.url} is a part of a store, and a name stands for the whole", "leave rows= out, or --switch")
    for option in ("column", "vector", "id", "key", "keep", "dtype"):
        mine, other = here.options.get(option), there.options.get(option)
        if mine != other or option == "keep" and mine not in (None, "all"):
            told = (
                f"SOURCE and DEST differ in {option}=, and who asks for {here.url} afterwards would not find what it asks for"
            )
            raise UsageError(told, f"give both the same {option}=" if option != "keep" else "carry all: leave keep= out")
    return source.turn(dest)


def carry_out(source: Store, turn: Turn, journal: Journal, path: Path, there: int) -> str:
    """Change the names; return an empty text, or why they stay as they are. Raises what the store raises.

    `there` is how many rows the destination holds.
    """
    assert isinstance(source, Switchable)
    address = getattr(source, "address", None)
    if journal.skipped_rows and "bad_rows" not in getattr(address, "options", {}):
        left = f"rows were left out ({journal.skipped_rows:,}), and would be missing under the name {turn.name}"
        return f"{left}: mend them and migrate anew, or agree by ?bad_rows=drop in SOURCE and run the line again"
    told = source.describe()
    anew = f"delete or empty {turn.new}, delete {path}, and carry all across again, with --translator and --switch"
    if told.exact and told.rows != journal.rows_read:
        return f"{turn.name} holds {told.rows:,} rows now, and {journal.rows_read:,} were read: stop who writes to it, {anew}"
    if there != journal.rows_written:  # such as one that was deleted from the source after an earlier run
        return f"{turn.new} holds {there:,} rows, and {journal.rows_written:,} of them are {turn.name}'s: {anew}"
    if missing := source.unready(turn):
        return f"{missing}; then run the same line again"
    journal.state, journal.aside, journal.alias = "switching", turn.aside, turn.alias
    journal.save(path)
    source.switch(turn)
    journal.state = "switched"
    journal.save(path)
    return ""


def resumed(source: Store, dest: Store, journal: Journal, path: Path, may: bool) -> Turn | None:
    """Finish a switch that was begun, and return it when the names are changed; None when they are as they were at first.

    `may`: it may be finished; otherwise one that is half done is a UsageError. Raises StoreError when others changed the names.
    """
    if journal.state not in ("switching", "switched") or not isinstance(source, Switchable):
        return None
    turn = Turn(_name(source), _name(dest), journal.aside, "", journal.alias)
    stage = source.stage(turn, known=journal.state == "switched")
    if stage == "before":
        journal.state = "done"
        journal.save(path)
        return None
    if stage == "between":
        if not may:
            what = (
                f"{turn.name} was about to lead to the new rows: the old ones are {turn.aside}, the new ones still {turn.new}"
            )
            raise UsageError(f"a switch was interrupted: {what}", "finish it: the same line with --run --switch")
        source.switch(turn)
    journal.state = "switched"
    journal.save(path)
    return turn


def _name(store: Any) -> str:
    """Return what a Turn calls a place: a collection's name, a file's path."""
    return str(store.path) if store.address.scheme == "file" else str(store.name)
