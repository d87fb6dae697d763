"""Which cluster and release a command is for. Only options choose one: never the environment alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the options of a command say."""

    namespace: str
    """Namespace of the release; for ``render``, of the Agent."""

    release: str | None = None
    """Helm release; None: the only one in the namespace."""

    context: str | None = None
    """Context of the kubeconfig; None: its current one."""

    kubeconfig: Path | None = None
    """The kubeconfig; None: the usual one, or the Pod's own ServiceAccount."""
