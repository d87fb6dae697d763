"""What must stay where it belongs in a cluster: tokens nowhere, an Agent's texts in it and its ConfigMaps."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

TOKEN = "canary-token-of-the-operators-account-7c2e91"
WORKER_TOKEN = "canary-token-of-the-workers-account-3f0b58"
KEY = "canary/key+of=a-clients-certificate"
SECRETS = (TOKEN, WORKER_TOKEN, KEY)
"""By what operator and worker are known to the API server."""

PROMPT = "a-very-private-instruction"
TONE = "a-very-private-manner"
BACKGROUND = "a-very-private-history"
FORGED = "a-very-private-forgery"
MISPLACED = "a-very-private-mistake"
TEXTS = (PROMPT, TONE, BACKGROUND, FORGED, MISPLACED)
"""What an Agent says, in both of its documents; what somebody writes in their place, or in a wrong one."""

EVERYTHING = (*SECRETS, *TEXTS)
"""Every canary."""

SPEC: dict[str, Any] = {
    "systemPrompt": PROMPT,
    "persona": {"tone": TONE},
    "identity": {"background": BACKGROUND},
}
"""An Agent that says all of its texts."""


def misplaced() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give specs that no version of the model takes, each with its canary where another thing is meant."""
    good = {"displayName": "Ada", "systemPrompt": PROMPT}
    yield "choice", good | {"onFallback": MISPLACED}
    yield "group", good | {"model": {"group": f"{MISPLACED} {PROMPT}"}}
    yield "limit", good | {"revisionHistoryLimit": MISPLACED}
    yield "switch", good | {"suspended": MISPLACED}
    yield "part", good | {"persona": MISPLACED}
    yield "list", good | {"persona": {"dos": MISPLACED}}
    yield "item", good | {"persona": {"dos": [{"what": MISPLACED}]}}
    yield "line", good | {"displayName": f"{MISPLACED}\n{PROMPT}"}
    yield "control", good | {"systemPrompt": f"{MISPLACED}\u202e{PROMPT}"}
    yield "long", good | {"role": MISPLACED * 50}
    yield "field", good | {"novelty": MISPLACED, "displayName": 7}


Echo = tuple[int, bytes]
"""Status and body of an answer that repeats what it was asked with, and texts."""

_AGENT: dict[str, Any] = {"metadata": {"name": PROMPT}, "spec": SPEC}


def echoes(token: str) -> list[Echo]:
    """Give what the API server, or something in its place, may say to the holder of a token."""
    said = [answer for status in (500, 503, 429, 403, 401) for answer in _refusals(status, token)]
    return said + [(200, _json({"type": kind, "object": _AGENT})) for kind in ("NOVELTY", f"{token} {TONE}")]


def endings(token: str) -> list[Echo]:
    """Give more of it: kopf ends of these, and the operator with it."""
    lists: list[dict[str, Any]] = [
        {"metadata": version, "items": [token, _AGENT]} for version in ({}, {"resourceVersion": "1"})
    ]
    events: list[dict[str, Any]] = [
        {"type": "ADDED", "object": token},
        {"type": "ERROR", "object": _status(500, token)},
        {"type": "ERROR", "object": token},
    ]
    return [*_refusals(404, token), *((200, _json(said)) for said in lists + events), (200, token.encode())]


def _refusals(status: int, token: str) -> list[Echo]:
    page = f"authorization: Bearer {token} {PROMPT} {TONE}".encode()
    return [(status, page), (status, b"<html>" + page * 200), (status, _json(_status(status, token)))]


def _status(code: int, token: str) -> dict[str, Any]:
    """Refuse, as an API server does."""
    message = f'Bearer {token}: a: Invalid value: "{PROMPT}": too long, .spec: expected map, got &{{{TONE}}}'
    details = {"causes": [{"field": "spec.role", "message": message}]}
    return {"kind": "Status", "code": code, "message": message, "reason": "Invalid", "details": details}


def _json(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def broken_kubeconfigs(server: str) -> Iterator[tuple[str, str]]:
    """Give kubeconfigs that cannot be used, each with a secret in it."""
    user = {"token": TOKEN, "client-key-data": base64.b64encode(KEY.encode()).decode()}

    def config(**parts: Any) -> str:
        whole = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        return json.dumps({**whole, **parts})

    yield "no YAML", f"users: [{{token: {TOKEN}\n\t{KEY}: @"
    yield "a text", TOKEN
    yield "a list", json.dumps([TOKEN])
    yield "a user that is none", config(users=[{"name": "u", "token": TOKEN}])
    yield "a user without a name", config(users=[{"user": user}])
    yield "a user in a text", config(users=[{"name": "u", "user": TOKEN}])
    yield "users in a text", config(users=TOKEN)
    yield "an unknown context", config(**{"current-context": "nowhere"})
    yield "a cluster without a server", config(clusters=[{"name": "c", "cluster": {"token": TOKEN}}])
    yield "a cluster that is none", config(clusters=[{"name": "c", "server": TOKEN}])
    yield "a token of two lines", config(users=[{"name": "u", "user": {"token": f"{TOKEN}\n{KEY}"}}])
    yield "a token that is none", config(users=[{"name": "u", "user": {"token": [TOKEN]}}])
    yield (
        "a key that is none",
        config(
            clusters=[{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
            users=[{"name": "u", "user": user | {"client-certificate-data": user["client-key-data"]}}],
        ),
    )
    yield (
        "a key that is no base64",
        config(
            clusters=[{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
            users=[{"name": "u", "user": {"client-key-data": f"{KEY}!"}}],
        ),
    )
    # What a plugin says of its own faults is told, as kubectl does; what it gives out is not.
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", f"echo {TOKEN}"],
    }
    yield "a plugin that gives no JSON", config(users=[{"name": "u", "user": {"exec": plugin}}])
