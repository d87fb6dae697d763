"""What became of the messages of one run: watched while it happens, and looked at as a whole at its end."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.support.database import Database

LOOK_S = 0.2
"""Seconds between two looks at the table."""

Key = tuple[str, str]
"""A message: tenant, id."""

_ROWS = """
    select tenant_id, message_id, status, reason, reply, revision, model,
           extract(epoch from received_at)::float8, extract(epoch from finished_at)::float8
      from messages
"""


@dataclass(frozen=True)
class Ended:
    """A finished message."""

    tenant: str
    """Whose it is."""
    message_id: str
    """Its id."""
    status: str
    """How it ended."""
    reason: str | None
    """Why, unless it was answered."""
    reply: str
    """What the sender was told."""
    revision: str | None
    """What it spoke from."""
    model: str | None
    """Who wrote it."""
    accepted: float
    """When it was recorded, in seconds since the epoch."""
    finished: float
    """When its reply was."""

    @property
    def key(self) -> Key:
        return self.tenant, self.message_id


@dataclass
class Watch:
    """Reads replies as soon as they are there, as a sender would, while it is a context."""

    database: Database
    """Where they are; reached directly."""
    changed: list[str] = field(default_factory=list)
    """Messages whose reply was another one when it was read again."""

    def __post_init__(self) -> None:
        self._read: dict[Key, Ended] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def finished(self) -> list[float]:
        """When messages were finished, sorted."""
        return sorted(one.finished for one in list(self._read.values()))

    def unfinished(self) -> int:
        """Count what was recorded and has no reply."""
        return len(self.database.rows("select 1 from messages where status = 'received'"))

    def all(self) -> dict[Key, Ended]:
        """Read every finished message again."""
        self._look("where status <> 'received'")
        return dict(self._read)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self._look("where finished_at > now() - interval '10 s'")
            except psycopg.OperationalError:
                continue  # PostgreSQL is what is away

    def _look(self, where: str) -> None:
        for row in self.database.rows(f"{_ROWS} {where}"):
            values: tuple[Any, ...] = row
            one = Ended(*values)
            if self._read.setdefault(one.key, one) != one:
                self.changed.append(one.message_id)


def accepted(journal: Path) -> set[Key]:
    """Return what a sender noted as accepted."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return {(tenant, message_id) for tenant, message_id in (line.split(" ") for line in lines)}


def told(logs: Iterable[Path]) -> Counter[Key]:
    """Count how often workers told of a message that it ended."""
    found: Counter[Key] = Counter()
    for path in logs:
        for line in path.read_text(errors="replace").splitlines():
            if '"event":"message"' in line.replace(" ", ""):
                fields = json.loads(line)
                found[fields["tenant_id"], fields["message_id"]] += 1
    return found
