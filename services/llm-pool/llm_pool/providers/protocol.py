"""What the pool must know of a protocol that it speaks itself; one instance in each sibling module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawReply:
    """A provider's answer, read."""

    content: str
    """The text; may be empty here."""

    model: str | None
    """The model that answered, when the answer names it."""

    prompt_tokens: int
    """Tokens read, those of the provider's cache included."""

    completion_tokens: int
    """Tokens written."""

    cache_read: int = 0
    """Prompt tokens that came from the provider's cache."""

    cache_write: int = 0
    """Prompt tokens that went into it."""

    refused: bool = False
    """Whether the provider says that its content policy ended the reply."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One provider protocol."""

    key_variables: tuple[str, ...]
    """Environment variables that may hold the key, as LiteLLM reads them."""

    base_variables: tuple[str, ...]
    """Environment variables that may hold the API base, as LiteLLM reads them."""

    default_base: str
    """API base when none is given."""

    needs_key: bool
    """Whether the provider's own address cannot be used without a key."""

    url: Callable[[str], str]
    """The address to post to, from the API base."""

    read: Callable[[Any], RawReply]
    """Read a decoded 200 answer; raises whatever one brings about that makes no sense."""


def text_of(value: Any) -> str:
    """Read a text that may be null.

    Raises:
        TypeError: it is something else.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
