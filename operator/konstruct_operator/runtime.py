"""The operator's parts, put together, and what keeps them up to date."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from konstruct_operator.agents import AgentStore
from konstruct_operator.claims import Claims, RoleName
from konstruct_operator.events import EventPoster
from konstruct_operator.metrics import OperatorMetrics, ReconcileOutcome
from konstruct_operator.proofs import Proofs
from konstruct_operator.queue import WorkQueue
from konstruct_operator.reach import RETRY_S, Reach
from konstruct_operator.readiness import why_unready
from konstruct_operator.reconciler import Reconciler
from konstruct_operator.rendered import RenderedStore, follow
from konstruct_operator.roster import Roster, tenant_label
from konstruct_operator.writing import Writer
from shared.config import ConfigurationError, Settings
from shared.kube.client import KubeClient
from shared.kube.errors import ForbiddenError, KubeError, NotFoundError, UnreachableError
from shared.kube.leases import worker_leases_selector
from shared.kube.names import agents_path, leases_path, namespace_path
from shared.kube.objects import AgentRef, Object, StoredAgent, agent_alone
from shared.kube.watch import Follower

log = logging.getLogger(__name__)

NAMESPACE_POLL_S = 30.0
"""Seconds between two looks at the listed Namespaces, which a Role cannot watch."""

RESYNC_S = 600.0
"""Seconds between two comparisons with all that there is: a watch that broke may have missed a deletion."""

LOOK_S = 0.5
"""Longest time between two looks at whether everything is known, or cannot be."""

STUCK_S = 300.0
"""Seconds after which one look at an Agent is stuck: each of its requests ends within 15."""


class Runtime:
    """Everything of one operator; kopf tells it of Agents and Namespaces."""

    def __init__(self, settings: Settings) -> None:
        if settings.pod_namespace is None:
            raise ConfigurationError(
                "KONSTRUCT_POD_NAMESPACE: is needed; set it to the namespace of the workers' Leases"
            )
        self.namespaces = settings.watch_namespaces
        """Namespaces that are served; none: all."""
        self._home = settings.pod_namespace
        self._client = KubeClient(settings.kubeconfig)
        self._agents = AgentStore()
        self._roster = Roster()
        self._rendered = RenderedStore()
        self.metrics = OperatorMetrics()
        """What /metrics shows."""
        self.queue: WorkQueue[AgentRef] = WorkQueue(self._work, self._give_up, self._retried, self._whose)
        """Agents to look at."""
        self._proofs = Proofs(self.queue.add, settings.worker_lease_s)
        self._claims = Claims(
            self._client, f"{self._home}/{settings.release}", self._namespace_gained, _role(settings)
        )
        self._events = EventPoster(self._client, settings.pod_name or socket.gethostname())
        self._reconciler = Reconciler(
            agents=self._agents,
            roster=self._roster,
            rendered=self._rendered,
            proofs=self._proofs,
            claims=self._claims,
            writer=Writer(self._client, self._rendered),
            events=self._events,
            metrics=self.metrics,
            look_up_namespace=self._look_up_namespace,
        )
        self._reach = Reach(self._enter, self._namespace_gained)
        self._followed = follow(self._client, self.namespaces or (None,), self._rendered, self.queue.add)
        self._leases = Follower(
            self._client,
            leases_path(self._home),
            self._proofs,
            label_selector=worker_leases_selector(settings.release),
        )
        self._following = False
        self._working = False
        self.metrics.follow(
            agents=lambda: len(self._agents),
            ready=self._agents.ready,
            unsynced=lambda: len(self._proofs),
            workers=self._proofs.health,
            waiting=lambda: self.queue.depth,
            refused=lambda: len(self._claims.refused),
            missing=lambda: len(self._reach.missing),
        )

    # --- what kopf tells ---

    def agent_changed(self, item: Object) -> None:
        """Take in an Agent that is there."""
        agent = self._agents.put(item)
        if agent is not None:
            self._look_at(self._roster.put(agent.ref, agent.seniority))
            self.queue.add(agent.ref)

    def agent_gone(self, item: Object) -> None:
        """Take in an Agent as it was before it was deleted."""
        metadata = item["metadata"]
        self._forget((metadata["namespace"], metadata["name"]), metadata["uid"])

    def namespace_changed(self, item: Object) -> None:
        """Take in a Namespace that is there."""
        metadata = item["metadata"]
        self._look_at(self._roster.set_label(metadata["name"], tenant_label(item)))

    def namespace_gone(self, name: str) -> None:
        """Take in that a Namespace was deleted."""
        self._look_at(self._roster.forget_namespace(name))

    # --- start, work, end ---

    async def prepare(self) -> None:
        """Claim what is to be served and learn who is there, before anything is written."""
        tried = 0
        while True:
            try:
                await self._begin()
            except KubeError as error:
                tried += 1
                delay = min(0.25 * 2.0 ** min(tried, 10), UnreachableError.longest_delay_s)
                hint = "; is the CRD of Agents installed?" if isinstance(error, NotFoundError) else ""
                log.warning("cannot start yet: %s%s; again in %.1f s", error, hint, delay)
                await asyncio.sleep(delay)
            else:
                return

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Everything that runs until it is cancelled; the end of any is a fault."""
        self._following = True
        named: dict[str, Coroutine[Any, Any, None]] = {
            f"follower of {scope or 'all'}": follower.run() for scope, (_, follower) in self._followed.items()
        }
        named["follower of Leases"] = self._leases.run()
        named["queue"] = self._work_when_complete()
        named["proofs"] = self._proofs.run()
        named["claims"] = self._claims.run()
        named["events"] = self._events.run()
        named["resync"] = self._resync()
        if self.namespaces:
            named["namespaces"] = self._poll_namespaces()
        return named

    async def close(self) -> None:
        """Give up the claims and close the connections."""
        await self._claims.release()
        await self._client.close()

    def problem(self) -> str | None:
        """Say what is wrong with this process, if anything."""
        longest = self.queue.longest_s()
        return f"a look at an Agent has taken {longest:.0f} s" if longest > STUCK_S else None

    def unready(self) -> str | None:
        """Say why this process cannot do its work at present, if it cannot."""
        scopes = self.namespaces or self._claims.contested(self._home)
        closed = self._claims.refused.keys() | self._reach.missing.keys()
        return self.problem() or why_unready(
            scopes, closed, self._followed, self._leases, working=self._working
        )

    # --- inside ---

    async def _begin(self) -> None:
        if self.namespaces:
            await self._reach.begin(self.namespaces)
        else:
            # Its own, so that another operator of the same namespace meets it even before the first Agent.
            await self._claims.claim(self._home)
            found, _ = await self._client.list_metadata(namespace_path("").rstrip("/"))
            for item in found:
                self.namespace_changed(item)
            await self._compare(None)

    async def _enter(self, namespace: str) -> None:
        """Claim and read a listed namespace."""
        await self._claims.claim(namespace)
        await self._look_up_namespace(namespace)
        await self._compare(namespace)
        if self._following and not self._followed[namespace][0].complete.is_set():
            raise UnreachableError("its ConfigMaps are not listed yet")

    async def _compare(self, scope: str | None) -> None:
        """Compare the roster with a list: what a broken watch has missed is noticed here."""
        found, version = await self._client.list_metadata(agents_path(scope), slim=agent_alone)
        listed: set[AgentRef] = set()
        for item in found:
            agent = StoredAgent.of(item)
            listed.add(agent.ref)
            if self._agents.uid(agent.ref) is None:
                self._look_at(self._roster.put(agent.ref, agent.seniority))
        for ref in self._roster.agents(scope):
            known = self._agents.get(ref)
            if ref not in listed and (known is None or known[0].resource_version <= int(version)):
                self._forget(ref, known[0].uid if known else None)

    async def _work_when_complete(self) -> None:
        """Look at nothing before all is known: a ConfigMap not listed yet is no missing one."""
        for scope, (sink, follower) in self._followed.items():
            while not sink.complete.is_set():
                if scope is not None and isinstance(follower.problem, ForbiddenError):
                    self._reach.lose(scope, follower.problem)
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await sink.complete.wait()
        await self._proofs.complete.wait()
        log.info("working: %d Agents are known", len(self._roster.agents()))
        self._working = True
        await self.queue.run()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            for scope in self.namespaces or (None,):
                try:
                    await self._compare(scope)
                except KubeError as error:
                    log.warning("no comparison with what there is: %s", error)

    async def _poll_namespaces(self) -> None:
        while True:
            for _ in range(round(NAMESPACE_POLL_S / RETRY_S)):
                await asyncio.sleep(RETRY_S)
                await self._reach.retry()
            for namespace in set(self.namespaces) - self._reach.missing.keys():
                try:
                    await self._look_up_namespace(namespace)
                except ForbiddenError as error:
                    self._reach.lose(namespace, error)
                except KubeError as error:
                    log.warning("namespace %s: %s", namespace, error)

    async def _look_up_namespace(self, namespace: str) -> None:
        """Read a Namespace, unless it is watched."""
        if not self.namespaces and self._roster.knows_namespace(namespace):
            return
        try:
            label = tenant_label(await self._client.get(namespace_path(namespace)))
        except NotFoundError:
            label = None
        self._look_at(self._roster.set_label(namespace, label))

    def _namespace_gained(self, namespace: str) -> None:
        self._look_at(self._roster.agents(namespace))

    def _forget(self, ref: AgentRef, uid: str | None) -> None:
        if uid is not None and not self._agents.remove(ref, uid) and self._agents.uid(ref) is not None:
            return  # another has its name by now
        self.queue.forget(ref)
        self._proofs.settle(ref)
        self._look_at(self._roster.remove(ref))

    def _look_at(self, refs: Iterable[AgentRef]) -> None:
        for ref in refs:
            self.queue.add(ref)

    async def _work(self, ref: AgentRef) -> None:
        if ref[0] in self._reach.missing:
            return  # it comes again with its namespace
        await self._reconciler.reconcile(ref)

    async def _give_up(self, ref: AgentRef, error: Exception) -> None:
        await self._reconciler.give_up(ref, error)

    def _whose(self, ref: AgentRef) -> str:
        """Of whom an Agent is, for turns: its tenant's, or that of its namespace alone."""
        return self._roster.tenant(ref[0]) or f"namespace {ref[0]}"

    def _retried(self) -> None:
        self.metrics.reconciles.labels(ReconcileOutcome.RETRIED.value).inc()


def _role(settings: Settings) -> RoleName | None:
    if settings.operator_role is None:
        return None
    return RoleName(settings.operator_role, cluster_wide=not settings.watch_namespaces)
