"""A model provider that costs almost nothing: what a benchmark puts behind the thing it measures.

Speaks the Anthropic, OpenAI and Ollama protocols, and the llm-pool's own, with one fixed answer each. Run
as a process of its own: ``python -m bench.upstream PORT [SECONDS]``; an answer then takes about so long.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import cast

import uvloop

TEXT = "The meeting is on Thursday at ten. Shall I tell the others?"
"""What every answer says."""


def _response(document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


OPENAI = _response(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 14, "total_tokens": 134},
    }
)
"""The answer to ``/v1/chat/completions``."""

ANTHROPIC = _response(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-20250514",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 120, "output_tokens": 14},
    }
)
"""The answer to ``/v1/messages``."""

OLLAMA = _response(
    {
        "model": "qwen3:8b",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": TEXT},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 120,
        "eval_count": 14,
    }
)
"""The answer to ``/api/chat``."""


POOL = _response(
    {
        "content": TEXT,
        "model": "stub-1",
        "requested_group": "quality",
        "served_group": "quality",
        "degraded": False,
        "fallback_reason": None,
        "attempts": [{"deployment": "stub/stub-1", "group": "quality", "outcome": "ok", "ms": 1.0}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 14},
        "cost_usd": 0.001,
        "latency_ms": 1.0,
    }
)
"""The answer to ``/complete``."""

SPREAD = 0.2
"""How much longer or shorter an answer may take, as a share."""

BY_PATH = {b"/messages": ANTHROPIC, b"/api/chat": OLLAMA, b"/complete": POOL}
"""Answers by the end of the path; any other path is OpenAI's."""


class Upstream(asyncio.Protocol):
    """Answers each request on a connection when its body is whole, at once or after about `answer_s`."""

    def __init__(self, answer_s: float) -> None:
        self._answer_s = answer_s
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            found = head.find(b"content-length:")
            length = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            path = head.split(b" ", 2)[1]
            self._buffer = self._buffer[whole:]
            assert self._transport is not None
            answers = (answer for ending, answer in BY_PATH.items() if path.endswith(ending))
            answer = next(answers, OPENAI)
            if not self._answer_s:
                self._transport.write(answer)
                continue
            seconds = self._answer_s * random.uniform(1 - SPREAD, 1 + SPREAD)
            asyncio.get_running_loop().call_later(seconds, self._transport.write, answer)


async def serve(port: int, answer_s: float) -> None:
    """Listen on localhost until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answer_s), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float((*sys.argv, "0")[2])))
