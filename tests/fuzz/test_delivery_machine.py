"""Delivery, step by step at random: nothing is lost, answered twice, out of order or another tenant's.

Every step is done by the orchestrator's own functions on a real PostgreSQL (`delivery_world.py`) and
predicted by a model (`delivery_model.py`); after each, PostgreSQL holds exactly what the model says. In the
end all workers die, one that behaves takes over, and every accepted message must come to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.decisions import Decision
from orchestrator.recording import CONTENT
from orchestrator.runtime import Runtime
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from tests.fuzz.delivery_model import LEASE, MAX_ERRORS, SECOND, Delivery, Held, Worker, other_content
from tests.fuzz.delivery_races import claim_at_once, record_and_claim_at_once
from tests.fuzz.delivery_words import TENANTS
from tests.fuzz.delivery_world import World
from tests.support.database import Database
from tests.support.fuzzing import tries
from tests.support.strategies import finals, messages

Picks = st.DataObject

sent_messages = messages(TENANTS)


class DeliveryMachine(RuleBasedStateMachine):
    """The steps; which of them is taken, and with what, is hypothesis' choice."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @initialize()
    def two_workers(self) -> None:
        self.world.start_worker()
        self.world.start_worker()

    # Senders

    @rule(message=sent_messages)
    def submit(self, message: KonstructMessage) -> None:
        self.world.record(message)
        self._queue(message)

    @rule(message=sent_messages)
    def submit_and_die_before_queueing(self, message: KonstructMessage) -> None:
        self.world.record(message)

    @rule(message=sent_messages)
    def submit_while_redis_is_away(self, message: KonstructMessage) -> None:
        self.world.record(message)
        if self.world.model.same(message):
            self.world.put_in_line(message)

    @rule(message=sent_messages)
    def deliver_without_recording(self, message: KonstructMessage) -> None:
        self._queue(message, recorded=False)

    def _queue(self, message: KonstructMessage, *, recorded: bool = True) -> None:
        if not recorded or self.world.model.same(message):
            self.world.queue.append(Delivery(message))

    @precondition(lambda self: self.world.model.sent)
    @rule(picks=st.data(), name=st.sampled_from(CONTENT))
    def send_another_under_a_taken_id(self, picks: Picks, name: str) -> None:
        taken = picks.draw(st.sampled_from(list(self.world.model.sent.values()))).message
        message = other_content(taken, name)
        self.world.record(message)
        self.world.claim("forger", message, suspect_from=picks.draw(st.sampled_from([2, 3])))

    # Redis

    @precondition(lambda self: self.world.queue)
    @rule(picks=st.data())
    def deliver_twice(self, picks: Picks) -> None:
        self._queue(picks.draw(st.sampled_from(self.world.queue)).message, recorded=False)

    @precondition(lambda self: self.world.queue)
    @rule(picks=st.data())
    def lose_a_delivery(self, picks: Picks) -> None:
        self.world.queue.remove(picks.draw(st.sampled_from(self.world.queue)))

    @rule()
    def empty_redis(self) -> None:
        self.world.queue.clear()

    @precondition(lambda self: self.world.queue)
    @rule(picks=st.data(), after_s=st.sampled_from([None, SECOND, 30 * SECOND]))
    def put_back_in_line(self, picks: Picks, after_s: float | None) -> None:
        delivery = picks.draw(st.sampled_from(self.world.queue))
        if self.world.put_in_line(delivery.message, after_s):
            self.world.queue.remove(delivery)

    @rule()
    def let_a_deep_thread_wait(self) -> None:
        self.world.crowd()

    # Workers

    @precondition(lambda self: self._waiting() and self.world.workers)
    @rule(picks=st.data())
    def take(self, picks: Picks) -> None:
        worker = picks.draw(st.sampled_from(self.world.workers))
        self.world.take(worker, picks.draw(st.sampled_from(self._waiting())))

    @precondition(lambda self: self._held())
    @rule(picks=st.data(), status=finals)
    def finish(self, picks: Picks, status: MessageStatus) -> None:
        self.world.finish(*picks.draw(st.sampled_from(self._held())), status)

    @precondition(lambda self: self._held())
    @rule(picks=st.data())
    def hand_back(self, picks: Picks) -> None:
        self.world.hand_back(*picks.draw(st.sampled_from(self._held())))

    @precondition(lambda self: self._held())
    @rule(picks=st.data())
    def fault(self, picks: Picks) -> None:
        self.world.fault(*picks.draw(st.sampled_from(self._held())))

    @precondition(lambda self: len(self.world.workers) < 4)
    @rule()
    def start_a_worker(self) -> None:
        self.world.start_worker()

    @precondition(lambda self: self.world.workers)
    @rule(picks=st.data())
    def crash(self, picks: Picks) -> None:
        self.world.crash(picks.draw(st.sampled_from(self.world.workers)))

    @precondition(lambda self: self.world.workers)
    @rule(picks=st.data(), silent=st.booleans())
    def silence(self, picks: Picks, silent: bool) -> None:
        picks.draw(st.sampled_from(self.world.workers)).silent = silent

    @rule(seconds=st.integers(1, 2 * LEASE))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(seconds=st.sampled_from([1, LEASE, 1000]))
    def set_the_clock_back(self, seconds: int) -> None:
        self.world.set_back(seconds)

    @rule()
    def mend(self) -> None:
        self.world.mend()

    @rule(miscount=st.sampled_from([0, 0, 0, -2, 3]))
    def sweep(self, miscount: int) -> None:
        self.world.sweep(miscount)

    @rule(picks=st.data())
    def look_after_suspects(self, picks: Picks) -> None:
        self.world.look_after_suspects(lambda: picks.draw(st.none() | finals))

    # People

    @rule(
        tenant=st.sampled_from([*TENANTS, "nobody"]),
        number=st.integers(0, 8),
        decision=st.sampled_from(Decision),
    )
    def decide(self, tenant: str, number: int, decision: Decision) -> None:
        self.world.decide(tenant, f"m{number}", decision)

    # At once

    @precondition(lambda self: self.world.model.unfinished())
    @rule(picks=st.data())
    def claim_at_once(self, picks: Picks) -> None:
        claim_at_once(self.world, picks.draw(st.sampled_from(self.world.model.unfinished())))

    @precondition(lambda self: self._held())
    @rule(picks=st.data())
    def record_while_another_claims(self, picks: Picks) -> None:
        record_and_claim_at_once(self.world, *picks.draw(st.sampled_from(self._held())))

    # What must hold

    @invariant()
    def postgresql_holds_what_the_model_says(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            drain(self.world)
        finally:
            self.world.close()

    def _waiting(self) -> list[Delivery]:
        return [delivery for delivery in self.world.queue if delivery.taken is None]

    def _held(self) -> list[tuple[Worker, Held]]:
        return [(worker, held) for worker in self.world.workers for held in worker.holds]


def drain(world: World) -> None:
    """Let every worker die and one that behaves work until all is finished, which it must be soon."""
    for worker in list(world.workers):
        world.crash(worker)
    good = world.start_worker()
    rounds = 0
    while world.model.unfinished():
        left = [(sent.key, sent.owner, sent.deaths) for sent in world.model.unfinished()]
        assert rounds <= 2 * len(world.model.sent) + 5, f"never found again: {left}"
        rounds += 1
        world.mend()
        world.wait(LEASE + 1)
        world.sweep()
        for delivery in [delivery for delivery in world.queue if delivery.taken is None]:
            world.take(good, delivery)
            for held in list(good.holds):
                world.finish(good, held, MessageStatus.ANSWERED)
        world.look_after_suspects(lambda: MessageStatus.ANSWERED)
        world.check()
    world.mend()


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Iterator[Runtime]:
    """Lend the parts of a worker that never starts."""
    settings = database.settings(agents_dir=tmp_path, max_errors=MAX_ERRORS, worker_concurrency=4)
    made = Runtime.build(settings)
    yield made
    made.engine.dispose()
    made.system_engine.dispose()


@pytest.mark.timeout(0)
def test_whatever_happens_every_accepted_message_ends_once(database: Database, runtime: Runtime) -> None:
    class Machine(DeliveryMachine):
        def __init__(self) -> None:
            super().__init__(World(database, runtime))

    run_state_machine_as_test(Machine, settings=tries(50, steps=50))
