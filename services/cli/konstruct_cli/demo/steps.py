"""What each step of the demo does and checks.

Every value comes from the running stack; a step fails when it is not what the design promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from konstruct_cli.client import Connection
from konstruct_cli.commands.status import ratio
from konstruct_cli.demo.manifests import agents_in, make_a_pirate
from konstruct_cli.demo.report import Report, Step, StepFailedError
from konstruct_cli.inspection import look_at_pool, look_at_workers
from konstruct_cli.messages import compose
from konstruct_cli.seen import PoolStatus
from konstruct_cli.stack.local import LocalStack
from konstruct_cli.stack.pool_config import providers_set
from konstruct_cli.stack.state import StackInfo
from orchestrator.asking import AgentStatus, WorkerStatus
from shared.reply import MessageStatus, Reason, Reply

QUESTION = "Hello! Who are you?"
"""What every agent is asked."""

REPLY_TIMEOUT_S = 60.0
"""Longest wait for one reply."""

EFFECT_DEADLINE_S = 15.0
"""Longest wait for a worker to serve what is in the folder."""

LOOK_S = 1.0
"""How long the worker has to answer a look; it is asked again as soon as it has answered."""

_ROWS = "select count(*) from messages where message_id = %s"
"""The query that is asked as each role."""


@dataclass(slots=True)
class Demo:
    """What the steps share."""

    report: Report
    """Where they tell what they saw."""

    stack: LocalStack
    """The stack."""

    info: StackInfo
    """How to reach it."""

    connection: Connection
    """A sender's connection to it."""

    replies: list[Reply] = field(default_factory=list)
    """Every reply so far."""

    def ask(self, tenant: str, agent: str) -> Reply:
        """Ask the question, print reply and envelope, and keep the reply."""
        message = compose(tenant=tenant, agent=agent, text=QUESTION, sender="demo")
        reply = self.connection.ask(message, REPLY_TIMEOUT_S, check=self.stack.check)
        self.report.reply(QUESTION, reply)
        self.replies.append(reply)
        return reply

    def answered(self) -> list[Reply]:
        """Replies that a model wrote."""
        return [reply for reply in self.replies if reply.status is MessageStatus.ANSWERED]

    def worker_when(self, wanted: Callable[[WorkerStatus], bool], what: str) -> WorkerStatus:
        """Ask the worker about itself until its answer is the wanted one."""
        deadline = time.monotonic() + EFFECT_DEADLINE_S
        while time.monotonic() < deadline:
            for worker in look_at_workers(LOOK_S, limit=1):
                if wanted(worker):
                    return worker
            self.stack.check()
        raise StepFailedError(f"{what} within {EFFECT_DEADLINE_S:g} s")


def agents_in_effect(demo: Demo, step: Step) -> tuple[WorkerStatus, AgentStatus, AgentStatus]:
    """Ask the worker which agents it serves, and hold their revisions against the files.

    Returns the worker, and one agent of each of two tenants.
    """
    expected = agents_in(demo.info.agents_dir)
    worker = demo.worker_when(lambda seen: bool(seen.agents or seen.problems), "the worker serves no agent")
    for problem in worker.problems:
        demo.report.line(f"{problem.where}: {problem.message}", style="yellow")
    for served in worker.agents:
        demo.report.line(
            f"{served.tenant_id}/{served.agent}, revision {served.revision}, group {served.group}"
        )
        revision = expected[served.tenant_id, served.agent].revision
        if revision != served.revision:
            raise StepFailedError(
                f"{served.agent} is served at {served.revision}; its file renders to {revision}"
            )
    by_tenant: dict[str, AgentStatus] = {}
    for served in worker.agents:
        if not served.suspended:
            by_tenant.setdefault(served.tenant_id, served)
    if len(by_tenant) < 2:
        raise StepFailedError(f"agents of two tenants are needed, these are of {len(by_tenant)}")
    step.result = (
        f"{len(worker.agents)} agents of {len(by_tenant)} tenants, revisions as rendered from the files"
    )
    first, second = list(by_tenant.values())[:2]
    return worker, first, second


def answer(demo: Demo, step: Step, agent: AgentStatus) -> Reply:
    """Send one message and expect an answer from the revision that is in effect."""
    reply = demo.ask(agent.tenant_id, agent.agent)
    if reply.status is not MessageStatus.ANSWERED:
        raise StepFailedError(f"no model answered: {reply.reason}")
    if reply.revision != agent.revision:
        raise StepFailedError(f"the reply spoke from {reply.revision}, not from {agent.revision}")
    step.result = f"answered by {reply.model}"
    return reply


