"""Secrets as files: the same secrets, for the same containers, where their variables say; and digests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    DIGESTS,
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
)

OUTSIDE = CHART / "ci" / "outside-values.yaml"
"""Values with every secret there is, as files."""


def variables(pod: Manifest) -> dict[str, dict[str, Any]]:
    """Return, for each container, which key of which Secret its variables come from."""
    return {
        container["name"]: {
            name: source["secretKeyRef"]
            for name, source in environment(container).items()
            if isinstance(source, dict) and "secretKeyRef" in source
        }
        for container in containers(pod)
    }


def files(pod: Manifest) -> dict[str, dict[str, Any]]:
    """Return the same of files: what its ``_FILE`` variables name, looked up in the volume."""
    found: dict[str, dict[str, Any]] = {}
    for container in containers(pod):
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        held = {}
        for volume in pod["spec"]["volumes"]:
            if volume["name"] == "secrets":
                assert volume["projected"]["defaultMode"] == 0o440
                for source in volume["projected"]["sources"]:
                    secret = source["secret"]
                    (item,) = secret["items"]
                    optional = {"optional": True} if secret.get("optional") else {}
                    held[f"{mounts['secrets']}/{item['path']}"] = {
                        "name": secret["name"],
                        "key": item["key"],
                        **optional,
                    }
        found[container["name"]] = {
            name.removesuffix("_FILE"): held[value.removeprefix("-")]
            for name, value in environment(container).items()
            if isinstance(value, str) and value.lstrip("-").startswith("/etc/konstruct-secrets")
        }
        for name, value in environment(container).items():
            # What a Secret need not hold, the file need not be there for.
            if name.removesuffix("_FILE") in found[container["name"]]:
                optional = found[container["name"]][name.removesuffix("_FILE")].get("optional", False)
                assert str(value).startswith("-") is optional
    return found


@pytest.mark.parametrize("base", [OUTSIDE, EXTERNAL, IN_CHART, ENVIRONMENTS["staging"], ENVIRONMENTS["prod"]])
def test_files_hold_what_variables_would(base: Any) -> None:
    as_variables = dict(pod_templates(render_chart(base, {"secrets.asFiles": False})))
    as_files = dict(pod_templates(render_chart(base, {"secrets.asFiles": True})))
    assert as_variables.keys() == as_files.keys()
    seen = 0
    for name, pod in as_files.items():
        ours = {
            container: {
                variable: source
                for variable, source in found.items()
                if variable.startswith("KONSTRUCT_") or variable.endswith("_API_KEY")
            }
            for container, found in variables(as_variables[name]).items()
        }
        assert files(pod) == ours, name
        seen += sum(len(found) for found in ours.values())
        # The collector's headers have OpenTelemetry's own variable, and the in-chart servers take no files.
        left = {variable for found in variables(pod).values() for variable in found}
        assert left <= {
            "OTEL_EXPORTER_OTLP_HEADERS",
            "POSTGRES_PASSWORD",
            "OWNER_DATABASE_PASSWORD",
            "REDISCLI_AUTH",
        }, name
    assert seen >= 12


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_staging_and_production_have_no_secret_in_a_variable(name: str) -> None:
    for pod_name, pod in pod_templates(render_chart(ENVIRONMENTS[name])):
        assert not any(variables(pod).values()), pod_name


def test_production_pins_every_image() -> None:
    for _, pod in pod_templates(render_chart(ENVIRONMENTS["prod"])):
        for container in containers(pod):
            assert re.search(r":[\w.]+@sha256:[0-9a-f]{64}$", container["image"])


def test_production_says_which_digest_is_missing(tmp_path: Path) -> None:
    values = tmp_path / "prod.yaml"  # the same, without the digests that tests add to it
    values.write_text(ENVIRONMENTS["prod"].read_text())
    with pytest.raises(ChartError, match=r"set llmPool\.image\.digest to the digest .*requireDigests=false"):
        render_chart(values)
    with pytest.raises(ChartError, match=r"set operator\.image\.digest"):
        render_chart(values, DIGESTS, {"operator.image.digest": ""})
    with pytest.raises(ChartError, match=r"set postgresql\.image\.digest"):
        render_chart(
            values,
            DIGESTS,
            {"postgresql.enabled": True, "database": {"existingSecret": ""}, "secrets": {"generate": True}},
        )
    assert render_chart(values, {"image.requireDigests": False})


def test_the_pools_file_can_come_from_a_secret() -> None:
    made = render_chart(EXTERNAL, {"llmPool.config.existingSecret": "pool-file"})
    assert kinds(made, "ConfigMap") == [
        one for one in kinds(made, "ConfigMap") if not one["metadata"]["name"].endswith("-llm-pool")
    ]
    pod = named(made, "Deployment", "-llm-pool")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    path = environment(container)["KONSTRUCT_LLM_POOL_CONFIG"]
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "config"]
    assert volume["secret"] == {
        "secretName": "pool-file",
        "defaultMode": 0o440,
        "items": [{"key": "llm-pool.yaml", "path": "llm-pool.yaml"}],
    }
    assert {"name": "config", "mountPath": "/etc/konstruct", "readOnly": True} in container["volumeMounts"]
    assert path == "/etc/konstruct/llm-pool.yaml"
    with pytest.raises(ChartError, match="Two configurations of the pool"):
        render_chart(
            EXTERNAL,
            {"llmPool": {"config": {"existingSecret": "x"}, "routerSettings": {"allowed_fails": 1}}},
        )
