"""Settings: read from the environment, typed, unknown names refused, secrets hidden, all documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from docs import generate
from shared.config import PREFIX, ConfigurationError, Settings, load_settings
from shared.net import host_and_port


def test_the_defaults() -> None:
    settings = load_settings({})
    assert settings.llm_pool_url == "http://localhost:8004"
    assert settings.llm_pool_listen.endswith(":8004")


def test_values_are_typed() -> None:
    settings = load_settings(
        {"KONSTRUCT_WORKER_CONCURRENCY": "4", "KONSTRUCT_AGENTS_DIR": "/a", "HOME": "/root"}
    )
    assert (settings.worker_concurrency, settings.agents_dir) == (4, Path("/a"))


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load_settings({"KONSTRUCT_LLM_POOL_TOKEN": ""}).llm_pool_token is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"KONSTRUCT_LLM_POL_URL": "x"}, "did you mean KONSTRUCT_LLM_POOL_URL?"),
        ({"KONSTRUCT_NOVELTY": "x"}, "KONSTRUCT_NOVELTY is not a setting"),
        (
            {"KONSTRUCT_WORKER_CONCURRENCY": "many"},
            "KONSTRUCT_WORKER_CONCURRENCY: Input should be a valid integer",
        ),
        ({"KONSTRUCT_LEASE_S": "-1"}, "KONSTRUCT_LEASE_S: Input should be greater than or equal to 1"),
        ({"KONSTRUCT_LLM_POOL_TOKEN": "fifteen-letters"}, "KONSTRUCT_LLM_POOL_TOKEN: must have at least 16"),
        ({"KONSTRUCT_LLM_POOL_TOKEN": f"{'a' * 32}\n"}, "KONSTRUCT_LLM_POOL_TOKEN: must have at least 16"),
        (
            {"KONSTRUCT_REDIS_CA_FILE": "/ca"},
            "KONSTRUCT_REDIS_URL does not ask for encryption: let it begin with rediss://",
        ),
        ({"KONSTRUCT_LLM_POOL_CA_FILE": "/ca"}, "let it begin with https://"),
        ({"KONSTRUCT_LLM_POOL_KEY_FILE": "/key"}, "goes with KONSTRUCT_LLM_POOL_CERT_FILE, which is not set"),
        (
            {"KONSTRUCT_LLM_POOL_SECOND_TOKEN": "a" * 16},
            "KONSTRUCT_LLM_POOL_SECOND_TOKEN: goes with KONSTRUCT_LLM_POOL_TOKEN, which is not set",
        ),
    ],
)
def test_mistakes_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment)
    assert message in str(caught.value)


def test_an_error_repeats_no_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"KONSTRUCT_WORKER_CONCURRENCY": "canary", "KONSTRUCT_LLM_POOL_TOKENS": "canary"})
    assert "canary" not in str(caught.value)


def test_variables_that_kubernetes_adds_are_no_mistakes() -> None:
    load_settings(
        {
            "KONSTRUCT_LLM_POOL_SERVICE_HOST": "10.0.0.1",
            "KONSTRUCT_LLM_POOL_SERVICE_PORT_HTTP": "8004",
            "KONSTRUCT_LLM_POOL_PORT": "tcp://10.0.0.1:8004",
            "KONSTRUCT_LLM_POOL_PORT_8004_TCP_ADDR": "10.0.0.1",
        }
    )


def test_what_may_hold_a_secret_is_a_secret() -> None:
    for name, field in Settings.model_fields.items():
        if re.search("_token$|password|key(?!_file)|database_url|redis_url", name):
            assert "SecretStr" in str(field.annotation), name


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        llm_pool_token=SecretStr("canary-of-sixteen"),
        llm_pool_second_token=SecretStr("another-canary-of-it"),
        database_url=SecretStr("postgresql://a:canary@b/c"),
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r}"):
        assert "canary" not in shown


def test_every_setting_is_documented() -> None:
    page = (generate.DOCS / "configuration.md").read_text()
    assert page == generate.with_table(page), "run `python docs/generate.py`"
    for name in Settings.model_fields:
        assert f"| `{PREFIX}{name.upper()}` |" in page


def test_the_schema_of_the_payload_is_the_committed_one() -> None:
    """A gateway in another language is built on it: a change here is a change of the contract."""
    committed = (generate.DOCS / "schemas" / "konstruct-message.json").read_text()
    assert committed == generate.message_schema(), "run `python docs/generate.py`"


def test_the_schema_of_the_evidence_is_the_committed_one() -> None:
    committed = (generate.DOCS / "schemas" / "konstruct-evidence.json").read_text()
    assert committed == generate.evidence_schema(), "run `python docs/generate.py`"


@pytest.mark.parametrize("address", ["8004", "host:", "host:x", "host:99999", ""])
def test_a_bad_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="write host:port"):
        host_and_port(address)


def test_addresses() -> None:
    assert host_and_port("127.0.0.1:80") == ("127.0.0.1", 80)
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port(":80") == ("0.0.0.0", 80)
