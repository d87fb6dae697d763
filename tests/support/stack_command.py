"""Running the ``konstruct`` command as a process of its own, as people and scripts do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import eventually

_FOREIGN = re.compile(r"^(KONSTRUCT_|ANTHROPIC_|OPENAI_|OLLAMA_|LITELLM_)|_proxy$|^COLUMNS$", re.IGNORECASE)
"""Variables of the caller's environment that would change what is tested."""

COMMAND = (sys.executable, "-m", "konstruct_cli.main")
"""The command."""

START_S = 90.0
"""Longest that a stack may take to start on a busy machine."""


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings and keys, and with `more`."""
    return {name: value for name, value in os.environ.items() if not _FOREIGN.search(name)} | more


def measured(**more: str) -> dict[str, str]:
    """Return the environment in which a command tells on standard error what it imports."""
    return environment(PYTHONPROFILEIMPORTTIME="1", **more)


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def konstruct(
    *arguments: str, cwd: Path, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> Result:
    """Run the command to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env=dict(env or environment()),
        timeout=timeout_s,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass
class Up:
    """A running ``konstruct up``."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        """What it wrote to standard output."""
        return (self.folder / "up.out").read_text()

    @property
    def err(self) -> str:
        """What it wrote to standard error."""
        return (self.folder / "up.err").read_text()

    def says(self, words: str) -> None:
        """Wait until it has said `words`."""
        eventually(lambda: words in self.err or self.process.poll() is not None, within_s=START_S, what=words)
        assert words in self.err, f"up ended with {self.process.poll()}: {self.err}"

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def up(folder: Path, *arguments: str, **env: str) -> Iterator[Up]:
    """Start ``konstruct up`` in `folder`; kill it at the end of the block if it still runs."""
    with (folder / "up.out").open("wb") as out, (folder / "up.err").open("wb") as err:
        process = subprocess.Popen(
            [*COMMAND, "up", *arguments], cwd=folder, stdout=out, stderr=err, env=environment(**env)
        )
    try:
        yield Up(process, folder)
    finally:
        process.kill()
        process.wait(10)
