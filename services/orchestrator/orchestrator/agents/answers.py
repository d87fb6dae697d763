"""What came of asking the llm-pool, and how its answers and its silence are read. Pure, but for the log."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import aiohttp
import httpx
from pydantic import ValidationError

from orchestrator.agents.patience import Trouble
from shared.contract import CompletionResponse, Problem, ProblemCode
from shared.reply import Reason
from shared.tls import certificate_fault

log = logging.getLogger(__name__)

POLITE_FALLBACK = "I'm sorry, I can't answer right now. Please try again in a little while."
"""What the sender is told when no model could answer."""

NO_ANSWER = (httpx.HTTPError, aiohttp.ClientError, TimeoutError)
"""What is raised when nothing answers."""

MOST_TOKENS = 2**31 - 1
"""Most tokens of one call that can be recorded."""

MOST_USD = 1e6
"""Price of one call from which on it cannot be recorded."""

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

_NEVER_SENT = aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
_LOST = aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | aiohttp.ClientResponseError


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


def apology(reason: Reason, what: str, problem: Problem | None = None) -> RunResult:
    """Make the result of a failure, and log `what` happened."""
    log.warning("the llm-pool did not answer: %s (%s)", reason, what)
    return RunResult(text=POLITE_FALLBACK, envelope=None, reason=reason, problem=problem)


def read_answer(response: httpx.Response) -> RunResult:
    """Make the result of what the pool, or something in its place, has answered."""
    if response.status_code != httpx.codes.OK:
        problem = _problem(response)
        reason = _REASONS.get(problem.code, Reason.POOL_ERROR) if problem else Reason.POOL_ERROR
        return apology(reason, f"HTTP {response.status_code}", problem)
    try:
        envelope = CompletionResponse.model_validate_json(response.content)
    except ValidationError:
        return apology(Reason.POOL_ERROR, "an answer that makes no sense")
    if not _can_be_stored(envelope):
        return apology(Reason.POOL_ERROR, "an answer with an impossible name or number")
    # PostgreSQL stores no NUL, and no reader misses one.
    text = envelope.content.replace("\x00", "")
    if not text.strip():
        return apology(Reason.POOL_ERROR, "an empty answer")
    return RunResult(text=text, envelope=envelope, reason=None)


def read_failure(error: Exception) -> RunResult:
    """Make the result of no answer: one of `NO_ANSWER`."""
    if _trouble_of_failure(error) is None and isinstance(error, httpx.TimeoutException | TimeoutError):
        return apology(Reason.DEADLINE_EXCEEDED, "no answer in time")
    what = certificate_fault(error) or type(error.__cause__ or error).__name__
    return apology(Reason.POOL_UNREACHABLE, what)


def trouble_of(outcome: httpx.Response | Exception) -> Trouble | None:
    """Say whether the same request may fare better later, and why it has not; None: it would not.

    A verdict of the pool is final: it has asked every provider that it could.
    """
    if isinstance(outcome, Exception):
        return _trouble_of_failure(outcome)
    if outcome.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return Trouble.OVERLOADED
    in_its_place = outcome.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)
    return Trouble.UNAVAILABLE if in_its_place and _problem(outcome) is None else None


def retry_after_s(outcome: httpx.Response | Exception) -> float:
    """Return the seconds that an answer asks to wait; 0: it does not say."""
    value = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _trouble_of_failure(error: Exception) -> Trouble | None:
    """Read what the transport raised. It calls a refused connection a timeout too; the cause tells."""
    cause = error if isinstance(error, aiohttp.ClientError | OSError) else error.__cause__
    if isinstance(cause, _NEVER_SENT):
        return Trouble.UNREACHABLE
    if isinstance(cause, TimeoutError):
        return None
    return Trouble.LOST if isinstance(cause, _LOST | ConnectionResetError) else None


def _problem(response: httpx.Response) -> Problem | None:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return None
    return problem if _can_be_stored(problem) else None


def _can_be_stored(account: CompletionResponse | Problem) -> bool:
    """Whether the database has room for an account; its content apart, which is only text."""
    names = [name for attempt in account.attempts for name in (attempt.deployment, attempt.group)]
    numbers = [attempt.ms for attempt in account.attempts]
    if isinstance(account, CompletionResponse):
        names += [account.model, account.served_group]
        numbers += [account.latency_ms, account.cost_usd or 0.0]
        tokens = max(account.usage.prompt_tokens, account.usage.completion_tokens)
        if tokens > MOST_TOKENS or abs(account.cost_usd or 0.0) >= MOST_USD:
            return False
    return all(map(math.isfinite, numbers)) and not any("\x00" in name for name in names)
