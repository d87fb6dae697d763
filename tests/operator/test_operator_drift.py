"""Rendered ConfigMaps are as they were written, whatever anybody does to them."""

from __future__ import annotations

import pytest

from shared.kube.names import AGENT_LABEL, MANAGED_BY_LABEL, config_map_path
from tests.operator.operator_stage import OperatorStage
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


def forge(item: dict[str, object], **changes: object) -> dict[str, object]:
    metadata = item["metadata"]
    assert isinstance(metadata, dict)
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": kept, "data": item["data"], **changes}


@pytest.mark.parametrize(
    "how", ["deleted", "forged", "forged, not immutable", "relabelled", "unmanaged", "disowned"]
)
def test_drift_is_put_right_at_once(operator_stage: OperatorStage, how: str) -> None:
    stage = operator_stage
    operator = stage.start()
    stage.apply(systemPrompt="good \U0001f600")  # two halves in JSON, which YAML has not
    revision = stage.revision()
    good = stage.config_maps()
    name = f"ada-persona-{revision}"
    path = config_map_path(stage.space, name)
    before = stage.audited()

    if how == "relabelled":
        assert stage.api.merge(path, {"metadata": {"labels": {AGENT_LABEL: "eve"}}}).is_success
    elif how == "unmanaged":
        assert stage.api.merge(path, {"metadata": {"labels": {MANAGED_BY_LABEL: None}}}).is_success
    elif how == "disowned":
        assert stage.api.merge(path, {"metadata": {"ownerReferences": None}}).is_success
    else:
        stage.api.delete(path)
        if how != "deleted":
            forged = forge(good[name], data={"persona.json": "{}"}, immutable=how == "forged")
            made = stage.api.create(path.rpartition("/")[0], forged)
            assert made.is_success or made.status_code == 409, made.text  # the operator may be faster
            if made.status_code == 409:
                stage.api.delete(path)

    def content() -> dict[str, object]:
        return {
            key: [
                item["data"],
                item.get("immutable"),
                item["metadata"]["labels"],
                item["metadata"]["ownerReferences"],
            ]
            for key, item in stage.config_maps().items()
            if item["metadata"].get("ownerReferences")
        }

    wanted = {
        key: [item["data"], True, item["metadata"]["labels"], item["metadata"]["ownerReferences"]]
        for key, item in good.items()
    }
    eventually(lambda: content() == wanted, within_s=10, what="the good ConfigMap")
    assert stage.revision() == revision
    assert {what for _, what, _ in stage.writes(before)} == {"configmaps"}  # the status needs no word of it
    assert operator.healthy()


def test_a_forged_old_revision_is_put_right_when_it_is_active_again(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.start()
    stage.apply(systemPrompt="one")
    first = stage.revision()
    stage.apply(systemPrompt="two")
    second = stage.revision(other_than=first)
    name = f"ada-persona-{first}"
    good = stage.config_maps()[name]
    stage.api.delete(config_map_path(stage.space, name))
    forged = forge(good, data={"persona.json": "{}"}, immutable=True)
    assert stage.api.create(f"/api/v1/namespaces/{stage.space}/configmaps", forged).is_success
    stage.apply(systemPrompt="one")
    assert stage.revision(other_than=second) == first
    assert stage.config_maps()[name]["data"] == good["data"]
