"""The three model providers of the running system, and what each of them did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.support.providers import COMPLETION_TOKENS, PROMPT_TOKENS, Act, StubProvider, answer
from tests.support.providers_pool import ANTHROPIC, ANTHROPIC_KEY, OLLAMA, OPENAI, OPENAI_KEY
from tests.support.stack_provider import provider_in_thread

GROUPS = {ANTHROPIC: "quality", OPENAI: "quality", OLLAMA: "fast"}
"""Group of each deployment."""

HEALTHY = {"anthropic": answer(delay_s=0.08), "openai": answer(delay_s=0.05), "ollama": answer(delay_s=0.03)}
"""What each does when all is well, by protocol."""

ATTEMPT_TIMEOUT_S = 3.0
"""Longest that the pool waits for one of them."""

_DEPLOYMENTS = {"anthropic": ANTHROPIC, "openai": OPENAI, "ollama": OLLAMA}
_MODELS = {"anthropic": "claude-sonnet-4-20250514", "openai": "gpt-4o-2024-08-06", "ollama": "qwen3:8b"}
_BY_STATUS = {429: "rate_limited", 401: "auth"}


class Providers:
    """Real servers that speak the three protocols, while it is a context."""

    def __init__(self, healthy: Mapping[str, Act] = HEALTHY) -> None:
        self._end = ExitStack()
        self._healthy = healthy
        self.stubs: dict[str, StubProvider] = {}
        """The servers, by protocol."""

    def __enter__(self) -> Self:
        for protocol, model in _MODELS.items():
            self.stubs[protocol] = self._end.enter_context(provider_in_thread(protocol, model))
        self.behave({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()

    def roots(self) -> dict[str, str]:
        """Return their addresses, by protocol."""
        return {protocol: stub.root for protocol, stub in self.stubs.items()}

    def environment(self, roots: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what tells an llm-pool where they are; with `roots`, at these addresses."""
        roots = roots or self.roots()
        return {
            "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
            "OPENAI_API_KEY": OPENAI_KEY,
            "OLLAMA_BASE_URL": roots["ollama"],
            "KONSTRUCT_ANTHROPIC_BASE_URL": roots["anthropic"],
            "KONSTRUCT_OPENAI_BASE_URL": f"{roots['openai']}/v1",
        }

    def behave(self, acts: Mapping[str, Act]) -> None:
        """Have each do the act of its protocol from now on; what is not named is healthy."""
        for protocol, stub in self.stubs.items():
            stub.default = acts.get(protocol, self._healthy[protocol])

    def attempts(self) -> dict[tuple[str, ...], float]:
        """Count what was asked of them, by deployment and by what the pool must have made of it."""
        return {
            key: float(count)
            for key, count in Counter(
                (_DEPLOYMENTS[protocol], _outcome(act))
                for protocol, stub in self.stubs.items()
                for act in stub.acts
            ).items()
        }

    def tokens(self) -> dict[tuple[str, ...], float]:
        """Count the tokens of their answers, by group and direction."""
        counted: Counter[tuple[str, ...]] = Counter()
        for (deployment, outcome), count in self.attempts().items():
            if outcome == "ok":
                counted[GROUPS[deployment], "prompt"] += int(count) * PROMPT_TOKENS
                counted[GROUPS[deployment], "completion"] += int(count) * COMPLETION_TOKENS
        return {key: float(count) for key, count in counted.items()}


def _outcome(act: Act) -> str:
    """Say what an act is to whoever asked."""
    if act.kind == "hang" or act.delay_s >= ATTEMPT_TIMEOUT_S:
        return "timeout"
    if act.kind == "answer":
        return "ok"
    return _BY_STATUS.get(act.status, "unavailable")
