"""How failures are read and told: every kind, in every protocol, and never a provider's own words."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.contract import FallbackReason, ProblemCode
from tests.support.providers import Act, answer, cut, empty, garbage, half, hang, raw, status
from tests.support.providers_pool import ANTHROPIC, CANARIES, OLLAMA, OPENAI, World, cooled, open_world

TOO_LONG = {
    ANTHROPIC: '{"type":"error","error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}',
    OPENAI: '{"error":{"message":"This model\'s maximum context length is 8 tokens"}}',
    OLLAMA: '{"error":"the input exceeds the context window of the model"}',
}
"""How each provider says that the prompt is too long."""

REFUSED = {
    ANTHROPIC: '{"type":"error","error":{"message":"Output blocked by content filtering policy"}}',
    OPENAI: '{"error":{"message":"Rejected by our safety system","code":"content_policy_violation"}}',
    OLLAMA: '{"error":"content_filter"}',
}
"""How each provider says that it refuses the content."""

KINDS: list[tuple[str, Act | dict[str, str], FallbackReason]] = [
    ("429", status(429), FallbackReason.RATE_LIMITED),
    ("500", status(500), FallbackReason.UNAVAILABLE),
    ("502", status(502), FallbackReason.UNAVAILABLE),
    ("529", status(529), FallbackReason.UNAVAILABLE),
    ("301", status(301, location="http://127.0.0.1:9/"), FallbackReason.UNAVAILABLE),
    ("401", status(401), FallbackReason.AUTH),
    ("403", status(403), FallbackReason.AUTH),
    ("404", status(404), FallbackReason.MODEL_NOT_FOUND),
    ("400", status(400), FallbackReason.BAD_REQUEST),
    ("422", status(422), FallbackReason.BAD_REQUEST),
    ("too long", TOO_LONG, FallbackReason.CONTEXT_WINDOW),
    ("content", REFUSED, FallbackReason.CONTENT_POLICY),
    ("hang", hang(), FallbackReason.TIMEOUT),
    ("cut", cut(), FallbackReason.UNAVAILABLE),
    ("half", half(), FallbackReason.UNAVAILABLE),
    ("garbage", garbage(), FallbackReason.UNAVAILABLE),
    ("empty", empty(), FallbackReason.UNAVAILABLE),
    ("blank", answer("  \n"), FallbackReason.UNAVAILABLE),
    ("json null", raw("null"), FallbackReason.UNAVAILABLE),
    ("json list", raw("[]"), FallbackReason.UNAVAILABLE),
    (
        "other json",
        raw('{"choices": [], "content": 5, "message": {"content": {}}}'),
        FallbackReason.UNAVAILABLE,
    ),
    ("deep json", raw("[" * 100_000), FallbackReason.UNAVAILABLE),
]
"""Every kind of failure: its name, what the stub does, the reason it must be told as."""


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(monkeypatch) as opened:
        yield opened


@pytest.mark.parametrize("name", [ANTHROPIC, OPENAI, OLLAMA])
async def test_each_failure_of_each_protocol_has_its_reason(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Cooldowns off, so that one world serves all kinds.
    settings: dict[str, Any] = {
        "llm_pool_allowed_fails": 1000,
        "llm_pool_attempt_timeout_s": 0.3,
        "llm_pool_ollama_timeout_s": 0.3,
        "llm_pool_cooldown_s": 0.001,
    }
    async with open_world(monkeypatch, **settings) as world:
        group = "fast" if name == OLLAMA else "quality"
        world.anthropic.default = answer() if name == ANTHROPIC else status(400)
        for kind, act, reason in KINDS:
            stub = world.providers[name]
            stub.script.append(status(400, act[name]) if isinstance(act, dict) else act)
            served = stub.count
            response = await world.pool.ask(group, timeout_s=3)
            attempts = {a["deployment"]: a["outcome"] for a in response.json()["attempts"]}
            assert attempts[name] == reason, kind
            assert stub.count == served + 1, kind
            await cooled(world, group)  # one that hung is left alone for longer


async def test_context_window_and_content_policy_try_the_rest_of_the_group(world: World) -> None:
    for body, reason in ((TOO_LONG, "context_window"), (REFUSED, "content_policy")):
        world.anthropic.script.append(status(400, body[ANTHROPIC]))
        reply = await world.pool.reply("quality")
        assert [a.outcome for a in reply.attempts] == [reason, "ok"]
        assert not reply.degraded


async def test_content_filter_that_leaves_no_text_is_content_policy(world: World) -> None:
    filtered = {
        "model": "gpt-4o",
        "choices": [{"message": {"content": None}, "finish_reason": "content_filter"}],
    }
    world.anthropic.default = raw('{"model":"m","content":[],"stop_reason":"refusal","usage":{}}')
    world.openai.default = raw(json.dumps(filtered))
    reply = await world.pool.reply("quality")
    assert [a.outcome for a in reply.attempts] == ["content_policy", "content_policy", "ok"]
    assert reply.fallback_reason is FallbackReason.CONTENT_POLICY


async def test_reply_without_usage_is_still_a_reply(world: World) -> None:
    world.ollama.default = raw('{"message": {"content": "<think>hm\\n</think>\\n\\nHello"}}')
    reply = await world.pool.reply("fast")
    assert (reply.content, reply.model) == ("Hello", "qwen3:8b")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (0, 0)


async def test_redirects_are_not_followed(world: World) -> None:
    # A redirect would take the key, and the conversation, to a host that nobody configured.
    for code in (301, 302, 307, 308):
        world.anthropic.script.append(status(code, location=f"{world.ollama.root}/api/chat"))
        assert (await world.pool.reply("quality")).attempts[-1].deployment == OPENAI
    assert world.ollama.count == 0


async def test_unknown_group_and_unknown_path_are_404(world: World) -> None:
    unknown = await world.pool.problem("qality")
    assert (unknown.status, unknown.code) == (404, ProblemCode.UNKNOWN_GROUP)
    assert unknown.type == "urn:konstruct:problem:unknown_group"
    assert unknown.requested_group == "qality"
    assert "quality, fast" in unknown.detail
    lost = await world.pool.client.get("/nowhere")
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert lost.headers["content-type"] == "application/problem+json"
    method = await world.pool.client.get("/complete")
    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    assert method.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "expected_status", "named"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[]", 422, "body"),
        (b"{}", 422, "model"),
        (b'{"model":"quality","messages":[],"tenant_id":"acme"}', 422, "messages"),
        (b'{"model":"quality","messages":[{"role":"tool","content":"x"}],"tenant_id":"acme"}', 422, "role"),
        (b'{"model":"QUALITY","messages":[{"role":"user","content":"x"}],"tenant_id":"acme"}', 422, "model"),
        (
            b'{"model":"quality","messages":[{"role":"user","content":"x"}],"tenant_id":"a_b"}',
            422,
            "tenant_id",
        ),
        (
            b'{"model":"quality","messages":[{"role":"user","content":"x"}],"tenant_id":"acme","secret-7":1}',
            422,
            "unknown field",
        ),
        (
            b'{"model":"quality","messages":[{"role":"user","content":"x"}],"tenant_id":"acme","timeout_s":-7}',
            422,
            "timeout_s",
        ),
    ],
)
async def test_malformed_requests_say_where_and_repeat_nothing(
    world: World, body: bytes, expected_status: int, named: str
) -> None:
    response = await world.pool.client.post("/complete", content=body)
    assert response.status_code == expected_status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == ProblemCode.INVALID_REQUEST
    assert named in problem["detail"]
    assert "secret-7" not in response.text
    assert "-7" not in response.text
    assert all(stub.count == 0 for stub in world.providers.values())


async def test_no_key_and_no_provider_text_leaves_the_pool(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "PROVIDER-WORDS " + " ".join(CANARIES)
    bodies = [
        json.dumps({"error": {"message": echo, "type": echo, "code": echo}}),
        json.dumps({"error": echo}),
        echo,
    ]
    seen: list[str] = []
    for code in (200, 301, 400, 401, 403, 404, 413, 422, 429, 500, 503):
        for body in bodies:
            for stub in world.providers.values():
                stub.script.append(status(code, body, x_echo=echo))
            response = await world.pool.ask("quality")
            seen += [response.text, str(response.headers)]
    for path in ("/metrics", "/health", "/openapi.json", "/readyz"):
        seen.append((await world.pool.client.get(path)).text)
    state = world.pool.app.state.pool
    router = state.router
    seen += [repr(state), repr(router.deployments), repr(router.litellm_router), repr(router._config)]
    seen += [repr(deployment.caller) for deployment in router.deployments]
    seen += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    seen += list(capfd.readouterr())
    assert world.anthropic.headers[0]["x-api-key"] in CANARIES, "the canary was not in use"
    for text in seen:
        for canary in (*CANARIES, "PROVIDER-WORDS"):
            assert canary not in text


async def test_fault_of_the_pool_is_500_without_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(CANARIES[0])

    monkeypatch.setattr(world.pool.app.state.pool.router, "pick", broken)
    problem = await world.pool.problem("fast")
    assert (problem.status, problem.code) == (500, ProblemCode.INTERNAL)
    assert CANARIES[0] not in problem.model_dump_json()
    assert "RuntimeError" in caplog.text
    assert CANARIES[0] not in caplog.text


async def test_a_call_that_raises_is_a_failed_attempt_and_the_next_is_asked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def call(self, prompt: object, timeout_s: float) -> None:
            raise RuntimeError(CANARIES[0])

    for deployment in world.pool.app.state.pool.router.groups["quality"]:
        object.__setattr__(deployment, "caller", Broken())
    reply = await world.pool.reply("quality")
    assert [a.outcome for a in reply.attempts] == ["unavailable", "unavailable", "ok"]
    assert "RuntimeError" in caplog.text
    assert CANARIES[0] not in caplog.text


async def test_openapi_tells_every_answer(world: World) -> None:
    document = (await world.pool.client.get("/openapi.json")).json()
    operation = document["paths"]["/complete"]["post"]
    assert set(operation["responses"]) == {
        *("200", "400", "401", "404", "408", "413", "422", "429", "500", "503", "504")
    }
    for code, response in operation["responses"].items():
        media = "application/json" if code == "200" else "application/problem+json"
        assert list(response["content"]) == [media]
    for name in ("CompletionRequest", "CompletionResponse", "Problem", "ChatMessage", "Attempt"):
        assert name in document["components"]["schemas"]
    references = json.dumps(document).split('"#/components/schemas/')[1:]
    assert {reference.split('"')[0] for reference in references} <= set(document["components"]["schemas"])
