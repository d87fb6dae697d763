"""A stage for operators: RBAC from the chart, operator processes, and workers that a test plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from docs.generate import AGENT_DEFINITION
from tests.operator.worker_stage import Api
from tests.support.control_plane import ControlPlane


def install_crd(cluster: ControlPlane) -> None:
    """Install the Agent resource, as the chart does."""
    cluster.apply(AGENT_DEFINITION.read_text())
    cluster.kubectl("wait", "--for=condition=Established", "crd/agents.konstruct.dev", "--timeout=30s")


class AdminApi(Api):
    """The API server, as its administrator, with creating and editing."""

    def create(self, path: str, manifest: Mapping[str, Any], **query: str) -> httpx.Response:
        return self._client.post(path, json=manifest, params=query)

    def merge(self, path: str, change: Mapping[str, Any]) -> httpx.Response:
        headers = {"content-type": "application/merge-patch+json"}
        return self._client.patch(path, json=change, headers=headers)

    def list(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        answer = self._client.get(path, params={"labelSelector": selector}).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found
