"""``konstruct render`` and how errors become exit codes: pure, so run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from konstruct_cli.main import app
from shared.prompt import TRANSPARENCY_CLAUSE, TRANSPARENCY_CLAUSE_VERSION, prompt_sha256

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"

TWO = """
apiVersion: v1
kind: Namespace
metadata: {name: acme, labels: {konstruct.dev/tenant-id: acme-inc}}
---
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata: {name: ada, namespace: acme}
spec: {displayName: Ada, systemPrompt: "Say \\u00e7a va [bold]twice[/bold]."}
---
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata: {name: bob, namespace: elsewhere}
spec: {displayName: Bob, suspended: true, model: {group: fast}, onFallback: refuse}
"""


def konstruct(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_json_holds_everything_that_a_reply_can_be_held_against() -> None:
    code, out, err = konstruct("render", "-", "--json", stdin=TWO)
    assert (code, err) == (0, "")
    ada, bob = json.loads(out)["agents"]
    assert (ada["agent"], ada["tenant_id"], ada["group"], ada["suspended"]) == (
        "ada",
        "acme-inc",
        "quality",
        False,
    )
    assert (bob["tenant_id"], bob["group"], bob["on_fallback"], bob["suspended"]) == (
        None,
        "fast",
        "refuse",
        True,
    )
    assert ada["prompt"].startswith("Say ça va [bold]twice[/bold].")
    assert ada["prompt"].endswith(TRANSPARENCY_CLAUSE)
    assert ada["prompt_sha256"] == prompt_sha256(ada["prompt"])
    assert ada["transparency_clause"] == TRANSPARENCY_CLAUSE_VERSION
    assert ada["revision"] != bob["revision"]
    assert json.loads(ada["persona_json"])["systemPrompt"] == "Say ça va [bold]twice[/bold]."


def test_prompt_prints_the_prompt_and_nothing_else() -> None:
    _, out, _ = konstruct("render", "-", "--json", "--agent", "ada", stdin=TWO)
    (ada,) = json.loads(out)["agents"]
    assert konstruct("render", "-", "--prompt", "--agent", "ada", stdin=TWO) == (0, ada["prompt"], "")


def test_for_people_it_shows_prompt_revision_and_documents() -> None:
    code, out, _ = konstruct("render", "-", stdin=TWO)
    assert code == 0
    assert "tenant      acme-inc\n" in out
    assert "tenant      decided by the label of namespace elsewhere\n" in out
    assert "--- prompt ---\nSay ça va [bold]twice[/bold].\n" in out
    assert out.count(TRANSPARENCY_CLAUSE) == 2
    assert '"onFallback": "refuse"' in out
    assert "suspended   yes" in out


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*/[!0]*.yaml")), ids=lambda path: path.stem)
def test_the_examples_render(file: Path) -> None:
    code, out, err = konstruct("render", str(file))
    assert (code, err) == (0, "")
    assert f"agent       {file.stem}\n" in out


def test_the_examples_are_two_tenants() -> None:
    files = sorted(EXAMPLES.glob("*/00-namespace.yaml"))
    assert [file.parent.name for file in files] == ["acme", "globex"]


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [
        ("kind: Agent\n", "konstruct: -: document 1: an Agent's apiVersion must be konstruct.dev/v1alpha1"),
        (TWO.replace("displayName: Ada", "display: Ada"), "Agent ada: spec.displayName: is required"),
        ("a: [", "konstruct: -: not valid YAML"),
        ("kind: Service\n", "konstruct: -: no Agent in it"),
    ],
)
def test_a_wrong_manifest_is_one_line_and_exit_code_2(stdin: str, complaint: str) -> None:
    code, out, err = konstruct("render", "-", stdin=stdin)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, _, err = konstruct("render", str(tmp_path / "no.yaml"))
    assert code == 2
    assert "no.yaml: No such file or directory; name a file of manifests" in err


def test_an_agent_that_is_not_in_the_file_is_named() -> None:
    code, _, err = konstruct("render", "-", "--agent", "eve", stdin=TWO)
    assert code == 2
    assert "no Agent called eve" in err


def test_prompt_of_two_agents_asks_which() -> None:
    code, out, err = konstruct("render", "-", "--prompt", stdin=TWO)
    assert (code, out) == (2, "")
    assert "choose one with --agent" in err
