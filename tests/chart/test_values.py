"""Values: described, refused when misspelt or contradictory, and no secret among them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import chart_values
from shared.config import PREFIX, ConfigurationError, load_settings
from tests.chart.rendering import (
    CHART,
    ENVIRONMENTS,
    EXTERNAL,
    IN_CHART,
    ChartError,
    Manifest,
    containers,
    environment,
    kinds,
    named,
    pod_templates,
    render_chart,
    render_text,
)


def test_the_table_is_that_of_the_values() -> None:
    page = chart_values.README.read_text()
    assert page == chart_values.with_values_table(page), "run `python docs/chart_values.py`"
    assert page.count("\n| `") > 150


def test_every_property_is_described_and_closed() -> None:
    """All but maps that are meant to be free: labels, annotations, LiteLLM's and Kubernetes' own parts."""

    def check(prop: dict[str, Any], path: str) -> None:
        assert prop["description"].endswith("."), path
        if "properties" in prop and prop["type"] == "object":
            assert prop["additionalProperties"] is False, path
            for name, inner in prop["properties"].items():
                check(inner, f"{path}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    for name, prop in schema["properties"].items():
        check(prop, name)


def test_every_default_has_its_place_in_the_schema() -> None:
    """The other direction of the table, which demands a default of each property."""
    documented = {value.path for value in chart_values.values()}

    def leaves(value: Any, path: str) -> list[str]:
        if path in documented:
            return [path]
        assert isinstance(value, dict), path
        return [leaf for name, inner in value.items() for leaf in leaves(inner, f"{path}.{name}".lstrip("."))]

    assert set(leaves(yaml.safe_load((CHART / "values.yaml").read_text()), "")) == documented


def secret_references(manifests: list[Manifest], *, optional: bool = True) -> set[tuple[str, str]]:
    """List (Secret, key) of every variable that comes from one; of those that must only unless `optional`."""
    return {
        (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        for _, pod in pod_templates(manifests)
        for container in containers(pod)
        for source in environment(container).values()
        if isinstance(source, dict) and "secretKeyRef" in source
        if optional or not source["secretKeyRef"].get("optional")
    }


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_no_secret_is_part_of_staging_or_production(name: str) -> None:
    made = render_chart(ENVIRONMENTS[name])
    assert kinds(made, "Secret") == []
    documented = ENVIRONMENTS[name].read_text().split("\nsecrets:")[0]
    for secret, key in secret_references(made):
        assert re.search(rf"{secret} .*\b{key}\b", documented), (secret, key)


@pytest.mark.parametrize("values", [IN_CHART, ENVIRONMENTS["dev"]], ids=["least", "dev"])
def test_what_is_read_of_the_generated_secret_is_there(values: Any) -> None:
    made = render_chart(values)
    (secret,) = kinds(made, "Secret")
    name, data = secret["metadata"]["name"], secret["stringData"]
    assert {key for found, key in secret_references(made, optional=False) if found == name} <= data.keys()
    for user, key, password in (
        ("konstruct_app", "database-url", "service"),
        ("konstruct_sys", "system-database-url", "system"),
        ("konstruct_owner", "migration-database-url", "owner"),
    ):
        assert data[key].startswith(f"postgresql://{user}:{data[password + '-password']}@")
    assert len({value for key, value in data.items() if key.endswith("-password")}) == 7
    hosts = {service["metadata"]["name"] for service in kinds(made, "Service")}
    assert {re.search(r"@([^:]+):", data[key])[1] for key in ("database-url", "redis-url")} <= hosts  # type: ignore[index]


def test_secrets_are_nowhere_but_in_the_secret() -> None:
    text = render_text([ENVIRONMENTS["dev"]], "konstruct", "konstruct")
    made = [one for one in yaml.safe_load_all(text) if one]
    (secret,) = kinds(made, "Secret")
    rest = json.dumps([one for one in made if one is not secret])
    for key, value in secret["stringData"].items():
        assert value not in rest, key
        assert base64.b64encode(value.encode()).decode() not in rest, key


def test_provider_keys_reach_the_pool_alone(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        for container in containers(pod):
            keys = {key for key in environment(container) if re.search("_API_KEY(_FILE)?$", key)}
            assert bool(keys) is (container["name"] == "llm-pool"), name


def test_the_signing_key_reaches_senders_and_workers_alone(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        for container in containers(pod):
            keys = {key for key in environment(container) if key.startswith("KONSTRUCT_PAYLOAD_")}
            assert len(keys) == (3 if container["name"] in ("worker", "test") else 0), name


def test_a_made_key_is_one_that_workers_take() -> None:
    (secret,) = kinds(render_chart(IN_CHART), "Secret")
    load_settings(
        {
            "KONSTRUCT_PAYLOAD_KEY": secret["stringData"]["payload-key"],
            "KONSTRUCT_LLM_POOL_TOKEN": secret["stringData"]["llm-pool-token"],
        }
    )
    off = render_chart(IN_CHART, {"signing": {"enabled": False}})
    assert "KONSTRUCT_PAYLOAD" not in str(off)


def test_tls_reaches_whoever_connects_and_the_key_only_the_pool() -> None:
    made = render_chart(
        EXTERNAL,
        {
            "database.ca.existingSecret": "db-ca",
            "queue.ca.existingSecret": "queue-ca",
            "llmPool.tls.existingSecret": "pool-tls",
        },
    )
    for name, pod in pod_templates(made):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            variables = environment(container)
            files = {value for value in variables.values() if str(value).endswith((".crt", ".key"))}
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {str(Path(file).parent) for file in files} <= mounts, name
            if "KONSTRUCT_DATABASE_URL" in variables:
                assert variables["PGSSLMODE"] == "verify-full", name
            if "KONSTRUCT_REDIS_URL" in variables:
                assert variables["KONSTRUCT_REDIS_CA_FILE"], name
                assert variables["KONSTRUCT_LLM_POOL_URL"].startswith("https://"), name
                assert variables["KONSTRUCT_LLM_POOL_CA_FILE"], name
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if container["name"] == "llm-pool":
                    assert container[probe]["httpGet"]["scheme"] == "HTTPS"
        # Of the pool's Secret, only the pool has more than the authority.
        assert ("certificate" in volumes) is (containers(pod)[-1]["name"] == "llm-pool"), name
        for source in volumes.get("trust", {}).get("projected", {}).get("sources", []):
            assert [item["key"] for item in source["secret"]["items"]] == ["ca.crt"]
    assert "PGSSL" not in str(render_chart(EXTERNAL))


def test_model_groups_become_the_configuration_of_the_pool() -> None:
    groups = [{"model_name": "fast", "litellm_params": {"model": "ollama_chat/qwen3:8b"}}]
    first = render_chart(IN_CHART, {"llmPool.modelList": groups})
    config = yaml.safe_load(named(first, "ConfigMap", "-llm-pool")["data"]["llm-pool.yaml"])
    assert config == {"model_list": groups}
    second = render_chart(
        IN_CHART, {"llmPool.modelList": groups, "llmPool.routerSettings": {"allowed_fails": 5}}
    )
    checksums = [
        named(made, "Deployment", "-llm-pool")["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        for made in (first, second)
    ]
    assert checksums[0] != checksums[1]


def test_keda_counts_the_backlog_and_may_read_nothing_else() -> None:
    made = render_chart(ENVIRONMENTS["prod"])
    (scaled,) = kinds(made, "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    assert trigger["metadata"]["query"] == "select konstruct_backlog()"
    (authentication,) = kinds(made, "TriggerAuthentication")
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "connection", "name": "konstruct-database", "key": "system-database-url"}
    ]


def test_the_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    image = named(render_chart(IN_CHART), "Deployment", "-orchestrator")["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert image["image"] == f"konstruct/orchestrator:{chart['appVersion']}"


def numbers() -> list[tuple[str, str]]:
    """Find every whole number that a template hands to a program: its value's path, and the variable."""
    handed = re.compile(r"KONSTRUCT_(\w+), value: \{\{ int (\$?[\w.]+)\.(\w+) \| quote")
    short = {"$pool": "llmPool", "$worker": "worker"}
    found = {
        (f"{short.get(part) or part.removeprefix('.Values.')}.{key}", f"{PREFIX}{name}")
        for path in (CHART / "templates").rglob("*.yaml")
        for name, part, key in handed.findall(path.read_text())
    }
    return sorted(found)


def test_the_numbers_are_found() -> None:
    assert ("worker.messageDeadlineSeconds", "KONSTRUCT_MESSAGE_DEADLINE_S") in numbers()
    assert ("llmPool.ollamaTimeoutSeconds", "KONSTRUCT_LLM_POOL_OLLAMA_TIMEOUT_S") in numbers()
    assert len(numbers()) >= 14


@pytest.mark.parametrize(("value", "variable"), numbers())
def test_what_helm_lets_through_is_what_the_programs_take(value: str, variable: str) -> None:
    """A number out of bounds is a word from Helm, not a Pod that crashes."""
    part, key = value.split(".")
    schema = json.loads((CHART / "values.schema.json").read_text())
    bounds = schema["properties"][part]["properties"][key]
    for taken in (bounds["minimum"], bounds["maximum"]):
        load_settings({variable: str(taken)})
    with pytest.raises(ConfigurationError, match=variable):
        load_settings({variable: str(bounds["maximum"] + 1)})
    with pytest.raises(ChartError, match=rf"{key}'?: maximum"):
        render_chart(IN_CHART, {f"{part}.{key}": bounds["maximum"] + 1})
