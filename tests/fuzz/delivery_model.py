"""What delivery promises, as a model: who may hold a message, and how each must end.

Its seconds are long: the time that an example really takes is nothing beside them, so that the model knows
whether a lease has run out as well as PostgreSQL does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from orchestrator.decisions import Decided, Decision
from orchestrator.messages import Claim
from orchestrator.recording import CONTENT
from shared.contract import ChatMessage
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reply

SECOND = 1000.0
"""Real seconds of one second of the model."""

LEASE = 5
"""Seconds that a claim lasts without a heartbeat."""

LOST_AFTER = 5
"""Seconds after which a delivery may be taken for lost."""

VISIBILITY = 20
"""Seconds after which Redis delivers again what nobody acknowledged."""

LONGEST_LEASE = 2 * LEASE
"""Seconds; a lease that lasts longer was written before the clock was set back."""

CROWD = 1_200
"""Messages of one thread that nobody works on: more than a look at the line reads."""

SUSPECT_FROM = 2
"""Deaths from which a message is the quarantine's."""

MAX_ERRORS = 2
"""Faults at which a message is given up."""

Key = tuple[str, str]
"""(tenant, message id)."""


class Turn(Enum):
    """What a claim must come to."""

    REPLY = auto()
    CONFLICT = auto()
    CLAIM = auto()
    BUSY = auto()
    SUSPECT = auto()


@dataclass
class Sent:
    """One accepted message, as it must be."""

    message: KonstructMessage
    owner: str | None = None
    lease_until: int = 0
    attempt: int = 0
    deaths: int = 0
    errors: int = 0
    reply: Reply | None = None
    decided: Decided | None = None

    @property
    def key(self) -> Key:
        return self.message.tenant_id, self.message.message_id

    def row(self, now: int) -> tuple[object, ...]:
        """Give the row that PostgreSQL must hold of it."""
        reply = self.reply
        return (
            *self.key,
            reply.status if reply else MessageStatus.RECEIVED,
            reply.reason if reply else None,
            reply.text if reply else None,
            self.owner,
            self.owner is not None and self.lease_until > now,
            self.attempt,
            self.deaths,
            self.errors,
            self.message.text,
        )


@dataclass
class Delivery:
    """A copy of a message in Redis."""

    message: KonstructMessage
    taken: int | None = None
    """When a worker took it; None while it waits."""


@dataclass
class Held:
    """A claim that a worker believes to have, and the delivery that it came by."""

    claim: Claim
    message: KonstructMessage
    delivery: Delivery | None


@dataclass
class Worker:
    """A worker, alive."""

    name: str
    silent: bool = False
    """Cut off from PostgreSQL: no heartbeat comes through."""

    holds: list[Held] = field(default_factory=list)


