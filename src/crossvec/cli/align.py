"""align — the verbs of the main job: fit a translator, translate a store with it, evaluate it on known pairs.

In    stores, a translator's folder
Out   a translator's folder, a store, scores
Uses  stores, fitting, translator, evaluation, report
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import engine as work
from crossvec.cli import options, progress
from crossvec.errors import UsageError

if TYPE_CHECKING:
    from crossvec.space import Space

ALIGNED, INCONCLUSIVE = 0, 3


@click.command(short_help="Learn a translator from two spaces, without pairs.", epilog=options.STORES)
@click.argument("source")
@click.argument("target")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where to save the translator.")
@click.option("-a", "--aligner", default="auto", show_default=True, help="One of `crossvec plugins`; auto chooses.")
@click.option("--pairs", metavar="FILE", help="Known pairs: two columns of ids or row numbers (.csv, .jsonl, .parquet, .npy).")
@options.paired
@click.option(
    "--carries",
    type=click.Choice(["rows", "queries", "both"]),
    default="both",
    show_default=True,
    help="What you will translate: rows that new queries search, or queries. With known pairs auto chooses by that search.",
)
@click.option("--max-rows", type=click.IntRange(2), default=50_000, show_default=True, help="Look at this many rows a side.")
@options.settings
@options.effort
@options.seed
@options.device
@options.verb
def fit(
    source: str,
    target: str,
    output: str,
    aligner: str,
    pairs: str | None,
    paired: bool,
    carries: Any,
    max_rows: int,
    settings: dict[str, Any],
    effort: Any,
    seed: int,
    device: str,
    format: str,
    config: str | None,
) -> int:
    """Learn to translate the vectors of SOURCE into the space of TARGET, and judge whether it worked.

    No pairs are needed. Exit code 0 when the verdict is `aligned`, or with known pairs when those held out say so; 3
    otherwise. The folder is written either way.
    A store, or a folder of Parquet shards, of more than --max-rows rows is sampled: every set of that many rows is equally
    likely, and no more are held.
    """
    from crossvec import fitting, report, saved

    if paired and pairs:
        raise UsageError("--paired and --pairs say two different things", "use one of them")
    saved.check_destination(output)
    if paired or pairs:
        one, other = options.opened(source), options.opened(target)
    else:
        one, other = _drawn(source, max_rows, seed), _drawn(target, max_rows, seed)
    known = _known(one, other, pairs, paired)
    with progress.shown() as step:
        translator = fitting.fit(
            one,
            other,
            aligner,
            pairs=known,
            carries=carries,
            effort=effort,
            seed=seed,
            settings=settings,
            device=device,
            max_rows=max_rows,
            progress=step,
        )
    translator.save(output)
    options.out(format, report.fitted_record(translator, output), lambda: report.fitted(translator, output))
    return ALIGNED if translator.status == "aligned" else INCONCLUSIVE


@click.command(short_help="Carry a store across.", epilog=options.STORES)
@click.argument("folder")
@click.argument("source")
@click.argument("dest")
@click.option("--inverse", is_flag=True, help="Go from the target space back to the source space.")
@click.option("--batch", type=click.IntRange(1), default=8192, show_default=True, help="Rows carried across at a time.")
@options.device
@work.choice
@options.verb
def translate(
    folder: str,
    source: str,
    dest: str,
    inverse: bool,
    batch: int,
    device: str,
    engine: work.Choice,
    format: str,
    config: str | None,
) -> int:
    """Write the vectors of SOURCE, translated by the translator in FOLDER, to DEST; ids and payload come along.

    SOURCE may be a folder of Parquet shards, or a pattern such as 'shards/*.parquet'; DEST is then a folder, which gets a
    shard for each, or a database. The same line, run again, does what is not done yet. A file that is at
    DEST already is replaced when the new one is whole.
    """
    from crossvec import report, stores
    from crossvec.machine import pick_device
    from crossvec.translator import Translator

    started = time.perf_counter()
    translator = Translator.load(folder)
    translator = translator.inverse() if inverse else translator
    options.refuse_itself(source, dest)
    if engine.in_pieces(source):
        from crossvec.scale.job import translation

        job = translation(
            translator,
            source,
            dest,
            rows=engine.shard_rows,
            batch=work.given("batch"),
            limit=engine.limit(),
            ledger=engine.ledger,
            device=engine.device(device),
        )
        return engine.do(job, dest, format, device)
    translator = translator.to(pick_device(device))
    store = stores.open(source)
    rows = store.describe().rows
    with progress.shown() as step:
        read = progress.Counted(store.read(batch), rows, step)
        written = stores.open(dest).write(translator.stream(read))
    skipped = {"count": read.dropped, "rows": read.first_dropped}
    record = {"rows": written, "seconds": round(time.perf_counter() - started, 3), "dest": dest, "skipped": skipped}
    if read.dropped:
        options.advise(f"note: left out of {source}, {options.dropped_rows(read.dropped, read.first_dropped)}")
    options.out(format, record, lambda: report.translated(record))
    return 0


@click.command(short_help="Score a translator on known pairs.", epilog=options.STORES)
@click.argument("folder")
@click.argument("source")
@click.argument("target")
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="Also tell how often a match is among K.")
@options.seed
@options.device
@work.spread
@options.verb
def evaluate(
    folder: str,
    source: str,
    target: str,
    k: int,
    seed: int,
    device: str,
    engine: work.Choice,
    format: str,
    config: str | None,
) -> int:
    """Score the translator in FOLDER on known pairs: row i of SOURCE and row i of TARGET are one text.

    With --engine ray the search of the pool is cut into blocks, over workers; the scores are the same.
    """
    from crossvec import evaluation, report
    from crossvec.machine import pick_device
    from crossvec.translator import Translator

    if not engine.ray:
        engine.refuse(("ray_address", "workers"))
    translator = Translator.load(folder).to(pick_device(device))
    one, other = options.opened(source), options.opened(target)
    with progress.shown() as step:
        if engine.ray:
            from crossvec.scale import scoring

            workers = engine.opened(shared=8 * len(one) * (one.dim + other.dim))
            scores = scoring.evaluate(translator, one, other, workers, k=k, seed=seed, progress=step)
        else:
            scores = evaluation.evaluate(translator, one, other, k=k, seed=seed, progress=step)
    options.out(format, scores.to_json(), lambda: report.scores(scores))
    return 0


def _drawn(url: str, most: int, seed: int) -> Space:
    """Return a store's rows, or `most` of them drawn from all; a folder or a pattern is its shards in a row."""
    from crossvec import stores
    from crossvec.scale import shards
    from crossvec.stores.sampling import uniform

    found = shards.addresses_of(url)
    places = [stores.open(one) for one in found or [url]]
    # Rows that are mapped need not pass by: only what is drawn of them is ever read.
    if found is None and (getattr(places[0], "mapped", False) or places[0].describe().rows <= most):
        return options.opened(url)
    space = uniform(places, most, seed)
    if space.dropped:
        options.advise(f"note: left out of {url}, {options.dropped_rows(len(space.dropped), space.dropped)}")
    options.advise(f"note: {len(space):,} rows drawn from {sum(place.describe().rows for place in places):,} of {url}")
    return space


def _known(one: Space, other: Space, pairs: str | None, paired: bool) -> Any:
    """Return the known pairs as row numbers (p, 2), or None."""
    if paired:
        from crossvec.pairing import partners

        return partners(one, other)
    if pairs:
        from crossvec.cli import pairs as files

        known, left_out = files.read(pairs, one, other)
        if left_out:
            options.advise(f"note: {left_out:,} of the pairs in {pairs} were left out: a row of theirs is bad")
        return known
    return None
