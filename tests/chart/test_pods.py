"""What holds for every pod of the chart, whatever the values."""

from __future__ import annotations

import math
import re

import pytest

from shared.config import PREFIX, SECRETS, Settings, load_settings
from tests.chart.rendering import (
    EXTERNAL,
    IN_CHART,
    ChartError,
    Manifest,
    component,
    containers,
    environment,
    kinds,
    named,
    pod_templates,
    render_chart,
)

WITH_API = {"worker", "operator"}
"""Components that speak to the Kubernetes API."""

SECRET_FILES = {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}
"""Variables that name a secret's file."""

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys(), name
        for volume in pod["spec"]["volumes"]:
            assert volume.keys() - {"name"} <= {"emptyDir", "configMap", "projected"}, name


def test_containers_say_what_they_need(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}, name
            # No limit on processors: it would slow down what could be fast, and protects nobody.
            assert resources["limits"].keys() == {"memory", "ephemeral-storage"}, name
        written = 0
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name
                written += mebibytes(volume["emptyDir"]["sizeLimit"])
        # The kubelet evicts a pod that writes more than all its limits, though each volume has room.
        limits = [
            mebibytes(one["resources"]["limits"]["ephemeral-storage"]) for one in pod["spec"]["containers"]
        ]
        server = component(pod) in ("postgresql", "redis")
        assert sum(limits) >= written - (256 if server else 0), name


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        for container in containers(pod):
            assert re.fullmatch(r"[a-z0-9./:-]+:[0-9][\w.]*(@sha256:[0-9a-f]{64})?", container["image"]), name
            assert not container["image"].endswith(":latest"), name


def test_every_workload_has_an_account_of_its_own(manifests: list[Manifest]) -> None:
    accounts = {one["metadata"]["name"]: one for one in kinds(manifests, "ServiceAccount")}
    used = [pod["spec"]["serviceAccountName"] for _, pod in pod_templates(manifests)]
    assert sorted(used) == sorted(accounts)
    assert "default" not in used
    for account in accounts.values():
        assert account["automountServiceAccountToken"] is False