@dataclass
class Model:
    """Everything that was accepted, and the time."""

    now: int = 0
    sent: dict[Key, Sent] = field(default_factory=dict)
    """In the order accepted."""

    def accept(self, message: KonstructMessage) -> Sent:
        """Record a message, unless it is."""
        return self.sent.setdefault((message.tenant_id, message.message_id), Sent(message))

    def same(self, message: KonstructMessage) -> bool:
        """Whether a message may be recorded under its id, or is."""
        known = self.sent.get((message.tenant_id, message.message_id))
        return known is None or all(getattr(known.message, n) == getattr(message, n) for n in CONTENT)

    def thread(self, sent: Sent) -> Iterator[Sent]:
        """Give what was accepted before `sent` in its conversation."""
        for other in self.sent.values():
            if other is sent:
                return
            if (other.key[0], other.message.thread_id) == (sent.key[0], sent.message.thread_id):
                yield other

    def unfinished(self) -> list[Sent]:
        return [sent for sent in self.sent.values() if sent.reply is None]

    def free(self, sent: Sent) -> bool:
        """Whether nobody holds it by a lease that lasts."""
        return sent.owner is None or sent.lease_until <= self.now

    def first(self, sent: Sent) -> bool:
        """Whether nothing before it in its conversation is unfinished."""
        return all(other.reply is not None for other in self.thread(sent))

    def deaths(self, sent: Sent) -> int:
        """Count the deaths, the one of a silent owner too."""
        return sent.deaths + (sent.owner is not None)

    def turn(self, message: KonstructMessage, suspect_from: int) -> Turn:
        """Tell what a claim must come to."""
        if not self.same(message):
            return Turn.CONFLICT
        sent = self.accept(message)
        if sent.reply is not None:
            return Turn.REPLY
        if not self.free(sent):
            return Turn.BUSY
        if self.deaths(sent) >= suspect_from:
            return Turn.SUSPECT
        return Turn.CLAIM if self.first(sent) else Turn.BUSY

    def suspects(self) -> list[tuple[str, str, int]]:
        """Give what the quarantine must find."""
        return [
            (*sent.key, self.deaths(sent))
            for sent in self.unfinished()
            if self.free(sent) and self.deaths(sent) >= SUSPECT_FROM and self.first(sent)
        ]

    def history(self, sent: Sent) -> tuple[ChatMessage, ...]:
        """Give the turns that its prompt must have."""
        turns = []
        for earlier in self.thread(sent):
            reply = earlier.reply
            if reply is None or reply.status is MessageStatus.FAILED:
                continue
            if earlier.message.agent != sent.message.agent:
                continue
            turns.append(ChatMessage(role="user", content=earlier.message.text))
            if reply.status is MessageStatus.ANSWERED:
                turns.append(ChatMessage(role="assistant", content=reply.text))
        return tuple(turns)

    def take(self, sent: Sent, owner: str) -> None:
        """Claim it."""
        sent.deaths = self.deaths(sent)
        sent.owner, sent.lease_until, sent.attempt = owner, self.now + LEASE, sent.attempt + 1

    def holds(self, held: Held) -> bool:
        """Whether a claim is the newest one on an unfinished message."""
        sent = self.sent[held.message.tenant_id, held.message.message_id]
        mine = (sent.owner, sent.attempt) == (held.claim.owner, held.claim.attempt)
        return sent.reply is None and mine

    def finish(self, sent: Sent, reply: Reply) -> None:
        """End it."""
        sent.reply, sent.owner = reply, None

    def decide(self, sent: Sent, decision: Decision, decided: Decided) -> None:
        """Note the first decision about a parked message; a retry is a new message, as if it came now."""
        if sent.decided is not None:
            assert decided == sent.decided
            return
        sent.decided = decided
        assert decided.decision is decision
        assert (decided.retried_as is None) is (decision is Decision.DROP)
        if decided.retried_as is not None:
            self.accept(sent.message.model_copy(update={"message_id": decided.retried_as}))

    def mend(self, longest_lease: int) -> None:
        """Shorten what is held for longer than any lease lasts: the clock was set back since."""
        for sent in self.unfinished():
            if sent.owner is not None and self.first(sent):
                sent.lease_until = min(sent.lease_until, self.now + longest_lease)

    def under_way(self) -> Counter[tuple[str, str]]:
        """Count, for each conversation, what somebody holds by a lease that lasts."""
        return Counter(
            (sent.key[0], sent.message.thread_id) for sent in self.unfinished() if not self.free(sent)
        )

    def beat(self, workers: list[Worker]) -> None:
        """Extend what the workers hold, as their heartbeats do."""
        for worker in workers:
            for held in worker.holds:
                sent = self.sent[held.message.tenant_id, held.message.message_id]
                if not worker.silent and sent.owner == worker.name and sent.reply is None:
                    sent.lease_until = self.now + LEASE


def other_content(message: KonstructMessage, name: str) -> KonstructMessage:
    """Make another message of the same id: one that must be refused."""
    return KonstructMessage.model_validate({**message.model_dump(), name: f"other-{getattr(message, name)}"})
