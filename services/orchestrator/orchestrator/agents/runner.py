"""Asking the llm-pool. Whatever goes wrong becomes a polite sentence; nothing is raised to the caller."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import ValidationError

from orchestrator.tracing import answered, asking
from shared.config import Settings
from shared.contract import CompletionRequest, CompletionResponse, Problem, ProblemCode
from shared.reply import Reason
from shared.tracing import trace_headers

log = logging.getLogger(__name__)

POLITE_FALLBACK = "I'm sorry, I can't answer right now. Please try again in a little while."
"""What the sender is told when no model could answer."""

CONNECT_TIMEOUT_S = 3.0
"""Seconds until a connection to the llm-pool is given up."""

KEEP_ALIVE_S = 3.0
"""Seconds an idle connection is kept: less than the five after which uvicorn closes it."""

GRACE_S = 2.0
"""Seconds the pool's answer may take beyond the time it was given, so that its 504 can arrive."""

_REASONS = {
    ProblemCode.UNAUTHORIZED: Reason.POOL_UNAUTHORIZED,
    ProblemCode.UNKNOWN_GROUP: Reason.GROUP_UNKNOWN,
    ProblemCode.TOO_LARGE: Reason.REQUEST_REFUSED,
    ProblemCode.INVALID_REQUEST: Reason.REQUEST_REFUSED,
    ProblemCode.OVERLOADED: Reason.POOL_OVERLOADED,
    ProblemCode.PROVIDERS_FAILED: Reason.PROVIDERS_FAILED,
    ProblemCode.FALLBACK_REFUSED: Reason.FALLBACK_REFUSED,
    ProblemCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
}
"""The pool's problems, as reasons of a reply; any other is ``pool_error``."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of asking."""

    text: str
    """The model's reply, or the polite fallback."""

    envelope: CompletionResponse | None
    """The pool's envelope; None when nothing answered."""

    reason: Reason | None
    """Why nothing answered; None when a model did."""

    problem: Problem | None = None
    """The pool's own account, where it gave one."""


class Runner:
    """Asks one llm-pool. Made once per worker and shared by its threads.

    A client belongs to one event loop, and each task has a loop of its own that ends with it. So the
    client lives on a loop in a thread of this class, where its connections and its SSL context last, and
    tasks wait for what it does there (ADR 0005).
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.llm_pool_url.rstrip("/") + "/complete"
        self._headers = {"content-type": "application/json"}
        if settings.llm_pool_token is not None:
            self._headers["authorization"] = f"Bearer {settings.llm_pool_token.get_secret_value()}"
        self._connections = settings.worker_concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llm-pool-client", daemon=True)
        self._client: httpx.AsyncClient | None = None

    def start(self) -> None:
        """Start the loop that the client lives on."""
        self._thread.start()

    def close(self) -> None:
        """Close the client's connections and end its loop."""
        if not self._thread.is_alive():
            return
        if self._client is not None:
            asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def run(self, request: CompletionRequest, about: Mapping[str, str] | None = None) -> RunResult:
        """POST `request` to ``/complete``, with headers that say what it is `about`.

        Never raises, but for the cancellation of the task itself, which is not the pool's failure.
        """
        try:
            with asking(self._url) as span:
                # Read here: the client's loop runs in no trace.
                response = await self._post(request, {**(about or {}), **trace_headers()})
                answered(span, response.status_code)
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError) as error:
            if _is_timeout(error):
                return _apology(Reason.DEADLINE_EXCEEDED, "no answer in time")
            return _apology(Reason.POOL_UNREACHABLE, type(error.__cause__ or error).__name__)
        except Exception:
            log.exception("asking the llm-pool failed")
            return _apology(Reason.INTERNAL_ERROR, "see the exception above")
        return _read(response)

    async def _post(self, request: CompletionRequest, about: Mapping[str, str]) -> httpx.Response:
        body = request.model_dump_json(exclude_none=True)
        seconds = (request.timeout_s or 60.0) + GRACE_S
        # Cancelling the one cancels the other: wrap_future ties them together.
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(
                self._post_there(body, {**self._headers, **about}, seconds), self._loop
            )
        )

    async def _post_there(self, body: str, headers: Mapping[str, str], seconds: float) -> httpx.Response:
        """Runs on the client's loop."""
        if self._client is None:
            # httpcore's pool looks at all its connections for each request: thrice the work at 32.
            connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_S)
            session = aiohttp.ClientSession(connector=connector)
            self._client = httpx.AsyncClient(transport=AiohttpTransport(client=session), trust_env=False)
        timeout = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_S)
        # httpx times each read; the whole answer has a limit too, against one that drips.
        async with asyncio.timeout(seconds):
            try:
                return await self._client.post(self._url, content=body, headers=headers, timeout=timeout)
            except (httpx.HTTPError, aiohttp.ClientError) as error:
                if not _is_disconnect(error):
                    raise
            # A kept connection that the pool closed at the moment it was used again; not its failure.
            return await self._client.post(self._url, content=body, headers=headers, timeout=timeout)


def _is_timeout(error: Exception) -> bool:
    """Whether time ran out. The transport calls a refused connection a timeout too; its cause tells."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientConnectionError) and not isinstance(cause, TimeoutError):
        return False
    return isinstance(error, httpx.TimeoutException | TimeoutError)


def _is_disconnect(error: Exception) -> bool:
    """Whether the other side closed the connection before it answered anything."""
    lost = aiohttp.ServerDisconnectedError | ConnectionResetError
    return isinstance(error, lost) or isinstance(error.__cause__, lost)


def _read(response: httpx.Response) -> RunResult:
    if response.status_code != httpx.codes.OK:
        problem = _problem(response)
        reason = _REASONS.get(problem.code, Reason.POOL_ERROR) if problem else Reason.POOL_ERROR
        return _apology(reason, f"HTTP {response.status_code}", problem)
    try:
        envelope = CompletionResponse.model_validate_json(response.content)
    except ValidationError:
        return _apology(Reason.POOL_ERROR, "an answer that makes no sense")
    # PostgreSQL stores no NUL, and no reader misses one.
    text = envelope.content.replace("\x00", "")
    if not text.strip():
        return _apology(Reason.POOL_ERROR, "an empty answer")
    return RunResult(text=text, envelope=envelope, reason=None)


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _apology(reason: Reason, what: str, problem: Problem | None = None) -> RunResult:
    log.warning("the llm-pool did not answer: %s (%s)", reason, what)
    return RunResult(text=POLITE_FALLBACK, envelope=None, reason=reason, problem=problem)
