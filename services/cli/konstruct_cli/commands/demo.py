"""``konstruct demo``: starts a stack of its own, runs the steps, ends everything, tells how it went."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.text import Text

from konstruct_cli.client import Connection, connect
from konstruct_cli.commands import watch as watching
from konstruct_cli.commands.status import ratio
from konstruct_cli.commands.up import USUAL_AGENTS_DIRS, example_command
from konstruct_cli.demo import steps
from konstruct_cli.demo.manifests import agents_in
from konstruct_cli.demo.report import Report, Step, StepFailedError
from konstruct_cli.display import StartDisplay
from konstruct_cli.errors import ExitCode, UsageError
from konstruct_cli.inspection import inspect, look_at_pool
from konstruct_cli.live import reasons
from konstruct_cli.options import WATCH_EVERY_S
from konstruct_cli.output import data, emit_json, say, talk
from konstruct_cli.program import command
from konstruct_cli.seen import PoolStatus
from konstruct_cli.signals import Interrupted, interruptible
from konstruct_cli.stack.local import LocalStack
from konstruct_cli.stack.state import StackInfo, StateDir
from shared.config import load_settings

LOG_LINES = 15
"""Lines of each log that are shown when a step failed."""

STOP_DEADLINE_S = 5.0
"""How long the last process may take to be gone once the stack has stopped."""


def run(*, agents: Path | None, watch: bool, as_json: bool) -> ExitCode:
    """Run the demo; FAILED when a step did not show what it is there to show.

    With `watch` its stack stays until Ctrl-C, and is looked at again and again.
    """
    source = examples() if agents is None else agents
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder; name a folder of Agent manifests with --agents")
    if len({tenant for tenant, _ in agents_in(source)}) < 2:
        raise UsageError(
            f"{source} must hold agents of two tenants, as examples/agents in the repository does"
        )
    report = Report(talk() if as_json else data())
    try:
        with (
            interruptible(),
            tempfile.TemporaryDirectory(prefix="konstruct-demo-") as folder,
            StartDisplay(report.console) as display,
        ):
            agents_dir = Path(folder) / "agents"
            shutil.copytree(source, agents_dir)
            state = StateDir(Path(folder) / "state")
            stack = LocalStack(state, agents_dir, load_settings(), durable=False, progress=display)
            pool = _run_steps(stack, report, watch=watch, as_json=as_json)
    except Interrupted as signal:
        say(f"{signal}: the demo is cut short; everything it started is stopped and removed.")
        return ExitCode.INTERRUPTED
    report.table()
    if as_json:
        counted = None if pool is None else pool.replicas.since_start.model_dump()
        steps_shown = [step.model_dump() for step in report.steps]
        emit_json({"ok": not report.failed, "steps": steps_shown, "llm_pool": counted})
    for step in report.failed:
        say(f"konstruct: the demo failed at: {step.name}", style="bold red")
    if pool is not None:
        _again(report.console, pool, agents)
    return ExitCode.FAILED if report.failed else ExitCode.OK


def examples() -> Path:
    """Return the folder of example agents: inside an installed wheel, or at a checkout's root."""
    here = Path(__file__).resolve()
    packaged = here.parents[1] / "_examples"
    return packaged if packaged.is_dir() else here.parents[4] / "examples" / "agents"


def _again(console: Console, pool: PoolStatus, agents: Path | None) -> None:
    """End with the fallback ratio, and with the commands that show it again."""
    why = "; ".join(
        f"{group.requested_group}: {reasons(group.reasons)}"
        for group in pool.replicas.since_start.groups
        if group.reasons
    )
    chosen: tuple[str, ...] = () if agents is None else ("--agents", str(agents))
    console.print()
    console.print(Text(f"Fallback ratio, read from the llm-pool's /metrics: {ratio(pool)}", style="bold"))
    if why:
        console.print(Text(f"Why another group was asked:  {why}"))
    console.print(Text(f"Again, and live until Ctrl-C:  {command('demo', '--watch', *chosen)}"))
    if agents is None and not any(folder.is_dir() for folder in USUAL_AGENTS_DIRS):
        chosen = ("--agents", str(examples()))
    up, watch = command("up", *chosen), command("status", "--watch")
    console.print(Text(f"On a stack of your own:        {up}, and in another terminal {watch}"))


def _run_steps(stack: LocalStack, report: Report, *, watch: bool, as_json: bool) -> PoolStatus | None:
    """Run the steps; return what the pool had counted at the end, if it could be read."""
    with ExitStack() as running:
        info = report.run(
            "Start PostgreSQL, Redis, a model, the llm-pool and a worker",
            lambda step: _start(step, stack, running),
        )
        if info is None:
            return None
        connection = connect(stack.state.path)
        running.callback(connection.close)
        pool = _show(steps.Demo(report, stack, info, connection))
        if report.failed:
            _logs(stack, report.console)
        elif watch:
            _watch(stack, connection, as_json=as_json)
            pool = look_at_pool(connection.settings)
        report.run("Stop", lambda step: _stop(step, stack, running, info))
        return pool


def _watch(stack: LocalStack, connection: Connection, *, as_json: bool) -> None:
    """Look at the stack until Ctrl-C, which here ends the looking and not the demo."""
    example = example_command(inspect(connection), stack.state)
    say(f"\nThe stack stays until Ctrl-C. In another terminal:  {example}\n")
    watching.run(
        state_dir=stack.state.path, cluster=None, every_s=WATCH_EVERY_S, until_eof=False, as_json=as_json
    )


def _start(step: Step, stack: LocalStack, running: ExitStack) -> StackInfo:
    info = running.enter_context(stack.run())
    step.result = f"{len(info.pids)} processes" + (f", model {info.small_model}" if info.small_model else "")
    return info


def _show(demo: steps.Demo) -> PoolStatus | None:
    run = demo.report.run
    served = run("Apply two agents of two tenants", lambda step: steps.agents_in_effect(demo, step))
    if served is None:
        return None
    worker, first, second = served
    asks = f"{first.tenant_id} asks {first.agent}"
    reply = run(asks, lambda step: steps.answer(demo, step, first))
    asks = f"{second.tenant_id} asks {second.agent}"
    run(asks, lambda step: steps.answer(demo, step, second))
    run("Which models answered, and why", lambda step: steps.who_answered(demo, step))
    edit = f"Edit {first.agent}'s persona while it runs"
    run(edit, lambda step: steps.edit_persona(demo, step, worker, first))
    stranger = second.tenant_id
    reach = "A tenant cannot reach another's agent"
    run(reach, lambda step: steps.foreign_agent(demo, step, stranger, first))
    run("A tenant cannot read another's rows", lambda step: steps.foreign_rows(demo, step, stranger, reply))
    rate = "Fallback rate, from the llm-pool's metrics"
    return run(rate, lambda step: steps.fallback_rate(demo, step))


def _stop(step: Step, stack: LocalStack, running: ExitStack, info: StackInfo) -> None:
    """End the stack; its lock is free when the last of its processes is gone."""
    running.close()
    deadline = time.monotonic() + STOP_DEADLINE_S
    while stack.state.held():
        if time.monotonic() > deadline:
            raise StepFailedError(f"one of the processes {info.pids} is left")
        time.sleep(0.02)
    step.result = f"{len(info.pids)} processes ended, none is left"


def _logs(stack: LocalStack, console: Console) -> None:
    for log in sorted(stack.state.logs.glob("*.log")):
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        console.print("\n".join([f"--- {log.name} ---", *tail]), markup=False, style="dim")
