"""A Prometheus in the cluster, made by a real Prometheus operator of what the chart tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from shared.kube.objects import Object
from tests.e2e.agents import namespace
from tests.e2e.cluster import KindCluster
from tests.e2e.images.build import image_name
from tests.e2e.pods import pod
from tests.support.prometheus import Api
from tests.support.prometheus_operator import definitions, prometheus
from tests.support.waiting import eventually

NAMESPACE = "monitoring"
"""Where they run."""

NAME = "watching"
"""Name of the Prometheus."""

CHOSEN = {"watched-by": NAME}
"""Labels of the monitors and rules that it takes."""

FROM = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}]
"""Who scrapes, as a NetworkPolicy says it."""

_RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}}


class Monitoring:
    """The operator and its Prometheus."""

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster
        self.api = Api(self._get)
        """Asks the Prometheus, through the API server."""

    def install(self) -> None:
        """Start the operator, have it make a Prometheus, and wait until that answers."""
        self._apply(*(json.dumps(made) for made in (namespace(NAMESPACE), *_accounts())), *definitions())
        self._cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        everywhere: dict[str, Any] = {
            f"{kind}NamespaceSelector": {} for kind in ("serviceMonitor", "podMonitor", "rule")
        }
        chosen = {
            f"{kind}Selector": {"matchLabels": CHOSEN} for kind in ("serviceMonitor", "podMonitor", "rule")
        }
        made = prometheus(
            NAME,
            NAMESPACE,
            **everywhere,
            **chosen,
            image=image_name("prometheus"),
            imagePullPolicy="Never",
            serviceAccountName=NAME,
            securityContext={
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "fsGroup": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            evaluationInterval="2s",
            resources=_RESOURCES,
        )
        self._apply(json.dumps(_operator()), json.dumps(made))
        eventually(self._answers, within_s=180, what="a Prometheus")

    def _apply(self, *manifests: str) -> None:
        self._cluster.kubectl(
            "apply", "--server-side", "--filename=-", stdin="\n---\n".join(manifests), timeout_s=180
        )

    def _answers(self) -> bool:
        ready = ("get", "statefulset", f"prometheus-{NAME}", "-n", NAMESPACE, "--ignore-not-found")
        return self._cluster.kubectl(*ready, "-o", "jsonpath={.status.readyReplicas}") == "1"

    def _get(self, path: str, query: Mapping[str, str]) -> str:
        service = f"/api/v1/namespaces/{NAMESPACE}/services/http:prometheus-operated:web/proxy"
        return self._cluster.kubectl("get", "--raw", f"{service}{path}?{urlencode(query)}")


def _operator() -> Object:
    """Describe the operator's Pod."""
    made = pod(
        "prometheus-operator",
        "prometheus-operator",
        user=65534,
        args=(f"--prometheus-config-reloader={image_name('prometheus-config-reloader')}",),
    )
    return {
        **made,
        "metadata": {**made["metadata"], "namespace": NAMESPACE},
        "spec": {**made["spec"], "serviceAccountName": "prometheus-operator"},
    }


def _accounts() -> list[Object]:
    """Describe two accounts: the operator may do anything here, its Prometheus find what it scrapes."""
    finding = {
        "verbs": ["get", "list", "watch"],
        "apiGroups": [""],
        "resources": ["services", "endpoints", "pods"],
    }
    made: list[Object] = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NAME},
            "rules": [finding],
        }
    ]
    for name, role in (("prometheus-operator", "cluster-admin"), (NAME, NAME)):
        subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
        made += [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": NAMESPACE},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{name}-of-the-tests"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [subject],
            },
        ]
    return made
