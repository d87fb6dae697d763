"""Divides the time of one request among those who may be asked. All numbers are seconds.

Two rules, so that a provider that hangs never uses up the time of one that would answer (docs/adr/0020):

- Groups: each group that may be asked later has the time of one whole call reserved. If the request is too
  short for that, all groups share it in proportion to their whole calls.
- Deployments of a group: each may take its whole limit, as long as every other one keeps half of an equal
  part of the group's time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from llm_pool.cooldown import Cooldowns
from llm_pool.providers.base import Deployment
from llm_pool.router import PoolRouter
from shared.contract import FallbackReason

KEPT_PART = 0.5
"""Part of an equal share of the group's time that is kept for each deployment not asked yet. Less than 1, so
that a group of many gives its first deployment more than a sliver."""


def group_time(left_s: float, call_s: float, later_s: float) -> float:
    """Return the time of the group that is asked now.

    Args:
        left_s: What is left of the request's time.
        call_s: The longest call of this group's deployments.
        later_s: The sum of the longest calls of the groups that may be asked after it; 0: there are none.
    """
    wanted = call_s + later_s
    return left_s - later_s * min(1.0, left_s / wanted) if later_s > 0 else left_s


@dataclass(frozen=True, slots=True)
class GroupTime:
    """The time of one group, from when it is asked."""

    until: float
    """When it ends, on the dispatcher's clock."""

    kept_s: float
    """What is kept for each deployment that has not been asked."""

    last: bool
    """Whether no other group may be asked after it."""

    @classmethod
    def begin(cls, now: float, left_s: float, limits: Sequence[float], later: Sequence[float]) -> GroupTime:
        """Plan the time of a group.

        Args:
            now: The dispatcher's clock.
            left_s: What is left of the request's time.
            limits: How long a call to each of its deployments may take.
            later: The longest call of each group that may be asked after it.
        """
        time_s = group_time(left_s, max(limits, default=0.0), sum(later))
        return cls(now + time_s, KEPT_PART * time_s / max(len(limits), 1), not later)

    def call_time(
        self, now: float, limit_s: float, others: Sequence[float], *, strict: bool = False
    ) -> float:
        """Return how long the next call may take.

        Args:
            now: The dispatcher's clock.
            limit_s: How long a call to this deployment may take while another one might answer instead.
            others: The same of the deployments of the group that may be asked after it.
            strict: Whether the limit holds also when there is nobody else to ask.
        """
        left_s = self.until - now
        if self.last and not others and not strict:
            return left_s
        return min(limit_s, left_s - sum(min(self.kept_s, other) for other in others))


class Planner:
    """Knows who may still be asked, and for how long."""

    def __init__(
        self, router: PoolRouter, cooldowns: Cooldowns, *, attempt_timeout_s: float, ollama_timeout_s: float
    ) -> None:
        """Keep what it needs.

        Args:
            router: Groups, deployments, fallbacks.
            cooldowns: Who is left alone.
            attempt_timeout_s: Limit of a call to a deployment that names none itself.
            ollama_timeout_s: The same of one at an Ollama.
        """
        self._router = router
        self._cooldowns = cooldowns
        self._attempt_timeout_s = attempt_timeout_s
        self._ollama_timeout_s = ollama_timeout_s

    def limit(self, deployment: Deployment) -> float:
        """Return how long a call to `deployment` may take while another one might answer instead."""
        local = deployment.provider.startswith("ollama")
        usual_s = self._ollama_timeout_s if local else self._attempt_timeout_s
        return deployment.attempt_timeout_s or usual_s

    def limits(self, group: str, within_s: float, tried: Collection[str] = ()) -> list[float]:
        """Return the limits of the deployments of `group` that may be asked within so many seconds."""
        return [
            self.limit(deployment)
            for deployment in self._router.groups[group]
            if deployment.name not in tried and self._cooldowns.remaining(deployment.name) < within_s
        ]

    def begin(
        self, group: str, asked: Collection[str], next_up: Iterable[str] | None, now: float, left_s: float
    ) -> GroupTime:
        """Plan the time of `group`.

        Args:
            group: The group that is asked now.
            asked: Groups that were asked, and this one.
            next_up: Groups that come after this one and its fallbacks; none: no other group may be asked.
            now: The dispatcher's clock.
            left_s: What is left of the request's time.
        """
        later: list[float] = []
        if next_up is not None:
            chains = [
                self._later(group, asked, next_up, reason, left_s) for reason in self._router.deciding_reasons
            ]
            later = max(chains, key=sum)
        return GroupTime.begin(now, left_s, self.limits(group, left_s), later)

    def warnings(self, timeout_s: float) -> list[str]:
        """Say which groups' calls are cut short when providers hang and a request has `timeout_s`."""
        said = []
        for group, members in self._router.groups.items():
            later = self._later(group, [group], [], FallbackReason.TIMEOUT, timeout_s)
            needed_s = sum(map(self.limit, members)) + sum(later)
            if members and needed_s > timeout_s:
                said.append(
                    f"group {group}: the time limits of its deployments and of its fallbacks add up to "
                    f"{needed_s:g} s, and a request has {timeout_s:g} s: when providers hang, calls are cut "
                    "short. Raise KONSTRUCT_LLM_POOL_TIMEOUT_S or lower the limits "
                    "(KONSTRUCT_LLM_POOL_ATTEMPT_TIMEOUT_S, or timeout in the file)"
                )
        return said

    def _later(
        self,
        group: str,
        asked: Collection[str],
        next_up: Iterable[str],
        reason: FallbackReason,
        left_s: float,
    ) -> list[float]:
        """Return the longest call of each group that may be asked if all fail for `reason`."""
        found = dict.fromkeys(name for name in next_up if name not in asked)
        visit = [group, *found]
        while visit:
            for name in self._router.fallbacks_of(visit.pop(), reason):
                if name not in asked and name not in found:
                    found[name] = None
                    visit.append(name)
        calls = [max(limits) for name in found if (limits := self.limits(name, left_s))]
        most = self._router.max_fallbacks + 1 - len(asked)
        return sorted(calls, reverse=True)[: max(most, 0)]
