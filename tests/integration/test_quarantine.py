"""Messages that workers die of: the innocent are answered, the one that kills is parked."""

from __future__ import annotations

import json
import os
import signal

import psutil

from konstruct_cli.stack.process import ManagedProcess
from orchestrator.decisions import Decision
from orchestrator.messages import find_reply
from orchestrator.parked import decide, list_parked
from shared.reply import MessageStatus
from tests.support.pool import Exchange, StubPool, echo
from tests.support.stack_command import Result, konstruct
from tests.support.waiting import eventually
from tests.support.worker import Cell

KILLER = "kill whoever asks"
GOOD = 31


def kill_the_asker(pool: StubPool, exchange: Exchange) -> None:
    """Answer as usual, but end the process that asks on behalf of the killer."""
    if exchange.request.messages[-1].content == KILLER:
        asking = exchange.handler.client_address[1]
        for connection in psutil.net_connections("tcp4"):
            if connection.pid and connection.laddr and connection.laddr.port == asking:
                os.kill(connection.pid, signal.SIGKILL)
    echo(pool, exchange)


def start(cell: Cell) -> ManagedProcess:
    return cell.start_worker(
        KONSTRUCT_WORKER_CONCURRENCY=str(GOOD + 1), KONSTRUCT_LEASE_S="3", KONSTRUCT_DRAIN_S="1"
    )


def test_one_killer_among_thirty_one_good_messages(cell: Cell) -> None:
    killer = cell.message(KILLER)
    good = [cell.message(f"good {number}") for number in range(GOOD)]
    cell.pool.answer = kill_the_asker
    cell.pool.gate.clear()
    workers = [start(cell)]
    cell.submit(*good[:16], killer, *good[16:])
    eventually(lambda: cell.pool.waiting >= GOOD + 1, within_s=60, what="a worker full of work")
    cell.pool.gate.set()

    def parked() -> bool:
        """As Kubernetes would: a worker that died is started again."""
        if workers[-1].exit_code() is not None:
            workers.append(start(cell))
        return find_reply("acme", killer.message_id, on=cell.engine) is not None

    eventually(parked, within_s=120, what="the killer's end")
    reply = cell.reply(killer)
    assert (reply.status, reply.reason) == ("failed", "parked")
    replies = [cell.reply(message, within_s=60) for message in good]
    assert {reply.status for reply in replies} == {MessageStatus.ANSWERED}
    assert len(workers) == 3, "the third lives"
    assert cell.database.rows("select count(*) from messages where status = 'received'") == [(0,)]

    (found,) = list_parked("acme", on=cell.engine)
    assert (found.message_id, found.deaths) == (killer.message_id, 3)
    assert list_parked("globex", on=cell.engine) == []
    assert not decide("globex", killer.message_id, Decision.RETRY, on=cell.engine)
    cell.pool.answer = echo
    decided = decide("acme", killer.message_id, Decision.RETRY, on=cell.engine)
    assert decided is not None
    again = killer.model_copy(update={"message_id": decided.retried_as})
    assert cell.reply(again).text == f"You said: {KILLER}"
    assert cell.reply(killer) == reply


def parked(cell: Cell, *arguments: str, tenant: str = "acme") -> Result:
    return konstruct("parked", "--tenant", tenant, *arguments, cwd=cell.folder, env=cell.environment())


def suspect(cell: Cell, deaths: int) -> None:
    """Let every message look as if the worker that held it had died, the last of `deaths`."""
    cell.database.execute(
        "update messages set owner = 'gone', lease_expires_at = now() - interval '1 s',"
        f" deaths = {deaths - 1}"
    )


def test_what_died_in_quarantine_is_parked_and_may_be_dropped(cell: Cell) -> None:
    message = cell.message("poison")
    cell.submit(message)
    suspect(cell, 3)
    cell.start_worker()
    reply = cell.reply(message)
    assert (reply.status, reply.reason) == ("failed", "parked")
    assert cell.pool.requests == []
    assert "poison" not in parked(cell, "list").out
    assert message.message_id in parked(cell, "list").out
    (listed,) = json.loads(parked(cell, "list", "--json").out)["messages"]
    assert (listed["message_id"], listed["deaths"]) == (message.message_id, 3)
    assert parked(cell, "drop", message.message_id, tenant="globex").code == 2
    for _ in range(2):  # the second changes nothing
        assert parked(cell, "drop", message.message_id).code == 0
    again = parked(cell, "retry", message.message_id)
    assert again.code == 2
    assert "was dropped at" in again.err
    assert cell.reply(message) == reply
    assert list_parked("acme", on=cell.engine) == []


def test_a_worker_that_shuts_down_hands_back_what_is_in_quarantine(cell: Cell) -> None:
    cell.pool.gate.clear()
    message = cell.message("slow")
    cell.submit(message)
    suspect(cell, 2)
    first = cell.start_worker()
    eventually(lambda: cell.pool.waiting == 1, what="the process asking the pool")
    os.kill(first.pid, signal.SIGTERM)
    eventually(lambda: first.exit_code() is not None, what="the worker's end")
    owners = "select deaths, owner from messages"
    eventually(lambda: cell.database.rows(owners) == [(2, None)], what="the claim given up")
    cell.pool.gate.set()
    cell.start_worker()
    assert cell.reply(message).text == "You said: slow"


def test_an_agent_that_is_unknown_or_suspended_is_so_in_quarantine(cell: Cell) -> None:
    message = cell.message("hello", agent="nobody")
    cell.submit(message)
    suspect(cell, 2)
    cell.start_worker()
    assert cell.reply(message).reason == "agent_unknown"


def test_what_is_retried_waits_for_what_its_thread_has_come_to(cell: Cell) -> None:
    """It is answered as if it came now: last, with what was said meanwhile in its history."""
    dead = cell.message("dead", thread_id="talk")
    cell.submit(dead)
    suspect(cell, 3)
    cell.start_worker()
    assert cell.reply(dead).reason == "parked"
    cell.pool.gate.clear()
    talk = [cell.message(f"talk {number}", thread_id="talk") for number in range(2)]
    cell.submit(*talk)
    eventually(lambda: cell.pool.waiting == 1, what="a message of the thread under way")
    retried = parked(cell, "retry", dead.message_id, "--json")
    again = dead.model_copy(update={"message_id": json.loads(retried.out)["retried_as"]})
    other = cell.message("another thread")
    cell.submit(other)  # behind the retried one in its tenant's line
    eventually(lambda: other.text in cell.pool.seen(), what="what comes after it under way")
    under_way = "select text from messages where thread_id = 'talk' and owner is not null"
    assert cell.database.rows(under_way) == [("talk 0",)]
    cell.pool.gate.set()
    assert cell.reply(again).text == "You said: dead"
    assert [said for said in cell.pool.seen() if said != other.text] == ["talk 0", "talk 1", "dead"]
    told = [turn.content for turn in cell.pool.requests[-1].messages[1:]]
    assert told == ["talk 0", "You said: talk 0", "talk 1", "You said: talk 1", "dead"]
