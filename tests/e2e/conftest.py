"""One cluster for all of the suite, with every image loaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agents import agent, namespace
from tests.e2e.cluster import KindCluster, adopt
from tests.e2e.images.build import archives
from tests.e2e.product import Product
from tests.e2e.provider_pod import KEYS, Providers


@pytest.fixture(scope="session")
def cluster() -> Iterator[KindCluster]:
    """Make a kind cluster, give it the images of this checkout, and delete it at the end.

    ``KONSTRUCT_E2E_CLUSTER`` names a kept one to use as it is instead.
    """
    if kept := os.environ.get("KONSTRUCT_E2E_CLUSTER"):
        yield adopt(kept)
        return
    with KindCluster() as made:
        with tempfile.TemporaryDirectory(dir=made.folder) as folder:
            made.load(*archives(made.engine.builder, Path(folder)))
        yield made


@pytest.fixture(scope="session")
def providers(cluster: KindCluster) -> Providers:
    """Start the providers and the small model."""
    made = Providers(cluster)
    made.install()
    return made


@pytest.fixture(scope="session")
def product(cluster: KindCluster, providers: Providers) -> Product:
    """Install the chart with its dev values, and two tenants with their agents."""
    made = Product(cluster)
    made.apply(
        namespace(made.namespace), namespace("acme", "acme"), namespace("globex", "globex"), secret(made)
    )
    made.install()
    made.apply(
        agent("acme", "ada"),
        agent("globex", "greta"),
        agent("globex", "strict", onFallback="refuse"),
    )
    for place, name in (("acme", "ada"), ("globex", "greta"), ("globex", "strict")):
        made.ready(place, name)
    return made


def secret(product: Product) -> dict[str, Any]:
    """Build the Secret with the providers' keys."""
    metadata = {"name": "providers", "namespace": product.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": KEYS}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time to make the cluster: the node is built once, in about 15 minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(3600))
