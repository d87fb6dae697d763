"""Addresses in settings, and sockets that notice when nobody is there any more."""

from __future__ import annotations

import socket
from typing import Any

from shared.config import ConfigurationError

SILENCE_S = 20
"""Seconds that a connection may leave probes or data unacknowledged before it counts as broken."""


def host_and_port(listen: str) -> tuple[str, int]:
    """Split ``host:port``, ``[v6]:port`` or ``:port`` (every address).

    Raises:
        ConfigurationError: it has another form.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{listen} is no address; write host:port, for instance 0.0.0.0:8004")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty host means


def attentive_socket(address: tuple[Any, ...]) -> socket.socket:
    """Make the socket of a connection, for aiohttp: half open ones otherwise stay silent for minutes."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setblocking(False)  # noqa: FBT003 - the standard library's own
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENCE_S * 1000),
    ):
        if hasattr(socket, name):  # not every system has each
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
