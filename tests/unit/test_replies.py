"""Replies say who spoke, or why nobody did."""

from __future__ import annotations

import pytest

from orchestrator.agents.answers import POLITE_FALLBACK, RunResult
from orchestrator.agents.catalog import ServedAgent
from orchestrator.replies import DISCLOSURE, FAILURES, apologise, reply_from
from shared.contract import CompletionResponse
from shared.models import AgentSpec, KonstructMessage
from shared.persona import render
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION
from shared.reply import MessageStatus, Reason
from tests.support.pool import envelope

MESSAGE = KonstructMessage(tenant_id="acme", agent="ada", thread_id="t", sender="sam", text="hello")


def agent(on_fallback: str = "allow") -> ServedAgent:
    spec = AgentSpec.model_validate({"displayName": "Ada", "onFallback": on_fallback})
    return ServedAgent.of(("acme", "ada"), render(spec))


def answer(*, degraded: bool) -> RunResult:
    served = {"served_group": "fast", "degraded": True, "fallback_reason": "timeout"} if degraded else {}
    return RunResult("Hi.", CompletionResponse.model_validate(envelope("Hi.", **served)), None)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_ends_a_message_politely(reason: Reason) -> None:
    reply = reply_from(MESSAGE, agent(), apologise(reason))
    assert reply.status is (MessageStatus.FAILED if reason in FAILURES else MessageStatus.APOLOGISED)
    assert reply.reason is reason
    assert reply.text == FAILURES.get(reason, POLITE_FALLBACK)
    assert reply.text.endswith(".")
    assert (reply.model, reply.served_group, reply.usage) == (None, None, None)


def test_an_apology_names_the_revision_and_a_failure_does_not() -> None:
    ada = agent()
    assert reply_from(MESSAGE, ada, apologise(Reason.POOL_ERROR)).revision == ada.revision
    assert reply_from(MESSAGE, ada, apologise(Reason.AGENT_SUSPENDED)).revision is None
    assert reply_from(MESSAGE, None, apologise(Reason.AGENT_UNKNOWN)).revision is None


@pytest.mark.parametrize("degraded", [True, False])
@pytest.mark.parametrize("on_fallback", ["allow", "disclose", "refuse"])
def test_only_a_degraded_reply_of_a_disclosing_agent_discloses(*, degraded: bool, on_fallback: str) -> None:
    ada = agent(on_fallback)
    reply = reply_from(MESSAGE, ada, answer(degraded=degraded))
    disclosed = degraded and on_fallback == "disclose"
    assert reply.text == (f"Hi.\n\n{DISCLOSURE}" if disclosed else "Hi.")
    assert (reply.status, reply.reason, reply.degraded) == (MessageStatus.ANSWERED, None, degraded)
    assert reply.fallback_reason == ("timeout" if degraded else None)
    assert (reply.model, reply.revision, reply.prompt_sha256) == ("stub-1", ada.revision, ada.prompt_sha256)
    assert reply.transparency_clause == TRANSPARENCY_CLAUSE_VERSION
