"""Building the request: roles, budget, the group and the fallback rule of the agent's documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents.builder import build_request, estimate_tokens, within_budget
from orchestrator.agents.catalog import ServedAgent
from shared.contract import ChatMessage, CompletionRequest
from shared.models import AgentSpec, KonstructMessage
from shared.persona import render
from shared.prompt import TRANSPARENCY_CLAUSE


def agent(**spec: object) -> ServedAgent:
    return ServedAgent.of(("acme", "ada"), render(AgentSpec.model_validate({"displayName": "Ada", **spec})))


def message(text: str = "hello") -> KonstructMessage:
    return KonstructMessage(tenant_id="acme", agent="ada", thread_id="t", sender="sam", text=text)


def request(
    served: ServedAgent, *history: ChatMessage, text: str = "hello", budget: int = 1000
) -> CompletionRequest:
    return build_request(
        served, history, message(text), history_token_budget=budget, max_tokens=99, timeout_s=12.0
    )


user = st.builds(lambda text: ChatMessage(role="user", content=text), st.text(max_size=40))
assistant = st.builds(lambda text: ChatMessage(role="assistant", content=text), st.text(max_size=40))
histories = st.lists(st.tuples(user, assistant) | st.tuples(user)).map(
    lambda turns: [m for turn in turns for m in turn]
)


def test_the_request_of_an_agent() -> None:
    built = request(agent(model={"group": "fast"}))
    assert (built.model, built.tenant_id, built.agent) == ("fast", "acme", "ada")
    assert (built.max_tokens, built.timeout_s, built.fallback) == (99, 12.0, "allow")
    assert request(agent(onFallback="disclose")).fallback == "allow"
    assert request(agent(onFallback="refuse")).fallback == "refuse"


@given(
    histories,
    st.text(min_size=1, max_size=50).filter(lambda t: t.strip() and "\x00" not in t),
    st.integers(0, 200),
)
def test_the_system_prompt_is_first_and_alone(history: list[ChatMessage], text: str, budget: int) -> None:
    built = request(agent(), *history, text=text, budget=budget)
    assert [m.role for m in built.messages].count("system") == 1
    assert built.messages[0].role == "system"
    assert built.messages[0].content.endswith(TRANSPARENCY_CLAUSE)
    assert built.messages[-1] == ChatMessage(role="user", content=text)


@given(histories, st.integers(0, 200))
def test_history_is_the_newest_turns_that_fit(history: list[ChatMessage], budget: int) -> None:
    kept = within_budget(history, budget)
    assert kept == history[len(history) - len(kept) :]
    assert sum(estimate_tokens(turn.content) for turn in kept) <= budget
    assert not kept or kept[0].role == "user"


def test_a_large_budget_keeps_all_and_none_keeps_nothing() -> None:
    history = [ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b")]
    assert within_budget(history, 1000) == history
    assert within_budget(history, 0) == []


def test_one_long_turn_does_not_let_older_ones_past_it() -> None:
    turns = ["old", "x" * 4000, "new"]
    history = [ChatMessage(role="user", content=text) for text in turns]
    assert [turn.content for turn in within_budget(history, 100)] == ["new"]
