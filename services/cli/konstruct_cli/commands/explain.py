"""``konstruct explain``: what is recorded of one message, and whether it proves itself."""

from __future__ import annotations

from pathlib import Path

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import ExitCode
from konstruct_cli.explanation import show
from konstruct_cli.messages import MessageName
from konstruct_cli.output import emit_json
from konstruct_cli.stacks import open_stack


def run(
    message_id: str,
    *,
    tenant: str,
    texts: bool,
    state_dir: Path | None,
    cluster: Cluster | None,
    as_json: bool,
) -> ExitCode:
    """Read the evidence and print it; FAILED when the records contradict each other."""
    asked = MessageName.of(tenant, message_id)
    stack = open_stack(cluster, state_dir)
    try:
        evidence = stack.explain(asked.tenant, asked.message_id, texts=texts)
    finally:
        stack.close()
    if as_json:
        emit_json(evidence)
    else:
        show(evidence)
    return ExitCode.FAILED if evidence.proof.verdict.contradicts else ExitCode.OK
