"""canary — the verbs that plant made-up secrets in a store, and look for them later in a dump or in recovered texts.

In    a store and its model; later the file of canaries, and where to look
Out   rows in the store and a file that tells which; exit code 1 when canaries are found, 3 when that cannot be told
Uses  audit.canaries, stores, encoders, texts
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import options
from crossvec.errors import UnfinishedError, UsageError

if TYPE_CHECKING:
    from crossvec.audit.canaries import Planted, Sighting
    from crossvec.space import Space


@click.group(cls=options.Verbs, short_help="Plant made-up secrets, and look for them later.")
def canary() -> None:
    """Plant made-up secrets in a store, and look for them in a dump or in texts that somebody recovered.

    Found in a dump, they tell that it came from the store. Found in recovered texts, they prove that texts can be read from its
    vectors: nobody can have guessed them.
    """


@canary.command(short_help="Write made-up secrets into a store.", epilog=options.STORES)
@click.argument("store")
@click.option("-m", "--model", required=True, help="The store's model: minilm, wordllama, a model's folder, …")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to keep which they are; only you may read it.")
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=12, show_default=True, help="How many.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only password, iban, email or phone; repeatable.")
@click.option("--to", metavar="STORE", help="Where the store's rows and the canaries go, for a file: it is not changed itself.")
@click.option("--write", is_flag=True, help="Do it; without this nothing is written and no text is sent.")
@click.option("--seed", type=click.IntRange(0), default=None, help="Make the same again, for tests; guessable, unlike without.")
@click.option("--send-texts", is_flag=True, help="Allow that their texts leave this machine, for a model behind an endpoint.")
@options.device
@options.verb
def plant(
    store: str,
    model: str,
    output: str,
    count: int,
    kinds: tuple[str, ...],
    to: str | None,
    write: bool,
    seed: int | None,
    send_texts: bool,
    device: str,
    format: str,
    config: str | None,
) -> int:
    """Embed made-up secrets with the STORE's model and add them to its rows, and keep in a file which they are.

    They look like passwords, bank accounts, e-mail addresses and telephone numbers, and can be none. A database is added to; a
    file is copied to another with them. Without --write it only tells what would happen.
    """
    from crossvec import encoders, stores
    from crossvec.audit import canaries
    from crossvec.stores.collection import Collection

    if Path(output).exists():
        raise UsageError(f"{output} is there already", "give a new name: it will be the only record of what was planted")
    source, dest = stores.open(store), _destination(store, to)
    first = next(iter(source.read(256)))
    encoder = encoders.open(model, send_texts=send_texts and write, device=device)
    if encoder.dim not in (0, first.dim):
        raise UsageError(
            f"{model} gives {encoder.dim:,} dimensions and {store} has {first.dim:,}", "name the model that made its vectors"
        )
    record: dict[str, Any] = {"dry_run": not write, "rows": count, "dest": to or store, "model": model}
    if not write:
        record |= {"ids": [], "file": None}
        told = f"would add {count:,} canaries to {to or store}; nothing was written: add --write"
        options.out(format, record, lambda: _plain(told))
        return 0
    numbered = _ids(source.describe().rows, first)
    planted = canaries.plant(count, encoder, numbered, kinds=kinds, seed=seed, store=store, unit=_unit_rows(first))
    rows = _space(planted, first)
    planted.write(output)
    before = _inode(dest)
    # The file first: a store with canaries that nobody knows would be worse than a file of canaries that are in no store.
    try:
        dest.write(chain(source.read(), [rows]) if to else [rows])
    except BaseException as problem:
        if not isinstance(dest, Collection) and _inode(dest) == before:
            Path(output).unlink(missing_ok=True)  # a file is written whole or not at all, and it was not: nothing is planted
        elif isinstance(problem, KeyboardInterrupt):
            raise UnfinishedError(f"interrupted: some canaries may be in {to or store}", f"{output} tells which") from None
        else:
            options.advise(f"some canaries may be in {to or store}; {output} tells which")
        raise
    options.advise(f"{output} holds the only record of what is planted now; keep it where a thief of the store does not look")
    record |= {"ids": [one.id for one in planted.canaries], "file": output}
    done = f"added {count:,} canaries to {to or store}; {output} tells which rows they are"
    options.out(format, record, lambda: _plain(done))
    return 0


@canary.command(short_help="Look for them in a dump, or in recovered texts.", epilog=options.STORES)
@click.argument("canaries")
@click.option("--store", "dumps", multiple=True, metavar="STORE", help="A dump to look for their rows in; repeatable.")
@click.option("--recovered", multiple=True, metavar="FILE", help="Texts to look in: .txt, .json, .jsonl, …; repeatable.")
@click.option("--near", type=options.Finite(0, 1), default=None, help="Cosine that makes a row a canary's; 0.95 if not given.")
@options.verb
def verify(
    canaries: str, dumps: tuple[str, ...], recovered: tuple[str, ...], near: float | None, format: str, config: str | None
) -> int:
    """Look for planted secrets in dumps and in recovered texts; the file CANARIES tells which they are.

    Exit code 1 when some are found, 3 when that cannot be told, else 0. Secrets that were made in the same way and never
    planted are looked for too: what finds them is no evidence.
    """
    from crossvec import stores
    from crossvec.audit import canaries as kept

    if not dumps and not recovered:
        raise UsageError("there is nothing to look in", "name a dump with --store, or recovered texts with --recovered")
    planted = kept.read(canaries)
    sightings = [kept.in_rows(planted, stores.open(url).read(), url, kept.NEAR if near is None else near) for url in dumps]
    sightings += [kept.in_texts(planted, _recovered(path), path) for path in recovered]
    verdicts = {one.verdict for one in sightings}
    code = 1 if "found" in verdicts else 3 if "unknown" in verdicts else 0
    record = {"exit_code": code, "planted_on": planted.day, "sightings": [one.to_json() for one in sightings]}
    options.out(format, record, lambda: _plain("\n".join(map(_line, sightings))))
    return code


def _destination(store: str, to: str | None) -> Any:
    """Return where rows are written; raises UsageError for a file that would have to be changed itself."""
    from crossvec import stores
    from crossvec.stores.address import same_place, with_option
    from crossvec.stores.collection import Collection

    if to:
        if to.partition("?")[0] == store.partition("?")[0] or same_place(to, store):
            raise UsageError(f"{to} is the store itself", "name another place for the copy")
        return stores.open(to)
    if isinstance(found := stores.open(store), Collection):
        return found if "mode" in found.address.options else stores.open(with_option(store, "mode=upsert"))
    raise UsageError(f"{store} is a file, which is not changed", "say where the copy with canaries goes: --to copy.parquet")


def _ids(rows: int, like: Space) -> Any:
    """Return what gives ids such as the store's rows have; their numbers where they have none."""
    from crossvec.audit import canaries
    from crossvec.space import python_values

    if like.ids is None:
        return lambda count, _draw: list(range(rows, rows + count))
    whole = all(isinstance(one, int) for one in python_values(like.ids))
    return canaries.whole_numbers if whole and len(like) else canaries.names_of_rows


