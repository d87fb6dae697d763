"""The program of `helm test`, on a real worker, queue and database."""

from __future__ import annotations

import subprocess
import sys

from tests.chart.rendering import CHART
from tests.support.worker import Cell

PROGRAM = CHART / "files" / "helm_test.py"


def run(cell: Cell, *arguments: str, agent: str = "ada") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), f"--agent={agent}", "--namespace=acme", *arguments]
    return subprocess.run(
        command, env=cell.environment(), capture_output=True, text=True, check=False, timeout=120
    )


def test_a_reply_passes(cell: Cell) -> None:
    cell.start_worker()
    done = run(cell, "--timeout=60")
    assert done.returncode == 0, done.stderr
    assert '"status": "answered"' in done.stdout
    assert "helm test: answered by" in done.stdout


def test_an_apology_passes_if_it_may_and_its_reason_is_shown(cell: Cell) -> None:
    # A message waits for an llm-pool that is away for as long as its deadline is.
    cell.start_worker(KONSTRUCT_LLM_POOL_URL="http://127.0.0.1:1", KONSTRUCT_MESSAGE_DEADLINE_S="10")
    refused = run(cell, "--timeout=60")
    assert refused.returncode == 1
    assert "helm test: the message ended as apologised (" in refused.stderr
    accepted = run(cell, "--timeout=60", "--accept-apology")
    assert accepted.returncode == 0, accepted.stderr
    assert "helm test: apologised by no model, reason " in accepted.stdout


def test_an_agent_that_nobody_serves_is_explained(cell: Cell) -> None:
    cell.start_worker()
    done = run(cell, "--timeout=2", agent="nobody")
    assert done.returncode == 1
    assert "no worker serves the Agent nobody" in done.stderr
    assert "konstruct.dev/tenant-id" in done.stderr
    assert "Traceback" not in done.stderr
