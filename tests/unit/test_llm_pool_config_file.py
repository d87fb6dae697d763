"""LiteLLM's configuration file: what is read, what is warned of, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_pool.config_file import load_config_file
from shared.config import ConfigurationError

MINIMAL = """
model_list:
  - model_name: quality
    litellm_params: {model: openai/gpt-4o, api_key: sk-canary}
  - model_name: fast
    litellm_params: {model: ollama_chat/qwen3, api_base: http://localhost:11434}
"""
"""A file that is fine."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "litellm.yaml"


def test_everything_that_takes_effect_is_read(path: Path) -> None:
    path.write_text(
        """
model_list:
  - model_name: quality
    litellm_params:
      model: azure/gpt-4o
      api_key: os.environ/AZURE_KEY
      api_base: os.environ/AZURE_BASE
      api_version: "2024-10-21"
      extra_headers: {x-team: os.environ/TEAM}
      order: 2
      weight: 3
      timeout: 9
      cooldown_time: 4
    model_info: {base_model: azure/gpt-4o-2024-08-06}
    rpm: 10
  - model_name: fast
    litellm_params: {model: ollama_chat/qwen3, api_base: os.environ/NOT_SET}
router_settings:
  routing_strategy: simple-shuffle
  fallbacks: [{quality: [fast]}]
  content_policy_fallbacks: [{quality: fast}]
  default_fallbacks: [fast]
  model_group_alias: {gpt-4: quality, best: {model: quality, hidden: true}}
  max_fallbacks: 2
  allowed_fails: 7
  cooldown_time: 11
  timeout: 12.5
environment_variables:
  TEAM: blue
"""
    )
    config = load_config_file(path, {"AZURE_KEY": "sk-canary", "AZURE_BASE": "https://example.test"})
    quality, fast = config.deployments
    assert quality.group == "quality"
    assert quality.params["api_key"] == "sk-canary"
    assert quality.params["api_base"] == "https://example.test"
    assert quality.params["extra_headers"] == {"x-team": "blue"}
    assert [quality.params[key] for key in ("order", "weight", "timeout", "rpm")] == [2, 3, 9, 10]
    assert quality.model_info == {"base_model": "azure/gpt-4o-2024-08-06"}
    assert (quality.missing, fast.missing) == ((), ("NOT_SET",))
    assert config.groups == ("quality", "fast")
    assert config.fallbacks == config.content_policy_fallbacks == {"quality": ("fast",)}
    assert config.default_fallbacks == ("fast",)
    assert config.aliases == {"gpt-4": "quality", "best": "quality"}
    assert (config.max_fallbacks, config.allowed_fails, config.cooldown_s) == (2, 7, 11)
    assert config.attempt_timeout_s == 12.5
    assert config.warnings == ()
    assert "sk-canary" not in repr(config)


def test_what_has_no_effect_is_warned_of(path: Path) -> None:
    path.write_text(
        MINIMAL
        + """
router_settings: {num_retries: 3, redis_host: cache, enable_pre_call_checks: true}
litellm_settings: {success_callback: [langfuse], drop_params: true, request_timeout: 8}
general_settings: {master_key: sk-canary}
"""
    )
    config = load_config_file(path, {})
    assert config.attempt_timeout_s == 8
    told = "\n".join(config.warnings)
    for name in (
        "num_retries",
        "redis_host",
        "enable_pre_call_checks",
        "success_callback",
        "general_settings",
    ):
        assert name in told
    assert "drop_params" not in told
    assert "sk-canary" not in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_list: [", "is no YAML at line"),
        ("- a", "must be a mapping"),
        ("model_list: []", "at least one deployment"),
        ("model_list: [sk-canary]", "model_list[0]: must be a mapping"),
        ("model_lst: []", "did you mean model_list?"),
        (MINIMAL + "guardrails: []", "guardrails is not supported"),
        (MINIMAL + "router_settings: {fallback: []}", "did you mean fallbacks?"),
        (MINIMAL + "router_settings: {routing_strategy: least-busy}", "only simple-shuffle"),
        (MINIMAL + "router_settings: {fallbacks: {quality: [fast]}}", "must be a list of mappings"),
        (
            MINIMAL + "router_settings: {fallbacks: [{quality: [fats]}]}",
            "no group is called fats (did you mean fast?)",
        ),
        (MINIMAL + "router_settings: {fallbacks: [{qality: [fast]}]}", "no group is called qality"),
        (MINIMAL + "router_settings: {model_group_alias: {a: b}}", "no group is called b"),
        (MINIMAL + "router_settings: {cooldown_time: soon}", "cooldown_time: must be a number"),
        (MINIMAL + "router_settings: {allowed_fails: -1}", "must be a number, 0 or more"),
        (
            "model_list: [{model_name: 'a/*', litellm_params: {model: openai/x}}]",
            "model_name: a group's name",
        ),
        ("model_list: [{model_name: a, litellm_params: {model: 'openai/*'}}]", "wildcards are not supported"),
        (
            "model_list: [{model_name: a, litellm_params: {api_key: sk-canary}}]",
            "litellm_params.model: is required",
        ),
        (
            "model_list: [{model_name: a, params: {}, litellm_params: {model: openai/x}}]",
            "params is not supported",
        ),
    ],
)
def test_what_the_pool_cannot_do_is_refused_with_the_place(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_config_file(path, {})
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "sk-canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_config_file(path, {})
