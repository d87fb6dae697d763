"""The span of each call to a provider, by OpenTelemetry's GenAI conventions.

Nothing that a provider says of a failure is in it: that may quote a key. What was asked and answered is in it
only if the settings say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from llm_pool.failures import AttemptError
from llm_pool.metrics import OK
from llm_pool.providers.base import Deployment, Prompt, Reply
from shared.contract import ChatMessage
from shared.tracing import attributes, fail

_tracer = trace.get_tracer("konstruct.llm-pool")

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "ollama_chat": "ollama",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""The conventions' names of providers that LiteLLM calls otherwise."""


class CallSpans:
    """Makes the span of each call to a provider."""

    def __init__(self, *, content: bool) -> None:
        """Keep whether what is asked and answered is put into them."""
        self._content = content

    def start(self, deployment: Deployment, prompt: Prompt) -> Span | None:
        """Begin the span of a call, if the request's own, which is the current one, is recorded."""
        if not trace.get_current_span().is_recording():
            return None
        provider = _PROVIDERS.get(deployment.provider, deployment.provider)
        facts: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.system": provider,  # what it was called before; many readers still look for it
            "gen_ai.request.model": deployment.model,
            **attributes(deployment=deployment.name, group=deployment.group),
        }
        if prompt.max_tokens is not None:
            facts["gen_ai.request.max_tokens"] = prompt.max_tokens
        if prompt.temperature is not None:
            facts["gen_ai.request.temperature"] = prompt.temperature
        if self._content:
            facts.update(_asked(prompt.messages))
        return _tracer.start_span(f"chat {deployment.model}", kind=SpanKind.CLIENT, attributes=facts)

    def end(self, span: Span, outcome: str, reply: Reply | None, error: AttemptError | None) -> None:
        """End the span of a call that came to `outcome`."""
        if reply is not None:
            span.set_attributes(
                {
                    "gen_ai.response.model": reply.model,
                    "gen_ai.usage.input_tokens": reply.usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": reply.usage.completion_tokens,
                    **attributes(cost_usd=reply.cost_usd),
                }
            )
            if self._content:
                said = [{"role": "assistant", "parts": _parts(reply.content)}]
                span.set_attribute("gen_ai.output.messages", _json(said))
        if outcome != OK:
            fail(span, outcome)
        if error is not None and error.status is not None:
            span.set_attribute("http.response.status_code", error.status)
        span.end()


def _asked(messages: Iterable[ChatMessage]) -> dict[str, str]:
    """Return what was asked, in the conventions' form: instructions apart from the conversation."""
    instructions = [part for said in messages if said.role == "system" for part in _parts(said.content)]
    turns = [{"role": said.role, "parts": _parts(said.content)} for said in messages if said.role != "system"]
    return {"gen_ai.system_instructions": _json(instructions), "gen_ai.input.messages": _json(turns)}


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "content": text}]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
