"""The command line itself: its documentation, its exit codes, and what it refuses before it does anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from konstruct_cli.client import connect
from konstruct_cli.commands.up import agents_dir
from konstruct_cli.errors import MEANINGS, ExitCode, NotRunningError, UsageError
from konstruct_cli.main import app
from konstruct_cli.messages import compose
from konstruct_cli.output import emit_json, envelope_lines, printable, summary
from konstruct_cli.program import command
from shared.config import ConfigurationError, Settings
from shared.reply import MessageStatus, Reason, Reply

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

ANSWERED = Reply(
    message_id="m1",
    thread_id="t1",
    tenant_id="acme",
    agent="ada",
    text="Hello",
    status=MessageStatus.ANSWERED,
    requested_group="quality",
    served_group="fast",
    model="small-1",
    degraded=True,
    fallback_reason="rate_limited",
    revision="0123456789abcdef",
)


@pytest.fixture(autouse=True)
def _no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KONSTRUCT_DATABASE_URL", "KONSTRUCT_REDIS_URL", "KONSTRUCT_AGENTS_DIR"):
        monkeypatch.delenv(name, raising=False)


def konstruct(*arguments: str, **environment: str) -> tuple[int, str, str]:
    result = CliRunner(env=environment).invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_documentation_lists_the_exit_codes() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", DOCS, re.MULTILINE))
    assert table == {str(int(code)): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(ExitCode)


def test_help_lists_the_exit_codes() -> None:
    code, out, _ = konstruct("--help", COLUMNS="300")
    assert code == 0
    for number, meaning in MEANINGS.items():
        assert re.search(rf"\b{number.value} +{re.escape(meaning)}", out), meaning


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented_and_has_help(name: str) -> None:
    assert re.search(rf"^konstruct {name} ", DOCS, re.MULTILINE)
    code, out, _ = konstruct(name, "--help", COLUMNS="200")
    assert code == 0
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        assert parameter.opts[-1] in out or parameter.name.upper() in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "hi", "-t", "acme", "-a", "ada"),
        ("chat", "-t", "acme", "-a", "ada"),
        ("explain", "-t", "acme", "m-1"),
        ("parked", "list", "-t", "acme"),
        ("status",),
    ],
)
def test_without_a_stack_the_code_is_3_and_the_message_says_what_to_do(arguments: tuple[str, ...]) -> None:
    code, out, err = konstruct(*arguments)
    assert (code, out) == (3, "")
    assert "no stack runs on" in err
    assert "konstruct up" in err
    assert "--state-dir" in err


def test_status_of_a_stack_that_is_gone_says_so_of_each_part() -> None:
    nowhere = "127.0.0.1:1"
    code, out, err = konstruct(
        "status",
        KONSTRUCT_DATABASE_URL=f"postgresql://a:b@{nowhere}/k",
        KONSTRUCT_REDIS_URL=f"redis://{nowhere}/0",
        KONSTRUCT_LLM_POOL_URL=f"http://{nowhere}",
    )
    assert (code, err) == (1, "")
    assert out.count("does not answer") == 3
    assert "none answers" in out


def test_a_usage_error_has_code_2() -> None:
    assert konstruct("send", "hi")[0] == 2
    assert konstruct("no-such-command")[0] == 2
    assert konstruct("up", "--redis-port", "70000")[0] == 2


@pytest.mark.parametrize(
    ("tenant", "message_id", "complaint"),
    [("Acme", "m-1", "tenant: "), ("acme", "no spaces", "message_id: ")],
)
def test_what_names_no_message_is_code_2(tenant: str, message_id: str, complaint: str) -> None:
    code, out, err = konstruct("explain", "--tenant", tenant, message_id)
    assert (code, out) == (2, "")
    assert f"this names no message: {complaint}" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("list", "m-1"), "list takes no message"),
        (("retry",), "name the message: konstruct parked retry ID"),
        (("kill", "m-1"), "kill"),
    ],
)
def test_what_parked_cannot_do_is_code_2(arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = konstruct("parked", "-t", "acme", *arguments)
    assert (code, out) == (2, "")
    assert complaint in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "say what: --tenant TENANT, or --older-than AGE"),
        (("--tenant", "Not A Tenant"), "this names no tenant"),
        (("--older-than", "30"), "write a number and s, m, h or d"),
        (("--older-than", "59m"), "within the last hour is never deleted"),
        (("--older-than", "999999999d"), "longer ago than any message can be"),
        (("--older-than", "30d"), "for good; say --yes where nobody can be asked"),
    ],
)
def test_what_purge_cannot_do_is_code_2(arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = konstruct("purge", *arguments)
    assert (code, out) == (2, "")
    assert complaint in err


def test_an_unknown_setting_has_code_2_and_is_named(tmp_path: Path) -> None:
    code, _, err = konstruct("up", "--agents", str(tmp_path), KONSTRUCT_LLM_POOL_TOKN="x")
    assert code == 2
    assert "KONSTRUCT_LLM_POOL_TOKN is not a setting (did you mean KONSTRUCT_LLM_POOL_TOKEN?)" in err


def test_up_without_agents_says_where_they_are_looked_for() -> None:
    code, _, err = konstruct("up")
    assert code == 2
    assert "name one with --agents, or make ./agents" in err


def test_agents_are_looked_for_where_they_usually_are(tmp_path: Path) -> None:
    (tmp_path / "examples" / "agents").mkdir(parents=True)
    assert agents_dir(None, Settings()) == Path("examples/agents")
    for name in ("agents", "set", "named"):
        (tmp_path / name).mkdir()
    assert agents_dir(None, Settings()) == Path("agents")
    assert agents_dir(None, Settings(agents_dir=Path("set"))) == Path("set")
    assert agents_dir(Path("named"), Settings(agents_dir=Path("set"))) == Path("named")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tenant": "Acme"}, "tenant_id: "),
        ({"agent": "a/b"}, "agent: "),
        ({"text": "  \n"}, "text: the text is empty; write something"),
        ({"thread": "no spaces"}, "thread_id: "),
        ({"text": "x" * 40_000}, "text: "),
    ],
)
def test_a_message_that_has_no_valid_form_is_refused(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        compose(**{"tenant": "acme", "agent": "ada", "text": "hi", **changes})


def test_a_message_gets_new_ids_unless_they_are_given() -> None:
    first, second = (compose(tenant="acme", agent="ada", text="hi") for _ in range(2))
    assert first.message_id != second.message_id
    assert first.thread_id != second.thread_id
    given = compose(tenant="acme", agent="ada", text="hi", thread="t", message_id="m", sender="sam")
    assert (given.thread_id, given.message_id, given.sender, given.channel) == ("t", "m", "sam", "cli")


def test_the_environment_describes_a_stack(tmp_path: Path) -> None:
    environment = {"KONSTRUCT_DATABASE_URL": "postgresql://a:b@db.example:5432/k"}
    connection = connect(None, environment)
    assert connection.source == "the environment (KONSTRUCT_DATABASE_URL)"
    assert connection.engine.url.host == "db.example"
    connection.close()
    with pytest.raises(NotRunningError):
        connect(tmp_path, environment)
    with pytest.raises(ConfigurationError, match="KONSTRUCT_DATABASE_URL"):
        connect(None, {"KONSTRUCT_DATABASE_URL": "nonsense"})


def test_the_envelope_says_what_was_asked_for_and_what_answered() -> None:
    lines = dict(envelope_lines(ANSWERED))
    assert lines["answered by"] == "small-1 (group fast)"
    assert lines["asked for"] == "quality, which could not answer: rate_limited; degraded"
    assert lines["revision"] == "0123456789abcdef"
    assert summary(ANSWERED).plain == (
        "  small-1 (fast), quality could not: rate_limited, revision 0123456789abcdef"
    )
    unknown = Reply(
        message_id="m",
        thread_id="t",
        tenant_id="acme",
        agent="eve",
        text="No.",
        status=MessageStatus.FAILED,
        reason=Reason.AGENT_UNKNOWN,
    )
    assert dict(envelope_lines(unknown))["status"] == "failed (agent_unknown)"
    assert "answered by" not in dict(envelope_lines(unknown))


def test_what_a_model_says_cannot_drive_a_terminal() -> None:
    assert printable("a\x1b[2J\x07b\x9b31m\tc\nd\r") == "a[2Jb31m\tc\nd"


def test_json_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json(ANSWERED.model_copy(update={"text": "one\ntwo \x1b[0m ç"}))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert json.loads(out)["text"] == "one\ntwo \x1b[0m ç"


def test_what_is_told_to_be_typed_works_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / ".venv" / "bin" / "konstruct"
    installed.parent.mkdir(parents=True)
    installed.touch(mode=0o755)
    monkeypatch.setenv("PATH", "")
    assert command("send", "a b", called=".venv/bin/konstruct") == ".venv/bin/konstruct send 'a b'"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command("up", called=str(installed)) == f"{installed} up"
    assert command("up", called="/x/main.py") == "konstruct up"
    monkeypatch.setenv("PATH", str(installed.parent))
    assert command("up", called=str(installed)) == "konstruct up"
