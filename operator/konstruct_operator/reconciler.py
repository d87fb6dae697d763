"""One look at one Agent: gather what is known, plan, write, tell. The queue never takes two at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from konstruct_operator.agents import AgentStore
from konstruct_operator.claims import Claims
from konstruct_operator.events import EventPoster, notices
from konstruct_operator.metrics import OperatorMetrics, ReconcileOutcome
from konstruct_operator.planning import Plan, Target, is_latched, last_good, plan, target_of
from konstruct_operator.proofs import Proofs
from konstruct_operator.rendered import RenderedStore
from konstruct_operator.roster import Roster
from konstruct_operator.status import Outcome, build_status, points_at
from konstruct_operator.writing import Writer
from shared.kube.errors import KubeError, NotFoundError
from shared.kube.objects import AgentRef, Object, StoredAgent

log = logging.getLogger(__name__)


class Reconciler:
    """Makes the cluster say what each Agent's spec says."""

    def __init__(
        self,
        *,
        agents: AgentStore,
        roster: Roster,
        rendered: RenderedStore,
        proofs: Proofs,
        claims: Claims,
        writer: Writer,
        events: EventPoster,
        metrics: OperatorMetrics,
        look_up_namespace: Callable[[str], Awaitable[None]],
    ) -> None:
        self._agents = agents
        self._roster = roster
        self._rendered = rendered
        self._proofs = proofs
        self._claims = claims
        self._writer = writer
        self._events = events
        self._metrics = metrics
        self._look_up_namespace = look_up_namespace

    async def reconcile(self, ref: AgentRef) -> None:
        """Look at one Agent.

        Raises:
            KubeError: something could not be written.
        """
        began = time.monotonic()
        try:
            outcome = await self._reconcile(ref)
        finally:
            self._metrics.duration.observe(time.monotonic() - began)
        self._metrics.reconciles.labels(outcome.value).inc()

    async def give_up(self, ref: AgentRef, error: Exception) -> None:
        """Say in the Agent's status that it cannot be rendered, as far as that can be said."""
        self._metrics.reconciles.labels(ReconcileOutcome.FAILED.value).inc()
        found = self._agents.get(ref)
        if found is None or found[0].deleting:
            return
        agent, observed = found
        verdict = self._roster.verdict(ref)
        failure = str(error) if isinstance(error, KubeError) else f"internal error ({type(error).__name__})"
        active = last_good(agent, verdict)
        status = build_status(
            agent,
            verdict,
            Outcome(active, failure=f"the documents cannot be written: {failure}"),
            sync=self._proofs.verdict(ref, agent.uid, active),
            observed=observed,
            now=datetime.now(UTC),
        )
        try:
            await self._write_status(agent, status)
        except KubeError as worse:
            log.warning("%s/%s: its status cannot be written either: %s", *ref, worse)

    async def _reconcile(self, ref: AgentRef) -> ReconcileOutcome:
        found = self._agents.get(ref)
        if found is None or found[0].deleting or not await self._claims.serves(ref[0]):
            self._proofs.settle(ref)
            return ReconcileOutcome.SKIPPED
        await self._look_up_namespace(ref[0])
        agent, observed = found
        verdict = self._roster.verdict(ref)
        target = target_of(agent, verdict)
        self._note_what_is_awaited(agent, target)
        planned = plan(
            agent,
            verdict,
            target,
            self._rendered.of(ref),
            sync=self._proofs.verdict(ref, agent.uid, target.active),
            observed=observed,
            now=datetime.now(UTC),
        )
        if planned.empty:
            self._settle_if_done(agent, target)
            return ReconcileOutcome.UNCHANGED
        return await self._carry_out(agent, target, planned)

    def _note_what_is_awaited(self, agent: StoredAgent, target: Target) -> None:
        """After a start, an Agent that is not proven yet waits for its present version: that is no older."""
        active = target.active
        if active is None or is_latched(agent, active):
            self._proofs.settle(agent.ref)
        elif points_at(agent, active) and not self._proofs.known(agent.ref, agent.uid, active):
            self._proofs.expect(agent.ref, agent.uid, active, agent.resource_version)

    async def _carry_out(self, agent: StoredAgent, target: Target, planned: Plan) -> ReconcileOutcome:
        ref = agent.ref
        # A missing ConfigMap of a revision that is in effect may be the garbage collector's work.
        if planned.put and not planned.points and not await self._writer.still_there(agent):
            return ReconcileOutcome.SKIPPED
        try:
            await self._writer.put(planned.put)
            if planned.status is not None:
                stored = await self._write_status(agent, planned.status)
                if planned.points and target.active is not None:
                    version = int(stored["metadata"]["resourceVersion"])
                    self._proofs.expect(ref, agent.uid, target.active, version)
                    log.info("%s/%s: revision %s is active", *ref, target.active.revision)
        except NotFoundError:
            if await self._writer.still_there(agent):
                raise
            return ReconcileOutcome.SKIPPED  # deleted meanwhile; its event is on the way
        await self._writer.prune(agent.namespace, planned.prune)
        found = self._agents.get(ref)
        if found is not None:
            self._settle_if_done(found[0], target)
        return ReconcileOutcome.CHANGED

    def _settle_if_done(self, agent: StoredAgent, target: Target) -> None:
        if is_latched(agent, target.active):
            self._proofs.settle(agent.ref)

    async def _write_status(self, agent: StoredAgent, status: Object) -> Object:
        stored = await self._writer.status(agent, status)
        self._agents.put(stored)
        for notice in notices(agent.status, status):
            self._events.post(agent, notice)
        return stored
