"""`helm test`: sends one message through queue, worker, llm-pool and database, and prints the reply.

Runs in the workers' image. The tenant is not given: the workers are asked which one the Agent is of, once
they serve it, so the way from manifest to worker is part of the test.
"""

from __future__ import annotations

import argparse
import sys
import time

from konstruct_cli.client import connect
from konstruct_cli.errors import CliError
from konstruct_cli.inspection import look_at_workers
from konstruct_cli.messages import compose
from shared.reply import MessageStatus


def tenant_of(agent: str, namespace: str, deadline: float) -> str:
    """Wait until a worker serves `agent`; return its tenant."""
    while time.monotonic() < deadline:
        for worker in look_at_workers():
            for served in worker.agents:
                if served.agent == agent:
                    return served.tenant_id
        time.sleep(0.5)
    sys.exit(
        f"helm test: no worker serves the Agent {agent}. `kubectl get agents -n {namespace}` says why: its "
        "namespace needs a label konstruct.dev/tenant-id, and to be in watch.namespaces if that is not empty."
    )


def main() -> None:
    """Send the message, wait for the reply, judge it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--accept-apology", action="store_true")
    options = parser.parse_args()
    deadline = time.monotonic() + options.timeout
    connection = connect(None)
    try:
        tenant = tenant_of(options.agent, options.namespace, deadline)
        message = compose(tenant=tenant, agent=options.agent, text="Are you there?", sender="helm-test")
        reply = connection.ask(message, deadline - time.monotonic())
    except CliError as error:
        sys.exit(f"helm test: {error}")
    finally:
        connection.close()
    sys.stdout.write(reply.model_dump_json(indent=2) + "\n")
    accepted = {MessageStatus.ANSWERED}
    if options.accept_apology:
        accepted.add(MessageStatus.APOLOGISED)
    if reply.status not in accepted or not reply.text:
        sys.exit(f"helm test: the message ended as {reply.status.value} ({reply.reason})")
    because = f", reason {reply.reason}" if reply.reason else ""
    sys.stdout.write(f"helm test: {reply.status.value} by {reply.model or 'no model'}{because}\n")


if __name__ == "__main__":
    main()
