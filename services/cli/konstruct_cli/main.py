"""The ``konstruct`` command: declares its subcommands, and turns errors into messages and exit codes.

What a subcommand does is loaded when it is used: ``konstruct render`` needs neither a database nor a queue.
"""
# ruff: noqa: PLC0415 - see above
# ruff: noqa: FBT002 - flags of a command line are declared as booleans with a default

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from konstruct_cli import options
from konstruct_cli.cluster.target import Cluster
from konstruct_cli.ending import Commands
from konstruct_cli.errors import MEANINGS, ExitCode
from konstruct_cli.options import WATCH_EVERY_S, Action, in_cluster
from konstruct_cli.output import say

REPLY_TIMEOUT_S = 150.0
"""How long `send` and `chat` wait for a reply: longer than a worker may take over it."""

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value:<5}{meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="konstruct",
    help="AI employees for many tenants: run a local stack, talk to agents, see which model answered.",
    epilog=_EPILOG,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    # Without rich, which takes longer to be imported than all else that --help needs.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
"""The command."""


@app.command()
def up(
    agents: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Agent manifests; ./agents or ./examples/agents when absent.", metavar="DIR"
        ),
    ] = None,
    state_dir: options.StateDir = None,
    postgres_port: options.Port = None,
    redis_port: options.Port = None,
    model_port: options.Port = None,
    llm_pool_port: options.Port = None,
    worker_port: options.Port = None,
    as_json: options.Json = False,
) -> None:
    """Run the local stack until Ctrl-C.

    It is PostgreSQL, Redis, a small language model, the llm-pool and a worker.
    """
    from konstruct_cli.commands import up as command
    from konstruct_cli.stack.ports import Ports

    ports = Ports(postgres_port, redis_port, model_port, llm_pool_port, worker_port)
    raise typer.Exit(command.run(agents=agents, state_dir=state_dir, ports=ports, as_json=as_json))


@app.command()
@in_cluster()
def send(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    tenant: options.Tenant,
    agent: options.Agent,
    thread: options.Thread = None,
    message_id: Annotated[
        str | None, typer.Option(help="Id of the message; sending one id twice is one message.")
    ] = None,
    sender: options.Sender = None,
    timeout: options.Timeout = REPLY_TIMEOUT_S,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Send one message and print the reply.

    Who answered, from which revision and prompt, goes to standard error.
    """
    from konstruct_cli.commands import send as command

    raise typer.Exit(
        command.run(
            text,
            tenant=tenant,
            agent=agent,
            thread=thread,
            message_id=message_id,
            sender=sender,
            timeout_s=timeout,
            state_dir=state_dir,
            cluster=cluster,
            as_json=as_json,
        )
    )


@app.command()
@in_cluster()
def chat(
    tenant: options.Tenant,
    agent: options.Agent,
    thread: options.Thread = None,
    sender: options.Sender = None,
    timeout: options.Timeout = REPLY_TIMEOUT_S,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Talk with an agent, one message a line; it remembers the thread."""
    from konstruct_cli.commands import chat as command

    raise typer.Exit(
        command.run(
            tenant=tenant,
            agent=agent,
            thread=thread,
            sender=sender,
            timeout_s=timeout,
            state_dir=state_dir,
            cluster=cluster,
            as_json=as_json,
        )
    )


@app.command()
@in_cluster()
def explain(
    message_id: Annotated[str, typer.Argument(help="Id of the message.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Tenant that the message belongs to.")],
    text: Annotated[bool, typer.Option("--text", help="Also what was written and what was replied.")] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Show who answered a message, and whether the records prove it."""
    from konstruct_cli.commands import explain as command

    raise typer.Exit(
        command.run(
            message_id, tenant=tenant, texts=text, state_dir=state_dir, cluster=cluster, as_json=as_json
        )
    )


@app.command()
@in_cluster()
def parked(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Tenant that the messages belong to.")],
    message_id: Annotated[str | None, typer.Argument(help="Id of the message to retry or drop.")] = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """List messages that processes die of; retry one, or drop it."""
    from konstruct_cli.commands import parked as command

    raise typer.Exit(
        command.run(action, message_id, tenant=tenant, state_dir=state_dir, cluster=cluster, as_json=as_json)
    )


@app.command()
@in_cluster()
def purge(
    tenant: Annotated[
        str | None, typer.Option("--tenant", "-t", help="Only what belongs to this tenant.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            help="Only what finished longer ago: a number and s, m, h or d. At least 1h.", metavar="AGE"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Delete finished messages and their replies for good."""
    from konstruct_cli.commands import purge as command

    raise typer.Exit(
        command.run(
            tenant=tenant,
            older_than=older_than,
            yes=yes,
            state_dir=state_dir,
            cluster=cluster,
            as_json=as_json,
        )
    )


@app.command()
@in_cluster(release=False)
def render(
    file: Annotated[
        str, typer.Argument(help="File of manifests, - for standard input; in a cluster an Agent's name.")
    ],
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Only this agent.")] = None,
    prompt: Annotated[bool, typer.Option("--prompt", help="Only the prompt, byte for byte.")] = False,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Show the exact prompt and revision that a manifest gives.

    With --namespace, those of an Agent that a cluster serves.
    """
    from konstruct_cli.commands import render as command

    raise typer.Exit(command.run(file, agent=agent, cluster=cluster, prompt_only=prompt, as_json=as_json))


@app.command()
@in_cluster()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(min=0.5, max=options.LONGEST_S, help="Seconds between two looks of --watch.")
    ] = WATCH_EVERY_S,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="With --watch: end when standard input does.")
    ] = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    cluster: Cluster | None = None,
) -> None:
    """Show what is up, what waits, and which models can serve.

    Also the fallback rate, and the agents with their revisions.
    """
    if watch:
        from konstruct_cli.commands import watch as watching

        raise typer.Exit(
            watching.run(
                state_dir=state_dir, cluster=cluster, every_s=every, until_eof=until_eof, as_json=as_json
            )
        )
    from konstruct_cli.commands import status as command

    raise typer.Exit(command.run(state_dir=state_dir, cluster=cluster, as_json=as_json))


@app.command()
def demo(
    agents: Annotated[
        Path | None,
        typer.Option(
            help="Folder of manifests to copy; the repository's examples when absent.", metavar="DIR"
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Then keep its stack, and show it live until Ctrl-C.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show the whole of it in a minute.

    Two tenants, real replies, who answered, an edit, isolation.
    """
    from konstruct_cli.commands import demo as command

    raise typer.Exit(command.run(agents=agents, watch=watch, as_json=as_json))


def run() -> None:
    """Entry point of ``konstruct``."""
    # A command imports, works for a moment and ends: to look for garbage all the while is not worth it.
    gc.set_threshold(100_000)
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the edge of the program: a fault of ours, in one line
        say(
            f"konstruct: unexpected {type(error).__name__}: {error}. This is a fault of konstruct; "
            "`python -m konstruct_cli.main` with the same arguments shows where it happened.",
            style="red",
        )
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    app()
