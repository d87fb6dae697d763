"""The pure and the quick parts of the local stack: its configuration for the pool, its state folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from konstruct_cli.stack.local import LocalStack
from konstruct_cli.stack.model_server import KEY_VARIABLE
from konstruct_cli.stack.pool_config import pool_config, providers_set, wants_small_model
from konstruct_cli.stack.process import StackError
from konstruct_cli.stack.state import StackInfo, StateDir
from llm_pool.config_file import load_config_file
from llm_pool.providers.defaults import default_config
from shared.config import Settings

INFO = StackInfo(
    pid=os.getpid(),
    started_at=datetime.now(UTC),
    agents_dir=Path("/agents"),
    database_url="postgresql://a:b@127.0.0.1:1/konstruct",
    system_database_url="postgresql://s:b@127.0.0.1:1/konstruct",
    owner_database_url="postgresql://o:b@127.0.0.1:1/konstruct",
    redis_url="redis://:p@127.0.0.1:2/0",
    llm_pool_url="http://127.0.0.1:3",
    llm_pool_token="token-of-the-pool",
    payload_key="key-that-signs-what-is-delivered",
    worker_url="http://127.0.0.1:4",
    small_model=None,
    pids={},
)


def test_the_small_model_is_fast_and_quality_is_what_the_pool_serves_by_default(tmp_path: Path) -> None:
    settings = Settings(openai_base_url="http://proxy.example/v1")
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(pool_config(settings, "http://127.0.0.1:9/v1")))
    keys = {"ANTHROPIC_API_KEY": "a-key", "OPENAI_API_KEY": "o-key", KEY_VARIABLE: "m-key"}
    ours, default = load_config_file(file, keys), default_config(settings, keys)
    assert ours.warnings == ()
    assert ours.fallbacks == default.fallbacks
    quality, default_quality = (
        [dict(spec.params) for spec in config.deployments if spec.group == "quality"]
        for config in (ours, default)
    )
    assert quality == default_quality
    (fast,) = (spec for spec in ours.deployments if spec.group == "fast")
    assert fast.missing == ()
    assert fast.params["api_key"] == "m-key"
    assert fast.params["api_base"] == "http://127.0.0.1:9/v1"
    assert fast.params["extra_body"]["max_tokens"] <= 100


def test_no_key_is_written_and_a_missing_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(pool_config(Settings(), "http://127.0.0.1:9/v1")))
    assert "-key" not in file.read_text()
    missing = [spec.missing for spec in load_config_file(file, {KEY_VARIABLE: "m-key"}).deployments]
    assert missing == [("ANTHROPIC_API_KEY",), ("OPENAI_API_KEY",), ()]


def test_the_small_model_is_left_out_where_something_else_is_fast() -> None:
    assert wants_small_model(Settings(), {"ANTHROPIC_API_KEY": "x"})
    assert wants_small_model(Settings(), {"OLLAMA_BASE_URL": ""})
    assert not wants_small_model(Settings(), {"OLLAMA_BASE_URL": "http://127.0.0.1:11434"})
    assert not wants_small_model(Settings(llm_pool_config=Path("pool.yaml")), {})
    assert providers_set({"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": ""}) == ["OPENAI_API_KEY"]


def test_a_second_stack_on_one_folder_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with state.hold():
        state.publish(INFO)
        agents = tmp_path / "agents"
        agents.mkdir()
        second = LocalStack(StateDir(state.path), agents, Settings(), environ={})
        with pytest.raises(StackError, match=rf"already runs on .*process {os.getpid()}.*--state-dir"):
            second.run().__enter__()
    assert not state.held()


def test_a_running_stack_is_found_and_a_dead_one_is_not(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.read() is None
    with state.hold():
        assert state.read() is None
        state.publish(INFO)
        assert state.read() == INFO
    assert state.info_file.exists()
    assert state.read() is None, "the file of a stack that is gone was believed"
    with state.hold():
        assert not state.info_file.exists()


def test_a_killed_stack_whose_children_linger_is_not_running(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with state.hold():
        state.publish(INFO.model_copy(update={"pid": gone.pid}))
        assert state.read() is None


def test_a_stack_of_another_version_is_told_apart(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.hold():
        state.info_file.write_text('{"schema_version": 2}')
        with pytest.raises(StackError, match="started by another version of konstruct"):
            state.read()


def test_secrets_stay_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with state.hold():
        secrets = state.secrets()
        state.publish(INFO)
        assert state.secrets() == secrets
        for file in (state.info_file, state.path / "secrets.json", state.path / "lock"):
            assert file.stat().st_mode & 0o777 == 0o600, file
        assert state.path.stat().st_mode & 0o777 == 0o700
    assert len(set(secrets.model_dump().values())) == len(secrets.model_dump())


def test_secrets_that_cannot_be_read_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"old": "form"}))
    with pytest.raises(StackError, match=r"secrets\.json is not what this version wrote; delete"):
        StateDir(tmp_path).secrets()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="choose another folder with --state-dir"):
        StateDir(tmp_path / "file" / "state").hold().__enter__()
