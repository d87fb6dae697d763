"""LiteLLM's configuration file: what is read, what is warned of, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_pool.config_file import load_config_file
from llm_pool.config_keys import SECTIONS, SECTIONS_REFUSED, SECTIONS_WITHOUT_EFFECT
from llm_pool.litellm_setup import litellm
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
        (
            MINIMAL + "guardrails: [{guardrail_name: pii}]",
            "guardrails is not supported: guardrails check what",
        ),
        (MINIMAL + "credential_list: [{credential_name: x}]", "put the credentials into each deployment's"),
        (MINIMAL + "include: [other.yaml]", "include is not supported: one file is read"),
        (MINIMAL + "file_settings: []", "did you mean files_settings?"),
        (MINIMAL + "router_settings: {timeout: 0}", "timeout: 0 leaves no time to answer"),
        (MINIMAL + "router_settings: {timeout: -1}", "timeout: must be a number, 0 or more"),
        (MINIMAL + "litellm_settings: {request_timeout: 0}", "timeout: 0 leaves no time to answer"),
        (MINIMAL + "router_settings: {max_fallbacks: 1.5}", "max_fallbacks: must be a whole number"),
        (MINIMAL + "router_settings: {max_fallbacks: -1}", "max_fallbacks: must be a number, 0 or more"),
        (MINIMAL + "router_settings: 0", "router_settings: must be a mapping"),
        (MINIMAL + "router_settings: {fallbacks: 0}", "must be a list of mappings"),
        (MINIMAL + "router_settings: {default_fallbacks: 0}", "must be given as a list of names"),
        (MINIMAL + "router_settings: {model_group_alias: {fast: quality}}", "fast is a group of model_list"),
        (MINIMAL + "router_settings: {model_group_alias: {a: fast, b: a}}", "no group is called a"),
        (
            MINIMAL + "router_settings: {fallbacks: [{quality: [a]}], model_group_alias: {a: fast}}",
            "called a",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/x, timeout: 0}}]",
            "model_list[0].litellm_params.timeout: 0 leaves no time",
        ),
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


def test_nothing_is_a_number_too(path: Path) -> None:
    """0 is what it says, and not the default; an empty list of fallbacks is nobody."""
    path.write_text(
        MINIMAL
        + """
router_settings:
  {max_fallbacks: 0, allowed_fails: 0, cooldown_time: 0, fallbacks: [{quality: []}], timeout: null}
litellm_settings: {request_timeout: 7, allowed_fails: 3, default_fallbacks: [fast]}
"""
    )
    config = load_config_file(path, {})
    assert (config.max_fallbacks, config.allowed_fails, config.cooldown_s) == (0, 0, 0)
    assert config.attempt_timeout_s == 7
    assert config.fallbacks == {"quality": ()}
    assert config.default_fallbacks == ("fast",)


@pytest.mark.parametrize("section", SECTIONS_WITHOUT_EFFECT)
def test_a_section_of_litellms_proxy_is_warned_of(path: Path, section: str) -> None:
    path.write_text(f"{MINIMAL}\n{section}: [{{name: sk-canary}}]\n")
    (warning,) = load_config_file(path, {}).warnings
    assert f"{section} has no effect: " in warning
    assert "sk-canary" not in warning


@pytest.mark.parametrize("section", [*SECTIONS_WITHOUT_EFFECT, *SECTIONS_REFUSED])
def test_an_empty_section_says_nothing(path: Path, section: str) -> None:
    path.write_text(f"{MINIMAL}\n{section}:\n")
    assert load_config_file(path, {}).warnings == ()


def test_every_section_that_litellms_proxy_reads_is_known() -> None:
    """By its own code: what it looks up in its configuration."""
    code = (Path(litellm.__file__).parent / "proxy" / "proxy_server.py").read_text()
    read = set(re.findall(r'\bconfig(?:_data)?\.get\(\s*"([a-z_]+)"', code))
    sections = read - {"enabled", "force_reload", "general", "interval_hours", "success_callback"}
    assert len(sections) > 15
    assert sections <= {*SECTIONS, *SECTIONS_WITHOUT_EFFECT, *SECTIONS_REFUSED}


def test_the_documentation_has_each_section() -> None:
    page = (Path(__file__).parents[2] / "docs" / "llm-pool.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (takes effect|warned of|refused) \|", page, re.MULTILINE))
    assert rows == {
        **dict.fromkeys(SECTIONS, "takes effect"),
        **dict.fromkeys(SECTIONS_WITHOUT_EFFECT, "warned of"),
        **dict.fromkeys(SECTIONS_REFUSED, "refused"),
    }
