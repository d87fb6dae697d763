"""What the NetworkPolicies let through, by the manifests: whether a CNI enforces them is its matter."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tests.chart.rendering import (
    ENVIRONMENTS,
    IN_CHART,
    Manifest,
    component,
    kinds,
    pod_templates,
    render_chart,
)

SERVERS = {5432: "postgresql", 6379: "redis", 8004: "llm-pool"}


def policies_of(manifests: list[Manifest], pod: Manifest) -> list[Manifest]:
    """List the policies that select a pod."""
    labels = pod["metadata"]["labels"]
    return [
        policy
        for policy in kinds(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def egress(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """List (component, rule) of everything that may go out."""
    for policy in kinds(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            yield component(policy), rule


def is_public(peer: Manifest) -> bool:
    """Whether a peer holds public addresses."""
    return "ipBlock" in peer and not ipaddress.ip_network(peer["ipBlock"]["cidr"]).is_private


def test_every_pod_is_denied_by_default_and_allowed_by_one_policy(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        deny, own = sorted(policies_of(manifests, pod), key=component)
        assert deny["metadata"]["name"].endswith("-default-deny"), name
        assert not {"ingress", "egress"} & deny["spec"].keys()
        assert component(own) == component(pod)
        for policy in (deny, own):
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_only_the_pool_reaches_providers(manifests: list[Manifest]) -> None:
    for name, rule in egress(manifests):
        if name == "llm-pool":
            continue
        ports = {port["port"] for port in rule["ports"]}
        assert ports, name
        if ports & {80, 443, 6443, 8443}:
            assert rule["to"], name
            assert not any(is_public(peer) for peer in rule["to"] if "100.64" not in str(peer)), name


def test_the_pool_reaches_nothing_internal_unless_told() -> None:
    rules = [rule for name, rule in egress(render_chart(IN_CHART)) if name == "llm-pool"]
    dns, providers = rules
    assert {port["port"] for port in dns["ports"]} == {53}
    for peer in providers["to"]:
        block = peer["ipBlock"]
        outside = [ipaddress.ip_network(one) for one in block["except"]]
        if block["cidr"] == "0.0.0.0/0":
            # The addresses of clouds' metadata services, of pods and of Services.
            for address in ("169.254.169.254", "10.96.0.1", "172.16.0.1", "192.168.1.1"):
                assert any(ipaddress.ip_address(address) in one for one in outside), address


def test_servers_take_connections_from_those_who_need_them() -> None:
    made = render_chart(IN_CHART)
    sources = {
        component(policy): {
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for rule in policy["spec"].get("ingress", [])
            for peer in rule["from"]
        }
        for policy in kinds(made, "NetworkPolicy")
    }
    assert sources == {
        "": set(),
        "llm-pool": {"worker"},
        "worker": set(),
        "operator": set(),
        "migration": set(),
        "test": set(),
        "postgresql": {"worker", "migration", "test"},
        "redis": {"worker", "test"},
    }


def test_what_may_go_out_to_a_server_may_come_in_there() -> None:
    made = render_chart(IN_CHART)
    for name, rule in egress(made):
        for port in rule["ports"]:
            if port["port"] in SERVERS and "to" in rule:
                target = SERVERS[port["port"]]
                (peer,) = rule["to"]
                assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == target
                (policy,) = [one for one in kinds(made, "NetworkPolicy") if component(one) == target]
                allowed = [
                    source["podSelector"]["matchLabels"] for source in policy["spec"]["ingress"][0]["from"]
                ]
                assert name in [labels["app.kubernetes.io/component"] for labels in allowed]


def test_metrics_are_scraped_where_values_say_so() -> None:
    made = render_chart(ENVIRONMENTS["prod"])
    for policy in kinds(made, "NetworkPolicy"):
        scraped = [
            rule["ports"][0]["port"]
            for rule in policy["spec"].get("ingress", [])
            if any("namespaceSelector" in peer for peer in rule["from"])
        ]
        ports = {"llm-pool": [8004], "worker": [8005], "operator": [8006]}
        assert scraped == ports.get(component(policy), []), policy["metadata"]["name"]


def test_they_can_be_left_out() -> None:
    assert kinds(render_chart(IN_CHART, {"networkPolicy.enabled": False}), "NetworkPolicy") == []


def test_only_what_is_traced_reaches_the_collector() -> None:
    on = {"tracing": {"enabled": True, "endpoint": "http://collector.observability:4318"}}
    for values, reach in (({}, []), (on, ["llm-pool", "worker"])):
        made = render_chart(IN_CHART, values)
        rules = [
            (name, rule) for name, rule in egress(made) if {"protocol": "TCP", "port": 4318} in rule["ports"]
        ]
        assert [name for name, _ in rules] == reach
        assert not any(
            is_public(peer) for _, rule in rules for peer in rule["to"] if "100.64" not in str(peer)
        )
