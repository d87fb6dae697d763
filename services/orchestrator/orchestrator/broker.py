"""What Redis holds of the queue, over a connection of one's own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from orchestrator.main import app
from orchestrator.wire import QUEUE, redis_tls
from shared.config import PREFIX, ConfigurationError, Settings
from shared.tls import TRUST_REDIS, certificate_fault, trusting

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
"""Seconds until an attempt to connect is given up."""

AWAY = (OperationalError, RedisError, OSError)
"""What is raised when Redis does not answer."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How many deliveries there are."""

    waiting: int
    """In the queue, for whoever comes."""

    held: int
    """Taken by workers and not acknowledged; those of dead workers among them."""


def refuse_untrusted_redis(settings: Settings) -> None:
    """Look at the certificate of a Redis that is reached by TLS. One that does not answer may come later.

    Raises:
        ConfigurationError: it is not trusted, or what is trusted cannot be read.
    """
    if not (tls := redis_tls(settings)):
        return
    trusting(settings.redis_ca_file, "redis_ca_file")
    url = settings.redis_url.get_secret_value()
    client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S, retry=None, **tls)
    try:
        client.ping()
    except AWAY as error:
        if (fault := certificate_fault(error)) is not None:
            raise ConfigurationError(f"{PREFIX}REDIS_URL: {fault}. {TRUST_REDIS}") from None
    finally:
        client.close()


class QueueView:
    """Counts the queue's deliveries. For one thread."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._channel: Any = None

    def count(self) -> Deliveries | None:
        """Count the deliveries, of every priority; None when Redis does not answer."""
        try:
            if self._channel is None:
                self._connection = app.connection_for_read()
                self._channel = self._connection.channel()
            channel = self._channel
            # For Redis a declaration changes nothing; it answers with the length.
            waiting = int(channel.queue_declare(QUEUE).message_count)
            return Deliveries(waiting, held=int(channel.client.hlen(channel.unacked_key)))
        except AWAY as error:
            log.debug("the queue's length is not known: %s", type(error).__name__)
            self.close()
            return None

    def close(self) -> None:
        """Close the connection; the next count opens another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except AWAY:
                log.debug("a broken connection to Redis was dropped")
