"""cli — the command line: one verb per public function, results on stdout, progress and advice on stderr.

In    arguments, or a TOML file of them
Out   a report, and an exit code: 0 fine, 1 a gate failed, 2 wrong usage, 3 inconclusive, 4 could not finish
Uses  everything below, but only once a verb runs: `crossvec --help` loads neither torch nor numpy
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from crossvec import __version__
from crossvec.cli import align, audit, canary, exits, look, move, serve, texts, tour
from crossvec.cli.options import Verbs

__all__ = ["cli", "main"]


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with  crossvec demo .  Exit codes: 0 fine, 1 gate failed, 2 wrong usage, 3 inconclusive, 4 could not finish.",
)
@click.version_option(__version__, "--version", message="crossvec %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Translate embeddings between models without paired data.

    A store is a file of vectors (.npy, .npz, .parquet, .arrow, .safetensors, .jsonl, .fvecs, .h5), or a database by its
    address: qdrant://host:6333/books, pgvector://me@host/db/table, chroma:///folder/books, … `crossvec plugins` lists all of
    them, docs/stores.md says how each is addressed. A slice of the rows may follow wherever one is named:
    vectors.npy?rows=0:36000.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


MAIN_JOB = (
    look.inspect,
    look.compare,
    align.fit,
    align.translate,
    align.evaluate,
    texts.embed,
    move.migrate,
    audit.audit,
    audit.defend,
    canary.canary,
    serve.serve,
)
for verb in (tour.demo, *MAIN_JOB, look.plugins):
    cli.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    exits.stop_politely()
    sys.exit(exits.run(cli, sys.argv[1:] if arguments is None else list(arguments)))
