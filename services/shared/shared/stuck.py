"""Connections to PostgreSQL over which nothing comes any more: found before use, and given up in use.

PostgreSQL ends what takes it too long, and the kernel notices a peer that is gone. Neither sees a way that
still acknowledges every byte and delivers none: a proxy that hangs, a server that is stopped. libpq waits for
that for ever, and a thread with it. Where one connection is silent, others usually are: those that were idle
all the while are replaced, and no thread waits to find out.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import cast

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

PING_AFTER_S = 0.05
"""Seconds of idleness after which a connection is asked whether it is alive."""

ANSWER_S = 5.0
"""Seconds that a connection has to show that it is alive: as long as a new one may take to be made."""

LONGEST_S = 13.0
"""Seconds that a connection may be in use at a stretch: more than PostgreSQL gives a statement, and every
transaction is a short one."""

LOOK_S = 0.5
"""Seconds between two looks."""

_HEARD = "heard"
"""Where a connection's entry in the pool notes when it was last given back in order."""


def keep_lively(on: Engine) -> None:
    """Lend only connections of `on` that are alive, and shut those down that fall silent in use.

    One that was idle for a moment is asked first, so that a restart of PostgreSQL is noticed there and not
    by a message; under load nothing is asked. Whoever waits for one that is shut down gets an
    ``OperationalError``, as when the server had closed it.
    """
    watch = _Watch(on)
    # First of all: what is asked of a new connection can hang too.
    event.listen(on, "connect", watch.connected, insert=True)
    event.listen(on, "checkout", watch.lent)
    event.listen(on, "checkin", watch.given_back)


@dataclass(slots=True)
class _Use:
    """A connection in use."""

    connection: psycopg.Connection
    """The connection."""
    since: float
    """When that began."""
    longest_s: float
    """Seconds that it may last."""


class _Watch:
    """Knows since when each connection is in use; its thread lives while any is."""

    def __init__(self, on: Engine) -> None:
        self._dialect = on.dialect
        self._lock = threading.Lock()
        self._in_use: dict[int, _Use] = {}
        self._watching = False
        self._silent_since = -math.inf

    def connected(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        """Note a new connection, of which first questions are asked."""
        self._begin(connection, record, ANSWER_S)

    def lent(self, connection: DBAPIConnection, record: ConnectionPoolEntry, *_: object) -> None:
        """Note that a connection is in use from now on, if it is alive."""
        heard = record.info.get(_HEARD, math.inf)
        if heard < self._silent_since:
            raise DisconnectionError("not heard of since another connection fell silent")
        if time.monotonic() - heard >= PING_AFTER_S:
            self._begin(connection, record, ANSWER_S)
            try:
                self._dialect.do_ping(connection)
            except psycopg.Error as error:
                raise InvalidatePoolError from error
        self._begin(connection, record, LONGEST_S)

    def given_back(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        """Note that a connection is not in use any more."""
        record.info[_HEARD] = time.monotonic()
        with self._lock:
            self._in_use.pop(id(record), None)

    def _begin(self, connection: DBAPIConnection, record: ConnectionPoolEntry, longest_s: float) -> None:
        use = _Use(cast("psycopg.Connection", connection), time.monotonic(), longest_s)
        with self._lock:
            self._in_use[id(record)] = use
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="stuck-connections", daemon=True).start()

    def _watch(self) -> None:
        while self._look():
            time.sleep(LOOK_S)

    def _look(self) -> bool:
        """Give up what is stuck; return whether anything is in use."""
        now = time.monotonic()
        with self._lock:
            for key, use in list(self._in_use.items()):
                if now - use.since > use.longest_s:
                    del self._in_use[key]
                    # Known before anybody is woken, who would at once take another that is as silent.
                    self._silent_since = max(self._silent_since, use.since)
                    _shut_down(use)
            self._watching = bool(self._in_use)
            return self._watching


def _shut_down(use: _Use) -> None:
    try:
        # A copy of the descriptor: the connection itself is closed by whoever waits for it.
        with socket.socket(fileno=os.dup(use.connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it has ended meanwhile
    log.warning("a connection to PostgreSQL was given up: no answer for %g s", use.longest_s)
