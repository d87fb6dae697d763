"""Installed with the dev values on restricted namespaces, the agents of two tenants answer."""

from __future__ import annotations

import json

from tests.e2e.agents import says
from tests.e2e.product import Product
from tests.e2e.provider_pod import Providers


def test_every_pod_of_the_release_is_ready_and_restricted(product: Product) -> None:
    for component in ("llm-pool", "worker", "operator"):
        pods = product.pods(component)
        assert pods, component
        for pod in pods:
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
            conditions = {item["type"]: item["status"] for item in pod["status"]["conditions"]}
            assert conditions["Ready"] == "True", pod["metadata"]["name"]
    assert set(product.restarts().values()) == {0}


def test_helm_test_sends_a_message_through_the_whole_path(product: Product) -> None:
    assert "Succeeded" in product.helm("test", product.release, "--logs")


def test_agents_show_what_is_in_effect(product: Product) -> None:
    shown = product.kubectl("get", "kag", "-A")
    assert {"TENANT", "MODEL", "READY", "SYNCED", "REVISION"} <= set(shown.splitlines()[0].split())
    stored = product.ready("acme", "ada")
    assert stored["status"]["tenantId"] == "acme"
    assert "ConfigSynced" in product.kubectl("describe", "agent", "ada", "-n", "acme")


def test_quality_up_answers_in_each_agents_voice(product: Product, providers: Providers) -> None:
    providers.up()
    for tenant, name in (("acme", "ada"), ("globex", "greta")):
        reply = product.send(tenant, name, "Who are you?", thread="quality-up")
        assert reply["status"] == "answered"
        assert reply["text"] == says(name, 0)
        assert (reply["served_group"], reply["degraded"]) == ("quality", False)
        stored = product.ready(tenant, name)
        assert reply["revision"] == stored["status"]["activeRevision"]
        assert reply["prompt_sha256"] == stored["status"]["promptSha256"]


def test_quality_down_a_real_small_model_answers_and_the_reply_says_so(
    product: Product, providers: Providers
) -> None:
    providers.down()
    reply = product.send("acme", "ada", "Who are you?", thread="quality-down")
    assert reply["status"] == "answered", reply
    assert reply["text"].strip()
    assert (reply["requested_group"], reply["served_group"]) == ("quality", "fast")
    assert reply["degraded"] is True
    assert reply["fallback_reason"] in ("unavailable", "cooldown")
    evidence = product.konstruct("explain", reply["message_id"], "--tenant", "acme")
    assert (evidence["proof"]["verdict"], evidence["degraded"]) == ("proved", True)
    assert evidence["proof"]["prompt_sha256"] == reply["prompt_sha256"]
    assert evidence["attempts"][-1]["outcome"] == "ok"
    providers.up()


def test_a_refusing_agent_apologises_rather_than_degrade(product: Product, providers: Providers) -> None:
    providers.down()
    reply = product.send("globex", "strict", "Who are you?", thread="refuse")
    assert (reply["status"], reply["reason"]) == ("apologised", "fallback_refused")
    providers.up()


def test_a_tenant_cannot_reach_anothers_agent(product: Product) -> None:
    reply = product.send("globex", "ada", "Who are you?", thread="foreign")
    assert (reply["status"], reply["reason"]) == ("failed", "agent_unknown")


def test_status_shows_the_workers_and_what_they_serve(product: Product) -> None:
    status = product.konstruct("status")
    assert len(status["workers"]) == len(product.pods("worker"))
    replicas = status["llm_pool"]["replicas"]
    assert (replicas["addresses"], replicas["silent"]) == (len(product.pods("llm-pool")), [])


def test_the_operator_can_read_no_secret(product: Product) -> None:
    for verb in ("get", "list", "watch"):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{product.namespace}:{product.release}-operator",
                "resourceAttributes": {
                    "namespace": product.namespace,
                    "verb": verb,
                    "resource": "secrets",
                },
            },
        }
        answer = product.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
        assert json.loads(answer)["status"]["allowed"] is False, verb
