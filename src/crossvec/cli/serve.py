"""serve — the verb that answers over HTTP: translators, and texts embedded into an old index's space.

In    translators' folders, models, limits; the key in CROSSVEC_API_KEY
Out   the service's address, then answers until a signal
Uses  service
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import options
from crossvec.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crossvec.service.catalogue import Catalogue

STOPPED, CUT_SHORT = 0, 4
KEY = "CROSSVEC_API_KEY"


@click.command(short_help="Answer over HTTP: vectors, and OpenAI's embeddings API.")
@click.argument("folders", metavar="[NAME=]FOLDER…", nargs=-1, required=True)
@click.option("-m", "--model", "models", multiple=True, metavar="[NAME=]MODEL", help="Embed texts with this model; repeatable.")
@click.option("--inverse", is_flag=True, help="Serve each translator from its target space back to its source space.")
@click.option("--force", is_flag=True, help="Serve a translator even if it is judged `failed`.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 for all the network.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any that is free.")
@click.option("--max-body", type=options.Finite(0, min_open=True), default=32, show_default=True, help="MiB a request.")
@click.option("--max-rows", type=click.IntRange(1), default=4096, show_default=True, help="Rows, or texts, a request.")
@click.option("--max-requests", type=click.IntRange(1), default=64, show_default=True, help="Requests at once.")
@click.option("--threads", type=click.IntRange(1), help="Translations side by side; all cores unless told.")
@click.option(
    "--grace", type=click.IntRange(1), default=25, show_default=True, help="Seconds to finish after a signal to stop."
)
@click.option("--send-texts", is_flag=True, help="Allow that texts leave this machine, for a model behind an endpoint.")
@click.option("--download", is_flag=True, help="Fetch the model from the Hugging Face hub if it is not on this machine.")
@options.device
@options.verb
def serve(
    folders: tuple[str, ...],
    models: tuple[str, ...],
    inverse: bool,
    force: bool,
    host: str,
    port: int,
    max_body: float,
    max_rows: int,
    max_requests: int,
    threads: int | None,
    grace: int,
    send_texts: bool,
    download: bool,
    device: str,
    format: str,
    config: str | None,
) -> int:
    """Serve translators over HTTP until Ctrl-C or SIGTERM.

    A translator is reached by its folder's name, or by NAME. With a model, texts are embedded and carried into the target
    space, as OpenAI's API does it. Who asks must send the key that is in CROSSVEC_API_KEY, if there is one.
    """
    from crossvec import service

    service.check_installed()
    import torch

    from crossvec.service import app, catalogue, limits, running

    if not models and (send_texts or download):
        raise UsageError("--send-texts and --download are for a model that embeds texts", "add -m MODEL, or leave them out")
    key = _key()
    if not (key or running.here_only(host)):
        options.advise(f"warning: whoever can reach {host} may use this service: put a key into {KEY}")
    served = catalogue.opened(
        folders, models, inverse=inverse, force=force, device=device, send_texts=send_texts, download=download
    )
    for doubt in served.doubts():
        options.advise(doubt)
    bounds = limits.Limits(int(max_body * limits.MIB), max_rows, max_requests)
    answers = app.application(served, bounds, threads=threads or torch.get_num_threads(), key=key)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    listening, url = running.bind(host, port)
    record = {"url": url, "key": key is not None, "translators": [one.to_json() for one in served]}
    options.out(format, record, lambda: _told(url, served))
    if running.run(running.Server(answers, grace), listening):
        options.advise("stopped; everything that was asked is answered")
        return STOPPED
    options.advise("stopped; what took too long was not finished")
    return CUT_SHORT


def _key() -> str | None:
    """Return the key that clients must send, and take it out of the environment: it is for them, and for no endpoint."""
    given = os.environ.pop(KEY, None)
    if given is not None and not given.strip():
        raise UsageError(f"{KEY} is empty", f"put a key into it, or unset {KEY} to serve without one")
    return given and given.strip()


def _told(url: str, served: Catalogue) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("serving", url, "(Ctrl-C stops it)")
    for one in served:
        frames: Any = one.translator.source.dim, one.translator.target.dim
        texts = f", texts by {one.query.encoder.name}" if one.query else ""
        table.add_row("", one.name, f"{frames[0]:,} -> {frames[1]:,} dimensions, {one.status}{texts}")
    return table
