"""app — the routes: what can be asked of the service, and who answers it.

In    a Catalogue, Limits, a key
Out   an ASGI application (FastAPI)
Uses  catalogue, limits, bodies, embeddings, pools, metrics, gate; fastapi
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from crossvec import __version__
from crossvec.encoders import Metered
from crossvec.errors import CrossvecError, UnfinishedError
from crossvec.query import QueryEncoder
from crossvec.service import bodies, embeddings
from crossvec.service.catalogue import Catalogue, Served
from crossvec.service.gate import Gate
from crossvec.service.limits import Limits, Room, read_body
from crossvec.service.metrics import Metrics
from crossvec.service.pools import Pool, lane, side_by_side
from crossvec.service.refusal import Refusal

__all__ = ["Service", "application"]

log = logging.getLogger("crossvec.service")
router = APIRouter()


@dataclass(eq=False)
class Service:
    """What the routes share. `stopping` is set once the server has been told to stop."""

    catalogue: Catalogue
    limits: Limits
    threads: int
    stopping: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    room: Room = field(init=False)
    cores: Pool = field(init=False)
    lanes: dict[int, Pool] = field(init=False)

    def __post_init__(self) -> None:
        self.room, self.cores = Room(self.limits.requests), side_by_side(self.threads)
        models = {id(one.query.encoder): one.query.encoder for one in self.catalogue if one.query}
        self.lanes = {number: lane(waits=isinstance(model, Metered)) for number, model in models.items()}
        for one in self.catalogue:
            self.metrics.served(one.name, one.translator.source.dim, one.translator.target.dim, one.status)


def application(catalogue: Catalogue, limits: Limits | None = None, *, threads: int = 1, key: str | None = None) -> FastAPI:
    """Return the application that serves a catalogue; with a key, only to who sends it. `threads` translate side by side."""
    # The pages that FastAPI draws of an API fetch their scripts from elsewhere; /openapi.json is served. A path with one
    # slash too many is no path of ours: a redirect would have a body of megabytes sent twice.
    app = FastAPI(title="crossvec", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    service = app.state.service = Service(catalogue, limits or Limits(), threads)
    app.include_router(router)
    app.add_middleware(Gate, key=key, room=service.room, metrics=service.metrics)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(CrossvecError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    return app


def _body_of(schema: dict[str, Any], *more: str) -> dict[str, Any]:
    """Return what the API's description says of a body that the route reads itself."""
    binary = {media: {"schema": {"type": "string", "format": "binary"}} for media in more}
    return {"requestBody": {"required": True, "content": {bodies.JSON: {"schema": schema}, **binary}}}


@router.post("/v1/translate/{name}", openapi_extra=_body_of(bodies.Vectors.model_json_schema(), bodies.NPY))
async def translate(request: Request, name: str) -> Response:
    """Carry rows of the source model into the target's space; the answer has the form of the question, JSON or .npy."""
    service: Service = request.app.state.service
    served = service.catalogue.named(name)
    form = bodies.form_of(request.headers.get("content-type", ""))
    body = await read_body(request, service.limits)
    answer, rows = await service.cores.run(_translated, served, form, body, service.limits)
    service.metrics.translated(name, "translate", rows)
    return Response(answer, media_type=form.media)


@router.post("/v1/embeddings", openapi_extra=_body_of(embeddings.Asked.model_json_schema()))
async def embed(request: Request) -> Response:
    """Embed texts with the new model and answer in the old index's space, as OpenAI's API does; `model` names a translator."""
    service: Service = request.app.state.service
    if bodies.form_of(request.headers.get("content-type", "")).media != bodies.JSON:
        raise Refusal(415, "unknown_media_type", "texts travel as JSON", f"send Content-Type: {bodies.JSON}")
    asked = embeddings.read(await read_body(request, service.limits), service.limits)
    served, query = service.catalogue.embedding(asked.model)
    if asked.dimensions not in (None, query.dim):
        told = f"{served.name} answers {query.dim:,} dimensions, those of its index"
        raise Refusal(422, "wrong_dimension", told, "leave dimensions out")
    answer = await service.lanes[id(query.encoder)].run(_embedded, query, asked)
    service.metrics.translated(served.name, "embeddings", len(asked.texts))
    return Response(answer, media_type=bodies.JSON)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the translators."""
    return {"object": "list", "data": [one.to_json() for one in request.app.state.service.catalogue]}


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """Describe one translator."""
    service: Service = request.app.state.service
    return service.catalogue.named(name).to_json()


@router.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Say that the process lives; answered by the event loop, so it also says that this is not held up."""
    return {"status": "ok"}


@router.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
async def readyz(request: Request) -> Response:
    """Say whether another request would be taken: 503 when all places are taken, or the server is stopping."""
    service: Service = request.app.state.service
    status = "stopping" if service.stopping else "ready" if service.room.free else "full"
    return JSONResponse({"status": status}, 200 if status == "ready" else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Tell Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _translated(served: Served, form: bodies.Form, body: bytes, limits: Limits) -> tuple[bytes, int]:
    """Return the answer to a body of rows, and how many they were; runs in a thread."""
    rows = form.read(body, served.translator.source.dim, limits)
    return form.write(served.translator.translate(rows), served.name), len(rows)


def _embedded(query: QueryEncoder, asked: embeddings.Asked) -> bytes:
    """Return the answer to a request for embeddings; runs in a thread."""
    try:
        rows = query.encode(asked.texts, query=asked.input_type != "document")
    except CrossvecError as problem:
        # An endpoint's refusal is about the service's key, address or quota, which are none of the client's business.
        if isinstance(problem, UnfinishedError) or isinstance(query.encoder, Metered):
            log.error("the model %s could not embed: %s", query.encoder.name, type(problem).__name__)
            raise Refusal(502, "model_failed", "the model behind this service could not embed the texts", "ask again") from None
        raise
    return embeddings.answer(asked, rows, embeddings.usage(query.encoder, asked.texts))


async def _refused(_request: Request, problem: Exception) -> Response:
    """Return any refusal in the one shape."""
    if isinstance(problem, HTTPException):
        hint = "GET /openapi.json lists what there is" if problem.status_code in (404, 405) else ""
        problem = Refusal(problem.status_code, "no_such_route", str(problem.detail), hint, problem.headers)
    elif isinstance(problem, CrossvecError):
        problem = Refusal.of(problem)
    assert isinstance(problem, Refusal)
    return problem.response()
