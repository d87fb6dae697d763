"""Steps of two or three workers at the same moment, on connections of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

from orchestrator.messages import Claim
from shared.reply import MessageStatus, Reply
from tests.fuzz.delivery_model import SUSPECT_FROM, Held, Sent, Turn, Worker
from tests.fuzz.delivery_world import World


def at_once(*steps: Callable[[], object]) -> list[Any]:
    """Take steps in threads that start together."""
    ready = Barrier(len(steps))

    def take(step: Callable[[], object]) -> object:
        ready.wait(10)
        return step()

    with ThreadPoolExecutor(len(steps)) as threads:
        return list(threads.map(take, steps))


def claim_at_once(world: World, sent: Sent) -> None:
    """Let three workers claim a message: one gets it, or none where none may."""
    workers = [world.start_worker() for _ in range(3)]
    turn = world.model.turn(sent.message, SUSPECT_FROM)
    came = at_once(*(partial(world.ask_for, worker.name, sent.message, SUSPECT_FROM) for worker in workers))
    claims = [
        (worker, claim) for worker, claim in zip(workers, came, strict=True) if isinstance(claim, Claim)
    ]
    assert len(claims) == (turn is Turn.CLAIM), came
    for worker in workers:
        if not any(worker is winner for winner, _ in claims):
            world.crash(worker)
    for winner, claim in claims:
        world.took(sent, winner.name, claim)
        winner.holds.append(Held(claim, sent.message, None))


def record_and_claim_at_once(world: World, worker: Worker, held: Held) -> None:
    """Let one worker record while another claims the message: the fence lets one of them pass."""
    sent = world.sent(held)
    reply, account = world.reply(held, MessageStatus.ANSWERED)
    before, turn = world.model.holds(held), world.model.turn(sent.message, SUSPECT_FROM)
    other = world.start_worker()

    recorded, came = at_once(
        partial(world.write, held, reply, account),
        partial(world.ask_for, other.name, sent.message, SUSPECT_FROM),
    )
    worker.holds.remove(held)
    assert not recorded or before
    if recorded:
        world.model.finish(sent, reply)
        assert came == reply or not isinstance(came, Claim | Reply)
    if isinstance(came, Claim):
        assert not recorded
        assert turn is Turn.CLAIM
        world.took(sent, other.name, came)
        other.holds.append(mine := Held(came, sent.message, None))
        # Whoever was first, the message is answered now: hypothesis needs examples that do the same again.
        world.finish(other, mine, MessageStatus.ANSWERED)
    else:
        assert recorded or not before
    world.crash(other)
