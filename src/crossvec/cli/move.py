"""move — the verb migrate: carry a whole store to another model, after saying what that would do.

In    stores, a translator's folder or what one is learned from
Out   a plan; with --run a new store, checked and judged
Uses  migration, stores, encoders, texts, report
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from crossvec.cli import engine, options, progress
from crossvec.errors import StoreError, UsageError

if TYPE_CHECKING:
    from crossvec.encoders import Encoder
    from crossvec.migration import Evidence, Journal
    from crossvec.stores.turns import Turn

LEARNING = ("run", "translator", "target", "output", "effort", "format", "config")
"""Options that the line which follows a plan has no use for."""

EXITS = {"PASS": 0, "FAIL": 1, "WARN": 3}
NOT_SWITCHED = 4  # the gate passed, and the names stayed as they are
NEXT = {
    "PASS": "next: make its index, then point your application at {dest}; {source} is unchanged (docs/migrate.md)",
    "WARN": "next: before you switch to {dest}, measure with texts: --encoder NAME --texts FILE; {source} is unchanged",
    "FAIL": "next: stay with {source}, which is unchanged; teach more (--encoder NAME --texts FILE, --sample), or embed anew",
}
SWITCHED = "next: embed queries of {name} by the new model; the old rows are {aside}, to go back to (docs/migrate.md)"


@click.command(short_help="Carry a store to another model, checked and judged.", epilog=options.STORES)
@click.argument("source")
@click.argument("dest")
@click.option("--run", "--yes", "run", is_flag=True, help="Do it. Without, only tell what would be done.")
@click.option("--translator", metavar="FOLDER", help="A translator from `crossvec fit`.")
@click.option("--target", metavar="STORE", help="Rows of the new model, of any texts, to learn a translator from.")
@click.option("--encoder", metavar="NAME", help="The new model, to embed some texts with; see `crossvec embed`.")
@click.option("--texts", metavar="FILE", help="Texts of some rows, matched by id, or by row number without ids.")
@click.option("--text-field", metavar="NAME", help="The payload field that holds the rows' texts, instead of --texts.")
@click.option("--queries", metavar="STORE", help="Queries as rows of the old model, to measure with instead of rows.")
@click.option("--query-texts", metavar="FILE", help="Queries as texts; needs --encoder and texts of rows.")
@click.option("-o", "--output", metavar="FOLDER", help="Where to keep a translator that is learned.  [default: by DEST's name]")
@click.option("--journal", metavar="FILE", help="Where to note how far it is.  [default: beside the translator]")
@click.option("--min-retention", type=options.Finite(0, 1), default=0.8, show_default=True, help="What the gate asks for.")
@click.option("--sample", type=click.IntRange(24), default=4000, show_default=True, help="Rows to measure with.")
@click.option("--switch", is_flag=True, help="When the gate passes, let SOURCE's name lead to the new rows; the old ones stay.")
@click.option("--in-place", is_flag=True, hidden=True, help="Refused, with the way round.")
@click.option("--force", is_flag=True, help="Go on though the rows do not look like the translator's source.")
@click.option("--send-texts", is_flag=True, help="Allow that texts leave this machine, for a model behind an endpoint.")
@click.option("--download", is_flag=True, help="Fetch the model from the Hugging Face hub if it is not on this machine.")
@click.option("--batch", type=click.IntRange(1), default=8192, show_default=True, help="Rows carried across at a time.")
@options.effort
@options.seed
@options.device
@options.verb
def migrate(
    source: str,
    dest: str,
    run: bool,
    translator: str | None,
    target: str | None,
    encoder: str | None,
    texts: str | None,
    text_field: str | None,
    queries: str | None,
    query_texts: str | None,
    output: str | None,
    journal: str | None,
    min_retention: float,
    sample: int,
    switch: bool,
    in_place: bool,
    force: bool,
    send_texts: bool,
    download: bool,
    batch: int,
    effort: Any,
    seed: int,
    device: str,
    format: str,
    config: str | None,
) -> int:
    """Carry the rows of SOURCE into the space of a new model and write them to DEST, a new store, with their ids and payload.

    Without --run nothing is written to DEST. Killed, the same line goes on where it stopped. With --switch, SOURCE's name
    leads to the new rows in the end, and the old rows stay under another name. Exit code 0 when the gate passes, 1 when it
    fails, 3 when nothing is sure, 4 when names could not be switched.
    """
    from crossvec import migration, report, saved, stores
    from crossvec.migration.journal import Journal
    from crossvec.report import migration as told

    if in_place:
        raise UsageError(
            "crossvec does not migrate in place: a killed run would leave one collection with two models' rows",
            "migrate to a new collection beside the old one, with --switch: then SOURCE's name leads to the new rows",
        )
    if translator and (target or output or engine.given("effort")):
        raise UsageError("--translator says which one to use", "leave --target, --output and --effort out")
    place, there = stores.open(source), stores.open(dest)
    folder = translator or output or _folder(dest)
    path = Path(journal) if journal else Path(f"{folder.rstrip('/')}.migration.json")
    held = Journal.load(path)
    if held is not None and not held.moves(source, dest):
        if not held.rows_written:
            path.unlink()  # nothing came of it
            held = None
        elif not translator:
            raise UsageError(f"{path} is the journal of another migration", "name another with --journal, or another -o")
        else:
            path, held = _own(path, source, dest)
    if held is not None and (turn := migration.switching.resumed(place, there, held, path, may=run and switch)):
        return _resumed(held, turn, folder, path, dest, format)
    learns = not translator and held is None
    if learns:
        saved.check_destination(folder)
    with progress.shown() as step:
        evidence = _evidence(
            None if learns else folder, target if learns else None, encoder, texts, text_field, queries, query_texts,
            {"send_texts": send_texts, "download": download, "device": device},
        )  # fmt: skip
        plan = migration.plan(
            place,
            there,
            evidence,
            rows=sample,
            force=force,
            switch=switch,
            journal=held,
            seed=seed,
            device=device,
            progress=step,
            **({"effort": effort} if learns else {}),
        )
        if learns:
            plan.translator.to("cpu").save(folder)
        if run:
            outcome = migration.migrate(place, there, plan, path, least=min_retention, batch=batch, progress=step)
    if not run:
        record = told.planned_record(plan, min_retention, folder, str(path)) | _names(plan.switch)
        options.out(format, record, lambda: told.planned(plan, min_retention))
        if format == "text":
            options.advise(f"nothing was written to {dest}")
            words = ("crossvec", "migrate", source, dest, "--translator", folder, *_asked(), "--run")
            options.advise(str(report.following(" ".join(map(shlex.quote, words)))))
        return EXITS[plan.gate(min_retention)]
    names = _names(plan.switch, outcome.switched, outcome.unswitched)
    options.out(
        format,
        told.migrated_record(outcome, min_retention, folder, str(path)) | names,
        lambda: told.migrated(outcome, min_retention),
    )
    if format == "text":
        if outcome.unswitched:
            options.advise(f"not switched: {outcome.unswitched}")
        if outcome.switched and plan.switch:
            options.advise(f"switched: {plan.switch.how}\n{_switched(plan.switch)}")
        elif not outcome.unswitched or outcome.gate != "PASS":
            options.advise(NEXT[outcome.gate].format(source=source, dest=dest))
    return NOT_SWITCHED if outcome.unswitched and outcome.gate == "PASS" else EXITS[outcome.gate]


def _resumed(journal: Journal, turn: Turn, folder: str, path: Path, dest: str, format: str) -> int:
    """Tell that the names are switched, by this run or an earlier one, and of the migration what the journal knows."""
    from crossvec.report import migration as told

    record = {
        "dry_run": False,
        **{name: getattr(journal, name) for name in ("rows_read", "rows_written", "skipped", "skipped_rows")},
        "retention": told.NOTHING,
        "gate": "PASS",
        "dest": dest,
        "translator": folder,
        "journal": str(path),
        **_names(turn, True),
    }
    done = (
        f"{turn.name} leads to the {journal.rows_written:,} new rows, and the old ones are {turn.aside}: nothing is left to do"
    )
    options.out(format, record, done)
    if format == "text":
        options.advise(_switched(turn))
        options.advise(f"to migrate {turn.name} to yet another model, name another -o or --journal")
    return EXITS["PASS"]


def _switched(turn: Turn) -> str:
    return SWITCHED.format(name=turn.name, aside=turn.aside)


def _names(turn: Turn | None, switched: bool = False, why: str = "") -> dict[str, Any]:
    """Return what a record tells of the names: null when nobody asked to switch them."""
    if turn is None:
        return {"switch": None}
    return {
        "switch": {"name": turn.name, "old_rows": turn.aside, "how": turn.how, "switched": switched, "why_not": why or None}
    }


def _asked() -> list[str]:
    """Return the options that were given, but those which a translator that is there now replaces."""
    context, words = click.get_current_context(), []
    for option in context.command.params:
        name, source = option.name or "", context.get_parameter_source(option.name or "")
        if name in LEARNING or source not in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP):
            continue
        if isinstance(option, click.Option):
            words += [option.opts[0], *([] if option.is_flag else [str(context.params[name])])]
    return words


def _folder(dest: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", dest.partition("?")[0].rstrip("/").rpartition("/")[2]).strip("-.")
    return f"{name or 'migration'}-translator"


def _own(path: Path, source: str, dest: str) -> tuple[Path, Journal | None]:
    """Return the journal of this migration beside that of another by the same translator."""
    import hashlib

    from crossvec.migration.journal import Journal, place_of

    mark = hashlib.sha256(f"{place_of(source)}\n{dest}".encode()).hexdigest()[:8]
    path = path.with_name(f"{path.name.removesuffix('.json')}.{mark}.json")
    return path, Journal.load(path)


def _evidence(
    folder: str | None,
    target: str | None,
    encoder: str | None,
    texts: str | None,
    text_field: str | None,
    queries: str | None,
    query_texts: str | None,
    allowed: dict[str, Any],
) -> Evidence:
    from crossvec import encoders
    from crossvec import texts as files
    from crossvec.migration import Evidence
    from crossvec.translator import Translator

    if (texts or text_field or query_texts) and not encoder:
        raise UsageError("texts need a model to embed them with", "name the new model: --encoder NAME")
    if texts and text_field:
        raise UsageError("--texts and --text-field say two different things", "use one of them")
    model: Encoder | None = encoders.open(encoder, **allowed) if encoder else None
    rows = options.opened(queries) if queries else None
    return Evidence(
        Translator.load(folder) if folder else None,
        options.opened(target) if target else None,
        model,
        files.open(texts) if texts else None,
        text_field,
        None if rows is None else rows.array(),
        tuple(_texts(query_texts)) if query_texts else (),
    )


def _texts(url: str) -> list[str]:
    from crossvec import texts as files

    found = [text for batch in files.open(url).read() for row, text in enumerate(batch.texts) if row not in batch.bad]
    if not found:
        raise StoreError(f"{url} holds no texts", "name a file with at least one")
    return found
