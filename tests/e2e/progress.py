"""What the cluster's makers share: where things are kept, and telling how far they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_STARTED = time.monotonic()


class E2eError(Exception):
    """The cluster cannot be made here; the message says why and what to do."""


def cache() -> Path:
    """Return the folder, outside the clone, of what later runs can use again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "konstruct" / "e2e"


def say(text: str) -> None:
    """Tell on stderr, with the seconds since the start, what is going on."""
    sys.stderr.write(f"e2e: [{time.monotonic() - _STARTED:.0f} s] {text}\n")
    sys.stderr.flush()


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        E2eError: it failed; the message has the end of its output.
    """
    done = subprocess.run(
        list(command), input=stdin, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        said = "\n".join(part[-4000:].strip() for part in (done.stdout, done.stderr) if part.strip())
        raise E2eError(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{said}")
    return done.stdout