def _unit_rows(space: Space) -> bool:
    """Tell whether a store's rows have length 1."""
    import numpy as np

    lengths = np.linalg.norm(space.array(), axis=1)
    return bool(len(space)) and bool((abs(lengths - 1) < 1e-3).all())


def _space(planted: Planted, like: Space) -> Space:
    """Return the canaries as rows such as the store's: with ids if those have some, with texts if those have some."""
    from crossvec.space import Space
    from crossvec.texts import TEXT_NAMES

    column = next((name for name in TEXT_NAMES if name in like.columns), None)
    payload = {column: [one.text for one in planted.canaries]} if column else None
    ids: Any = None if like.ids is None else [one.id for one in planted.canaries]
    return Space.of(planted.vectors, ids, payload, like.name)


def _recovered(path: str) -> list[str]:
    """Return the texts of a file: its column of texts, all strings of a JSON file, the lines of any other."""
    from crossvec import texts

    if path.partition("?")[0].endswith(tuple(texts.READERS)):
        return [text for batch in texts.open(path).read() for i, text in enumerate(batch.texts) if i not in batch.bad]
    try:
        told = Path(path).read_text(encoding="utf-8")
        return list(_strings(json.loads(told))) if path.endswith(".json") else told.splitlines()
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror or problem}", "check the path") from None
    except ValueError as problem:
        raise UsageError(f"{path} is no text: {problem}", "give .txt, .json, .jsonl, .csv, .parquet or .md") from None


def _strings(told: Any) -> Iterator[str]:
    if isinstance(told, str):
        yield told
    for inner in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from _strings(inner)


def _plain(told: str) -> Any:
    """Return words as they are: an address may hold brackets, which rich would take for markup."""
    from rich.text import Text

    return Text(told)


def _line(one: Sighting) -> str:
    if one.untold:
        return f"{one.place}: cannot be told: {one.untold}"
    rows = f"{one.looked_at:,} looked at"
    control = f"{one.strangers_seen} of {one.strangers} that were never planted seen"
    if not one.seen:
        return f"{one.place}: no canary found ({rows}; {control})"
    seen = "\n".join(f"  {found.canary.id} ({found.canary.kind}) by its {found.by} at {found.at}" for found in one.seen)
    what = "found" if one.verdict == "found" else "cannot be told: others are seen as often"
    return f"{one.place}: {len(one.seen)} of {one.planted} canaries {what} ({rows}; {control})\n{seen}"


def _inode(dest: Any) -> int | None:
    """Return what tells a file from one that has replaced it; None where there is none."""
    path = getattr(dest, "path", None)
    return Path(path).stat().st_ino if path and Path(path).exists() else None
