"""A release's own life: upgraded under load, then uninstalled (the last tests: the others need it)."""

from __future__ import annotations

import json

from tests.e2e.product import Product
from tests.e2e.progress import say
from tests.e2e.provider_pod import Providers
from tests.support.waiting import eventually

KINDS = (
    "deployments,statefulsets,replicasets,pods,services,configmaps,secrets,serviceaccounts,roles,"
    "rolebindings,leases,networkpolicies,poddisruptionbudgets,jobs,horizontalpodautoscalers,"
    "persistentvolumeclaims"
)


def test_an_upgrade_under_load_loses_no_message(product: Product, providers: Providers) -> None:
    providers.up()
    before = {pod["metadata"]["uid"] for pod in product.pods("worker")}
    with product.load("acme/ada", "globex/greta", rate=5) as load:
        product.install(
            "--set", "worker.podAnnotations.upgraded=yes", "--set", "llmPool.podAnnotations.upgraded=yes"
        )
        eventually(
            lambda: not before & {pod["metadata"]["uid"] for pod in product.pods("worker")}, within_s=120
        )
        seen = len(load.so_far())
        eventually(lambda: len(load.so_far()) > seen + 10, within_s=120, what="answers of the new workers")
    load.assert_nothing_lost()
    assert {message["status"] for message in load.messages} == {"answered"}
    say(f"{len(load.messages)} messages during the upgrade, all answered")


def test_uninstall_leaves_the_agents_and_what_the_notes_name(product: Product) -> None:
    rendered = product.kubectl("get", "configmaps", "-A", "-l", "konstruct.dev/agent", "-o", "name").split()
    assert rendered
    notes = product.helm("get", "notes", product.release)
    product.helm("uninstall", product.release, "--wait", "--timeout", "3m")
    eventually(lambda: not _left(product), within_s=90, what="an empty namespace")
    claims = json.loads(
        product.kubectl("get", "persistentvolumeclaims", "-n", product.namespace, "-o", "json")
    )["items"]
    assert claims
    for claim in claims:
        assert claim["metadata"]["name"] in notes
    assert product.kubectl("get", "crd", "agents.konstruct.dev", "-o", "name").strip()
    assert product.kubectl("get", "agents", "ada", "-n", "acme", "-o", "name").strip()
    after = product.kubectl("get", "configmaps", "-A", "-l", "konstruct.dev/agent", "-o", "name").split()
    assert after == rendered
    owned = f"app.kubernetes.io/instance={product.release}"
    assert not product.kubectl("get", "clusterroles,clusterrolebindings", "-l", owned, "-o", "name").strip()
    for namespace in ("acme", "globex"):
        eventually(
            lambda place=namespace: not product.kubectl("get", "leases", "-n", place, "-o", "name").strip(),  # type: ignore[misc]
            within_s=60,
            what=f"no claim on {namespace}",
        )


def _left(product: Product) -> list[str]:
    """List what is in the release's namespace that neither Kubernetes nor the tests put there."""
    names = product.kubectl("get", KINDS, "-n", product.namespace, "-o", "name").split()
    own = (
        "configmap/kube-root-ca.crt",
        "serviceaccount/default",
        "persistentvolumeclaim/",
        "secret/providers",
    )
    return [name for name in names if not name.startswith(own)]
