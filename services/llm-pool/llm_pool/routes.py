"""The HTTP endpoints: parse, call, report."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.types import Receive

from llm_pool import __version__
from llm_pool.account import Account
from llm_pool.failures import RequestError, log_fault
from llm_pool.problems import problem, problem_of
from llm_pool.state import PoolState
from shared.contract import (
    PROBLEM_MEDIA_TYPE,
    CompletionRequest,
    CompletionResponse,
    Health,
    ProblemCode,
)

_log = logging.getLogger(__name__)

MAX_DETAILS = 5
"""How many faults of a malformed request are named."""

CLIENT_GONE = 499
"""Status of the answer that nobody reads, as nginx logs it."""

router = APIRouter()
"""All endpoints."""


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
"""Headers that answers of a status may have."""


def _problem_docs(*statuses: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": text,
            "headers": _HEADERS.get(status, {}),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}},
        }
        for status, text in statuses
    }


@router.post(
    "/complete",
    summary="Ask a model group for a reply",
    response_model=CompletionResponse,
    openapi_extra={
        "security": [{"token": []}, {}],  # a pool may have no token
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CompletionRequest"}}},
        },
    },
    responses=_problem_docs(
        (400, "The body is no JSON"),
        (401, "No bearer token, or a wrong one"),
        (404, "No such model group"),
        (408, "The body did not arrive in time"),
        (413, "The body is over the limit"),
        (422, "The request is malformed; unknown fields are refused"),
        (429, "Too many completions under way; Retry-After says when to return"),
        (500, "A fault of the pool itself"),
        (503, "Every provider that could be asked failed, or a fallback was needed and refused"),
        (504, "The request's time was up"),
    ),
)
async def complete(request: Request) -> Response:
    """Answer with the envelope: the reply, and the truth about who wrote it."""
    started = perf_counter()
    state: PoolState = request.app.state.pool
    try:
        asked = CompletionRequest.model_validate_json(request.scope["konstruct.body"])
    except ValidationError as error:
        state.metrics.refused(ProblemCode.INVALID_REQUEST)
        return _malformed(error)
    trail = state.dispatcher.start(asked, started)
    work = asyncio.current_task()
    assert work is not None
    leaver = _Leaver(work)
    account = Account(request.scope["headers"], asked, trail)
    watch = asyncio.create_task(leaver.watch(request.receive))
    try:
        envelope = await state.dispatcher.complete(asked, trail, started)
        account.answered(envelope)
        state.metrics.reply(envelope.served_group, envelope.usage, envelope.cost_usd)
        return Response(envelope.__pydantic_serializer__.to_json(envelope), media_type="application/json")
    except RequestError as error:
        code, response = problem_of(error, list(state.router.groups))
        account.outcome = code.value
        return response
    except asyncio.CancelledError:
        if not leaver.gone:
            raise
        work.uncancel()
        return Response(status_code=CLIENT_GONE)
    except Exception as error:  # noqa: BLE001 (the last stop: nothing of it may leave the pool)
        account.outcome = ProblemCode.INTERNAL.value
        return internal_error(error)
    finally:
        watch.cancel()
        account.close(perf_counter() - started, state.metrics)


@router.get("/health", summary="Liveness and a summary", response_model=Health)
async def health(request: Request) -> Response:
    """Answer 200 whatever providers do; groups without a usable deployment say what to set."""
    state: PoolState = request.app.state.pool
    summary = Health(
        status="ok",
        version=__version__,
        in_flight=state.load.under_way,
        groups=state.router.health(state.cooldowns),
    )
    return Response(summary.model_dump_json(), media_type="application/json")


@router.get(
    "/readyz",
    summary="Whether traffic should come here",
    response_class=PlainTextResponse,
    responses={
        503: {
            "description": "Shutting down, or no group has a usable deployment",
            "content": {"text/plain": {}},
        }
    },
)
async def readyz(request: Request) -> Response:
    """Answer 200 when a request could be answered: some group is configured and the pool stays up.

    Cooldowns do not count: a pod taken out of service for its providers' faults helps nobody.
    """
    state: PoolState = request.app.state.pool
    if state.draining:
        return Response("shutting down\n", status_code=503, media_type="text/plain")
    if not state.router.deployments:
        return Response(
            "no group has a usable deployment; see /health\n", status_code=503, media_type="text/plain"
        )
    return Response("ready\n", media_type="text/plain")


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Answer in the text format."""
    state: PoolState = request.app.state.pool
    return Response(state.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def internal_error(error: Exception) -> Response:
    """Log where `error` came from, without its text, which may quote a provider; answer 500."""
    log_fault(_log, "fault of the pool", error)
    return problem(ProblemCode.INTERNAL, "The pool failed; its log says where.")


class _Leaver:
    """Cancels the work when the client goes away."""

    def __init__(self, work: asyncio.Task[Any]) -> None:
        self._work = work
        self.gone = False
        """Whether the client went away."""

    async def watch(self, receive: Receive) -> None:
        """Wait for the client to leave; the body has been read, so nothing else can come."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._work.cancel()


def _malformed(error: ValidationError) -> Response:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return problem(ProblemCode.INVALID_REQUEST, "The body is not valid JSON.", status=400)
    told = [f"{'.'.join(_place(fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:MAX_DETAILS]]
    return problem(ProblemCode.INVALID_REQUEST, "; ".join(told))


def _place(loc: tuple[int | str, ...]) -> list[str]:
    """Name a place of the contract; a name that the client made up is not repeated."""
    known = CompletionRequest.model_fields.keys() | {"role", "content"}
    return [str(part) if isinstance(part, int) or part in known else "(unknown field)" for part in loc]
