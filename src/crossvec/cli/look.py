"""look — the verbs that change nothing: inspect one space, compare two, list what is installed.

In    stores
Out   what a space is like, how alike two are, what can be named
Uses  stores, diagnostics, aligners, report
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

import click

from crossvec.cli import options, progress
from crossvec.errors import SettingError

EXTRAS = {
    "gromov": ("ot", "ot"),
    "sinkhorn": ("ot", "ot"),
    "emd": ("ot", "ot"),
    ".h5": ("hdf5", "h5py"),
    ".hdf5": ("hdf5", "h5py"),
    "minilm": ("encoders", "sentence_transformers"),
    "wordllama": ("encoders", "wordllama"),
    "sentence-transformers": ("encoders", "sentence_transformers"),
    "static": ("static", "model2vec"),
    "openai": ("openai", "openai"),
    "chroma": ("chroma", "chromadb"),
    "duckdb": ("duckdb", "duckdb"),
    "elasticsearch": ("elasticsearch", "elasticsearch"),
    "faiss": ("faiss", "faiss"),
    "lancedb": ("lancedb", "lancedb"),
    "milvus": ("milvus", "pymilvus"),
    "opensearch": ("opensearch", "opensearchpy"),
    "pgvector": ("pgvector", "psycopg"),
    "pinecone": ("pinecone", "pinecone"),
    "qdrant": ("qdrant", "qdrant_client"),
    "qdrant-edge": ("qdrant-edge", "qdrant_edge"),
    "redis": ("redis", "redis"),
    "sqlite": ("sqlite", "apsw"),
    "weaviate": ("weaviate", "weaviate"),
}
"""The optional extra that a built-in needs, and the package by which we see that it is installed."""


@click.command(short_help="What one space is like.", epilog=options.STORES)
@click.argument("store")
@click.option(
    "--sample", type=click.IntRange(2), default=100_000, show_default=True, help="Read the vectors of this many rows."
)
@options.seed
@options.verb
def inspect(store: str, sample: int, seed: int, format: str, config: str | None) -> int:
    """Tell what STORE holds, and what its vectors are like: norms, anisotropy, spectrum, duplicates, likely quantisation.

    What a database tells of itself needs no vectors: rows, dimension, metric, ids, payload, named vectors. The rest is measured
    on rows from all over it, at most --sample of them.
    """
    from crossvec import diagnostics, report, stores
    from crossvec.stores import sampling

    place = stores.open(store)
    with progress.shown() as step, sampling.opened(place):
        told = place.describe()
        step("reading a sample", 0.0)
        space = sampling.drawn(place, told.rows, sample, seed)
        step("looking", 0.5)
        profile = diagnostics.inspect(space, rows=told.rows - len(space.dropped), seed=seed) if len(space) > 1 else None
    if space.dropped:
        options.advise(f"note: left out of {store}, {options.dropped_rows(len(space.dropped), space.dropped)}")
    options.out(format, report.profile_record(told, profile), lambda: report.profile(told, profile))
    return 0


@click.command(short_help="How alike two spaces are.", epilog=options.STORES)
@click.argument("a")
@click.argument("b")
@options.paired
@click.option(
    "--trial/--no-trial", default=None, help="Try a short search, seconds to a minute; the default is to, without pairs."
)
@options.seed
@options.verb
def compare(a: str, b: str, paired: bool, trial: bool | None, seed: int, format: str, config: str | None) -> int:
    """Measure how alike the spaces in A and B are, and whether a fit without pairs looks feasible."""
    from crossvec import diagnostics, report

    one, other = options.opened(a), options.opened(b)
    with progress.shown() as step:
        likeness = diagnostics.compare(one, other, paired=paired or None, trial=trial, seed=seed, progress=step)
    options.out(format, likeness.to_json(), lambda: report.likeness(likeness))
    return 0


@click.command(short_help="What can be named: aligners, stores, encoders, probes.")
@click.argument("aligner", required=False)
@options.settings
@options.verb
def plugins(aligner: str | None, settings: dict[str, Any], format: str, config: str | None) -> int:
    """List the aligners, stores, encoders and probes that can be named, where they come from and what they still need.

    With the name of an ALIGNER, tell what it is and its settings: the value of each that a fit with these -s takes.
    """
    from crossvec import aligners, encoders, report, stores
    from crossvec.audit.probes import PROBES

    if aligner:
        told = aligners.about(aligner, settings)
        options.out(format, told, lambda: report.aligner(told))
        return 0
    if settings:
        raise SettingError("-s is of an aligner", "name it: crossvec plugins vec2vec -s preset=full")
    kinds = {
        "aligners": _listed(aligners.ALIGNERS, "crossvec.aligners"),
        "stores": _listed({**stores.STORES, **stores.DATABASES}, "crossvec.stores"),
        "encoders": _listed(encoders.ENCODERS, "crossvec.encoders"),
        "probes": _listed(PROBES, "crossvec.probes"),
    }
    options.out(format, kinds, lambda: report.plugins(kinds))
    return 0


def _listed(built_in: dict[str, str], group: str) -> list[dict[str, Any]]:
    """Return every name of a kind with its origin; a built-in wins over a plugin of the same name."""
    rows = []
    for name in built_in:
        extra, package = EXTRAS.get(name, (None, None))
        rows.append({"name": name, "origin": "crossvec", "extra": extra, "installed": not package or _present(package)})
    for entry in sorted(entry_points(group=group)):
        if entry.name not in built_in:
            rows.append({"name": entry.name, "origin": _origin(entry), "extra": None, "installed": True})
    return rows


def _present(package: str) -> bool:
    return find_spec(package) is not None


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
