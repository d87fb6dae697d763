"""A stand-in for what the ``konstruct`` command asks of a cluster: a list of Pods, and pods/exec.

It speaks the protocol ``v5.channel.k8s.io`` and runs what is asked for as a process of this machine.
The real one needs a kubelet, and is used by the tests on a real cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.cluster import write_kubeconfig
from tests.support.stack_command import COMMAND

TOKEN = "token-of-the-tests"
PROTOCOL = "v5.channel.k8s.io"


def pod(name: str, *, release: str = "konstruct", ready: bool = True, **metadata: Any) -> dict[str, Any]:
    """Return a worker's Pod, as the API server lists it."""
    labels = {"app.kubernetes.io/component": "worker", "app.kubernetes.io/instance": release}
    return {
        "metadata": {"name": name, "labels": labels, **metadata},
        "spec": {"containers": [{"name": "worker"}, {"name": "sidecar"}]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@dataclass
class PodsExec:
    """One namespace, ``konstruct``, with Pods that are this machine."""

    folder: Path
    environment: Mapping[str, str]
    pods: list[dict[str, Any]] = field(default_factory=lambda: [pod("worker-1")])
    """Pods in the namespace."""
    runs: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Pod, container and arguments of each command."""
    refuse: list[int] = field(default_factory=list)
    """Statuses with which the next commands are refused."""
    cut: int = 0
    """Commands whose connection is cut once they have started; of those that stream, after a line."""
    streaming: int = 0
    """Commands that stream at present."""
    protocol: str = PROTOCOL
    """What it speaks."""
    port: int = 0

    @property
    def kubeconfig(self) -> Path:
        """Write a kubeconfig of it."""
        path = self.folder / "kubeconfig"
        write_kubeconfig(path, {"server": f"http://127.0.0.1:{self.port}"}, "tester", TOKEN)
        return path

    @property
    def options(self) -> tuple[str, ...]:
        """Options of the command that choose it."""
        return "--kubeconfig", str(self.kubeconfig), "--namespace", "konstruct"

    def application(self) -> web.Application:
        """Return what answers."""
        served = web.Application()
        served.router.add_get("/api/v1/namespaces/konstruct/pods", self._list)
        served.router.add_get("/api/v1/namespaces/konstruct/pods/{pod}/exec", self._exec)
        return served

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        wanted = dict(part.split("=") for part in request.query["labelSelector"].split(","))
        items = [each for each in self.pods if wanted.items() <= each["metadata"]["labels"].items()]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        if self.refuse:
            return web.json_response({"message": "no"}, status=self.refuse.pop(0))
        argv = request.query.getall("command")
        self.runs.append((request.match_info["pod"], request.query["container"], argv))
        socket = web.WebSocketResponse(protocols=(self.protocol,))
        await socket.prepare(request)
        if "--until-eof" in argv:
            await self._stream(socket, argv)
            return socket
        stdin = b""
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            if message.data == bytes([255, 0]):
                break
            assert message.data[0] == 0
            stdin += message.data[1:]
        if self.cut:
            self.cut -= 1
            assert request.transport is not None
            request.transport.abort()
            return socket
        await self._run(socket, argv, stdin)
        await socket.close()
        return socket

    async def _stream(self, socket: web.WebSocketResponse, argv: list[str]) -> None:
        """Run a program that ends with its standard input, which ends with the connection."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *argv[1:],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=-1,
            stdout=-1,
            stderr=-1,
            limit=1_000_000,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        self.streaming += 1
        cut, self.cut = self.cut > 0, max(self.cut - 1, 0)
        gone = asyncio.create_task(anext(socket, None))
        output = asyncio.create_task(self._hand_on(process, socket, once=cut))
        await asyncio.wait({gone, output}, return_when=asyncio.FIRST_COMPLETED)
        # A client that is gone may be noticed by the output that nobody takes.
        ended = output.done() and output.exception() is None and not cut
        for task in (gone, output):
            task.cancel()
        await asyncio.gather(gone, output, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            if ended:
                await self._end(socket, await process.wait(), await process.stderr.read())
        process.stdin.close()
        await process.communicate()
        self.streaming -= 1
        await socket.close()

    async def _hand_on(
        self, process: asyncio.subprocess.Process, socket: web.WebSocketResponse, *, once: bool
    ) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            for start in range(0, len(line), 1000):
                await socket.send_bytes(b"\x01" + line[start : start + 1000])
            if once:
                return

    async def _run(self, socket: web.WebSocketResponse, argv: list[str], stdin: bytes) -> None:
        program = [*COMMAND, *argv[1:]] if argv[0] == "konstruct" else argv
        try:
            process = await asyncio.create_subprocess_exec(
                *program, cwd=self.folder, env=dict(self.environment), stdin=-1, stdout=-1, stderr=-1
            )
        except FileNotFoundError:
            message = f'exec: "{argv[0]}": executable file not found in $PATH'
            await socket.send_bytes(b"\x03" + json.dumps({"status": "Failure", "message": message}).encode())
            return
        out, err = await process.communicate(stdin)
        for start in range(0, len(out), 1000):
            await socket.send_bytes(b"\x01" + out[start : start + 1000])
        await self._end(socket, process.returncode or 0, err)

    async def _end(self, socket: web.WebSocketResponse, returncode: int, err: bytes) -> None:
        await socket.send_bytes(b"\x02" + err)
        status: dict[str, Any] = {"status": "Success"}
        if returncode:
            code = returncode if returncode > 0 else 128 - returncode
            cause = {"reason": "ExitCode", "message": str(code)}
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())


@contextmanager
def pods_exec(folder: Path, environment: Mapping[str, str]) -> Iterator[PodsExec]:
    """Serve while the block runs; commands run in `folder` with `environment`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    served = PodsExec(folder, environment)
    runner = web.AppRunner(served.application())

    async def up() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    served.port = asyncio.run_coroutine_threadsafe(up(), loop).result(10)
    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
