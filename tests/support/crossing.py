"""Two tenants, one of them an intruder: what it tries, what it may see, and what must not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konstruct_cli.stack.postgres import Postgres
from orchestrator.parked import park
from orchestrator.recording import record_message
from shared.db import get_session
from shared.models import KonstructMessage
from shared.rls import tenant_scope
from shared.tables import metadata
from tests.support.database import Database, fresh_database
from tests.support.pool import running_stub_pool
from tests.support.providers import answer
from tests.support.traced import Way, way
from tests.support.worker import Cell, open_cell, write_agent

INTRUDER, VICTIM = "acme", "globex"
"""The tenant that tries, and the one that it tries to reach."""

THEIR_AGENT = "vera"
"""An agent that the victim alone has; both have one called ``ada``."""

THEIR_THREAD = "their-talk"
"""A conversation of the victim's."""

ANSWERED, AGAIN, PARKED, HELD = "their-answered", "their-second", "their-parked", "their-held"
"""Ids of the victim's messages: two that were answered, one that is parked, one that a worker holds."""

ASKED, REPLIED, PROMPTED = "globex-asked-canary", "globex-replied-canary", "globex-prompted-canary"
"""What the victim asked, was told, and wrote into its agents' prompts."""

TEXTS = (ASKED, REPLIED, PROMPTED)
"""What nobody else may ever see."""

PAGE = Path(__file__).parents[2] / "docs" / "cross-tenant.md"
"""Where the matrix is shown."""


@dataclass
class Crossing:
    """A running system with both tenants in it."""

    way: Way
    database: Database
    victims: dict[str, KonstructMessage]
    """The victim's messages, by their ids."""

    @property
    def cell(self) -> Cell:
        """Broker, database and workers."""
        return self.way.cell

    def asked_of_providers(self) -> list[dict[str, Any]]:
        """Every request that a provider got."""
        return [*self.way.anthropic.requests, *self.way.openai.requests, *self.way.ollama.requests]


@dataclass(frozen=True)
class Attempt:
    """One cell of the matrix."""

    entry: str
    """Where it is tried."""

    tried: str
    """What is tried there, in words."""

    outcome: str
    """What comes of it, in words."""

    shows: str
    """Regular expression that what the intruder gets to see must match."""

    act: Callable[[Crossing], str]
    """Try it, and return all that the intruder gets to see."""

    def __str__(self) -> str:
        return f"{self.entry}: {self.tried}"


def try_it(attempt: Attempt, world: Crossing) -> None:
    """Hold one attempt to it: nothing read, nothing changed, the right answer."""
    before, asked = rows_of(VICTIM, world.database), len(world.asked_of_providers())
    seen = attempt.act(world)
    assert re.search(attempt.shows, seen, re.DOTALL), seen
    for text in TEXTS:
        assert text not in seen, f"the intruder reads {text}"
        assert text not in str(world.asked_of_providers()[asked:]), f"a provider is told {text}"
    assert rows_of(VICTIM, world.database) == before, "the victim's rows are not what they were"


def rows_of(tenant: str, database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of a tenant in every table, as the superuser sees it."""
    return {
        table.name: database.rows(
            f"select t::text from {table.name} t where tenant_id = %s order by 1", tenant
        )
        for table in metadata.sorted_tables
        if "tenant_id" in table.c
    }


def matrix(attempts: Sequence[Attempt]) -> str:
    """The matrix as the rows of a Markdown table."""
    return "".join(f"| {one.entry} | {one.tried} | {one.outcome} |\n" for one in attempts)


@contextmanager
def two_tenants(
    server: Postgres, template: str, redis_url: str, folder: Path, **settings: str
) -> Iterator[Crossing]:
    """Run providers, a pool and a worker for both tenants; the victim has had a conversation."""
    with (
        fresh_database(server, template) as database,
        running_stub_pool() as unused,
        open_cell(database, redis_url, unused, folder) as cell,
    ):
        for agent in (THEIR_AGENT, "ada"):
            write_agent(cell.agents, VICTIM, agent, prompt=f"{PROMPTED} for {agent}.")
        with way(cell, **settings) as made:
            # With leases so long that the one below, of a worker elsewhere, is no fault.
            made.start_worker(KONSTRUCT_LEASE_S="3600")
            made.anthropic.default = answer(REPLIED)
            victims = {one.message_id: one for one in _converse(cell)}
            made.anthropic.default = answer("what the intruder was told")
            mine = cell.message("what the intruder asked", message_id="mine", thread_id="mine")
            cell.submit(mine)
            cell.reply(mine)
            yield Crossing(made, database, victims)


def _converse(cell: Cell) -> Iterator[KonstructMessage]:
    theirs = {"tenant_id": VICTIM, "agent": THEIR_AGENT}
    for message_id in (ANSWERED, AGAIN):
        answered = cell.message(ASKED, **theirs, message_id=message_id, thread_id=THEIR_THREAD)
        cell.submit(answered)
        assert cell.reply(answered).text == REPLIED
        yield answered
    for message_id in (PARKED, HELD):
        message = cell.message(ASKED, **theirs, message_id=message_id, thread_id=message_id)
        with tenant_scope(VICTIM):
            with get_session(cell.engine) as session:
                record_message(session, message)
            if message_id == PARKED:
                assert park(VICTIM, PARKED, on=cell.engine)
        yield message
    cell.database.execute(
        "update messages set owner = 'elsewhere', lease_expires_at = now() + interval '1 h'"
        f" where message_id = '{HELD}'"
    )
