"""Running a program in a Pod: the protocol ``v5.channel.k8s.io`` of pods/exec, over a websocket.

Every message begins with the number of its channel. Standard input and output are channels; so is the
program's exit status. Arguments are a list: no shell is between.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from shared.kube.client import KubeClient
from shared.kube.errors import KubeError, UnreachableError
from shared.kube.names import pods_path

PROTOCOL = "v5.channel.k8s.io"
"""The first version in which the end of standard input can be told; Kubernetes 1.30 and later."""

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
"""Channels."""

CHUNK_BYTES = 16_384
"""Bytes of standard input in one message."""


_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
"""Messages after which no more come."""


class CannotStartError(KubeError):
    """The program could not be started in the container."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    code: int
    """Exit code."""

    out: str
    """Standard output."""

    err: str
    """Standard error."""


async def execute(
    client: KubeClient, namespace: str, pod: str, container: str, argv: Sequence[str], stdin: bytes
) -> Outcome:
    """Run `argv` in a container and wait for its end.

    Raises:
        UnreachableError: the connection, the program or the Pod ended before the exit status came.
        CannotStartError: there is no such program.
        KubeError: the API server refuses.
    """
    async with _started(client, namespace, pod, container, argv) as socket:
        for start in range(0, len(stdin), CHUNK_BYTES):
            await socket.send_bytes(bytes([STDIN]) + stdin[start : start + CHUNK_BYTES])
        await socket.send_bytes(bytes([CLOSE, STDIN]))
        return await _converse(socket, pod)


async def follow(
    client: KubeClient,
    namespace: str,
    pod: str,
    container: str,
    argv: Sequence[str],
    *,
    on_line: Callable[[str], None],
    silence_s: float,
) -> Outcome:
    """Run `argv` in a container until it ends, and hand on every line that it writes as it comes.

    Its standard input stays open for as long as this runs, and no longer, however this ends: a program that
    ends with it leaves nothing behind. The outcome holds what came after the last line.

    Raises:
        UnreachableError: as `execute`, or nothing came for `silence_s` seconds.
        CannotStartError: there is no such program.
        KubeError: the API server refuses.
    """
    async with _started(client, namespace, pod, container, argv) as socket:
        return await _converse(socket, pod, on_line=on_line, silence_s=silence_s)


@asynccontextmanager
async def _started(
    client: KubeClient, namespace: str, pod: str, container: str, argv: Sequence[str]
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    query = [("command", argument) for argument in argv]
    query += [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    socket = await client.websocket(f"{pods_path(namespace)}/{pod}/exec", query, PROTOCOL)
    try:
        if socket.protocol != PROTOCOL:
            raise KubeError(f"the API server does not speak {PROTOCOL}; Kubernetes 1.30 or later does")
        yield socket
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise UnreachableError(f"the connection to pod {pod} broke ({type(error).__name__})") from error
    finally:
        await socket.close()


async def _converse(
    socket: aiohttp.ClientWebSocketResponse,
    pod: str,
    *,
    on_line: Callable[[str], None] | None = None,
    silence_s: float | None = None,
) -> Outcome:
    channels = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
    while (message := await socket.receive(silence_s)).type not in _ENDS:
        if message.type is aiohttp.WSMsgType.BINARY and message.data and message.data[0] in channels:
            channels[message.data[0]] += message.data[1:]
        while on_line is not None and b"\n" in channels[STDOUT]:
            line, _, channels[STDOUT] = channels[STDOUT].partition(b"\n")
            on_line(line.decode(errors="replace"))
    if not channels[STATUS]:
        raise UnreachableError(f"pod {pod} ended, or the connection to it, before the command did")
    code = _exit_code(json.loads(channels[STATUS]), pod)
    return Outcome(code, channels[STDOUT].decode(errors="replace"), channels[STDERR].decode(errors="replace"))


def _exit_code(status: dict[str, Any], pod: str) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            code = int(cause["message"])
            if code > 128:  # ended by a signal: the container is being stopped, or is out of memory
                raise UnreachableError(f"the command was ended by signal {code - 128} in pod {pod}")
            return code
    raise CannotStartError(f"pod {pod}: {status.get('message', 'the command could not be run')}")
