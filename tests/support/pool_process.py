"""The llm-pool as a process: the installed command, on a port of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_TIMEOUT_S = 240.0
"""Longest that the process may take to answer; importing LiteLLM takes seconds, more on a busy machine."""


def command() -> list[str]:
    """Name the installed command."""
    return [str(Path(sys.executable).with_name("konstruct-llm-pool"))]


@contextmanager
def running(arguments: list[str], port: int, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the pool until the end of the block."""
    environ = {"KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{port}", **environ}
    with (
        tempfile.TemporaryFile() as log,  # a pipe that nobody reads would stop the pool when it is full
        subprocess.Popen(arguments, env={**os.environ, **environ}, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def wait_ready(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    """Wait until the pool answers /readyz."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, "the pool ended"
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the pool did not start"
        await asyncio.sleep(0.05)