def test_a_token_is_mounted_only_where_it_is_needed(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name
        with_token = [
            container["name"]
            for container in containers(pod)
            if any(mount["mountPath"] == TOKEN_FOLDER for mount in container["volumeMounts"])
        ]
        projected = [
            volume
            for volume in pod["spec"]["volumes"]
            if "projected" in volume and volume["name"] != "secrets"
        ]
        if component(pod) in WITH_API:
            assert with_token == [component(pod)], name
            (volume,) = projected
            sources = {key for source in volume["projected"]["sources"] for key in source}
            assert sources == {"serviceAccountToken", "configMap", "downwardAPI"}
        else:
            assert (with_token, projected) == ([], []), name


def test_what_runs_on_is_probed(manifests: list[Manifest]) -> None:
    for manifest in kinds(manifests, "Deployment", "StatefulSet"):
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        assert {"livenessProbe", "readinessProbe"} <= container.keys(), manifest["metadata"]["name"]
    paths = {
        component(one): [
            one["spec"]["template"]["spec"]["containers"][0][f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        ]
        for one in kinds(manifests, "Deployment")
    }
    assert paths == {
        "llm-pool": ["/health", "/health", "/readyz"],
        "worker": ["/healthz", "/healthz", "/readyz"],
        "operator": ["/healthz", "/healthz", "/readyz"],
    }


def test_the_environment_of_ours_is_made_of_settings(manifests: list[Manifest]) -> None:
    for name, pod in pod_templates(manifests):
        for container in containers(pod):
            if "konstruct/" not in container["image"]:
                continue
            variables = {key for key in environment(container) if key.startswith(PREFIX)}
            known = {PREFIX + field.upper() for field in Settings.model_fields}
            assert variables <= known | SECRET_FILES, name
            load_settings(plain(container))


def plain(container: Manifest) -> dict[str, str]:
    """Return the variables of a container that are no secrets."""
    return {
        key: value
        for key, value in environment(container).items()
        if isinstance(value, str) and key not in SECRET_FILES
    }


def test_stopping_takes_as_long_as_what_is_under_way(manifests: list[Manifest]) -> None:
    for deployment in kinds(manifests, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        settings = load_settings(plain(spec["containers"][0]))
        if component(deployment) == "worker":
            least = settings.message_deadline_s + settings.drain_s
        elif component(deployment) == "llm-pool":
            (_, pause) = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            # What the pool itself waits for requests under way, after it got the signal.
            least = int(pause) + settings.llm_pool_timeout_s + 5
        else:
            least = 0
        assert spec["terminationGracePeriodSeconds"] > least
        assert math.isfinite(least)


def test_the_operator_is_alone_and_rollouts_take_nothing_away(manifests: list[Manifest]) -> None:
    strategies = {component(one): one["spec"]["strategy"] for one in kinds(manifests, "Deployment")}
    assert strategies["operator"] == {"type": "Recreate"}
    assert named(manifests, "Deployment", "-operator")["spec"]["replicas"] == 1
    for name in ("worker", "llm-pool"):
        assert strategies[name]["rollingUpdate"]["maxUnavailable"] == 0


def test_replicas_belong_to_the_autoscaler_where_there_is_one() -> None:
    fixed = render_chart(IN_CHART)
    scaled = render_chart(IN_CHART, {"worker.keda.enabled": True, "llmPool.autoscaling.enabled": True})
    for name in ("-orchestrator", "-llm-pool"):
        assert "replicas" in named(fixed, "Deployment", name)["spec"]
        assert "replicas" not in named(scaled, "Deployment", name)["spec"]
    assert kinds(fixed, "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication") == []
    assert len(kinds(scaled, "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication")) == 3


def test_selectors_find_their_pods_and_no_others(manifests: list[Manifest]) -> None:
    pods = {name: pod["metadata"]["labels"] for name, pod in pod_templates(manifests)}

    def selected(labels: dict[str, str]) -> list[str]:
        return [name for name, found in pods.items() if labels.items() <= found.items()]

    for manifest in kinds(manifests, "Deployment", "StatefulSet"):
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        assert selected(manifest["spec"]["selector"]["matchLabels"]) == [name]
    for service in kinds(manifests, "Service"):
        (target,) = selected(service["spec"]["selector"])
        assert target.endswith("/" + service["metadata"]["name"].removesuffix("-replicas"))
    for budget in kinds(manifests, "PodDisruptionBudget"):
        (target,) = selected(budget["spec"]["selector"]["matchLabels"])
        assert target == "Deployment/" + budget["metadata"]["name"]


def test_workers_find_every_replica_of_the_pool_and_nobody_scrapes_it_twice(
    manifests: list[Manifest],
) -> None:
    service = named(manifests, "Service", "-llm-pool-replicas")
    worker = environment(containers(named(manifests, "Deployment", "-orchestrator")["spec"]["template"])[-1])
    assert worker["KONSTRUCT_LLM_POOL_REPLICAS_URL"] == f"http://{service['metadata']['name']}:8004"
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    for monitor in kinds(manifests, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert not wanted.items() <= service["metadata"]["labels"].items()
    elsewhere = render_chart(IN_CHART, {"worker.llmPoolUrl": "http://pool.example:8004"})
    worker = environment(containers(named(elsewhere, "Deployment", "-orchestrator")["spec"]["template"])[-1])
    assert "KONSTRUCT_LLM_POOL_REPLICAS_URL" not in worker


def test_workers_wait_for_the_migration(manifests: list[Manifest]) -> None:
    (waiting,) = named(manifests, "Deployment", "-orchestrator")["spec"]["template"]["spec"]["initContainers"]
    assert waiting["command"][:2] == ["konstruct-migrate", "--check"]
    assert (
        waiting["image"] == named(manifests, "Job", "")["spec"]["template"]["spec"]["containers"][0]["image"]
    )
    # The owner of the schema is known to the migration alone.
    assert "KONSTRUCT_MIGRATION_DATABASE_URL" not in environment(waiting)


def test_the_migration_is_a_hook_where_its_database_is_there_before() -> None:
    inside, outside = render_chart(IN_CHART), render_chart(EXTERNAL)
    assert "annotations" not in named(inside, "Job", "")["metadata"]
    for manifest in (named(outside, "Job", "-migration"), named(outside, "ServiceAccount", "-migration")):
        annotations = manifest["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]


@pytest.mark.parametrize("value", ["llmPool", "worker"])
def test_a_grace_period_that_cuts_work_off_is_refused(value: str) -> None:
    with pytest.raises(ChartError, match=f"{value}.terminationGracePeriodSeconds would cut"):
        render_chart(IN_CHART, {f"{value}.terminationGracePeriodSeconds": 30})


def test_every_process_logs_as_the_values_say() -> None:
    made = render_chart(IN_CHART, {"logging": {"format": "console", "level": "warning"}})
    for name in ("llm-pool", "orchestrator", "operator"):
        pod = named(made, "Deployment", f"-{name}")["spec"]["template"]
        variables = environment(pod["spec"]["containers"][0])
        assert (variables["KONSTRUCT_LOG_FORMAT"], variables["KONSTRUCT_LOG_LEVEL"]) == ("console", "warning")


def test_traces_go_where_the_values_say() -> None:
    tracing = {
        "enabled": True,
        "endpoint": "http://collector.observability:4318",
        "headers": {"existingSecret": "collector"},
        "sampleRatio": 0.01,
        "resourceAttributes": {"deployment.environment.name": "a, b=c"},
    }
    for values, traced in (({}, False), ({"tracing": tracing}, True)):
        made = render_chart(IN_CHART, values)
        for name in ("llm-pool", "orchestrator", "operator"):
            pod = named(made, "Deployment", f"-{name}")["spec"]["template"]
            variables = environment(pod["spec"]["containers"][0])
            sent = {key: value for key, value in variables.items() if "TRACING" in key or "OTEL" in key}
            assert sent == (
                {
                    "KONSTRUCT_TRACING": "true",
                    "KONSTRUCT_TRACING_SAMPLE_RATIO": "0.01",
                    "KONSTRUCT_TRACING_CONTENT": "false",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4318",
                    "OTEL_EXPORTER_OTLP_HEADERS": {
                        "secretKeyRef": {"name": "collector", "key": "otlp-headers"}
                    },
                    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=a%2C%20b%3Dc,"
                    "k8s.namespace.name=konstruct,konstruct.release=konstruct",
                }
                if traced and name != "operator"
                else {}
            )


def test_traces_need_a_collector() -> None:
    with pytest.raises(ChartError, match=r"set tracing\.endpoint"):
        render_chart(IN_CHART, {"tracing": {"enabled": True}})
