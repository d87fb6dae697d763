"""What can go wrong with the API server. The class tells whether to try again, how soon and how often.

.. code-block:: text

    KubeError
    ├── UnreachableError    no answer, a time-out, 429, or the server's own fault (5xx)
    ├── UnauthorizedError   401: the token has expired and a new one is not there yet
    ├── ForbiddenError      403: a right is missing, or the namespace is going away
    ├── NotFoundError       404
    ├── ConflictError       409: someone else changed it in between
    ├── ExpiredError        410: the resource version is too old to watch from; list again
    ├── TooLongError        an answer is longer than anything that is expected
    └── InvalidError        400, 422: the object itself is refused; trying again changes nothing
"""

from __future__ import annotations

from typing import ClassVar


class KubeError(Exception):
    """The API server did not do what was asked; the message says what and why."""

    attempts: ClassVar[int] = 1
    """How often the same thing is worth trying, the first time included."""

    first_delay_s: ClassVar[float] = 0.0
    """Seconds before the second try; the delay doubles with each."""

    longest_delay_s: ClassVar[float] = 0.0
    """Seconds that the delay never exceeds."""

    def delay_s(self, tried: int) -> float | None:
        """Seconds to wait after `tried` tries (1 or more), or None when it is not worth another."""
        if tried >= self.attempts:
            return None
        return min(self.first_delay_s * 2.0 ** min(tried - 1, 20), self.longest_delay_s)


class UnreachableError(KubeError):
    """The API server gave no answer, or one that says that it cannot answer now."""

    attempts = 1_000_000
    first_delay_s = 0.2
    longest_delay_s = 5.0


class UnauthorizedError(KubeError):
    """The token is not accepted."""

    attempts = 1_000_000
    first_delay_s = 1.0
    longest_delay_s = 15.0


class ForbiddenError(KubeError):
    """A right is missing. It may be granted later, so it is tried again, seldom."""

    attempts = 20
    first_delay_s = 1.0
    longest_delay_s = 60.0


class NotFoundError(KubeError):
    """The object is not there."""


class ConflictError(KubeError):
    """The object has changed in between, or is not the one that was meant."""

    attempts = 5
    first_delay_s = 0.05
    longest_delay_s = 1.0


class ExpiredError(KubeError):
    """The resource version is no longer in the API server's history."""


class TooLongError(KubeError):
    """The answer is too long to be read."""


class InvalidError(KubeError):
    """The API server refuses the object."""


def error_for(status: int, message: str) -> KubeError:
    """Translate an HTTP status of the API server."""
    known: dict[int, type[KubeError]] = {
        400: InvalidError,
        401: UnauthorizedError,
        403: ForbiddenError,
        404: NotFoundError,
        409: ConflictError,
        410: ExpiredError,
        422: InvalidError,
        429: UnreachableError,
    }
    kind = known.get(status) or (UnreachableError if status >= 500 else KubeError)
    return kind(f"{status}: {message}")
