"""Runbooks: one for each alert, and every command, query, value and link in it is one that works."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from docs import chart_values
from konstruct_cli.main import app
from tests.chart.rendering import CHART, IN_CHART
from tests.chart.stand_ins import stand_ins
from tests.rules.promtool import run_promtool
from tests.rules.rendering import ON, alerts, records, render_rules, selectors
from tests.rules.test_rules import series
from tests.support.control_plane import ControlPlane
from tests.support.toolchain import kubectl

FOLDER = CHART.parents[1] / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
CASES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((Path(__file__).parent / "cases").glob("*.yaml"))
}

ABSENT = ("NotFound", "not found", "No resources found", "no objects passed")
"""What kubectl says when all is right but there is no such object; the cluster of the tests is empty."""

VALUE = re.compile(r"(?:llmPool|worker|operator|networkPolicy|monitoring|watch|objectives)\.[\w.]+")

each_page = pytest.mark.parametrize("name", PAGES)


def rules_of_objectives() -> dict[str, bool]:
    """Tell of each alert whether it is on an objective, which test_burn_rates.py takes care of."""
    return {rule["alert"]: "burn_rate" in rule["labels"] for rule in alerts(render_rules(IN_CHART, ON))}


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert set(PAGES) == set(rules_of_objectives())
    for rule in alerts(render_rules(IN_CHART, ON)):
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_on_a_state_has_its_cases() -> None:
    """It fires, stays quiet and resets; and keeps to its floor where it has one."""
    on_states = {name for name, on_objective in rules_of_objectives().items() if not on_objective}
    assert set(CASES) == on_states
    for rule in alerts(render_rules(IN_CHART, ON)):
        if rule["alert"] in on_states:
            titles = [test["name"] for test in CASES[rule["alert"]]["tests"]]
            wanted = [
                "fires",
                "stays quiet",
                "resets",
                *(["keeps to the floor"] if ">=" in rule["expr"] else []),
            ]
            for beginning in wanted:
                assert any(title.startswith(beginning) for title in titles), (rule["alert"], beginning)


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    run_promtool("test", "rules", Path(__file__).parent / "cases" / f"{name}.yaml")


@each_page
def test_a_page_says_what_it_means_how_to_confirm_and_what_to_do(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name}\n\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Confirm", "Do", "When to stop worrying"]
    assert len(page.split("\n## ")[0].split()) > 20
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert (FOLDER / target).is_file(), target
    for value in filter(VALUE.fullmatch, re.findall(r"`([^`\n]+)`", page)):
        path = f"monitoring.rules.{value}" if value.startswith("objectives") else value
        assert any(f"{known.path}.".startswith(f"{path}.") for known in chart_values.values()), value


@each_page
def test_its_queries_find_what_the_code_counts(name: str, tmp_path: Path) -> None:
    queries = re.findall(r"```promql\n(.+?)\n```", PAGES[name], re.DOTALL)
    assert queries
    there, recorded = series(), records(render_rules(IN_CHART, ON))
    for selector in selectors(queries):
        assert selector.name in (recorded if ":" in selector.name else there), selector
        for label, _, value in selector.matchers:
            assert set(value.split("|")) <= there[selector.name][label], selector
    file = tmp_path / "rules.yaml"
    made = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": made}]}))
    run_promtool("check", "rules", file)


def commands(page: str) -> Iterator[list[str]]:
    """List every command of a page, in its block and in its sentences."""
    blocks = "\n".join(re.findall(r"```sh\n(.+?)```", page, re.DOTALL)).splitlines()
    inline = re.findall(
        r"`((?:kubectl|konstruct|helm) [^`]+)`", re.sub(r"```.+?```", "", page, flags=re.DOTALL)
    )
    for line in (*blocks, *inline):
        yield shlex.split(line)


@pytest.fixture(scope="module")
def cluster(control_plane_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run an API server that knows every kind that a page may name, and holds no object of them."""
    with ControlPlane(tmp_path_factory.mktemp("runbooks")) as made:
        made.apply((CHART / "files" / "agents.konstruct.dev.yaml").read_text(), *stand_ins())
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield made


@each_page
def test_its_commands_are_ones_that_work(name: str, cluster: ControlPlane, helm: Path) -> None:
    found = list(commands(PAGES[name]))
    assert len(found) >= 2
    for program, *arguments in found:
        if program == "konstruct":
            asked = CliRunner().invoke(app, [*arguments, "--help"])
            assert asked.exit_code == 0, (arguments, asked.output)
            continue
        if program == "helm":
            command = [str(helm), *arguments, "--help"]
        else:
            assert program == "kubectl"
            command = [str(kubectl()), *arguments]
        done = subprocess.run(
            command, env=cluster.environment(), capture_output=True, text=True, check=False, timeout=60
        )
        answer = done.stdout + done.stderr
        # `auth can-i` says no by its exit code.
        absent = any(words in answer for words in ABSENT) or done.stdout == "no\n"
        assert done.returncode == 0 or absent, (arguments, answer)
