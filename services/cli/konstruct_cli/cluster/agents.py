"""The Agents of the cluster and how many workers have each in effect, read from inside a Pod."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from konstruct_cli.seen import AgentsStatus, ClusterAgent
from shared.config import Settings
from shared.kube.client import KubeClient
from shared.kube.errors import KubeError
from shared.kube.leases import WorkerLease, worker_leases_selector
from shared.kube.names import agents_path, leases_path
from shared.kube.objects import ConditionType, StoredAgent

LOOK_S = 10.0
"""Longest that the API server may take to list Agents and Leases."""


def look_at_agents(settings: Settings, environ: Mapping[str, str] | None = None) -> AgentsStatus | None:
    """List the Agents with the rights of this Pod; None where agents come from elsewhere than a cluster."""
    environ = os.environ if environ is None else environ
    reachable = settings.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in environ
    if settings.agents_dir is not None or settings.pod_namespace is None or not reachable:
        return None
    try:
        return asyncio.run(_look(settings, settings.pod_namespace))
    except KubeError as error:
        return AgentsStatus(problem=str(error))
    except TimeoutError:
        return AgentsStatus(problem=f"the Kubernetes API did not answer within {LOOK_S:g} s")


async def _look(settings: Settings, own_namespace: str) -> AgentsStatus:
    client = KubeClient(settings.kubeconfig)
    try:
        async with asyncio.timeout(LOOK_S):
            agents = [
                StoredAgent.of(item)
                for namespace in settings.watch_namespaces or (None,)
                for item in (await client.list(agents_path(namespace)))[0]
            ]
            # After the Agents: a Lease read earlier could not have seen the newest of them.
            selector = worker_leases_selector(settings.release)
            leases, _ = await client.list(leases_path(own_namespace), label_selector=selector)
    finally:
        await client.close()
    return summarise(agents, [WorkerLease.of(item) for item in leases], datetime.now(UTC))


def summarise(agents: Sequence[StoredAgent], leases: Sequence[WorkerLease], now: datetime) -> AgentsStatus:
    """Count, for each Agent, the workers that have it in effect."""
    held = [lease for lease in leases if lease.holder]
    live = [lease for lease in held if not _silent(lease, now)]
    return AgentsStatus(
        workers=len(held),
        silent=sorted(lease.name for lease in held if lease not in live),
        agents=[
            ClusterAgent(
                namespace=agent.namespace,
                agent=agent.name,
                tenant_id=agent.tenant_id,
                revision=agent.active_revision,
                ready=agent.is_true(ConditionType.READY),
                reason=_reason(agent),
                synced=sum(_in_effect(agent, lease) for lease in live),
            )
            for agent in sorted(agents, key=lambda agent: agent.ref)
        ],
    )


def _silent(lease: WorkerLease, now: datetime) -> bool:
    try:
        renewed = datetime.fromisoformat(lease.renewed)
    except ValueError:
        return True
    return (now - renewed).total_seconds() > lease.duration_s


def _in_effect(agent: StoredAgent, lease: WorkerLease) -> bool:
    """Whether a worker has applied the Agent as it is stored now; a later write asks for more than needed."""
    revision, state = agent.active_revision, lease.state
    return (
        revision is not None
        and state.has_applied(agent.namespace, agent.resource_version)
        and state.refusal_of(agent.ref, revision) is None
    )


def _reason(agent: StoredAgent) -> str:
    if agent.is_true(ConditionType.READY):
        return ""
    for kind in (ConditionType.ACCEPTED, ConditionType.RENDERED, ConditionType.CONFIG_SYNCED):
        found = agent.condition(kind)
        if found is not None and found.get("status") != "True":
            return str(found.get("reason", ""))
    found = agent.condition(ConditionType.READY)
    return str(found.get("reason", "")) if found else "not seen by an operator yet"
