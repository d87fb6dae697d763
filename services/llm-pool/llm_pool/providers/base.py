"""What the dispatcher and the providers share: a deployment, a prompt, a reply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_pool.failures import AttemptError
from shared.contract import ChatMessage, FallbackReason, Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a deployment is asked; the same for every attempt of a request."""

    messages: tuple[ChatMessage, ...]
    """The conversation, oldest first."""

    max_tokens: int | None
    """Longest reply; none: the deployment's own setting."""

    temperature: float | None
    """Sampling temperature; none: the deployment's own setting."""

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the messages in the OpenAI shape, fresh: LiteLLM's translations modify them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a deployment answered."""

    content: str
    """The text; never empty."""

    model: str
    """The model that answered, as the provider names it."""

    usage: Usage
    """Tokens, as the provider counted them."""

    cost_usd: float | None
    """Price; none when the model has no known price."""


MAX_MODEL_CHARACTERS = 256
"""Longest name of a model that is passed on; a longer one is no name."""

MAX_TOKENS = 2**31 - 1
"""Most tokens that a provider may count: what PostgreSQL keeps as an integer. More is no count."""


def make_reply(
    content: object, model: object, prompt_tokens: object, completion_tokens: object, cost_usd: float | None
) -> Reply:
    """Make a reply of what a provider said, if it is one.

    Raises:
        AttemptError: part of it cannot be passed on: a text that is no UTF-8 (a lone surrogate), a name
            that is none, a count that is no number of tokens.
    """
    try:
        usage = Usage(prompt_tokens=count(prompt_tokens), completion_tokens=count(completion_tokens))
        return Reply(content=_text(content), model=_name(model), usage=usage, cost_usd=cost_usd)
    except (TypeError, ValueError):
        raise AttemptError(FallbackReason.UNAVAILABLE, status=200) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # UnicodeEncodeError, a ValueError, at a lone surrogate
    return value


def _name(value: object) -> str:
    name = _text(value)
    if not name.isprintable() or len(name) > MAX_MODEL_CHARACTERS:
        raise ValueError("not the name of a model")
    return name


def count(value: object) -> int:
    """Read a token count; absent or null is 0, and so is a negative one.

    Raises:
        TypeError: it is no number.
        ValueError: it is no number of tokens: not finite, or above `MAX_TOKENS`.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    if not -MAX_TOKENS <= value <= MAX_TOKENS:  # NaN is not, either
        raise ValueError("not a number of tokens")
    return int(max(value, 0))


class Caller(Protocol):
    """One way to ask one deployment."""

    async def call(self, prompt: Prompt, timeout_s: float) -> Reply:
        """Ask once.

        The dispatcher bounds the call to `timeout_s` itself; it is given so that a caller whose
        transport needs a time limit of its own has one.

        Raises:
            AttemptError: no usable reply.
        """
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one provider, member of one group."""

    name: str
    """Unique name, safe to show: LiteLLM's model string, numbered when it occurs twice."""

    group: str
    """The group it belongs to."""

    caller: Caller = field(repr=False)
    """How it is asked."""

    provider: str = ""
    """LiteLLM's name of the provider."""

    model: str = ""
    """Model that is asked for, as the provider knows it."""

    order: int = 1
    """Deployments of lower order are asked first; equals share the load (LiteLLM's ``order``)."""

    weight: float = 0.0
    """Share of the load among equals; all 0: the same for each."""

    attempt_timeout_s: float | None = None
    """Its own limit of one call, shorter or longer than the pool's; none: the pool's. Unlike that, it holds
    also when there is nobody else to ask."""

    cooldown_s: float | None = None
    """Its own cooldown, instead of the pool's."""
