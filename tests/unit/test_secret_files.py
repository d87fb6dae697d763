"""Secrets from files: what is read, and what each mistake is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from llm_pool.state import read_pool_config
from shared.config import PREFIX, SECRETS, ConfigurationError, Settings, load_settings
from shared.secret_files import FILE_SUFFIX, LARGEST_BYTES, WithFiles, without

CANARY = "canary-canary-canary-canary-canary"
TOKEN = "KONSTRUCT_LLM_POOL_TOKEN"
TOKEN_FILE = TOKEN + FILE_SUFFIX


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    made = tmp_path / "secret"
    made.write_text(f"{CANARY}\n")
    return made


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_setting_can_come_from_a_file(name: str, secret: Path) -> None:
    others = {  # a second one goes with a first
        PREFIX + first.upper(): "x" * 40
        for first in ("llm_pool_token", "payload_key")
        if name.startswith(first.rpartition("_")[0]) and name != first
    }
    value = getattr(load_settings({**others, f"{PREFIX}{name.upper()}_FILE": str(secret)}), name)
    assert isinstance(value, SecretStr)
    assert value.get_secret_value() == CANARY


def test_no_setting_has_the_name_of_a_secrets_file() -> None:
    """``*_FILE`` of a setting that is a path itself, such as KONSTRUCT_REDIS_CA_FILE, keeps its meaning."""
    assert len(SECRETS) >= 8
    assert not {name + "_file" for name in SECRETS} & set(Settings.model_fields)


def test_only_secrets_come_from_files(secret: Path) -> None:
    with pytest.raises(ConfigurationError, match="KONSTRUCT_LLM_POOL_URL_FILE is not a setting"):
        load_settings({"KONSTRUCT_LLM_POOL_URL_FILE": str(secret)})
    with pytest.raises(ConfigurationError, match=f"did you mean {TOKEN_FILE}"):
        load_settings({"KONSTRUCT_LLM_POOL_TOKN_FILE": str(secret)})


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \t\n\n"])
def test_white_space_at_the_end_is_no_part_of_it(end: str, secret: Path) -> None:
    secret.write_bytes(f"{CANARY}{end}".encode())
    token = load_settings({TOKEN_FILE: str(secret)}).llm_pool_token
    assert token is not None
    assert token.get_secret_value() == CANARY


def test_both_are_one_too_many(secret: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{TOKEN} and {TOKEN_FILE} are both set; unset one"):
        load_settings({TOKEN: "x" * 40, TOKEN_FILE: str(secret)})
    # As everywhere, an empty variable is an unset one.
    for one in ({TOKEN: "", TOKEN_FILE: str(secret)}, {TOKEN: CANARY, TOKEN_FILE: ""}):
        token = load_settings(one).llm_pool_token
        assert token is not None
        assert token.get_secret_value() == CANARY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names an empty file"),
        (b" \n", "names an empty file"),
        (b"a" * (LARGEST_BYTES + 1), f"more than {LARGEST_BYTES} bytes"),
        (b"\xff" * 40, "not UTF-8 text"),
        (f"{CANARY}\n{CANARY}".encode(), "must have at least 16 characters and no white space"),
        (b"short", "must have at least 16 characters"),
    ],
)
def test_what_a_file_may_not_hold(content: bytes, message: str, secret: Path) -> None:
    secret.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{TOKEN_FILE}: .*{message}") as caught:
        load_settings({TOKEN_FILE: str(secret)})
    assert "canary" not in str(caught.value)


def test_what_is_no_readable_file_is_said_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes: whoever opened it as usual would wait for ever
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in (
        ("gone", "names a file that does not exist; mount it"),
        ("", "must name a regular file"),
        ("pipe", "must name a regular file"),
        ("loop", "cannot be read: Too many levels"),
        ("nul\0", "cannot be read: it is not a path"),
    ):
        with pytest.raises(ConfigurationError, match=f"{TOKEN_FILE}: .*{message}") as caught:
            load_settings({TOKEN_FILE: f"{tmp_path}/{name}"})
        # A secret in the place of its path is a mistake that happens.
        assert str(tmp_path) not in str(caught.value)


def test_a_file_that_may_not_be_read(secret: Path) -> None:
    secret.chmod(0)
    script = f"""
import os
from shared.secret_files import read_secret
if os.getuid() == 0:  # who may read everything
    os.setuid(65534)
read_secret("NAME_FILE", {str(secret)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "NAME_FILE: names a file that cannot be read: Permission denied" in done.stderr


def test_a_file_that_need_not_exist(secret: Path) -> None:
    assert load_settings({TOKEN_FILE: f"-{secret.parent}/gone"}).llm_pool_token is None
    assert load_settings({TOKEN_FILE: f"-{secret}"}).llm_pool_token is not None
    secret.write_text("")
    with pytest.raises(ConfigurationError, match="empty"):
        load_settings({TOKEN_FILE: f"-{secret}"})


def test_provider_keys_come_from_files(secret: Path, tmp_path: Path) -> None:
    environ = WithFiles(
        {"ANTHROPIC_API_KEY_FILE": str(secret), "OPENAI_API_KEY_FILE": "-/gone", "SSL_CERT_FILE": "/gone"}
    )
    anthropic, openai, _ = read_pool_config(Settings(), environ).deployments
    assert anthropic.params["api_key"] == CANARY
    assert openai.missing == ("OPENAI_API_KEY",)

    config = tmp_path / "pool.yaml"
    config.write_text(
        "model_list: [{model_name: a, litellm_params: {model: groq/x, api_key: os.environ/MY_KEY,"
        " extra_headers: {Authorization: os.environ/OWN}}}]\nenvironment_variables: {OWN: os.environ/MY_KEY}"
    )
    (one,) = read_pool_config(
        Settings(llm_pool_config=config), WithFiles({"MY_KEY_FILE": str(secret)})
    ).deployments
    assert one.params["api_key"] == one.params["extra_headers"]["Authorization"] == CANARY


def test_a_stacks_own_settings_take_the_place_of_files() -> None:
    assert without({"A": "1", "B_FILE": "/b", "C": "3"}, {"A": "x", "B": "x"}) == {"C": "3"}
