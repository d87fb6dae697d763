"""A Prometheus in the cluster finds the release by the chart's own monitors, and has its rules."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.e2e.cluster import KindCluster
from tests.e2e.monitoring import CHOSEN, FROM, Monitoring
from tests.e2e.product import Product
from tests.e2e.provider_pod import Providers
from tests.support.waiting import eventually

COMPONENTS = ("llm-pool", "worker", "operator")


@pytest.fixture(scope="module")
def monitoring(cluster: KindCluster, product: Product) -> Monitoring:
    """Start a Prometheus, and have the release watched by it."""
    made = Monitoring(cluster)
    made.install()
    told = {
        "enabled": True,
        "interval": "2s",
        "labels": CHOSEN,
        "rules": {"enabled": True, "interval": "2s"},
    }
    product.install(
        *("--set-json", f"monitoring={json.dumps(told)}"),
        *("--set-json", f"networkPolicy.metricsFrom={json.dumps(FROM)}"),
    )
    return made


def test_every_pod_is_scraped(product: Product, monitoring: Monitoring) -> None:
    pods = {pod["metadata"]["name"] for name in COMPONENTS for pod in product.pods(name)}

    def scraped() -> bool:
        health = {one["labels"]["pod"]: one["health"] for one in monitoring.api.targets()}
        return health == dict.fromkeys(pods, "up")

    eventually(scraped, within_s=120, what="a scrape of every Pod")
    jobs = Counter(one["labels"]["job"] for one in monitoring.api.targets())
    full = f"{product.namespace}/{product.release}"
    assert jobs == {
        f"{product.release}-llm-pool": len(product.pods("llm-pool")),
        f"{full}-worker": len(product.pods("worker")),
        f"{full}-operator": len(product.pods("operator")),
    }


def test_every_component_tells_what_it_does(
    product: Product, providers: Providers, monitoring: Monitoring
) -> None:
    providers.up()
    assert product.send("acme", "ada", "Who are you?", thread="monitored")["status"] == "answered"
    built = {labels[0] for labels in monitoring.api.tally("konstruct_build_info", "component")}
    assert built == set(COMPONENTS)
    own = f'{{namespace="{product.namespace}",release="{product.release}"}}'
    for name in (
        f'konstruct_llm_requests_total{own[:-1]},outcome="ok"}}',
        f'konstruct_messages_total{own[:-1]},outcome="answered"}}',
        f'konstruct_operator_agents{own[:-1]},ready="true"}}',
    ):
        eventually(
            lambda name=name: monitoring.api.value(f"sum({name})") > 0,  # type: ignore[misc]
            within_s=30,
            what=name,
        )


def test_the_rules_are_loaded_and_evaluated(product: Product, monitoring: Monitoring) -> None:
    rule = product.get("prometheusrules.monitoring.coreos.com", product.release)
    ours = Counter(
        one.get("alert") or one["record"] for group in rule["spec"]["groups"] for one in group["rules"]
    )
    assert ours

    def loaded() -> bool:
        there = monitoring.api.rules()
        return Counter(one["name"] for one in there) == ours and {one["health"] for one in there} == {"ok"}

    eventually(loaded, within_s=120, what="every rule")
    recorded = "konstruct:llm_requests:rate5m"
    eventually(lambda: monitoring.api.query(recorded), within_s=30, what=recorded)


def test_an_alert_is_pending_while_the_operator_is_away(product: Product, monitoring: Monitoring) -> None:
    absent = 'ALERTS{alertname="KonstructMetricsAbsent",component="operator"}'
    name = f"deployment/{product.release}-operator"
    eventually(lambda: not monitoring.api.query(absent), within_s=60, what="an operator")
    product.kubectl("scale", name, "--replicas=0", "-n", product.namespace)
    try:
        [found] = eventually(lambda: monitoring.api.query(absent), within_s=90, what="the alert")
        assert found.labels["alertstate"] == "pending"
    finally:
        product.kubectl("scale", name, "--replicas=1", "-n", product.namespace)
        product.kubectl("rollout", "status", name, "-n", product.namespace, "--timeout=90s")
