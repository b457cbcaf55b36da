"""texts — the verb that makes vectors: embed a file of texts into a store.

In    a file of texts, a model's name
Out   a store with the texts' rows, ids and payload
Uses  texts, encoders, stores, report
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import engine as work
from crossvec.cli import options, progress
from crossvec.errors import UsageError

if TYPE_CHECKING:
    from crossvec.encoders import Encoder, Estimate
    from crossvec.space import Space
    from crossvec.texts import Texts


@click.command(short_help="Embed a file of texts into a store.", epilog=options.STORES)
@click.argument("texts")
@click.argument("store")
@click.option("-m", "--model", required=True, help="minilm, wordllama, a model's folder, …; `crossvec plugins` lists kinds.")
@click.option("--cache", metavar="FOLDER", help="Keep rows here; the same line, run again, goes on where it stopped.")
@click.option("--send-texts", is_flag=True, help="Allow that the texts leave this machine, for a model behind an endpoint.")
@click.option("--download", is_flag=True, help="Fetch the model from the Hugging Face hub if it is not on this machine.")
@click.option("--dry-run", is_flag=True, help="Only tell what it would take: texts, tokens, cost.")
@click.option("--batch", type=click.IntRange(1), default=2048, show_default=True, help="Texts taken at a time.")
@options.device
@work.choice
@options.verb
def embed(
    texts: str,
    store: str,
    model: str,
    cache: str | None,
    send_texts: bool,
    download: bool,
    dry_run: bool,
    batch: int,
    device: str,
    engine: work.Choice,
    format: str,
    config: str | None,
) -> int:
    """Embed the texts in TEXTS with a model and write the rows to STORE, with their ids and payload.

    TEXTS is a .txt file, a text a line, or a .jsonl, .csv, .tsv or .parquet file; ?column=NAME chooses its column of texts.
    It may be a folder of such files, or a pattern; STORE is then a folder, which gets a Parquet shard for each, or a database.
    """
    from crossvec import encoders, report, stores
    from crossvec import texts as files

    started = time.perf_counter()
    options.refuse_itself(texts, store)
    if engine.in_pieces(texts):
        if dry_run:
            raise UsageError("--dry-run tells of one file", "use --plan for work in pieces")
        from crossvec.scale.job import embedding

        if engine.memory and not (engine.ray or engine.plan):
            hint = "leave it out; --batch says how many texts are taken at a time"
            raise UsageError("--memory is what Ray sets aside for a worker: what a model needs is not known before", hint)
        allowed = {"send_texts": send_texts, "download": download}
        model_here = encoders.open(model, device=device, **allowed)
        job = embedding(
            model_here,
            texts,
            store,
            rows=engine.shard_rows,
            batch=batch,
            limit=engine.limit(),
            ledger=engine.ledger,
            device=engine.device(device),
            cache=cache,
            allowed=allowed,
        )
        return engine.do(job, store, format, device)
    dest, source = stores.open(store), files.open(texts)
    rows = source.rows()
    if not rows:
        raise UsageError(f"{texts} holds no texts", "name a file with at least one")
    encoder = encoders.open(model, send_texts=send_texts, download=download, device=device)
    if cache and not (dry_run and not Path(cache).is_dir()):  # a dry run makes no folder
        from crossvec.encoders.cache import Cached

        encoder = Cached(encoder, cache)
    if dry_run:
        estimate = _estimate(source, encoder, batch)
        told = {"dry_run": True, "rows": rows, "to_encode": estimate.texts, **_costs(estimate), "dest": store, "model": model}
        options.out(format, told, lambda: _told(rows, estimate))
        return 0
    if isinstance(encoder, encoders.Metered) and send_texts:
        options.advise(_told(rows, _estimate(source, encoder, batch)))
    skipped: list[int] = []
    dims: set[int] = set()
    with progress.shown() as step:
        spaces = files.embed(source.read(batch), encoder, rows=rows, drop=source.drops, progress=step)
        written = dest.write(_noted(spaces, skipped, dims))
    if skipped:
        options.advise(f"left out {len(skipped):,} of {rows:,} rows: no text, or none that the model knows")
    record = {
        "rows": written,
        "dim": max(dims),
        "seconds": round(time.perf_counter() - started, 3),
        "dest": store,
        "model": model,
        "cached": getattr(encoder, "hits", 0),
        "skipped": skipped,
    }
    options.out(format, record, lambda: report.translated(record))
    return 0


def _noted(spaces: Iterable[Space], skipped: list[int], dims: set[int]) -> Iterator[Space]:
    """Pass the spaces through, and note their dimension and the rows that were left out."""
    for space in spaces:
        skipped.extend(space.dropped)
        dims.add(space.dim)
        yield space


def _estimate(source: Texts, encoder: Encoder, batch: int) -> Estimate:
    """Return what embedding the file would take; costs nothing and sends nothing."""
    from crossvec.encoders import Estimate, Metered

    total = Estimate()
    for part in source.read(batch):
        good = [text for i, text in enumerate(part.texts) if i not in part.bad]
        total += encoder.estimate(good) if isinstance(encoder, Metered) else Estimate(len(good))
    return total


def _costs(estimate: Estimate) -> dict[str, Any]:
    return {key: value for key, value in asdict(estimate).items() if key != "texts"}


def _told(rows: int, estimate: Estimate) -> str:
    told = f"{estimate.texts:,} of {rows:,} texts to encode"
    if not estimate.requests:
        return f"{told}, on this machine"
    price = "price unknown: give ?price=, US dollars per million tokens" if estimate.usd is None else f"${estimate.usd:.4f}"
    return f"{told}: {estimate.requests:,} requests, about {estimate.tokens:,} tokens, {price}"
