"""Kinds of other projects that the chart makes objects of."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chart.rendering import Manifest

STAND_INS = {
    "keda.sh": (
        "v1alpha1",
        {"ScaledObject": "scaledobjects", "TriggerAuthentication": "triggerauthentications"},
    ),
    "monitoring.coreos.com": (
        "v1",
        {
            "ServiceMonitor": "servicemonitors",
            "PodMonitor": "podmonitors",
            "PrometheusRule": "prometheusrules",
        },
    ),
}
"""Kinds of other projects: known to the API server by name only, so their specs are not judged here."""


def _stand_in(group: str, version: str, kind: str, plural: str) -> Manifest:
    """Define a kind whose objects may hold anything."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    one = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [one]},
    }


def stand_ins() -> Iterator[Manifest]:
    """Define them all."""
    for group, (version, plurals) in STAND_INS.items():
        for kind, plural in plurals.items():
            yield _stand_in(group, version, kind, plural)
