"""A provider's 200 may say anything: what is no reply is a failed attempt, and the next one is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_pool.failures import AttemptError
from llm_pool.providers.base import MAX_MODEL_CHARACTERS, MAX_TOKENS, Reply, make_reply
from shared.contract import CompletionResponse, FallbackReason
from tests.support.fuzzing import tries
from tests.support.providers import SHAPES as ANSWERS
from tests.support.providers import raw, status
from tests.support.providers_pool import ANTHROPIC, OLLAMA, OPENAI, World, open_world

PROTOCOL = {ANTHROPIC: "anthropic", OPENAI: "openai", OLLAMA: "ollama"}

COUNTS = {
    ANTHROPIC: ("input_tokens", "output_tokens"),
    OPENAI: ("prompt_tokens", "completion_tokens"),
    OLLAMA: ("prompt_eval_count", "eval_count"),
}
"""Where each protocol counts tokens."""

ODD_COUNTS = (
    "1e999",
    "-1e999",
    "NaN",
    "9" * 400,
    "9" * 5000,
    str(MAX_TOKENS + 1),
    "true",
    '"12"',
    "[]",
    "{}",
)
"""Counts as they may stand in JSON, or in what calls itself that."""


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, *, through_litellm: bool) -> AsyncIterator[World]:
    settings = {"llm_pool_allowed_fails": 1000, "llm_pool_cooldown_s": 0.001}
    async with open_world(monkeypatch, through_litellm=through_litellm, **settings) as opened:
        yield opened


def body(name: str, *, text: str = "Hello.", model: str = "a-model") -> str:
    return json.dumps(ANSWERS[PROTOCOL[name]](model, text))


def with_count(name: str, place: int, value: str) -> str:
    """Put `value` in the place of a count."""
    field = COUNTS[name][place]
    document = json.dumps(ANSWERS[PROTOCOL[name]]("a-model", "Hello."))
    before = json.loads(document)
    said = before["usage"][field] if name != OLLAMA else before[field]
    return document.replace(f'"{field}": {said}', f'"{field}": {value}')


async def ask(world: World, odd: dict[str, str]) -> CompletionResponse:
    """Have both providers of quality answer oddly, and ask."""
    world.anthropic.script.append(raw(odd[ANTHROPIC]))
    world.openai.script.append(raw(odd[OPENAI]))
    return await world.pool.reply("quality")


def assert_fell_back(reply: CompletionResponse) -> None:
    assert (reply.served_group, reply.degraded) == ("fast", True)
    assert reply.fallback_reason is FallbackReason.UNAVAILABLE
    assert [a.outcome for a in reply.attempts] == ["unavailable", "unavailable", "ok"]


async def test_what_is_no_count_of_tokens_is_a_failed_attempt(world: World, *, through_litellm: bool) -> None:
    for value in ODD_COUNTS:
        for place in (0, 1):
            reply = await ask(world, {name: with_count(name, place, value) for name in (ANTHROPIC, OPENAI)})
            if not through_litellm or reply.degraded:  # LiteLLM makes a number of some of them
                assert_fell_back(reply)
            assert 0 <= reply.usage.prompt_tokens <= MAX_TOKENS


@pytest.mark.parametrize("text", ["\ud800", "fine \udfff until here"])
async def test_a_text_that_is_no_unicode_is_a_failed_attempt(world: World, text: str) -> None:
    assert_fell_back(await ask(world, {name: body(name, text=text) for name in (ANTHROPIC, OPENAI)}))


@pytest.mark.parametrize("model", ["\ud800", "a\0b", "m" * 1_000_000, "line\nbreak"])
async def test_what_is_no_name_of_a_model_is_a_failed_attempt(
    world: World, model: str, *, through_litellm: bool
) -> None:
    reply = await ask(world, {name: body(name, model=model) for name in (ANTHROPIC, OPENAI)})
    if not through_litellm or reply.degraded:  # LiteLLM may put its own name of the model in its place
        assert_fell_back(reply)
    assert len(reply.model) <= MAX_MODEL_CHARACTERS


async def test_a_group_that_has_only_odd_answers_is_503_and_no_500(world: World) -> None:
    for value in ODD_COUNTS[:3]:
        world.ollama.script.append(raw(with_count(OLLAMA, 0, value)))
        response = await world.pool.ask("fast")
        assert response.status_code in (200, 503), value


@pytest.mark.parametrize("code", [204, 302, 307, 599])
async def test_other_statuses_are_failed_attempts(world: World, code: int) -> None:
    for stub in (world.anthropic, world.openai):
        stub.script.append(status(code, "", location="http://127.0.0.1:9/"))
    reply = await world.pool.reply("quality")
    assert reply.served_group == "fast"


@pytest.mark.parametrize("retry_after", ["-1", "1e999", "nan", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"])
async def test_an_odd_retry_after_is_no_fault(world: World, retry_after: str) -> None:
    for stub in (world.anthropic, world.openai):
        stub.script.append(status(429, "{}", retry_after=retry_after))
    reply = await world.pool.reply("quality")
    assert reply.served_group == "fast"


SHAPES: dict[str, list[dict[str, Any]]] = {
    "a system message alone": [{"role": "system", "content": "Be brief."}],
    "two system messages": [{"role": "system", "content": "Be brief."}] * 2,
    "the assistant alone": [{"role": "assistant", "content": "Hello?"}],
    "the assistant last": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello?"}],
    "blanks": [{"role": "user", "content": " "}],
    "a character outside the first plane": [{"role": "user", "content": "\U0001f600"}],
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_prompt_that_the_contract_takes_is_a_500(world: World, shape: str) -> None:
    for group in ("quality", "fast"):
        response = await world.pool.client.post(
            "/complete", json={"model": group, "messages": SHAPES[shape], "tenant_id": "acme"}
        )
        assert response.status_code in (200, 422, 503), response.text
        if response.status_code == 503:
            assert response.json()["attempts"], "no attempt"


async def test_a_system_message_alone_is_an_attempt_that_others_may_answer(world: World) -> None:
    response = await world.pool.client.post(
        "/complete",
        json={"model": "quality", "messages": SHAPES["a system message alone"], "tenant_id": "acme"},
    )
    assert response.status_code == 200, response.text
    attempts = {a["deployment"]: a["outcome"] for a in response.json()["attempts"]}
    assert attempts[ANTHROPIC] in ("bad_request", "ok")
    assert "ok" in attempts.values()


async def test_a_lone_surrogate_in_a_request_is_refused(world: World) -> None:
    content = b'{"model": "fast", "tenant_id": "acme", "messages": [{"role": "user", "content": "\\ud800"}]}'
    response = await world.pool.client.post(
        "/complete", content=content, headers={"content-type": "application/json"}
    )
    assert response.status_code in (400, 422)


_anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.lists(st.integers(), max_size=2),
)


@tries(300)
@given(_anything | st.text(), _anything, _anything, _anything)
def test_whatever_is_said_becomes_a_reply_that_can_be_passed_on_or_a_failed_attempt(
    content: object, model: object, prompt_tokens: object, completion_tokens: object
) -> None:
    try:
        made = make_reply(content, model, prompt_tokens, completion_tokens, None)
    except AttemptError:
        return
    assert isinstance(made, Reply)
    json.dumps([made.content, made.model], ensure_ascii=False).encode()
    assert 0 <= made.usage.prompt_tokens <= MAX_TOKENS
    assert 0 <= made.usage.completion_tokens <= MAX_TOKENS
