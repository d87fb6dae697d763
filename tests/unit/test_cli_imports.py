"""What a command imports, which is nearly all that it costs: each only what it needs.

A test of what is imported, not of seconds, which depend on the machine. ``send`` and ``status`` are in
tests/integration/test_cli_up.py, for they need a stack.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imports import DATABASE, HEAVY, QUEUE, imported, refuse
from tests.support.stack_command import konstruct, measured

MANIFEST = Path(__file__).parents[2] / "examples" / "agents" / "acme" / "ada.yaml"

FOR_HELP = (*HEAVY, *DATABASE, *QUEUE, "rich", "yaml", "httpx", "asyncio", "shared", "orchestrator")
"""What no help needs."""


def test_help_needs_nothing_of_what_commands_do(tmp_path: Path) -> None:
    done = konstruct("--help", cwd=tmp_path, env=measured())
    assert done.code == 0
    refuse(imported(done.err), (*FOR_HELP, "pydantic"))


@pytest.mark.parametrize(
    "command", ["up", "send", "chat", "explain", "parked", "purge", "render", "status", "demo"]
)
def test_the_help_of_a_command_needs_nothing_of_what_it_does(command: str, tmp_path: Path) -> None:
    done = konstruct(command, "--help", cwd=tmp_path, env=measured())
    assert done.code == 0
    refuse(imported(done.err), FOR_HELP)  # typer reads options by pydantic


def test_render_needs_no_stack_and_no_client_of_one(tmp_path: Path) -> None:
    done = konstruct("render", str(MANIFEST), cwd=tmp_path, env=measured())
    assert done.code == 0
    found = imported(done.err)
    assert {"pydantic", "yaml", "shared.persona"} <= found
    refuse(found, (*HEAVY, *DATABASE, *QUEUE, "rich", "httpx", "opentelemetry", "asyncio"))


def test_what_is_imported_is_seen() -> None:
    seen = imported("import time:       100 |        200 |   shared.config\nsomething else\n")
    assert seen == {"shared.config"}
    with pytest.raises(AssertionError, match=r"shared\.config"):
        refuse(seen, ("shared",))
    refuse(seen, ("share", "shared.configuration"))
