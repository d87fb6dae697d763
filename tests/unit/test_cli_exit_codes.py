"""Every command ends bad input with the documented code and a line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from konstruct_cli.errors import ExitCode
from konstruct_cli.main import app

TO_ADA = ("-t", "acme", "-a", "ada")

NOBODY = "postgresql://a:b@127.0.0.1:1/k"
"""A PostgreSQL that is not there."""

CASES: list[tuple[str, ExitCode, str]] = [
    # command line, code, what is said
    ("", ExitCode.USAGE, "Usage: "),
    ("nosuch", ExitCode.USAGE, "No such command"),
    ("up --agents nowhere", ExitCode.USAGE, "nowhere is not a folder; name a folder of Agent manifests with"),
    ("up --agents file", ExitCode.USAGE, "file is not a folder"),
    ("up", ExitCode.USAGE, "name one with --agents, or make ./agents"),
    ("up --redis-port 70000", ExitCode.USAGE, "--redis-port"),
    ("up --agents . --state-dir file/x", ExitCode.FAILED, "choose another folder with --state-dir"),
    ("demo --agents nowhere", ExitCode.USAGE, "nowhere is not a folder"),
    ("demo --agents broken", ExitCode.USAGE, "no Kubernetes manifest"),
    ("send hi -t acme", ExitCode.USAGE, "--agent"),
    ("send hi -t ACME -a ada", ExitCode.USAGE, "tenant_id: "),
    ("send hi -t acme -a ada --thread a,b", ExitCode.USAGE, "thread_id: "),
    ("send hi -t acme -a ada --timeout 0", ExitCode.USAGE, "--timeout"),
    ("send hi -t acme -a ada --timeout inf", ExitCode.USAGE, "--timeout"),
    ("send hi -t acme -a ada", ExitCode.NOT_RUNNING, "konstruct up"),
    ("chat -t ACME -a ada", ExitCode.USAGE, "tenant_id: "),
    ("chat -t acme -a ada", ExitCode.NOT_RUNNING, "konstruct up"),
    ("explain -t acme", ExitCode.USAGE, "message_id"),
    ("explain -t ACME m-1", ExitCode.USAGE, "tenant: "),
    ("explain -t acme m-1", ExitCode.NOT_RUNNING, "konstruct up"),
    ("parked list", ExitCode.USAGE, "--tenant"),
    ("parked kill m-1 -t acme", ExitCode.USAGE, "kill"),
    ("parked retry -t acme", ExitCode.USAGE, "name the message"),
    ("parked list m-1 -t acme", ExitCode.USAGE, "list takes no message"),
    ("parked list -t acme", ExitCode.NOT_RUNNING, "konstruct up"),
    ("purge", ExitCode.USAGE, "--older-than AGE"),
    ("purge -t acme", ExitCode.USAGE, "say --yes"),
    ("purge -t acme --older-than 1 --yes", ExitCode.USAGE, "write a number and s, m, h or d"),
    ("purge -t acme --yes", ExitCode.NOT_RUNNING, "konstruct up"),
    ("render", ExitCode.USAGE, "file"),
    ("render nowhere.yaml", ExitCode.USAGE, "name a file of manifests, or - for standard input"),
    ("render broken", ExitCode.USAGE, "Is a directory"),
    ("render broken/one.yaml", ExitCode.USAGE, "broken/one.yaml: document 1 is no Kubernetes manifest"),
    ("render ada -n there --kubeconfig nowhere", ExitCode.USAGE, "there is no kubeconfig nowhere"),
    ("status --context there", ExitCode.USAGE, "name the namespace too, with --namespace"),
    ("status -n there --state-dir .", ExitCode.USAGE, "choose"),
    ("status -n there --kubeconfig broken/one.yaml", ExitCode.USAGE, "of the kubeconfig cannot be used"),
    ("status --every 0", ExitCode.USAGE, "--every"),
    ("status --watch --every inf", ExitCode.USAGE, "--every"),
    ("status", ExitCode.NOT_RUNNING, "konstruct up"),
    ("status --watch", ExitCode.NOT_RUNNING, "konstruct up"),
]
"""What is typed without a stack, in a folder with a file ``file`` and a folder ``broken``."""

SETTINGS: list[tuple[str, dict[str, str], ExitCode, str]] = [
    (
        "up --agents .",
        {"KONSTRUCT_LLM_POOL_TOKN": "x"},
        ExitCode.USAGE,
        "did you mean KONSTRUCT_LLM_POOL_TOKEN",
    ),
    ("up", {"KONSTRUCT_AGENTS_DIR": "nowhere"}, ExitCode.USAGE, "with KONSTRUCT_AGENTS_DIR"),
    (
        "status",
        {"KONSTRUCT_TENANT_BACKLOG": "x", "KONSTRUCT_DATABASE_URL": NOBODY},
        ExitCode.USAGE,
        "BACKLOG",
    ),
    ("status", {"KONSTRUCT_DATABASE_URL": "nonsense"}, ExitCode.USAGE, "write it as postgresql://"),
    (
        "status",
        {"KONSTRUCT_DATABASE_URL": NOBODY, "KONSTRUCT_REDIS_URL": "http://a:canary@b"},
        ExitCode.USAGE,
        "KONSTRUCT_REDIS_URL: write it as redis://",
    ),
    ("status", {"KONSTRUCT_DATABASE_URL": NOBODY}, ExitCode.FAILED, "PostgreSQL"),
    (
        "send hi -t acme -a ada",
        {"KONSTRUCT_DATABASE_URL": NOBODY},
        ExitCode.NOT_RUNNING,
        "submit it again later",
    ),
    (
        "explain -t acme m",
        {"KONSTRUCT_DATABASE_URL": NOBODY},
        ExitCode.NOT_RUNNING,
        "`konstruct status` shows",
    ),
    (
        "parked list -t acme",
        {"KONSTRUCT_DATABASE_URL": NOBODY},
        ExitCode.NOT_RUNNING,
        "`konstruct status` shows",
    ),
    (
        "purge -t acme --yes",
        {"KONSTRUCT_DATABASE_URL": NOBODY},
        ExitCode.USAGE,
        "KONSTRUCT_SYSTEM_DATABASE_URL",
    ),
    (
        "purge -t acme --yes",
        {"KONSTRUCT_DATABASE_URL": NOBODY, "KONSTRUCT_SYSTEM_DATABASE_URL": NOBODY},
        ExitCode.NOT_RUNNING,
        "`konstruct status` shows",
    ),
]
"""What is typed, and what the environment says."""


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KONSTRUCT_DATABASE_URL", "KONSTRUCT_REDIS_URL", "KONSTRUCT_AGENTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.yaml").write_text("[]")


def ends(command: str, environment: dict[str, str], code: ExitCode, words: str) -> None:
    done = CliRunner(env=environment).invoke(app, command.split(), input="")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code, words in done.output) == (code, True), done.output
    assert "Traceback" not in done.output
    assert "canary" not in done.output


@pytest.mark.parametrize(("command", "code", "words"), CASES)
def test_bad_input_has_its_code_and_says_what_to_do(command: str, code: ExitCode, words: str) -> None:
    ends(command, {}, code, words)


@pytest.mark.parametrize(("command", "environment", "code", "words"), SETTINGS)
def test_bad_settings_have_their_code_and_say_what_to_do(
    command: str, environment: dict[str, str], code: ExitCode, words: str
) -> None:
    ends(command, environment, code, words)


def test_every_command_is_in_the_table() -> None:
    from typer.main import get_command  # noqa: PLC0415

    named = {command.split()[0] for command, *_ in CASES if command}
    assert set(get_command(app).commands) <= named  # type: ignore[attr-defined]
