"""Answers one request: who is asked, in which order, for how long, and what is said about it.

The rule: a request asks each deployment of its group at most once, and asks another group only when
every deployment of the first has been asked or is cooling down. `budget` says for how long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from llm_pool.budget import GroupTime, Planner
from llm_pool.cooldown import Cooldowns
from llm_pool.failures import (
    AttemptError,
    DeadlineExceeded,
    FallbackRefused,
    ProvidersFailed,
    UnknownGroup,
    log_fault,
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
"""A timeout counts against the deployment if the call had this part of its limit, or the request this part of
the pool's own time: callers with short deadlines must not cool it down for everybody."""

LATE_S = 0.01
"""How early a timer may fire: a request with less time left has none."""


@dataclass(slots=True)
class Trail:
    """What happened to one request so far. Made per request, never shared."""

    deadline: float
    """When its time is up, by the dispatcher's clock."""

    whole_s: float = 0.0
    """Seconds that it had when it arrived."""

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
        planner: Planner,
        timeout_s: float,
        spans: CallSpans,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Keep what every request needs.

        Args:
            router: Groups and deployments.
            cooldowns: Shared by all requests of the process.
            metrics: Where calls and fallbacks are counted.
            planner: Divides the time of a request.
            timeout_s: Longest that one request may take.
            spans: Where the spans of calls come from.
            clock: Counts seconds, as the event loop does.
        """
        self._router = router
        self._cooldowns = cooldowns
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._planner = planner
        self._spans = spans
        self._clock = clock

    def start(self, request: CompletionRequest, started: float) -> Trail:
        """Begin the record of a request that arrived at `started`, by the dispatcher's clock."""
        wanted = self._timeout_s if request.timeout_s is None else request.timeout_s
        whole_s = min(wanted, self._timeout_s)
        return Trail(deadline=started + whole_s, whole_s=whole_s)

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
            latency_ms=round((self._clock() - started) * 1000, 3),
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
            now = self._clock()
            if trail.deadline - now <= LATE_S:
                break
            # Who may not fall back has nobody to keep time for.
            others = None if request.fallback is FallbackPolicy.REFUSE else [name for name, _ in queue]
            time = self._planner.begin(group, asked, others, now, trail.deadline - now)
            result = await self._ask_group(group, time, prompt, trail)
            if isinstance(result, Reply):
                return group, result
            reason = result
            following = [name for name in self._router.fallbacks_of(group, reason) if name not in asked]
            if trail.reason is None:
                trail.reason = reason
                if following and request.fallback is FallbackPolicy.REFUSE:
                    raise FallbackRefused(requested, trail.attempts, reason, self._retry_after([requested]))
            queue[:0] = [(name, (group, reason)) for name in following]
        if trail.deadline - self._clock() <= LATE_S:
            raise DeadlineExceeded(requested, trail.attempts, trail.reason)
        raise ProvidersFailed(requested, trail.attempts, trail.reason, self._retry_after(asked))

    async def _ask_group(
        self, group: str, time: GroupTime, prompt: Prompt, trail: Trail
    ) -> Reply | FallbackReason:
        """Ask the deployments of one group, each at most once; the last one's failure is the group's."""
        if not self._router.groups[group]:
            return FallbackReason.NOT_CONFIGURED
        tried: set[str] = set()
        failure: FallbackReason | None = None
        while (deployment := self._router.pick(group, tried, self._cooldowns)) is not None:
            tried.add(deployment.name)
            now = self._clock()
            others = self._planner.limits(group, time.until - now, tried)
            alone = time.last and not others
            strict = deployment.attempt_timeout_s is not None
            timeout_s = time.call_time(now, self._planner.limit(deployment), others, strict=strict)
            if timeout_s <= 0:  # the process was busy for longer than the group had
                return failure or FallbackReason.TIMEOUT
            try:
                return await self._ask(deployment, prompt, timeout_s, trail, alone=alone)
            except AttemptError as error:
                failure = error.reason
        return failure or FallbackReason.COOLDOWN

    async def _ask(
        self, deployment: Deployment, prompt: Prompt, timeout_s: float, trail: Trail, *, alone: bool
    ) -> Reply:
        """Ask one deployment once, and record what came of it."""
        began = self._clock()
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
            fair = self._was_fair(deployment, timeout_s, trail)
            # Who has no substitute is worth asking again soon.
            silent_s = None if alone else timeout_s
            self._note(deployment, failure, fair=fair, silent_s=silent_s, trial=trial)
            raise failure from None
        except AttemptError as error:
            failure = error
            outcome = error.reason.value
            self._note(deployment, error, trial=trial)
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours or of LiteLLM's: others may still answer
            log_fault(_log, f"call to {deployment.name} raised", error)
            failure = AttemptError(FallbackReason.UNAVAILABLE)
            outcome = INTERNAL
            self._note(deployment, failure, trial=trial)
            raise failure from None
        else:
            return reply
        finally:
            if trial:
                self._cooldowns.end_trial(deployment.name)
            self._record(deployment, outcome, self._clock() - began, trail)
            if span is not None:
                self._spans.end(span, outcome, reply, failure)

    def _was_fair(self, deployment: Deployment, timeout_s: float, trail: Trail) -> bool:
        """Whether a call had so much time that its timing out says something of the deployment."""
        limit_s = self._planner.limit(deployment)
        return timeout_s >= FAIR_SHARE * limit_s or trail.whole_s >= FAIR_SHARE * self._timeout_s

    def _record(self, deployment: Deployment, outcome: str, seconds: float, trail: Trail) -> None:
        trail.provider_s += seconds
        self._metrics.attempt(deployment.name, outcome, seconds)
        if outcome != CANCELLED:
            trail.attempts.append(
                Attempt.model_construct(
                    deployment=deployment.name,
                    group=deployment.group,
                    outcome="ok" if outcome == OK else _reason(outcome),
                    ms=round(seconds * 1000, 3),
                )
            )

    def _note(
        self,
        deployment: Deployment,
        error: AttemptError,
        *,
        fair: bool = True,
        silent_s: float | None = None,
        trial: bool = False,
    ) -> None:
        cooling = fair and self._cooldowns.note_failure(
            deployment.name, error, own_s=deployment.cooldown_s, trial=trial, silent_s=silent_s
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


def _reason(outcome: str) -> FallbackReason:
    """Return what callers are told of a call that failed: a fault of the pool is a failure as well."""
    return FallbackReason.UNAVAILABLE if outcome == INTERNAL else FallbackReason(outcome)
