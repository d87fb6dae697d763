"""Model providers for tests: real servers that speak the three protocols, healthy or failing.

Each is scripted per request and counts what it served. They are written on bare TCP, because half of
what they must do is what no HTTP server would: cut connections, send half a body, send nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

ANSWER = "Hello from the stub"
"""What a healthy stub says."""

PROMPT_TOKENS = 11
"""Prompt tokens that a healthy stub counts."""

COMPLETION_TOKENS = 5
"""Completion tokens that a healthy stub counts."""

_MARK = re.compile(r"\[\[([a-z0-9-]+)\]\]")
"""What an echoing stub repeats; the prompt of a test's agent says it."""


@dataclass(frozen=True)
class Act:
    """What a stub does with one request."""

    kind: str
    """``answer``, ``status``, ``hang``, ``drip``, ``cut``, ``half``, ``garbage``."""

    status: int = 200
    """Status of the answer."""

    headers: dict[str, str] = field(default_factory=dict)
    """Headers to add."""

    body: str | None = None
    """Body instead of the protocol's own."""

    text: str = ANSWER
    """What a healthy answer says."""

    say: Callable[[str], str] | None = None
    """Makes what a healthy answer says of the request's body, instead of ``text``."""

    delay_s: float = 0.0
    """Time that the answer takes."""


def answer(text: str = ANSWER, *, delay_s: float = 0.0) -> Act:
    """Answer healthily."""
    return Act("answer", text=text, delay_s=delay_s)


def echo(*, delay_s: float = 0.0) -> Act:
    """Answer healthily with the marks (``[[like-this]]``) that the prompt holds, in their order."""
    return Act("answer", say=lambda body: " ".join(_MARK.findall(body)) or "no mark", delay_s=delay_s)


def say(what: Callable[[str], str], *, delay_s: float = 0.0) -> Act:
    """Answer healthily with what is made of the request's body."""
    return Act("answer", say=what, delay_s=delay_s)


def status(code: int, body: str | None = None, **headers: str) -> Act:
    """Answer with an error; ``retry_after="3"`` becomes the header ``Retry-After``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Act("status", status=code, body=body, headers=named)


def hang() -> Act:
    """Take the request and never answer."""
    return Act("hang")


def drip(delay_s: float = 0.5) -> Act:
    """Send a healthy answer, one byte at a time."""
    return Act("drip", delay_s=delay_s)


def cut() -> Act:
    """Take the request and close the connection."""
    return Act("cut")


def half() -> Act:
    """Send half of a healthy body, then close the connection."""
    return Act("half")


def garbage() -> Act:
    """Answer 200 with a body that is no JSON."""
    return Act("garbage")


def empty() -> Act:
    """Answer healthily, with an empty text."""
    return Act("answer", text="")


def raw(body: str) -> Act:
    """Answer 200 with this body."""
    return Act("status", status=200, body=body)


class StubProvider:
    """One provider, on a free port unless told which."""

    def __init__(self, protocol: str, model: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Make one; it serves inside its context.

        Args:
            protocol: ``anthropic``, ``openai`` or ``ollama``.
            model: The model that a healthy answer names.
            host: Address that it listens on.
            port: Port that it listens on; 0 takes a free one.
        """
        self.protocol = protocol
        self.model = model
        self.script: deque[Act] = deque()
        """What to do with the next requests, one each."""
        self.default: Act = answer()
        """What to do with those after."""
        self.requests: list[dict[str, Any]] = []
        """Bodies of all requests served."""
        self.headers: list[dict[str, str]] = []
        """Headers of all requests served, lower case."""
        self.acts: list[Act] = []
        """What was done with all requests served."""
        self.paths: list[str] = []
        """Paths of all requests served."""
        self.abandoned = 0
        """Requests whose client went away while they hung."""
        self._server: asyncio.Server | None = None
        self._host = host
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def count(self) -> int:
        """How many requests were served, whatever came of them."""
        return len(self.requests)

    @property
    def root(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen (again, on the same port)."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening and cut every connection: what follows is refused."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.paths.append(lines[0].split(" ")[1])
        self.headers.append(headers)
        self.requests.append(json.loads(body))
        act = self.script.popleft() if self.script else self.default
        self.acts.append(act)
        if act.say is not None:
            act = replace(act, text=act.say(body.decode()))
        if act.delay_s and act.kind != "drip":
            await asyncio.sleep(act.delay_s)
        return await self._perform(act, reader, writer)

    async def _perform(self, act: Act, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if act.kind == "hang":
            if not await reader.read(1):
                self.abandoned += 1
            return False
        if act.kind == "cut":
            return False
        healthy = json.dumps(SHAPES[self.protocol](self.model, act.text))
        body = (act.body if act.body is not None else healthy).encode()
        if act.kind == "garbage":
            body = b"<html>the gateway is confused</html>"
        if act.kind == "status" and act.status != 200 and act.body is None:
            body = json.dumps({"error": {"type": "stub_error", "message": "the stub fails"}}).encode()
        head = [
            f"HTTP/1.1 {act.status} Stub",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        head += [f"{name}: {value}" for name, value in act.headers.items()]
        writer.write("\r\n".join([*head, "", ""]).encode())
        if act.kind == "drip":
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(act.delay_s)
            return True
        writer.write(body[: len(body) // 2] if act.kind == "half" else body)
        await writer.drain()
        return act.kind != "half"


def _anthropic(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS},
    }


def _openai(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }


def _ollama(model: str, text: str) -> dict[str, Any]:
    return {
        "model": model,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": PROMPT_TOKENS,
        "eval_count": COMPLETION_TOKENS,
    }


SHAPES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "anthropic": _anthropic,
    "openai": _openai,
    "ollama": _ollama,
}
"""A healthy answer, by protocol."""
