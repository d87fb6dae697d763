"""Bounds that settings and contracts share, and the types of settings that are numbers or lists.

Pure. ``tests/unit/test_setting_bounds.py`` tries every setting at its bounds against what it feeds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from shared.names import DNS_LABEL

MAX_TIMEOUT_S = 600
"""Longest that a completion may be asked for, in seconds: the bound of ``timeout_s`` on /complete."""

MAX_REPLY_TOKENS = 65_536
"""Longest reply that may be asked for, in tokens: the bound of ``max_tokens`` on /complete."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
"""A duration in seconds."""

Timeout = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)]
"""How long the pool may take, in seconds. A longer one would have no effect: nobody can ask for more."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    return value


Names = Annotated[tuple[Annotated[str, Field(pattern=DNS_LABEL)], ...], BeforeValidator(_split)]
"""Names, comma separated; repeated ones count once."""