def who_answered(demo: Demo, step: Step) -> None:
    """Hold the envelopes against what the pool says is configured."""
    groups = {group.name: group for group in look_at_pool(demo.connection.settings).groups}
    keys = providers_set(demo.stack.environ)
    demo.report.line(f"set in the environment: {', '.join(keys) or 'no provider key, no Ollama'}")
    told = []
    for reply in demo.answered():
        asked = groups[str(reply.requested_group)]
        if not asked.configured and (not reply.degraded or reply.fallback_reason != "not_configured"):
            raise StepFailedError(f"{asked.name} has no usable deployment, but the envelope does not say so")
        if reply.degraded:
            told.append(f"{asked.name} asked, {reply.served_group} answered: {reply.fallback_reason}")
            remedy = f"; set {' or '.join(asked.missing)} to have it answer" if not asked.configured else ""
        else:
            told.append(f"{asked.name} asked, {asked.name} answered")
            remedy = ""
        demo.report.line(f"{reply.agent}: {told[-1]} ({reply.model}){remedy}")
    if not told:
        raise StepFailedError("there is no reply to give an account of")
    step.result = "; ".join(dict.fromkeys(told))


def edit_persona(demo: Demo, step: Step, before: WorkerStatus, agent: AgentStatus) -> None:
    """Save another persona; the same worker must speak from it, without a restart."""
    found = agents_in(demo.info.agents_dir)[agent.tenant_id, agent.agent]
    edited = make_a_pirate(found)
    saved = time.monotonic()
    wanted = (agent.tenant_id, agent.agent, edited.revision)
    worker = demo.worker_when(
        lambda seen: wanted in [(each.tenant_id, each.agent, each.revision) for each in seen.agents],
        "the edit was not in effect",
    )
    effect = time.monotonic() - saved
    demo.report.line(f"saved {edited.file.relative_to(demo.info.agents_dir)}: {agent.agent} becomes a pirate")
    demo.report.line(f"in effect in worker process {worker.pid} within {effect:.2f} s of saving")
    reply = demo.ask(agent.tenant_id, agent.agent)
    demo.report.line(f"revision {agent.revision} is now {reply.revision}")
    if reply.status is not MessageStatus.ANSWERED or reply.revision != edited.revision:
        raise StepFailedError(
            f"the reply is {reply.status.value} from {reply.revision}, not from {edited.revision}"
        )
    if not before.pid == worker.pid == demo.info.pids["worker"]:
        raise StepFailedError(f"the worker was restarted: process {before.pid} is now {worker.pid}")
    step.result = f"in effect within {effect:.2f} s of saving, in the same process"


def foreign_agent(demo: Demo, step: Step, stranger: str, agent: AgentStatus) -> None:
    """Ask another tenant's agent; for the stranger it must not exist."""
    reply = demo.ask(stranger, agent.agent)
    if reply.status is not MessageStatus.FAILED or reply.reason is not Reason.AGENT_UNKNOWN:
        raise StepFailedError(f"{stranger} reached {agent.agent} of {agent.tenant_id}: {reply.status.value}")
    step.result = f"{stranger} asks {agent.tenant_id}'s {agent.agent}: {reply.reason.value}"


def foreign_rows(demo: Demo, step: Step, stranger: str, reply: Reply | None) -> None:
    """Look for a tenant's message in the database as each role."""
    if reply is None:
        raise StepFailedError("there is no message to look for")
    service, owner = demo.info.database_url, demo.info.owner_database_url
    demo.report.line(_ROWS.replace("%s", f"'{reply.message_id}'"))
    seen = {
        f"service role, for {reply.tenant_id}": _count(service, reply.message_id, reply.tenant_id),
        f"service role, for {stranger}": _count(service, reply.message_id, stranger),
        "service role, for no tenant": _count(service, reply.message_id, None),
        "owner of the database": _count(owner, reply.message_id, None),
    }
    for who, rows in seen.items():
        demo.report.line(f"{who:<28} {rows} rows")
    if list(seen.values()) != [1, 0, 0, 1]:
        raise StepFailedError("row level security does not hold")
    step.result = f"{stranger} sees 0 rows of {reply.tenant_id}'s message, {reply.tenant_id} sees 1"


def _count(url: str, message_id: str, tenant: str | None) -> int:
    with psycopg.connect(url) as connection:
        if tenant is not None:
            connection.execute("select set_config('app.tenant_id', %s, true)", (tenant,))
        row = connection.execute(_ROWS, (message_id,)).fetchone()
    return -1 if row is None else int(row[0])


def fallback_rate(demo: Demo, step: Step) -> PoolStatus:
    """Read the pool's metrics and hold them against the replies that were seen."""
    pool = look_at_pool(demo.connection.settings)
    degraded = [reply for reply in demo.answered() if reply.degraded]
    demo.report.line(f"{pool.url}/metrics: {ratio(pool)}")
    if (pool.replies, pool.fallback_replies) != (len(demo.answered()), len(degraded)):
        raise StepFailedError(
            f"the pool counts {ratio(pool)}; seen were {len(degraded)} of {len(demo.answered())}"
        )
    step.result = ratio(pool)
    return pool
