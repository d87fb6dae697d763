"""Which deployments are left alone at present, and until when. One instance per process.

After its cooldown a deployment is on trial: one request asks it, and until that has told how it is, it stays
left alone by all others.

LiteLLM's own cooldowns are not used: they ignore connection errors, depend on callbacks that run
after the call, and let a group of one be asked again at once (docs/adr/0004).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from math import inf

from llm_pool.failures import COOL_AT_ONCE, COUNTED, AttemptError
from shared.contract import FallbackReason

WINDOW_S = 60.0
"""Failures older than this no longer count."""


SILENCE_FACTOR = 4.0
"""A deployment that hangs is left alone for this many times the seconds that a request has waited for it, if
that is longer than its cooldown: its trials then take a fifth of a lone sender's time at most."""


class Cooldowns:
    """The cooldowns of all deployments, by deployment name.

    Not locked: used from one event loop.
    """

    def __init__(
        self, *, default_s: float, allowed_fails: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._default_s = default_s
        self._allowed_fails = allowed_fails
        self._clock = clock
        self._until: dict[str, float] = {}
        self._fails: dict[str, deque[float]] = {}
        self._heard: dict[str, float] = {}
        self._trying: set[str] = set()

    def remaining(self, name: str) -> float:
        """Seconds that the deployment is still left alone; 0 when somebody may ask it."""
        until = self._until.get(name)
        return 0.0 if until is None else max(until - self._clock(), 0.0)

    def is_cooling(self, name: str) -> bool:
        """Whether the deployment is left alone by everybody."""
        return bool(self._until) and self.remaining(name) > 0

    def may_ask(self, name: str) -> bool:
        """Whether one more call may go to the deployment: it does not cool, nor does another call try it."""
        return not self._until or (name not in self._trying and self.remaining(name) == 0)

    def begin(self, name: str) -> bool:
        """Note a call that begins; return whether it is the trial after a cooldown."""
        if name not in self._until:
            return False
        self._trying.add(name)
        return True

    def end_trial(self, name: str) -> None:
        """Note the end of a trial; where it told nothing, the next call is another."""
        self._trying.discard(name)

    def note_success(self, name: str, *, trial: bool) -> None:
        """Record that the deployment has answered; that makes up for one failure."""
        self._heard[name] = self._clock()
        if trial:
            self._until.pop(name, None)
        if fails := self._fails.get(name):
            fails.popleft()

    def note_failure(
        self,
        name: str,
        error: AttemptError,
        *,
        own_s: float | None = None,
        trial: bool = False,
        silent_s: float | None = None,
    ) -> bool:
        """Record a failed call and start a cooldown if it is due.

        Args:
            name: The deployment.
            error: What happened. A Retry-After in it always starts a cooldown of at least that long.
            own_s: Cooldown set on the deployment itself, instead of the pool's default.
            trial: Whether it was the trial after a cooldown, which has no second chance.
            silent_s: How long the call was waited for, if it was never answered. If the deployment answered
                nobody else in that time it hangs, and has no second chance either: every further call
                would cost its request as much. It also cools for longer: `SILENCE_FACTOR`.

        Returns:
            Whether the deployment cools down now.
        """
        length = self._default_s if own_s is None else own_s
        if error.retry_after:
            length = error.retry_after if own_s is None else max(own_s, error.retry_after)
        elif error.retry_after == 0 and error.reason is FallbackReason.RATE_LIMITED:
            return False  # "ask again at once"
        elif error.reason in COUNTED:
            hangs = silent_s is not None and self._heard.get(name, -inf) <= self._clock() - silent_s
            if not trial and not hangs and not self._exceeded(name):
                return False
            if hangs and silent_s is not None and length > 0:
                length = max(length, SILENCE_FACTOR * silent_s)
        elif error.reason not in COOL_AT_ONCE:
            self.note_success(name, trial=trial)  # it was there to refuse the request
            return False
        if length <= 0:
            return False
        until = self._clock() + length
        # Never shortened: a later, shorter answer does not take back an earlier Retry-After.
        self._until[name] = max(until, self._until.get(name, 0.0))
        self._fails.pop(name, None)
        return True

    def _exceeded(self, name: str) -> bool:
        """Count a failure; return whether that is too many that no success has made up for."""
        now = self._clock()
        fails = self._fails.setdefault(name, deque())
        fails.append(now)
        while fails[0] <= now - WINDOW_S:
            fails.popleft()
        return len(fails) > self._allowed_fails
