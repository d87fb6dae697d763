"""A folder of manifests: a saved change is in effect at once, a broken one is reported."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.agents.catalog import AgentCatalog, Missing
from orchestrator.agents.directory import DirectorySource
from shared.config import ConfigurationError
from shared.models import AgentSpec
from shared.persona import render
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

IN_EFFECT_S = 1.8
"""Promised is one second, measured by the demo. A busy machine is given more here, but less than the two
seconds after which the folder is looked at anyway: it is the watch that is tested."""


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[AgentCatalog]:
    made = AgentCatalog()
    write_agent(tmp_path, "acme", "ada")
    source = DirectorySource(tmp_path, made)
    source.start()
    yield made
    source.stop()
    assert not source.healthy()


def prompt(catalog: AgentCatalog, tenant: str = "acme", name: str = "ada") -> str:
    agent = catalog.find(tenant, name)
    return agent.prompt if agent else ""


def soon(look: Callable[[], object]) -> None:
    eventually(look, within_s=IN_EFFECT_S)


def test_agents_are_there_at_the_start(catalog: AgentCatalog) -> None:
    agent = catalog.find("acme", "ada")
    assert agent is not None
    spec = AgentSpec.model_validate({"displayName": "Ada", "systemPrompt": "Answer briefly."})
    assert agent.documents == render(spec)
    assert catalog.find("globex", "ada") is None
    assert catalog.problems == ()


def test_a_saved_change_is_in_effect(catalog: AgentCatalog, tmp_path: Path) -> None:
    before = catalog.find("acme", "ada")
    write_agent(tmp_path, "acme", "ada", prompt="Answer in French.")
    soon(lambda: "French" in prompt(catalog))
    after = catalog.find("acme", "ada")
    assert before is not None
    assert after is not None
    assert before.revision != after.revision
    assert "briefly" in before.prompt  # what is under way keeps the entry it took


def test_a_change_by_rename_is_in_effect(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "drafts").mkdir()
    draft = write_agent(tmp_path / "drafts", "acme", "ada", prompt="Answer in French.")
    draft.rename(tmp_path / draft.name)
    soon(lambda: "French" in prompt(catalog))


def test_a_new_file_in_a_new_folder_is_in_effect(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write_agent(tmp_path / "deep" / "er", "globex", "bob")
    soon(lambda: catalog.find("globex", "bob"))


def test_a_deleted_file_takes_its_agent_along(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "acme-ada.yaml").unlink()
    soon(lambda: catalog.find("acme", "ada") is None)


@pytest.mark.parametrize("broken", ["kind: [", "", "kind: Agent\n", "\x00", "hello"])
def test_a_broken_manifest_is_reported_and_the_last_good_one_stays(
    catalog: AgentCatalog, tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "acme-ada.yaml"
    path.write_text(broken)
    soon(lambda: catalog.problems)
    assert catalog.problems[0].where == "acme-ada.yaml"
    assert "briefly" in prompt(catalog)
    write_agent(tmp_path, "acme", "ada", prompt="Mended.")
    soon(lambda: "Mended" in prompt(catalog))
    assert catalog.problems == ()


def test_a_broken_file_holds_up_no_other(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(b"\xff\xfe")
    write_agent(tmp_path, "globex", "bob")
    soon(lambda: catalog.find("globex", "bob"))
    assert [problem.where for problem in catalog.problems] == ["broken.yaml"]


def test_a_namespace_without_the_label_serves_nobody(catalog: AgentCatalog, tmp_path: Path) -> None:
    path = tmp_path / "acme-ada.yaml"
    path.write_text(path.read_text().replace("konstruct.dev/tenant-id", "other"))
    soon(lambda: catalog.find("acme", "ada") is None)
    assert "with the label konstruct.dev/tenant-id" in catalog.problems[0].message


def test_a_tenant_must_have_a_tenants_form(catalog: AgentCatalog, tmp_path: Path) -> None:
    path = tmp_path / "acme-ada.yaml"
    path.write_text(path.read_text().replace("tenant-id: acme", "tenant-id: Acme_Inc"))
    soon(lambda: catalog.problems)
    assert any("must be a DNS label" in problem.message for problem in catalog.problems)


def test_of_two_agents_of_one_name_the_first_stays(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "zz").mkdir()
    second = write_agent(tmp_path / "zz", "acme", "ada", prompt="The other one.")
    soon(lambda: catalog.problems)
    assert "acme-ada.yaml" in catalog.problems[0].message
    assert "briefly" in prompt(catalog)
    (tmp_path / "acme-ada.yaml").unlink()
    soon(lambda: "other one" in prompt(catalog))
    assert second.exists()


def test_a_suspended_agent_is_known_and_switched_off(catalog: AgentCatalog, tmp_path: Path) -> None:
    before = catalog.find("acme", "ada")
    write_agent(tmp_path, "acme", "ada", more="suspended: true")
    soon(lambda: (agent := catalog.find("acme", "ada")) and agent.suspended)
    after = catalog.find("acme", "ada")
    assert before is not None
    assert after is not None
    assert before.revision == after.revision


def test_a_folder_that_vanishes_and_returns(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    write_agent(folder, "acme", "ada")
    catalog = AgentCatalog()
    source = DirectorySource(folder, catalog)
    source.start()
    try:
        shutil.rmtree(folder)
        eventually(lambda: not catalog.complete or not catalog.agents, within_s=10)
        folder.mkdir()
        eventually(lambda: catalog.complete and not catalog.agents, within_s=10)
        write_agent(folder, "acme", "ada")
        eventually(lambda: catalog.agents, within_s=10)
        assert source.healthy()
    finally:
        source.stop()


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KONSTRUCT_AGENTS_DIR"):
        DirectorySource(tmp_path / "nowhere", AgentCatalog()).start()


def test_files_that_are_no_manifests_are_left_alone(catalog: AgentCatalog, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("kind: [")
    (tmp_path / ".acme-ada.yaml.swp").write_text("kind: [")
    (tmp_path / ".hidden.yaml").write_text("kind: [")
    os.utime(tmp_path / "acme-ada.yaml", (time.time(), time.time()))
    write_agent(tmp_path, "globex", "bob")
    soon(lambda: catalog.find("globex", "bob"))
    assert catalog.problems == ()


@contextmanager
def following(folder: Path) -> Iterator[AgentCatalog]:
    catalog = AgentCatalog()
    source = DirectorySource(folder, catalog)
    source.start()
    try:
        yield catalog
    finally:
        source.stop()


def test_in_an_empty_folder_every_agent_is_unknown(tmp_path: Path) -> None:
    with following(tmp_path) as catalog:
        assert catalog.look_up("acme", "ada") is Missing.UNKNOWN
        write_agent(tmp_path, "acme", "ada")
        soon(lambda: catalog.find("acme", "ada"))
        (tmp_path / "acme-ada.yaml").unlink()
        soon(lambda: catalog.look_up("acme", "ada") is Missing.UNKNOWN)


def test_a_message_to_an_empty_folder_fails_with_a_reason(cell: Cell) -> None:
    (cell.agents / "acme-ada.yaml").unlink()
    cell.start_worker()
    message = cell.message("is anybody there?")
    cell.submit(message)
    reply = cell.reply(message, within_s=15)
    assert (reply.status, reply.reason) == ("failed", "agent_unknown")


def test_a_manifest_that_was_never_good_is_no_agent(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("kind: [")
    with following(tmp_path) as catalog:
        assert [problem.where for problem in catalog.problems] == ["broken.yaml"]
        assert catalog.look_up("acme", "ada") is Missing.UNKNOWN


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """Its agents stay, and a message to any other waits: nobody knows whether it is there."""
    folder = tmp_path / "agents"
    folder.mkdir()
    write_agent(folder, "acme", "ada")
    with following(folder) as catalog:
        folder.rename(tmp_path / "elsewhere")
        eventually(lambda: catalog.look_up("acme", "bob") is Missing.NOT_YET, within_s=10)
        assert "briefly" in prompt(catalog)
        assert "is not there" in catalog.problems[0].message
        (tmp_path / "elsewhere").rename(folder)
        eventually(lambda: catalog.look_up("acme", "bob") is Missing.UNKNOWN, within_s=10)
        assert catalog.problems == ()
        assert "briefly" in prompt(catalog)


def test_what_is_below_an_unreadable_place_stays_and_the_rest_is_followed(tmp_path: Path) -> None:
    """A loop of links stands for whatever the file system fails at: rights mean nothing to root."""
    deep = tmp_path / "deep"
    deep.mkdir()
    write_agent(deep, "acme", "ada")
    with following(tmp_path) as catalog:
        manifest = deep / "acme-ada.yaml"
        manifest.unlink()
        manifest.symlink_to(manifest)
        soon(lambda: catalog.problems)
        assert "Too many levels of symbolic links" in catalog.problems[0].message
        assert "briefly" in prompt(catalog)
        write_agent(tmp_path, "globex", "bob")
        soon(lambda: catalog.find("globex", "bob"))
        assert catalog.look_up("acme", "bob") is Missing.NOT_YET
        manifest.unlink()
        soon(lambda: catalog.look_up("acme", "ada") is Missing.UNKNOWN)


def test_a_pipe_among_the_manifests_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with following(tmp_path) as catalog:
        assert catalog.look_up("acme", "ada") is Missing.UNKNOWN
