"""Runs the scripted system for as long as a picture of it needs, and then a command that draws it.

    python -m tests.observability.show --seconds 40 -- COMMAND ...

plays every phase of ``script.py`` for about 40 seconds (5 minutes in all), then runs the command with
``PROMETHEUS_URL``, ``RUN_START`` and ``RUN_END`` (seconds since the epoch) in its environment, and ends
everything. Without a command it keeps the system, idle, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.observability.load import COMPLETIONS_PER_S
from tests.observability.script import PROVIDERS, REST, play
from tests.observability.stage import Stage, running_stage


def main() -> int:
    """Play, then run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="about how long each phase lasts")
    parser.add_argument("command", nargs="*", help="what to run at the end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="konstruct-observed-") as made:
        folder = Path(made)
        folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
        _say("starting the system")
        with running_stage(folder) as stage:
            start = _play(stage, given.seconds)
            return _then(stage, given.command, start)


def _play(stage: Stage, seconds: float) -> float:
    start = time.time()
    with stage.load:
        for played in play(stage, round(seconds * COMPLETIONS_PER_S), (*PROVIDERS, *REST)):
            _say(f"{played.phase.name}: {played.end - played.start:.0f} s")
    return start


def _then(stage: Stage, command: list[str], start: float) -> int:
    end = time.time()
    stage.prometheus.api.wait_scraped(end)
    told = {
        "PROMETHEUS_URL": stage.prometheus.url,
        "RUN_START": f"{start:.0f}",
        "RUN_END": f"{end:.0f}",
    }
    if command:
        return subprocess.run(command, env={**os.environ, **told}, check=False).returncode
    _say(" ".join(f"{name}={value}" for name, value in told.items()))
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    # Blocked in every thread, so that the wait for them below is what takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.exit(main())
