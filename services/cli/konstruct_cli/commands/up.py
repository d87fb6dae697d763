"""``konstruct up``: the local stack, until Ctrl-C."""

from __future__ import annotations

import os
import time
from pathlib import Path

from konstruct_cli.client import connect
from konstruct_cli.commands.status import show
from konstruct_cli.display import StartDisplay
from konstruct_cli.errors import ExitCode, UsageError
from konstruct_cli.inspection import inspect
from konstruct_cli.output import emit_json, say, talk
from konstruct_cli.program import command
from konstruct_cli.seen import StackStatus
from konstruct_cli.signals import Interrupted, interruptible
from konstruct_cli.stack.local import LocalStack
from konstruct_cli.stack.ports import Ports
from konstruct_cli.stack.state import DEFAULT_STATE_DIR, StackInfo, StateDir
from shared.config import Settings, load_settings

WATCH_S = 0.25
"""Pause between two looks at whether every part still runs."""

USUAL_AGENTS_DIRS = (Path("agents"), Path("examples/agents"))
"""Where agents are looked for when nothing says where they are."""


def run(*, agents: Path | None, state_dir: Path | None, ports: Ports, as_json: bool) -> ExitCode:
    """Run the local stack in the foreground.

    Raises:
        StackError: a part did not start, or ended.
    """
    settings = load_settings()
    folder = agents_dir(agents, settings)
    state = StateDir(state_dir or DEFAULT_STATE_DIR)
    ready = False
    try:
        with interruptible(), StartDisplay(talk()) as display:
            stack = LocalStack(state, folder, settings, ports=ports, progress=display)
            say(f"Starting the local stack on {state.path} (logs in {state.logs})")
            with stack.run() as info:
                announce(stack, info, as_json=as_json)
                ready = True
                while True:
                    stack.check()
                    time.sleep(WATCH_S)
    except Interrupted as signal:
        say(f"{signal}: everything is stopped. The data stays in {state.path}.")
        return ExitCode.OK if ready else ExitCode.INTERRUPTED


def agents_dir(named: Path | None, settings: Settings) -> Path:
    """Choose the folder of manifests: the one named, the setting's, or a usual one.

    Raises:
        UsageError: there is none, or the one named is no folder.
    """
    for candidate, by in ((named, "--agents"), (settings.agents_dir, "KONSTRUCT_AGENTS_DIR")):
        if candidate is None:
            continue
        if not candidate.is_dir():
            raise UsageError(f"{candidate} is not a folder; name a folder of Agent manifests with {by}")
        return candidate
    for candidate in USUAL_AGENTS_DIRS:
        if candidate.is_dir():
            return candidate
    raise UsageError(
        "no folder of Agent manifests: name one with --agents, or make ./agents "
        "(examples/agents in the repository shows what belongs in it)"
    )


def announce(stack: LocalStack, info: StackInfo, *, as_json: bool) -> None:
    """Tell that the stack is ready, what it serves and what to do next."""
    connection = connect(stack.state.path)
    try:
        status = inspect(connection)
    finally:
        connection.close()
    if as_json:
        public = info.model_dump(
            mode="json", include={"pid", "agents_dir", "llm_pool_url", "worker_url", "pids"}
        )
        emit_json({**public, "state_file": str(stack.state.info_file), "ok": status.ok})
    show(status, on=talk())
    say(f"Serving the agents in {info.agents_dir}; save a manifest and the next reply uses it.")
    if info.small_model is not None:
        say(
            f"fast is {info.small_model}, a very small model that shows the path, not what agents can do: "
            "set ANTHROPIC_API_KEY, OPENAI_API_KEY or OLLAMA_BASE_URL for real ones.",
            style="yellow",
        )
    example = example_command(status, stack.state)
    if example:
        say(f"In another terminal:  {example}")
    say("Ctrl-C ends it.")


def example_command(status: StackStatus, state: StateDir) -> str | None:
    """Return a command that works now, or None without agents."""
    agents = [agent for worker in status.workers for agent in worker.agents if not agent.suspended]
    if not agents:
        return None
    first = agents[0]
    where = []
    if state.path != DEFAULT_STATE_DIR.absolute():
        where = ["--state-dir", os.path.relpath(state.path)]
    whom = ["--tenant", first.tenant_id, "--agent", first.agent]
    return command("send", *whom, *where, "Hello! Who are you?")
