"""Giving up connections to PostgreSQL over which nothing comes any more.

PostgreSQL ends what takes it too long, and the kernel notices a peer that is gone. Neither sees a way that
still acknowledges every byte and delivers none: a proxy that hangs, a server that is stopped. libpq waits for
that for ever, and a thread with it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import cast

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

LONGEST_S = 20.0
"""Seconds that a connection may be in use at a stretch: twice what PostgreSQL gives a statement, and every
transaction is a short one."""

LOOK_S = 1.0
"""Seconds between two looks."""


def give_up_stuck_connections(on: Engine) -> None:
    """Shut connections of `on` down that are in use for longer than :data:`LONGEST_S`.

    Whoever waits for one gets an ``OperationalError``, as when the server had closed it.
    """
    watch = _Watch()
    # First of all: what is asked of a new connection, or to see whether an old one lives, can hang too.
    event.listen(on, "connect", watch.begin, insert=True)
    event.listen(on, "checkout", watch.begin, insert=True)
    event.listen(on, "checkin", watch.end)


class _Watch:
    """Knows since when each connection is in use; its thread lives while any is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: dict[int, tuple[float, psycopg.Connection]] = {}
        self._watching = False

    def begin(self, connection: DBAPIConnection, record: ConnectionPoolEntry, *_: object) -> None:
        """Note that a connection is in use from now on."""
        with self._lock:
            self._in_use[id(record)] = (time.monotonic(), cast("psycopg.Connection", connection))
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="stuck-connections", daemon=True).start()

    def end(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        """Note that it is not any more."""
        with self._lock:
            self._in_use.pop(id(record), None)

    def _watch(self) -> None:
        while self._look():
            time.sleep(LOOK_S)

    def _look(self) -> bool:
        """Give up what is stuck; return whether anything is in use."""
        latest = time.monotonic() - LONGEST_S
        with self._lock:
            for key, (since, connection) in list(self._in_use.items()):
                if since < latest:
                    del self._in_use[key]
                    _shut_down(connection)
            self._watching = bool(self._in_use)
            return self._watching


def _shut_down(connection: psycopg.Connection) -> None:
    try:
        # A copy of the descriptor: the connection itself is closed by whoever waits for it.
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it has ended meanwhile
    log.warning("a connection to PostgreSQL was given up: in use for %g s, and no end of it", LONGEST_S)
