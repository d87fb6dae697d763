"""Answers one request: who is asked, in which order, for how long, and what is said about it.

The rule: a request asks each deployment of its group at most once, and asks another group only when
every deployment of the first has been asked or is cooling down.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from time import perf_counter

from llm_pool.cooldown import Cooldowns
from llm_pool.failures import (
    AttemptError,
    DeadlineExceeded,
    FallbackRefused,
    ProvidersFailed,
    UnknownGroup,
)
from llm_pool.metrics import CANCELLED, INTERNAL, OK, Metrics
from llm_pool.providers.base import Deployment, Prompt, Reply
from llm_pool.router import PoolRouter
from llm_pool.spans import CallSpans
from shared.contract import (
    Attempt,
    CompletionRequest,
    CompletionResponse,
    FallbackPolicy,
    FallbackReason,
)
from shared.logs import fields

_log = logging.getLogger(__name__)

FAIR_SHARE = 0.5
"""Part of the attempt timeout that a call must have had before its timing out counts against the
deployment: callers with short deadlines must not cool it down for everybody."""


@dataclass(slots=True)
class Trail:
    """What happened to one request so far. Made per request, never shared."""

    deadline: float
    """When its time is up, by `perf_counter`."""

    group: str = ""
    """The group asked for, once known."""

    attempts: list[Attempt] = field(default_factory=list)
    """Every call made, in order."""

    provider_s: float = 0.0
    """Seconds spent waiting for providers."""

    reason: FallbackReason | None = None
    """Why the requested group did not answer."""


class Dispatcher:
    """Asks deployments for replies."""

    def __init__(
        self,
        router: PoolRouter,
        cooldowns: Cooldowns,
        metrics: Metrics,
        *,
        timeout_s: float,
        attempt_timeout_s: float,
        spans: CallSpans,
    ) -> None:
        """Keep what every request needs.

        Args:
            router: Groups and deployments.
            cooldowns: Shared by all requests of the process.
            metrics: Where calls and fallbacks are counted.
            timeout_s: Longest that one request may take.
            attempt_timeout_s: Longest that one call may take.
            spans: Where the spans of calls come from.
        """
        self._router = router
        self._cooldowns = cooldowns
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._attempt_timeout_s = attempt_timeout_s
        self._spans = spans

    def start(self, request: CompletionRequest, started: float) -> Trail:
        """Begin the record of a request that arrived at `started` (by `perf_counter`)."""
        wanted = self._timeout_s if request.timeout_s is None else request.timeout_s
        return Trail(deadline=started + min(wanted, self._timeout_s))

    async def complete(self, request: CompletionRequest, trail: Trail, started: float) -> CompletionResponse:
        """Answer a request.

        Raises:
            RequestError: there is no reply; `trail` holds what was tried.
        """
        requested = self._router.resolve(request.model)
        if requested is None:
            raise UnknownGroup(request.model, [])
        trail.group = requested
        prompt = Prompt(tuple(request.messages), request.max_tokens, request.temperature)
        served, reply = await self._ask_groups(request, requested, prompt, trail)
        return CompletionResponse.model_construct(
            content=reply.content,
            model=reply.model,
            requested_group=requested,
            served_group=served,
            degraded=served != requested,
            fallback_reason=trail.reason,
            attempts=trail.attempts,
            usage=reply.usage,
            cost_usd=reply.cost_usd,
            latency_ms=round((perf_counter() - started) * 1000, 3),
        )

    async def _ask_groups(
        self, request: CompletionRequest, requested: str, prompt: Prompt, trail: Trail
    ) -> tuple[str, Reply]:
        queue: list[tuple[str, tuple[str, FallbackReason] | None]] = [(requested, None)]
        asked: list[str] = []
        while queue and len(asked) <= self._router.max_fallbacks:
            group, instead_of = queue.pop(0)
            if group in asked:
                continue
            if instead_of is not None:
                failed, why = instead_of
                self._metrics.fallback(failed, group, why)
            asked.append(group)
            result = await self._ask_group(group, prompt, trail)
            if isinstance(result, Reply):
                return group, result
            reason = result
            following = [name for name in self._router.fallbacks_of(group, reason) if name not in asked]
            if trail.reason is None:
                trail.reason = reason
                if following and request.fallback is FallbackPolicy.REFUSE:
                    raise FallbackRefused(requested, trail.attempts, reason, self._retry_after([requested]))
            queue[:0] = [(name, (group, reason)) for name in following]
        raise ProvidersFailed(requested, trail.attempts, trail.reason, self._retry_after(asked))

    async def _ask_group(self, group: str, prompt: Prompt, trail: Trail) -> Reply | FallbackReason:
        """Ask the deployments of one group, each at most once; the last one's failure is the group's."""
        if not self._router.groups[group]:
            return FallbackReason.NOT_CONFIGURED
        tried: set[str] = set()
        failure: FallbackReason | None = None
        while (deployment := self._router.pick(group, tried, self._cooldowns)) is not None:
            tried.add(deployment.name)
            try:
                return await self._ask(deployment, prompt, trail)
            except AttemptError as error:
                failure = error.reason
        return failure or FallbackReason.COOLDOWN

    async def _ask(self, deployment: Deployment, prompt: Prompt, trail: Trail) -> Reply:
        """Ask one deployment once, and record what came of it."""
        began = perf_counter()
        remaining = trail.deadline - began
        if remaining <= 0:
            raise DeadlineExceeded(trail.group, trail.attempts, trail.reason)
        fair = deployment.attempt_timeout_s or self._attempt_timeout_s
        fair = min(fair, self._attempt_timeout_s)
        timeout_s = min(fair, remaining)
        outcome: str = CANCELLED
        reply: Reply | None = None
        failure: AttemptError | None = None
        trial = self._cooldowns.begin(deployment.name)
        span = self._spans.start(deployment, prompt)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await deployment.caller.call(prompt, timeout_s)
            outcome = OK
            self._cooldowns.note_success(deployment.name, trial=trial)
        except TimeoutError:
            failure = AttemptError(FallbackReason.TIMEOUT)
            outcome = failure.reason.value
            self._note(deployment, failure, fair=timeout_s >= fair * FAIR_SHARE, trial=trial)
            if timeout_s < remaining:
                raise failure from None
        except AttemptError as error:
            failure = error
            outcome = error.reason.value
            self._note(deployment, error, trial=trial)
            raise
        except Exception:
            outcome = INTERNAL
            raise
        else:
            return reply
        finally:
            if trial:
                self._cooldowns.end_trial(deployment.name)
            self._record(deployment, outcome, perf_counter() - began, trail)
            if span is not None:
                self._spans.end(span, outcome, reply, failure)
        raise DeadlineExceeded(trail.group, trail.attempts, trail.reason)

    def _record(self, deployment: Deployment, outcome: str, seconds: float, trail: Trail) -> None:
        trail.provider_s += seconds
        self._metrics.attempt(deployment.name, outcome, seconds)
        if outcome not in (CANCELLED, INTERNAL):
            trail.attempts.append(
                Attempt.model_construct(
                    deployment=deployment.name,
                    group=deployment.group,
                    outcome="ok" if outcome == OK else FallbackReason(outcome),
                    ms=round(seconds * 1000, 3),
                )
            )

    def _note(
        self, deployment: Deployment, error: AttemptError, *, fair: bool = True, trial: bool = False
    ) -> None:
        cooling = fair and self._cooldowns.note_failure(
            deployment.name, error, own_s=deployment.cooldown_s, trial=trial
        )
        cooling_s = self._cooldowns.remaining(deployment.name) if cooling else 0.0
        if cooling:
            self._metrics.cools(deployment.name, cooling_s)
        _log.warning(
            "call failed",
            extra=fields(
                deployment=deployment.name,
                reason=error.reason.value,
                status=error.status,
                cooling_s=round(cooling_s),
            ),
        )

    def _retry_after(self, groups: list[str]) -> float | None:
        """Seconds until the first cooling deployment of `groups` may be asked, when all of them cool."""
        members = [deployment for group in groups for deployment in self._router.groups[group]]
        waits = [self._cooldowns.remaining(deployment.name) for deployment in members]
        return min(waits) if waits and min(waits) > 0 else None
