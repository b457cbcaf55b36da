"""switching — what databases do alike to let the name of one collection lead to the rows of another.

In    two collections of one database
Out   Switching                a Collection that is Switchable; a database adds how it renames, or how it points an alias
Uses  stores.collection, stores.turns
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from crossvec.errors import StoreError
from crossvec.stores import Store
from crossvec.stores.collection import Collection
from crossvec.stores.rows import Layout
from crossvec.stores.turns import Stage, Turn, free_name, stage_of


class Switching(Collection):
    """A Collection whose name can be given to the rows of another one in the same database.

    A database adds `_rename` and `_there` when its collections can be renamed, `_behind` and `_point` when it has aliases.
    """

    renaming: ClassVar[str] = ""  # how collections are renamed; empty where they cannot be
    longest: ClassVar[int] = 255  # bytes of a name
    by_hand: ClassVar[str] = "leave --switch out, and point your application at DEST when the gate passes"

    # --- what a database adds

    def _there(self, client: Any, name: str) -> bool:
        """Tell whether there is anything of this name."""
        raise NotImplementedError

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        """Give collections new names, in this order, all or none where the database can do that."""
        raise NotImplementedError

    def _behind(self, client: Any) -> str | None:
        """Return the collection that the name leads to when it is an alias."""
        return None

    def _point(self, client: Any, old: str, new: str) -> None:
        """Let the alias lead to another collection, in one step."""
        raise NotImplementedError

    def _fields(self, layout: Layout) -> frozenset[str]:
        """Return the columns that applications may ask for by name; empty where rows have no columns."""
        return frozenset()

    def _new_fields(self) -> frozenset[str]:
        """Return the columns of a collection that crossvec would make under this address."""
        return frozenset()

    def _like(self, new: str, layout: Layout) -> str:
        """Return what to type to make an empty collection with the columns of this one."""
        return f"make {new} with these columns first, empty; rows are written into the columns that it has"

    def _kept_back(self, client: Any, dest: Any) -> tuple[str, ...]:
        """Tell what stays with the old rows; raises StoreError for what keeps the names from being changed."""
        return ()

    def _unready(self, client: Any, new: str) -> str:
        """Tell what `new` lacks before applications can ask for its rows; empty when nothing is missing."""
        return ""

    # --- what they have in common

    def turn(self, dest: Store) -> Turn:
        """Tell what switching to `dest` would do; raises StoreError, with what to do instead, when it cannot be done."""
        if not isinstance(dest, Switching) or dest.format != self.format or dest._database() != self._database():
            told = f"{self.address.url} and {getattr(getattr(dest, 'address', None), 'url', dest)} are not in one database"
            raise StoreError(
                f"{told}, and a name changes hands only within one",
                "write both addresses alike but for the name, or " + self.by_hand,
            )
        with self.session() as client, self._telling():
            behind = self._behind(client)
            if behind is None and not self.renaming:
                raise StoreError(f"{self.format} cannot rename {self.name}, which is no alias", self.by_hand)
            layout = self._found(client)
            self._refuse_columns(client, layout, dest)
            notes = self._kept_back(client, dest)
            if behind is not None:
                how = f"the alias {self.name} leads to {dest.name} instead of {behind}, in one step"
                return Turn(self.name, dest.name, behind, how, True, notes)
            aside = free_name(f"{self.name}_before", lambda name: self._there(client, name))
            if len(aside.rpartition(".")[2].encode()) > self.longest:
                raise StoreError(f"{aside}, for the old rows, is longer than a name may be", self.by_hand)
            how = f"{self.name} becomes {aside}, and {dest.name} becomes {self.name}, {self.renaming}"
            return Turn(self.name, dest.name, aside, how, False, notes)

    def stage(self, turn: Turn, known: bool = False) -> Stage:
        """Tell how far a switch is; `known`: it was completed once, and the old rows may be deleted by now."""
        with self.session() as client, self._telling():
            if turn.alias:
                behind = self._behind(client)
                if behind in (turn.new, turn.aside):
                    return "after" if behind == turn.new else "before"
                there = f"leads to {behind}" if behind else "is no alias any more"
                raise StoreError(
                    f"{turn.name} {there}, and not to {turn.aside} or {turn.new}", "look who changed it; nothing was done"
                )
            name, new, aside = (self._there(client, held) for held in (turn.name, turn.new, turn.aside))
            return stage_of(turn, name, new, aside, known, self.address.url)

    def unready(self, turn: Turn) -> str:
        """Tell what is missing before applications can ask for the new rows; empty when nothing is."""
        with self.session() as client, self._telling():
            return self._unready(client, turn.new)

    def switch(self, turn: Turn) -> None:
        """Do what is left of a switch; nothing when it is done. Raises StoreError when it cannot be done."""
        with self.session() as client:
            stage = self.stage(turn)
            with self._telling():
                if turn.alias and stage == "before":
                    self._point(client, turn.aside, turn.new)
                elif not turn.alias and stage != "after":
                    changes = [(turn.name, turn.aside), (turn.new, turn.name)]
                    self._rename(client, changes if stage == "before" else changes[1:])
            self.known().clear()

    def _database(self) -> Hashable:
        """Tell which database this is, as its address says."""
        options = tuple(self.address.options.get(name) for name in ("service", "tenant", "database"))
        if self.address.split()[0]:
            return self.address.place.rpartition("/")[0], options
        return os.path.realpath(self.address.folder()[0]), options

    def _refuse_columns(self, client: Any, layout: Layout, dest: Switching) -> None:
        held = dest._look(client)
        there = dest._new_fields() if held is None else dest._fields(held)
        if missing := sorted(self._fields(layout) - there):
            would = "would not have" if held is None else "does not have"
            told = f"{self.name} has the columns {', '.join(missing)}, which {dest.name} {would}: who asks for them would fail"
            raise StoreError(told, self._like(dest.name, layout))
        if self._fields(layout) and not layout.about["made"] and (held is None or held.about["made"]):
            told = f"{self.name} is a table of yours, and {dest.name} one as crossvec makes them, with other types and defaults"
            raise StoreError(told, self._like(dest.name, layout))
