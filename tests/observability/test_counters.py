"""After a quiet scrape, what Prometheus has is exactly what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.observability.conftest import Run

Tally = dict[tuple[str, ...], float]


def tally(found: Iterable[tuple[str, ...]]) -> Tally:
    return {key: float(count) for key, count in Counter(found).items()}


def read(observed: Run, metric: str, *labels: str) -> Tally:
    return observed.api.tally(metric, *labels, at=observed.counted.at)


def test_attempts_are_what_the_providers_counted(observed: Run) -> None:
    counted = read(observed, "konstruct_llm_attempts_total", "deployment", "outcome")
    assert counted == observed.counted.attempts
    # The script had something of each kind.
    assert {"ok", "rate_limited", "timeout", "unavailable"} == {outcome for _, outcome in counted}


def test_tokens_are_what_the_providers_answered(observed: Run) -> None:
    assert read(observed, "konstruct_llm_tokens_total", "group", "direction") == observed.counted.tokens


def test_requests_are_what_senders_saw(observed: Run) -> None:
    ended = observed.counted.ended
    counted = read(observed, "konstruct_llm_requests_total", "requested_group", "served_group", "outcome")
    assert counted == tally((one.requested, one.served, one.outcome) for one in ended)
    for served, outcome in (("quality", "ok"), ("fast", "ok"), ("_none", "fallback_refused")):
        assert ("quality", served, outcome) in counted
    durations = "konstruct_llm_request_duration_seconds_count"
    assert read(observed, durations, "requested_group", "served_group") == tally(
        (one.requested, one.served) for one in ended
    )
    assert read(observed, "konstruct_llm_overhead_seconds_count") == {(): len(ended)}


def test_attempts_that_senders_were_told_of_are_those_counted(observed: Run) -> None:
    told = tally(attempt for one in observed.counted.ended for attempt in one.attempts)
    counted = read(observed, "konstruct_llm_attempts_total", "deployment", "outcome")
    # Of a message that was apologised for nothing keeps the attempts.
    assert all(count <= counted[key] for key, count in told.items())
    assert {key: told[key] for key in told if key[1] == "ok"} == {
        key: counted[key] for key in counted if key[1] == "ok"
    }


def test_messages_are_what_the_database_holds(observed: Run) -> None:
    messages = observed.counted.messages
    assert {"answered", "apologised"} == set(messages)
    outcomes = tally((status,) for status, reasons in messages.items() for _ in reasons)
    assert read(observed, "konstruct_messages_total", "outcome") == outcomes
    apologies = tally((str(reason),) for reason in messages["apologised"])
    assert read(observed, "konstruct_apologies_total", "reason") == apologies
    for name in ("konstruct_message_duration_seconds_count", "konstruct_message_queue_seconds_count"):
        assert read(observed, name) == {(): sum(outcomes.values())}


def test_every_worker_had_its_part(observed: Run) -> None:
    assert len(read(observed, "konstruct_messages_total", "pod")) == len(observed.stage.workers)


def test_the_system_was_idle_and_well_again(observed: Run) -> None:
    for name in ("konstruct_llm_in_flight", "konstruct_messages_in_flight", "konstruct_backlog_messages"):
        assert read(observed, name) == {}
    for name in (
        "up",
        "konstruct_watch_connected",
        "konstruct_worker_accepting",
        "konstruct_worker_consuming",
    ):
        assert observed.api.value(f"min({name})", observed.counted.at) == 1
    workers = {("alive",): len(observed.stage.workers)}
    assert read(observed, "konstruct_operator_workers", "state") == workers
    assert read(observed, "konstruct_operator_unsynced_agents") == {}


def test_the_edit_was_timed_in_every_worker(observed: Run) -> None:
    assert len(read(observed, "konstruct_agent_config_lag_seconds_count", "pod")) == len(
        observed.stage.workers
    )
