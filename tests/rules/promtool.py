"""Runs promtool on test files."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.toolchain import tool


def run_promtool(*arguments: str | Path) -> str:
    """Run promtool; return what it says.

    Raises:
        AssertionError: it failed.
    """
    command = [str(tool("promtool")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
