"""After a quiet scrape, what Prometheus has is exactly what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.observability.conftest import Run

Tally = dict[tuple[str, ...], float]


def tally(found: Iterable[tuple[str, ...]]) -> Tally:
    return {key: float(count) for key, count in Counter(found).items()}


def test_attempts_are_what_the_providers_counted(observed: Run) -> None:
    counted = observed.stage.prometheus.api.tally("konstruct_llm_attempts_total", "deployment", "outcome")
    assert counted == observed.stage.providers.attempts()
    # The script had something of each kind.
    assert {"ok", "rate_limited", "timeout", "unavailable"} == {outcome for _, outcome in counted}


def test_tokens_are_what_the_providers_answered(observed: Run) -> None:
    counted = observed.stage.prometheus.api.tally("konstruct_llm_tokens_total", "group", "direction")
    assert counted == observed.stage.providers.tokens()


def test_requests_are_what_senders_saw(observed: Run) -> None:
    ended = observed.stage.load.ended()
    api = observed.stage.prometheus.api
    counted = api.tally("konstruct_llm_requests_total", "requested_group", "served_group", "outcome")
    assert counted == tally((one.requested, one.served, one.outcome) for one in ended)
    assert {
        ("quality", "quality", "ok"),
        ("quality", "fast", "ok"),
        ("quality", "_none", "fallback_refused"),
    } < set(counted)
    durations = api.tally("konstruct_llm_request_duration_seconds_count", "requested_group", "served_group")
    assert durations == tally((one.requested, one.served) for one in ended)
    assert api.value("sum(konstruct_llm_overhead_seconds_count)") == len(ended)


def test_attempts_that_senders_were_told_of_are_among_those_counted(observed: Run) -> None:
    told = tally(attempt for one in observed.stage.load.ended() for attempt in one.attempts)
    counted = observed.stage.prometheus.api.tally("konstruct_llm_attempts_total", "deployment", "outcome")
    # Of a message that was apologised for nothing keeps the attempts.
    assert all(count <= counted[key] for key, count in told.items())
    ok = {key: count for key, count in counted.items() if key[1] == "ok"}
    assert ok == {key: count for key, count in told.items() if key[1] == "ok"}


def test_messages_are_what_the_database_holds(observed: Run) -> None:
    api = observed.stage.prometheus.api
    messages = observed.stage.load.messages()
    outcomes = tally((status,) for status, reasons in messages.items() for _ in reasons)
    assert api.tally("konstruct_messages_total", "outcome") == outcomes
    assert {"answered", "apologised"} == set(messages)
    apologies = tally((str(reason),) for reason in messages["apologised"])
    assert api.tally("konstruct_apologies_total", "reason") == apologies
    total = sum(outcomes.values())
    for name in ("konstruct_message_duration_seconds_count", "konstruct_message_queue_seconds_count"):
        assert api.value(f"sum({name})") == total


def test_every_worker_had_its_part(observed: Run) -> None:
    by_worker = observed.stage.prometheus.api.tally("konstruct_messages_total", "pod")
    assert len(by_worker) == len(observed.stage.workers)


def test_the_system_is_idle_and_well_again(observed: Run) -> None:
    api = observed.stage.prometheus.api
    for name in ("konstruct_llm_in_flight", "konstruct_messages_in_flight", "konstruct_backlog_messages"):
        assert api.value(f"sum({name})") == 0
    for name in ("up", "konstruct_watch_connected", "konstruct_worker_accepting"):
        assert api.value(f"min({name})") == 1
    assert api.tally("konstruct_operator_workers", "state") == {("alive",): len(observed.stage.workers)}
    assert api.value("konstruct_operator_unsynced_agents") == 0


def test_the_edit_was_timed(observed: Run) -> None:
    api = observed.stage.prometheus.api
    assert api.value("sum(konstruct_agent_config_lag_seconds_count)") >= len(observed.stage.workers)
