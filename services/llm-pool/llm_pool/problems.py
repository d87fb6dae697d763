"""Every error answer of the pool: the one place where an error becomes a problem document."""

from __future__ import annotations

import math

from starlette.responses import Response

from llm_pool.failures import (
    DeadlineExceeded,
    FallbackRefused,
    ProvidersFailed,
    RequestError,
    UnknownGroup,
)
from shared.contract import PROBLEM_MEDIA_TYPE, Problem, ProblemCode

URN = "urn:konstruct:problem:"
"""Prefix of a problem's ``type``."""

_TITLES = {
    ProblemCode.UNAUTHORIZED: (401, "Not authorised"),
    ProblemCode.UNKNOWN_GROUP: (404, "Unknown model group"),
    ProblemCode.NOT_FOUND: (404, "No such path"),
    ProblemCode.TOO_LARGE: (413, "Body too large"),
    ProblemCode.INVALID_REQUEST: (422, "Malformed request"),
    ProblemCode.OVERLOADED: (429, "Too many requests in flight"),
    ProblemCode.INTERNAL: (500, "Fault of the pool"),
    ProblemCode.PROVIDERS_FAILED: (503, "Every provider failed"),
    ProblemCode.FALLBACK_REFUSED: (503, "Fallback refused"),
    ProblemCode.DEADLINE_EXCEEDED: (504, "Deadline exceeded"),
}
"""Status and title by code."""


def problem(
    code: ProblemCode,
    detail: str,
    *,
    status: int | None = None,
    headers: dict[str, str] | None = None,
    error: RequestError | None = None,
) -> Response:
    """Make an error answer.

    Args:
        code: The kind.
        detail: What happened and what to do; never text from a provider or from the request's body.
        status: Another status than the kind's usual one.
        headers: Headers to add.
        error: The failed request whose group, reason and calls are told.
    """
    usual, title = _TITLES[code]
    status = usual if status is None else status
    body = Problem(
        type=f"{URN}{code.value}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        requested_group=error.group if error is not None else None,
        fallback_reason=error.reason if error is not None else None,
        attempts=error.attempts if error is not None else [],
    )
    return Response(
        body.model_dump_json(), status_code=status, headers=headers, media_type=PROBLEM_MEDIA_TYPE
    )


def problem_of(error: RequestError, groups: list[str]) -> tuple[ProblemCode, Response]:
    """Make the answer to a failed request; `groups` are the names that would have been known."""
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else None
    match error:
        case UnknownGroup():
            code = ProblemCode.UNKNOWN_GROUP
            # The name that was asked for has the form of a group name: it was validated.
            detail = f"There is no model group {error.group}. Known groups: {', '.join(groups)}."
        case FallbackRefused():
            code = ProblemCode.FALLBACK_REFUSED
            detail = f"The group {error.group} did not answer and the request forbids another group."
        case DeadlineExceeded():
            code = ProblemCode.DEADLINE_EXCEEDED
            detail = "The time of the request was up before a provider answered. Try again later."
        case ProvidersFailed() | _:
            code = ProblemCode.PROVIDERS_FAILED
            detail = (
                f"No deployment of the group {error.group} or of its fallbacks answered. "
                "The attempts say why; /health names what is not configured."
            )
    return code, problem(code, detail, headers=headers, error=error)
