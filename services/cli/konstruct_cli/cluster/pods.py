"""Finding a worker's Pod that a command can run in."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, NotRunningError, UsageError
from shared.kube.client import KubeClient
from shared.kube.errors import ForbiddenError
from shared.kube.leases import COMPONENT
from shared.kube.names import COMPONENT_LABEL, pods_path

INSTANCE_LABEL = "app.kubernetes.io/instance"
"""Label of a Pod: the Helm release it belongs to."""

CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
"""Annotation of a Pod: the container that is meant when none is named, as kubectl reads it."""


@dataclass(frozen=True, slots=True)
class WorkerPod:
    """A Pod that runs a worker."""

    name: str
    """Its name."""

    container: str
    """Its container with the worker, and with the ``konstruct`` command."""

    release: str
    """Its Helm release."""

    ready: bool
    """Whether it is ready and not being stopped."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> WorkerPod:
        """Read a Pod."""
        metadata = item["metadata"]
        conditions = item.get("status", {}).get("conditions") or []
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        default = (metadata.get("annotations") or {}).get(CONTAINER_ANNOTATION)
        return cls(
            name=metadata["name"],
            container=default or item["spec"]["containers"][0]["name"],
            release=metadata["labels"].get(INSTANCE_LABEL, ""),
            ready=ready and "deletionTimestamp" not in metadata,
        )


async def ready_worker(client: KubeClient, cluster: Cluster) -> WorkerPod:
    """Find a ready worker of the release, any of them.

    Raises:
        CliError: there is none, more than one release, or a right is missing; the message says which.
    """
    selector = f"{COMPONENT_LABEL}={COMPONENT}"
    if cluster.release is not None:
        selector += f",{INSTANCE_LABEL}={cluster.release}"
    try:
        items, _ = await client.list(pods_path(cluster.namespace), label_selector=selector)
    except ForbiddenError as error:
        raise CliError(
            f"you may not list pods in namespace {cluster.namespace}. Ask for the rights that docs/cli.md "
            f"lists: list on pods, get and create on pods/exec ({error})"
        ) from None
    return choose([WorkerPod.of(item) for item in items], cluster)


def choose(pods: Sequence[WorkerPod], cluster: Cluster) -> WorkerPod:
    """Choose one of the workers in the namespace.

    Raises:
        UsageError: they belong to more than one release.
        NotRunningError: none is ready.
    """
    releases = sorted({pod.release for pod in pods})
    if len(releases) > 1:
        raise UsageError(
            f"namespace {cluster.namespace} has workers of the releases {', '.join(releases)}: "
            "choose one with --release"
        )
    whose = f" of release {cluster.release}" if cluster.release else ""
    if not pods:
        raise NotRunningError(
            f"no worker{whose} runs in namespace {cluster.namespace}; "
            "`helm list --all-namespaces` shows what is installed where"
        )
    ready = [pod for pod in pods if pod.ready]
    if not ready:
        names = ", ".join(sorted(pod.name for pod in pods))
        raise NotRunningError(
            f"no worker{whose} in namespace {cluster.namespace} is ready: "
            f"`kubectl --namespace {cluster.namespace} describe pod` tells more of {names}"
        )
    return random.choice(ready)  # noqa: S311 - spreads the load, guards nothing
