"""Starting and ending the servers that ``bench/llm_pool.py`` measures, and installing the proxy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "bench-proxy.txt"
"""What the proxy is installed from."""

START_TIMEOUT_S = 120.0
"""Longest wait for a server to come up."""


def install_proxy() -> Path:
    """Install LiteLLM's proxy into the cache if it is not there; return its Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "konstruct"
    folder = cache / "bench-proxy"
    python = folder / "bin" / "python"
    mark = folder / "installed.lock"
    if mark.is_file() and mark.read_bytes() == LOCK.read_bytes():
        return python
    print(f"installing LiteLLM's proxy into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(LOCK),
    ]
    subprocess.run(command, check=True)
    mark.write_bytes(LOCK.read_bytes())
    return python


@contextmanager
def serving(command: list[str], extra: Mapping[str, str]) -> Iterator[int]:
    """Run a server for the length of the block; give its process id."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("KONSTRUCT_")}
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "NO_PROXY": "127.0.0.1",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**keep, **quiet, **extra}, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_for(url: str) -> None:
    """Wait until `url` answers 2xx."""
    deadline = time.monotonic() + START_TIMEOUT_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(url, timeout=2).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
