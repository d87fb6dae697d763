"""Every setting that is a number, at its bounds, alone and in pairs, against everything that it feeds.

PostgreSQL's part is in tests/integration/test_setting_bounds.py, the chart's in tests/chart/test_values.py.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

from llm_pool.budget import GroupTime
from llm_pool.cooldown import Cooldowns
from llm_pool.failures import AttemptError
from llm_pool.main import DRAIN_MARGIN_S
from orchestrator.agents.builder import build_request
from orchestrator.agents.catalog import ServedAgent
from orchestrator.agents.runner import GRACE_S, request_timeout_s
from orchestrator.main import visibility_timeout_s
from orchestrator.messages import HISTORY_TURNS
from shared.config import PREFIX, ConfigurationError, Settings, load_settings
from shared.contract import ChatMessage, CompletionRequest, FallbackReason
from shared.models import MAX_TEXT
from tests.unit.test_builder import agent, message

INT32 = 2**31 - 1
"""Largest number of PostgreSQL's integer, and of Kubernetes' int32."""

TINY = 1e-3
"""What stands for the least number above an open bound."""


def bounds() -> dict[str, tuple[float, float]]:
    """Return the least and the greatest number of each setting that is one."""
    found = {}
    for name, field in Settings.model_fields.items():
        if field.annotation not in (int, float):
            continue
        least: float | None = None
        greatest: float | None = None
        for rule in field.metadata:
            match rule:
                case Ge():
                    least = float(str(rule.ge))
                case Gt():
                    least = float(str(rule.gt)) + TINY
                case Le():
                    greatest = float(str(rule.le))
                case Lt():
                    greatest = float(str(rule.lt)) - TINY
        assert least is not None, f"{name} has no lower bound"
        assert greatest is not None, f"{name} has no upper bound"
        whole = field.annotation is int
        found[name] = (int(least), int(greatest)) if whole else (least, greatest)
    return found


BOUNDS = bounds()


def extremes() -> Iterator[Settings]:
    """Make settings with one or two of them at a bound."""
    corners = [(name, value) for name, pair in BOUNDS.items() for value in pair]
    for name, value in corners:
        yield load_settings({f"{PREFIX}{name.upper()}": str(value)})
    for (name, value), (other, its) in itertools.combinations(corners, 2):
        if name != other:
            yield Settings.model_validate({name: value, other: its})


def check_the_request(settings: Settings, served: ServedAgent) -> None:
    """What a worker asks for is what /complete takes, with the longest history that it may send."""
    turns = [
        ChatMessage(role="user" if number % 2 == 0 else "assistant", content="x" * MAX_TEXT)
        for number in range(2 * HISTORY_TURNS)
    ]
    deadline_s = settings.message_deadline_s
    request = build_request(
        served,
        turns,
        message("x" * MAX_TEXT),
        history_token_budget=settings.history_token_budget,
        max_tokens=settings.reply_max_tokens,
        timeout_s=request_timeout_s(deadline_s),
    )
    sent = request.model_copy(update={"timeout_s": round(request.timeout_s or 0, 3)})
    body = sent.model_dump_json(exclude_none=True)
    taken = CompletionRequest.model_validate_json(body)
    assert (taken.timeout_s or 0) < deadline_s
    # The sender of the request outlasts the pool's own verdict at its deadline.
    assert (taken.timeout_s or 0) + GRACE_S <= deadline_s or deadline_s < 2 * GRACE_S + 1
    if settings.llm_pool_max_body_bytes >= Settings().llm_pool_max_body_bytes:
        assert len(body) <= settings.llm_pool_max_body_bytes


def check_the_pool(settings: Settings) -> None:
    """A request has time, each call has some of it, and a cooldown ends."""
    # Everything that the setting allows can be asked for.
    CompletionRequest.model_validate(
        {
            "model": "fast",
            "messages": [{"role": "user", "content": "x"}],
            "tenant_id": "acme",
            "timeout_s": settings.llm_pool_timeout_s,
        }
    )
    limits = [settings.llm_pool_attempt_timeout_s] * 2
    later = [settings.llm_pool_ollama_timeout_s]
    planned = GroupTime.begin(0.0, settings.llm_pool_timeout_s, limits, later)
    first = planned.call_time(0.0, limits[0], limits[1:])
    assert 0 < first <= limits[0]
    assert first < settings.llm_pool_timeout_s
    assert settings.llm_pool_timeout_s - planned.until > 0
    assert int(settings.llm_pool_timeout_s) + DRAIN_MARGIN_S > settings.llm_pool_timeout_s
    now = [0.0]
    cooldowns = Cooldowns(
        default_s=settings.llm_pool_cooldown_s,
        allowed_fails=settings.llm_pool_allowed_fails,
        clock=lambda: now[0],
    )
    failure = AttemptError(FallbackReason.UNAVAILABLE)
    noted = [cooldowns.note_failure("one", failure) for _ in range(settings.llm_pool_allowed_fails + 1)]
    assert noted[-1]
    assert 0 < cooldowns.remaining("one") <= settings.llm_pool_cooldown_s


def check_the_queue(settings: Settings) -> None:
    """Redis keeps an unfinished delivery for longer than a living worker may take over it."""
    visible_s = visibility_timeout_s(settings)
    assert settings.message_deadline_s + settings.drain_s + settings.lease_s < visible_s < INT32


def check_timers_and_numbers(settings: Settings) -> None:
    """Threads can wait as long, and Kubernetes and PostgreSQL have room for the numbers."""
    for seconds in (settings.drain_s, settings.lease_s, settings.message_deadline_s, settings.worker_lease_s):
        assert 0 < seconds < threading.TIMEOUT_MAX
    # A heartbeat is not a busy loop.
    assert settings.lease_s / 3 > 0.1
    assert settings.worker_lease_s / 3 > 0.1
    for name in BOUNDS:
        assert math.isfinite(getattr(settings, name))
        if Settings.model_fields[name].annotation is int:
            assert 0 <= getattr(settings, name) <= INT32


def test_at_its_bounds_every_setting_fits_what_it_feeds() -> None:
    served = agent()
    seen = 0
    built: set[tuple[float, ...]] = set()
    for settings in extremes():
        seen += 1
        # The dearest check, once for each combination of what it looks at.
        key = tuple(
            getattr(settings, name)
            for name in (
                "message_deadline_s",
                "history_token_budget",
                "reply_max_tokens",
                "llm_pool_max_body_bytes",
            )
        )
        if key not in built:
            built.add(key)
            check_the_request(settings, served)
        check_the_pool(settings)
        check_the_queue(settings)
        check_timers_and_numbers(settings)
    assert seen > len(BOUNDS) ** 2


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_beyond_its_bounds_is_refused_by_name(name: str) -> None:
    least, greatest = BOUNDS[name]
    step: Any = 1 if Settings.model_fields[name].annotation is int else 2 * TINY
    for value in (least - step, greatest + step):
        with pytest.raises(ConfigurationError, match=f"{PREFIX}{name.upper()}: Input should be"):
            load_settings({f"{PREFIX}{name.upper()}": str(value)})
