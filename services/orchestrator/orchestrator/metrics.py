"""The worker's metrics. Labels are bounded: never a tenant, a message, a user or free text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from orchestrator.agents.patience import Trouble
from shared.build_info import add_build_info
from shared.reply import MessageStatus, Reason

_LAG_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120)

NOT_SIGNED: Literal["not_signed"] = "not_signed"
"""Why a delivery is refused before anything of it is looked at; no reason of any reply."""

_REFUSED = (Reason.MESSAGE_CONFLICT, Reason.MESSAGE_INVALID, NOT_SIGNED)
"""Why a delivery may be refused without a recorded reply."""

_NOT_COUNTED = (Reason.MESSAGE_CONFLICT, Reason.DROPPED)
"""Reasons that no worker finishes a message for: another message has the id, or a person has decided."""


class WorkerMetrics:
    """Every metric of one worker, in a registry of its own, its series there from the start."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series each, which nobody reads
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "konstruct_messages_total",
            "Messages whose reply this worker recorded, each counted once, by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "konstruct_message_duration_seconds",
            "Seconds from the delivery of a message to its recorded reply.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue = Histogram(
            "konstruct_message_queue_seconds",
            "Seconds from a message's receipt to its claim.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.apologies = Counter(
            "konstruct_apologies_total",
            "Messages that no model answered (apologised and failed), by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.put_back = Counter(
            "konstruct_deliveries_put_back_total",
            "Deliveries put back for later: not the message's turn, or a store or the agents not at hand.",
            registry=self.registry,
        )
        self.requeued = Counter(
            "konstruct_messages_requeued_total",
            "Unfinished messages that this worker queued again, because their delivery was lost.",
            registry=self.registry,
        )
        self.stranded = Counter(
            "konstruct_messages_stranded_total",
            "Messages that nothing would have worked on any more, and that this worker put back in line.",
            registry=self.registry,
        )
        self.purged = Counter(
            "konstruct_messages_purged_total",
            "Finished messages that this worker deleted, because they were kept for long enough.",
            registry=self.registry,
        )
        self._retries = Counter(
            "konstruct_pool_retries_total",
            "Requests that were sent to the llm-pool again, by what had become of them before.",
            ["reason"],
            registry=self.registry,
        )
        self._pool_away = Gauge(
            "konstruct_pool_away",
            "1 while this worker finds no llm-pool: messages wait, and one probe at a time asks for it.",
            registry=self.registry,
        )
        self._refused = Counter(
            "konstruct_deliveries_refused_total",
            "Deliveries refused without a recorded reply, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "konstruct_messages_in_flight",
            "Messages under way in this worker.",
            registry=self.registry,
        )
        self.in_flight_limit = Gauge(
            "konstruct_messages_in_flight_limit",
            "Messages that this worker answers at once (threads).",
            registry=self.registry,
        )
        self._backlog = Gauge(
            "konstruct_backlog_messages",
            "Unfinished messages that no worker works on, the same for every worker, as last counted.",
            registry=self.registry,
        )
        self._longest_line = Gauge(
            "konstruct_tenant_backlog_messages",
            "Messages that wait their turn, of the tenant that has most, the same for every worker, as last "
            "counted.",
            registry=self.registry,
        )
        self._parked = Gauge(
            "konstruct_parked_messages",
            "Parked messages that nobody has decided about, the same for every worker, as last counted.",
            registry=self.registry,
        )
        self.line_limit = Gauge(
            "konstruct_tenant_backlog_limit",
            "Messages of a tenant that may wait their turn; one more is refused.",
            registry=self.registry,
        )
        self.config_lag = Histogram(
            "konstruct_agent_config_lag_seconds",
            "Seconds from the operator's first sight of an edit to its effect in this worker.",
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )
        self._accepting = Gauge(
            "konstruct_worker_accepting",
            "1 while this worker takes messages: its agents are known to be up to date.",
            registry=self.registry,
        )
        self._consuming = Gauge(
            "konstruct_worker_consuming",
            "1 while this worker takes deliveries: it consumes the queue, Redis answers, and it is not deaf.",
            registry=self.registry,
        )
        self._agents = Gauge(
            "konstruct_agents_loaded", "Agents in effect in this worker.", registry=self.registry
        )
        self._connected = Gauge(
            "konstruct_watch_connected",
            "1 while this worker follows changes of agents.",
            registry=self.registry,
        )
        for status in (MessageStatus.ANSWERED, MessageStatus.APOLOGISED, MessageStatus.FAILED):
            self.messages.labels(status.value)
        for reason in Reason:
            if reason not in _NOT_COUNTED:
                self.apologies.labels(reason.value)
        for trouble in Trouble:
            self._retries.labels(trouble.value)
        for refusal in _REFUSED:
            self._refused.labels(str(refusal))
        add_build_info(self.registry, "worker", "konstruct-orchestrator")

    def finished(self, status: MessageStatus, reason: Reason | None) -> None:
        """Count a message whose reply was recorded."""
        self.messages.labels(status.value).inc()
        if status is not MessageStatus.ANSWERED and reason is not None:
            self.apologies.labels(reason.value).inc()

    def retried(self, trouble: Trouble) -> None:
        """Count a request to the llm-pool that is sent again."""
        self._retries.labels(trouble.value).inc()

    def waiting(self, backlog: int, longest_line: int, parked: int) -> None:
        """Note how many messages wait, how many of the tenant with the longest line, how many are parked."""
        self._backlog.set(backlog)
        self._longest_line.set(longest_line)
        self._parked.set(parked)

    def refuse(self, reason: Reason | Literal["not_signed"]) -> None:
        """Count a delivery that was refused, with no reply recorded."""
        self._refused.labels(str(reason)).inc()

    def follow(
        self,
        *,
        agents: Callable[[], int],
        connected: Callable[[], bool],
        accepting: Callable[[], bool],
        consuming: Callable[[], bool],
        in_flight: Callable[[], int],
        pool_away: Callable[[], bool],
    ) -> None:
        """Read what is known at every scrape."""
        self._accepting.set_function(accepting)
        self._consuming.set_function(consuming)
        self._in_flight.set_function(in_flight)
        self._pool_away.set_function(pool_away)
        self._agents.set_function(agents)
        self._connected.set_function(connected)
