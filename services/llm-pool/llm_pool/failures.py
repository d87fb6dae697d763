"""What can go wrong with one call, with a request, and how a provider's answer is read as one of them.

::

    AttemptError          one call to one deployment failed; the next one is asked
    RequestError          the whole request failed; becomes a problem document
    ├── UnknownGroup      404
    ├── ProvidersFailed   503
    ├── FallbackRefused   503
    └── DeadlineExceeded  504

None of them carries text from a provider: such text may quote a key.
"""

from __future__ import annotations

import email.utils
import logging
import time
import traceback
from collections.abc import Mapping

from shared.contract import Attempt, FallbackReason

MAX_RETRY_AFTER_S = 86_400.0
"""Longest that a provider's Retry-After is believed: a day."""

COOL_AT_ONCE = frozenset({FallbackReason.RATE_LIMITED, FallbackReason.AUTH, FallbackReason.MODEL_NOT_FOUND})
"""Failures that the next call would meet too: the deployment cools down without a second chance."""

COUNTED = frozenset({FallbackReason.TIMEOUT, FallbackReason.UNAVAILABLE})
"""Failures that may pass by themselves: the deployment cools down after several in a minute."""

_CONTEXT_WINDOW = (
    "context_length_exceeded",
    "exceed_context_size",
    "prompt is too long",
    "maximum context length",
    "exceeds the context window",
    "context window",
    "exceed context limit",
    "longer than the model's context length",
    "input is too long",
    "input tokens exceed",
    "maximum number of tokens allowed",
)
"""How providers say that a prompt is too long."""

_CONTENT_POLICY = (
    "content_policy_violation",
    "content_filter",
    "content filtering policy",
    "content management policy",
    "responsibleaipolicyviolation",
    "safety system",
    "violates our usage policies",
)
"""How providers say that they refuse the content."""

_ACCOUNT = ("credit balance is too low", "billing_not_active", "account_deactivated")
"""How providers say with a 400 that the account, not the request, is at fault."""

_BY_STATUS = {
    401: FallbackReason.AUTH,
    402: FallbackReason.AUTH,
    403: FallbackReason.AUTH,
    404: FallbackReason.MODEL_NOT_FOUND,
    408: FallbackReason.TIMEOUT,
    429: FallbackReason.RATE_LIMITED,
    504: FallbackReason.TIMEOUT,
}
"""Statuses with a reason of their own; other 4xx are ``bad_request``, all else ``unavailable``."""


class AttemptError(Exception):
    """One call to one deployment failed."""

    def __init__(
        self, reason: FallbackReason, *, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        """Why."""
        self.retry_after = retry_after
        """Seconds that the provider asked to be left alone, if it did."""
        self.status = status
        """HTTP status of the provider's answer, if there was one."""


class RequestError(Exception):
    """A request ends without a reply."""

    def __init__(
        self,
        group: str,
        attempts: list[Attempt],
        reason: FallbackReason | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(group)
        self.group = group
        """The group that was asked for."""
        self.attempts = attempts
        """Calls made before."""
        self.reason = reason
        """Why the requested group did not answer."""
        self.retry_after = retry_after
        """Seconds after which asking again may help, when known."""


class UnknownGroup(RequestError):  # noqa: N818
    """No group has that name."""


class ProvidersFailed(RequestError):  # noqa: N818
    """Every deployment that could be asked failed."""


class FallbackRefused(RequestError):  # noqa: N818
    """The requested group failed and the request forbade another."""


class DeadlineExceeded(RequestError):  # noqa: N818
    """The request's time was up."""


def reason_of(status: int, text: str) -> FallbackReason:
    """Read a provider's error answer: its status, and for a refused request what its text says."""
    lowered = text.lower()
    if status in (400, 403, 413, 422):
        if any(phrase in lowered for phrase in _CONTEXT_WINDOW):
            return FallbackReason.CONTEXT_WINDOW
        if any(phrase in lowered for phrase in _CONTENT_POLICY):
            return FallbackReason.CONTENT_POLICY
        if "model_not_found" in lowered:
            return FallbackReason.MODEL_NOT_FOUND
        if any(phrase in lowered for phrase in _ACCOUNT):
            return FallbackReason.AUTH
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return FallbackReason.BAD_REQUEST if 400 <= status < 500 else FallbackReason.UNAVAILABLE


def retry_after_of(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds that a provider asks to be left alone; `now` is seconds since the epoch.

    Reads ``retry-after-ms`` and ``retry-after`` (seconds or an HTTP date); what cannot be read is
    as good as absent.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            seconds = moment.timestamp() - (time.time() if now is None else now)
        except (TypeError, ValueError, OverflowError):
            return None
    return _bounded(seconds)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and number == number else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def log_fault(log: logging.Logger, what: str, error: Exception) -> None:
    """Log where `error` came from, without its text, which may quote a provider, and with it a key."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, frames)
