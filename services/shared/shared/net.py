"""Addresses in settings."""

from __future__ import annotations

from shared.config import ConfigurationError


def host_and_port(listen: str) -> tuple[str, int]:
    """Split ``host:port``, ``[v6]:port`` or ``:port`` (every address).

    Raises:
        ConfigurationError: it has another form.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{listen} is no address; write host:port, for instance 0.0.0.0:8004")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty host means
