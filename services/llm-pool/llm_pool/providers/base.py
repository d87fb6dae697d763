"""What the dispatcher and the providers share: a deployment, a prompt, a reply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.contract import ChatMessage, Usage


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
