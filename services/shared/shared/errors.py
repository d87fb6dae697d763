"""What every package may raise."""

from __future__ import annotations


class ConfigurationError(Exception):
    """The environment does not make a valid configuration; the message says what to change."""
