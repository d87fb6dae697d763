"""Each Pod of the release is killed under load; whoever sends as a gateway does loses nothing."""

from __future__ import annotations

import pytest

from tests.e2e.product import Product
from tests.e2e.progress import say
from tests.e2e.provider_pod import Providers
from tests.support.waiting import eventually


@pytest.mark.parametrize("component", ["llm-pool", "worker", "operator", "redis", "postgresql"])
def test_a_killed_pod_loses_no_message(product: Product, providers: Providers, component: str) -> None:
    providers.up()
    [victim, *_] = product.pods(component)
    name, uid = victim["metadata"]["name"], victim["metadata"]["uid"]
    with product.load("acme/ada", "globex/greta", rate=5) as load:
        seen = len(load.so_far())
        product.kubectl("delete", "pod", name, "-n", product.namespace, "--wait=false")
        eventually(lambda: _replaced(product, component, uid), within_s=180, what=f"another {component}")
        eventually(lambda: len(load.so_far()) > seen + 20, within_s=180, what="answers after that")
    load.assert_nothing_lost()
    failed = [message for message in load.messages if message["status"] == "failed"]
    assert not failed, failed[:3]
    say(f"{component} killed: {len(load.messages)} messages, {_count(load.messages)}")


def _replaced(product: Product, component: str, uid: str) -> bool:
    pods = product.pods(component)
    return bool(pods) and all(
        pod["metadata"]["uid"] != uid
        and any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in pod["status"].get("conditions", [])
        )
        for pod in pods
    )


def _count(messages: list[dict[str, object]]) -> dict[object, int]:
    return {
        status: sum(message["status"] == status for message in messages)
        for status in {message["status"] for message in messages}
    }
