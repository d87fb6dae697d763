"""Serves an Anthropic and an OpenAI, and on another port the switch that says how they behave.

====  =======================================================================================
Port  What listens
====  =======================================================================================
8000  the switch: ``POST /up``, ``POST /down``, ``GET /`` (what was served), ``PUT /`` with an
      act as JSON, like ``{"kind": "status", "status": 503}``, ``{"kind": "answer", "text": "Hi"}`` or
      ``{"kind": "echo"}``
8001  Anthropic's protocol
8002  OpenAI's protocol
====  =======================================================================================

Down means that connections are refused. The readiness of the pod is that of port 8000.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from providers import Act, StubProvider, echo  # type: ignore[import-not-found] # its place in the image

SWITCH = 8000
"""Port of the switch."""

PROVIDERS = {"anthropic": (8001, "claude-sonnet-4"), "openai": (8002, "gpt-4o")}
"""Port and model, by protocol."""


class Switch:
    """What the tests tell the providers."""

    def __init__(self) -> None:
        self._providers = [
            StubProvider(protocol, model, host="0.0.0.0", port=port)
            for protocol, (port, model) in PROVIDERS.items()
        ]
        self._up = False

    async def turn(self, *, up: bool) -> None:
        """Have the providers listen, or refuse connections."""
        if up != self._up:
            for provider in self._providers:
                await (provider.up() if up else provider.down())
            self._up = up

    def script(self, act: Act) -> None:
        """Have the providers answer every request like this."""
        for provider in self._providers:
            provider.default = act

    def state(self) -> dict[str, Any]:
        """Tell whether the providers are up, and how many requests each has served."""
        return {"up": self._up, "served": {provider.protocol: provider.count for provider in self._providers}}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one request of the tests."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, path, _ = request.split(" ")
            status = await self._carry_out(method, path, body)
            answer = json.dumps(self.state()).encode()
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(answer)}\r\n\r\n".encode()
            )
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a probe that only connects
        finally:
            writer.close()

    async def _carry_out(self, method: str, path: str, body: bytes) -> str:
        if (method, path) in (("POST", "/up"), ("POST", "/down")):
            await self.turn(up=path == "/up")
        elif (method, path) == ("PUT", "/"):
            try:
                self.script(_act(json.loads(body)))
            except (TypeError, ValueError):
                return "400 Bad Request"
        elif (method, path) != ("GET", "/"):
            return "404 Not Found"
        return "200 OK"


def _act(told: dict[str, Any]) -> Any:
    if told.get("kind") == "echo":
        return echo(delay_s=told.get("delay_s", 0.0))
    return Act(**told)


async def main() -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    switch = Switch()
    await switch.turn(up=True)
    async with await asyncio.start_server(switch.serve, "0.0.0.0", SWITCH):
        await ended.wait()
    await switch.turn(up=False)


if __name__ == "__main__":
    asyncio.run(main())
