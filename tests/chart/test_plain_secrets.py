"""LiteLLM's secrets in plain text: refused where they would end in a ConfigMap, whatever they are called."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.litellm_core_utils.sensitive_data_masker import SensitiveDataMasker
from litellm.types.router import CredentialLiteLLMParams, GenericLiteLLMParams, LiteLLM_Params

from tests.chart.rendering import IN_CHART, ChartError, render_chart

CANARY = "canary-of-a-secret"


def refusal(values: dict[str, Any]) -> str:
    """Return what Helm says of values; nothing if it takes them."""
    try:
        render_chart(IN_CHART, values)
    except ChartError as error:
        said = str(error)
    else:
        said = ""
    assert "canary" not in said
    return said


def entry(**params: Any) -> dict[str, Any]:
    return {"llmPool.modelList": [{"model_name": "q", "litellm_params": {"model": "x/y", **params}}]}


def names_of_litellm() -> set[str]:
    """List every parameter that LiteLLM knows of a deployment: its models, and what its providers look up."""
    names = {
        field
        for model in (CredentialLiteLLMParams, GenericLiteLLMParams, LiteLLM_Params)
        for field in model.model_fields
    }
    for source in (Path(litellm.__file__).parent / "llms").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            is_lookup = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("get", "pop")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("optional_params", "litellm_params")
                and node.args
            )
            if is_lookup and isinstance(node.args[0], ast.Constant):  # type: ignore[attr-defined]
                names.add(str(node.args[0].value))  # type: ignore[attr-defined]
    return {name for name in names if re.fullmatch(r"\w+", name)}


def test_whatever_litellm_takes_for_sensitive_is_refused() -> None:
    masker = SensitiveDataMasker()
    names = names_of_litellm()
    sensitive = {name for name in names if masker.is_sensitive_key(name)}
    assert len(names) > 100
    assert {"api_key", "aws_secret_access_key", "aws_session_token", "client_secret"} <= sensitive
    # Not for LiteLLM's masker, by its plural.
    sensitive |= {"vertex_credentials", "azure_password", "azure_ad_token"}
    said = refusal(entry(**dict.fromkeys(sensitive, CANARY)))
    found = set(re.findall(r"litellm_params\.(\w+)", said))
    assert found == sensitive


def test_what_is_none_is_taken() -> None:
    masker = SensitiveDataMasker()
    harmless = {
        name
        for model in (CredentialLiteLLMParams, GenericLiteLLMParams)
        for name in model.model_fields
        if not masker.is_sensitive_key(name)
    } - {"vertex_credentials"}
    assert {"api_base", "organization", "region_name", "vertex_project"} <= harmless
    assert refusal(entry(**dict.fromkeys(harmless, "something"), max_tokens=5)) == ""


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"extra_headers": {"Authorization": f"Bearer {CANARY}"}}, "extra_headers.Authorization"),
        ({"extra_headers": {"X-API-Key": CANARY}}, "extra_headers.X-API-Key"),
        ({"headers": {"Cookie": CANARY}}, "headers.Cookie"),
        ({"extra_headers": {"X-Team": f"Bearer {CANARY}"}}, "extra_headers.X-Team"),
        (
            {"vertex_credentials": {"type": "service_account", "private_key": CANARY}},
            "vertex_credentials.type",
        ),
        ({"extra_body": {"deep": [{"apiKey": CANARY}]}}, "extra_body.deep[0].apiKey"),
        ({"api_base": f"https://user:{CANARY}@host/v1"}, "api_base"),
        ({"api_base": f"https://host/v1?api-key={CANARY}"}, "api_base"),
        ({"note": f"-----BEGIN PRIVATE KEY-----\n{CANARY}"}, "note"),
        ({"api_key": f"os.environ/{CANARY}"}, "api_key"),  # no name of a variable
        ({"api_key": 12345678}, "api_key"),
    ],
    ids=json.dumps,
)
def test_secrets_are_found_wherever_they_are(params: dict[str, Any], path: str) -> None:
    said = refusal(entry(**params))
    assert f"llmPool.modelList[0].litellm_params.{path}" in said
    assert "write os.environ/NAME" in said
    assert "llmPool.config.existingSecret" in said


def test_secrets_outside_of_a_deployments_parameters_are_found() -> None:
    plain = {"redis_password": CANARY, "redis_url": f"redis://:{CANARY}@redis", "redis_host": "redis"}
    model = entry()["llmPool.modelList"]
    said = refusal({"llmPool": {"modelList": model, "routerSettings": plain}})
    assert "llmPool.routerSettings.redis_password, llmPool.routerSettings.redis_url would be" in said
    model = [{**model[0], "model_info": {"access_groups": ["a"], "note": f"https://a:{CANARY}@b"}}]
    said = refusal({"llmPool.modelList": model})
    assert "llmPool.modelList[0].model_info.note would" in said


def test_names_of_variables_are_taken() -> None:
    assert (
        refusal(
            entry(
                api_key="os.environ/ANTHROPIC_API_KEY",
                extra_headers={
                    "Authorization": "os.environ/HEADER",
                    "anthropic-beta": "x",
                    "X-Empty-Key": "",
                },
                azure_ad_token="oidc/github/https://example.org",
                vertex_credentials="os.environ/VERTEX",
                use_auth=True,
            )
        )
        == ""
    )


@pytest.mark.parametrize("part", ["llmPool", "worker", "operator", "migration", "postgresql", "redis"])
def test_a_secret_in_a_plain_variable_is_refused(part: str) -> None:
    for name, value in (("GROQ_API_KEY", CANARY), ("HTTPS_PROXY", f"http://user:{CANARY}@proxy:3128")):
        said = refusal({f"{part}.extraEnv": [{"name": name, "value": value}]})
        assert f"{part}.extraEnv: {name} would be readable" in said
        assert "valueFrom.secretKeyRef" in said
    taken = [
        {"name": "GROQ_API_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/token"},
    ]
    assert refusal({f"{part}.extraEnv": taken}) == ""
