"""Asking the llm-pool. Whatever goes wrong becomes a polite sentence; nothing is raised to the caller."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from shared.config import Settings
from shared.contract import CompletionRequest, CompletionResponse, Problem, ProblemCode
from shared.reply import Reason

log = logging.getLogger(__name__)

POLITE_FALLBACK = "I'm sorry, I can't answer right now. Please try again in a little while."
"""What the sender is told when no model could answer."""

CONNECT_TIMEOUT_S = 3.0
"""Seconds until a connection to the llm-pool is given up."""

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

    A client belongs to one event loop and each task has its own, so a client is made per request. What is
    costly about a client, the SSL context (20 ms), is made once here.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.llm_pool_url.rstrip("/") + "/complete"
        self._ssl = ssl.create_default_context()
        self._headers = {"content-type": "application/json"}
        if settings.llm_pool_token is not None:
            self._headers["authorization"] = f"Bearer {settings.llm_pool_token.get_secret_value()}"

    async def run(self, request: CompletionRequest) -> RunResult:
        """POST `request` to ``/complete``.

        Never raises, but for the cancellation of the task itself, which is not the pool's failure.
        """
        try:
            response = await self._post(request)
        except (httpx.TimeoutException, TimeoutError):
            return _apology(Reason.DEADLINE_EXCEEDED, "no answer in time")
        except httpx.HTTPError as error:
            return _apology(Reason.POOL_UNREACHABLE, type(error).__name__)
        except Exception:
            log.exception("asking the llm-pool failed")
            return _apology(Reason.INTERNAL_ERROR, "see the exception above")
        return _read(response)

    async def _post(self, request: CompletionRequest) -> httpx.Response:
        seconds = (request.timeout_s or 60.0) + GRACE_S
        timeout = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_S)
        # httpx times each read; the whole answer has a limit too, against one that drips.
        async with asyncio.timeout(seconds), httpx.AsyncClient(verify=self._ssl, trust_env=False) as client:
            return await client.post(
                self._url,
                content=request.model_dump_json(exclude_none=True),
                headers=self._headers,
                timeout=timeout,
            )


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
