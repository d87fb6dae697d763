"""Reaching the API server of a cluster, and saying what its refusals mean for who typed the command."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, NotRunningError, UsageError
from shared.kube.client import KubeClient
from shared.kube.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
)


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[KubeClient]:
    """Yield a client of the API server; an error of it in the block ends the command.

    Raises:
        CliError: for each error of the API server, with what to do about it.
    """
    client = KubeClient(_kubeconfig(cluster, os.environ), context=cluster.context)
    try:
        yield client
    except (KubeError, yaml.YAMLError) as error:
        raise _explained(error, cluster) from None
    finally:
        await client.close()


def _kubeconfig(cluster: Cluster, environ: Mapping[str, str]) -> Path | None:
    """Choose the file; KUBECONFIG may name several, which are merged as kubectl does."""
    if cluster.kubeconfig is not None:
        if not cluster.kubeconfig.is_file():
            raise UsageError(f"there is no kubeconfig {cluster.kubeconfig}")
        return cluster.kubeconfig
    usual = Path(environ.get("KUBECONFIG") or "~/.kube/config")
    if any(Path(part).expanduser().is_file() for part in str(usual).split(os.pathsep) if part):
        return usual
    if "KUBERNETES_SERVICE_HOST" in environ and cluster.context is None:
        return None
    raise UsageError(f"there is no kubeconfig {usual}: name one with --kubeconfig")


def _explained(error: KubeError | yaml.YAMLError, cluster: Cluster) -> CliError:
    match error:
        case UnreachableError():
            return NotRunningError(f"the cluster does not answer: {error}")
        case UnauthorizedError():
            return CliError(f"the cluster does not accept these credentials; log in again: {error}")
        case ForbiddenError() | NotFoundError() | ConflictError() | InvalidError():
            return CliError(f"the cluster refuses: {error}")
        case _:  # it was never asked
            which = f"context {cluster.context}" if cluster.context else "the current context"
            return UsageError(f"{which} of the kubeconfig cannot be used: {error}")
