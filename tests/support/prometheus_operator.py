"""What a Prometheus operator needs in a cluster: the definitions of its kinds, and a Prometheus to make."""

from __future__ import annotations

from typing import Any

from tests.support.toolchain import module_folder

GROUP = "monitoring.coreos.com"
"""API group of its kinds."""

KINDS = ("prometheuses", "servicemonitors", "podmonitors", "probes", "prometheusrules", "scrapeconfigs")
"""Its kinds that a Prometheus depends on."""


def definitions() -> list[str]:
    """Return the CustomResourceDefinitions of the kinds, as the pinned operator has them."""
    folder = module_folder("prometheus-operator") / "example" / "prometheus-operator-crd"
    return [(folder / f"{GROUP}_{kind}.yaml").read_text() for kind in KINDS]


def prometheus(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Describe a Prometheus that takes every monitor and rule of its namespace, and more by `spec`."""
    selectors: dict[str, Any] = {f"{kind}Selector": {} for kind in ("serviceMonitor", "podMonitor", "rule")}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Prometheus",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**selectors, **spec},
    }
