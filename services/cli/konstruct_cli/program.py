"""How this program is called from where the user is: what they are told to type works when it is pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from konstruct_cli.output import printable

NAME = "konstruct"
"""Name of the program."""


def command(*arguments: str, called: str | None = None) -> str:
    """Write out a call of this program for a shell; `called` is how it was called itself."""
    return printable(shlex.join([_program(Path(called or sys.argv[0])), *arguments]))


def _program(called: Path) -> str:
    on_path = shutil.which(NAME)
    if called.name != NAME or (on_path is not None and Path(on_path).resolve() == called.resolve()):
        return NAME
    near = os.path.relpath(called)
    return str(called.absolute()) if near.startswith("..") else near
