"""An edit is in effect on every worker, under load: nothing restarts, mixes or gets lost."""

from __future__ import annotations

import re
import time

from tests.e2e.agents import agent, says
from tests.e2e.product import Load, Product
from tests.e2e.progress import say
from tests.e2e.provider_pod import Providers
from tests.support.waiting import eventually

EDITS = 8


def test_edits_under_load_reach_every_worker(product: Product, providers: Providers) -> None:
    providers.up()
    restarts = product.restarts()
    revisions = {product.ready("acme", "ada")["status"]["activeRevision"]: 0}
    proven: list[float] = []
    with product.load("acme/ada", "globex/greta", rate=10) as load:
        for version in range(1, EDITS + 1):
            began = time.monotonic()
            product.apply(agent("acme", "ada", version))
            stored = product.ready("acme", "ada")
            proven.append(time.monotonic() - began)
            revisions[stored["status"]["activeRevision"]] = version
            answered_since = len(load.so_far())
            eventually(lambda seen=answered_since: len(load.so_far()) > seen, within_s=30)  # type: ignore[misc]
    load.assert_nothing_lost()
    _assert_no_reply_mixes(load, "ada", revisions)
    assert {says("greta", 0)} == {item["text"] for item in load.messages if item["agent"] == "greta"}
    assert product.restarts() == restarts
    lags = [_largest_lag(product.metrics(pod["metadata"]["name"], 8005)) for pod in product.pods("worker")]
    say(
        f"{len(load.messages)} messages, {EDITS} edits: kubectl apply until `kubectl wait` saw the proof "
        f"{min(proven):.2f} to {max(proven):.2f} s; in effect on {len(lags)} workers within {max(lags):g} s"
    )
    product.apply(agent("acme", "ada", 0))
    assert product.ready("acme", "ada")["status"]["activeRevision"] in revisions, "a rollback has a new name"


def test_a_suspended_agent_answers_nobody_until_it_is_resumed(product: Product, providers: Providers) -> None:
    product.apply(agent("globex", "greta", 0, suspended=True))
    eventually(
        lambda: _with_reason(product, "agent_suspended"), within_s=20, what="the suspension taking effect"
    )
    product.apply(agent("globex", "greta", 0))
    product.ready("globex", "greta")
    assert product.send("globex", "greta", "Back?", thread="resumed")["text"] == says("greta", 0)


def test_an_agent_deleted_and_made_anew_answers_with_its_new_text(
    product: Product, providers: Providers
) -> None:
    product.apply(agent("acme", "temp", 1))
    product.ready("acme", "temp")
    assert product.send("acme", "temp", "Who?", thread="t1")["text"] == says("temp", 1)
    product.kubectl("delete", "agent", "temp", "-n", "acme")
    selector = "konstruct.dev/agent=temp"
    eventually(
        lambda: not product.kubectl("get", "configmaps", "-n", "acme", "-l", selector, "-o", "name").strip(),
        within_s=60,
        what="the deletion of its ConfigMaps",
    )
    reply = product.send("acme", "temp", "Who?", thread="t2")
    assert (reply["status"], reply["reason"]) == ("failed", "agent_unknown")
    product.apply(agent("acme", "temp", 2))
    product.ready("acme", "temp")
    assert product.send("acme", "temp", "Who?", thread="t3")["text"] == says("temp", 2)


def _assert_no_reply_mixes(load: Load, name: str, revisions: dict[str, int]) -> None:
    answers = [item for item in load.messages if item["agent"] == name]
    assert answers
    for item in answers:
        assert item["status"] == "answered", item
        assert item["text"] == says(name, revisions[item["revision"]]), item
    assert len({item["revision"] for item in answers}) > 1


def _with_reason(product: Product, reason: str) -> bool:
    reply = product.send("globex", "greta", "There?", thread="suspended")
    return bool(reply["status"] == "failed" and reply["reason"] == reason)


def _largest_lag(metrics: str) -> float:
    """Read the smallest bucket of the lag's histogram that holds every observation, in seconds."""
    buckets = re.findall(r'konstruct_agent_config_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', metrics)
    total = float(buckets[-1][1])
    assert total > 0, "no edit was counted"
    return min(float(bound) for bound, count in buckets if float(count) == total)
