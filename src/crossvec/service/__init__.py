"""service — translators over HTTP: rows in, rows out, and OpenAI's embeddings API in the space of an old index.

In    a Catalogue of translators by name, Limits, perhaps a key
Out   an ASGI application; a server that runs until a signal stops it
Uses  translator, query, encoders; fastapi, uvicorn, prometheus-client, orjson (the extra `serve`), once something is served

    catalogue   which translators there are, under which names, and with which models they embed
    refusal     an answer that says no: a status and one JSON shape
    limits      how much may be asked: bytes, rows, requests at once
    bodies      rows from and to .npy and JSON             embeddings   OpenAI's request and answer
    pools       where numbers are worked on, off the event loop
    metrics     what Prometheus is told                    gate         what stands before every route
    app         the routes                                 running      socket, signals, log
"""

from __future__ import annotations

from crossvec.encoders import missing

__all__ = ["check_installed"]


def check_installed() -> None:
    """Raise MissingExtraError, with the install line, when the extra `serve` is not there."""
    try:
        import fastapi  # noqa: F401
        import orjson  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as absent:
        raise missing("crossvec serve", absent.name or "fastapi", "serve") from None
