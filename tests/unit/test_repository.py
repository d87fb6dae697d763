"""What must hold for the repository as a whole: pins, locks, sync tasks, no stray addresses."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.main import TASK_NAME, app

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if path.name != "overrides.txt")


def project(service: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())[
        "project"
    ]
    return found


def locked(lock: Path) -> dict[str, str]:
    return dict(
        re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ \\;]+)", lock.read_text(), re.MULTILINE)
    )


def test_the_seeds_pins() -> None:
    assert "litellm==1.82.5" in project("llm-pool")["dependencies"]
    assert any(need.startswith("fastapi[standard]") for need in project("llm-pool")["dependencies"])
    assert "celery[redis]>=5.7.0" in project("orchestrator")["dependencies"]


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_service_says_which_python(service: Path) -> None:
    assert project(service.name)["requires-python"] == ">=3.11,<3.14"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_carry_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert entries
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text
    assert "index" not in re.sub(r"^[a-z].*$", "", text, flags=re.MULTILINE)


def test_images_run_what_is_tested() -> None:
    tested = locked(ROOT / "requirements" / "dev.txt")
    for name in ("llm-pool", "orchestrator", "build"):
        image = locked(ROOT / "requirements" / f"{name}.txt")
        assert image.items() <= tested.items(), name
    assert tested["litellm"] == "1.82.5"
    assert int(tested["openai"].split(".")[0]) < 3
    assert tuple(map(int, tested["kombu"].split("."))) >= (5, 7)


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_locks_hold_every_dependency(service: Path) -> None:
    extras = project(service.name).get("optional-dependencies", {})
    needs = [*project(service.name)["dependencies"], *(need for extra in extras.values() for need in extra)]
    tested = locked(ROOT / "requirements" / "dev.txt")
    for need in needs:
        name = re.split(r"[\[<>=]", need)[0]
        assert name.startswith("konstruct-") or name in tested, f"{name}: run requirements/lock"


def asynchronous_tasks(source: str) -> list[str]:
    """Name the functions that are both Celery tasks and ``async def``."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AsyncFunctionDef)
        and any(
            re.search(r"\btask\b|shared_task", ast.unparse(decorator)) for decorator in node.decorator_list
        )
    ]


def test_no_task_is_async() -> None:
    for path in ROOT.glob("services/**/*.py"):
        assert asynchronous_tasks(path.read_text()) == [], path
    app.loader.import_default_modules()
    assert TASK_NAME in app.tasks
    for name, task in app.tasks.items():
        assert not inspect.iscoroutinefunction(inspect.unwrap(task.run)), name


@pytest.mark.parametrize(
    "decorator", ["@app.task", "@app.task(bind=True)", "@shared_task", "@celery.shared_task()"]
)
def test_an_async_task_would_be_noticed(decorator: str) -> None:
    assert asynchronous_tasks(f"{decorator}\nasync def handle(): ...") == ["handle"]
    assert asynchronous_tasks(f"{decorator}\ndef handle(): ...") == []


def test_the_tasks_name_is_what_gateways_call() -> None:
    assert TASK_NAME == "orchestrator.tasks.handle_message"


def test_only_asyncio_to_thread_leaves_the_loop() -> None:
    """run_in_executor loses the tenant (a ContextVar); to_thread keeps it."""
    for path in ROOT.glob("services/**/*.py"):
        names = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert "run_in_executor" not in names, path


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_registry() -> None:
    hosts = re.compile(
        r"\b(pypi|files\.pythonhosted|registry\.npmjs|proxy\.golang|repo1?\.maven|deb\.debian|crates|ghcr|docker|quay|registry\.k8s|gcr)"
        r"\.(org|io|com|dev)\b"
    )
    for path in tracked():
        if path.name in ("test_repository.py",):
            continue
        assert not hosts.search(path.read_text(errors="replace")), path


def test_modules_stay_within_300_lines() -> None:
    for path in tracked():
        if path.suffix == ".py":
            assert len(path.read_text().splitlines()) <= 300, path


def test_every_adr_has_its_parts() -> None:
    adrs = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(path.name[:4]) for path in adrs] == list(range(1, len(adrs) + 1))
    for path in adrs:
        headings = re.findall(r"^## (\w+)", path.read_text(), re.MULTILINE)
        assert headings == ["Status", "Context", "Decision", "Consequences"], path.name


def test_links_and_file_names_in_the_documentation_are_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for name in re.findall(r"`((?:services|operator|charts|migrations|examples)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
