"""One cluster for all of the suite, with every image loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import KindCluster
from tests.e2e.images.build import archives


@pytest.fixture(scope="session")
def cluster() -> Iterator[KindCluster]:
    """Make a kind cluster, give it the images of this checkout, and delete it at the end."""
    with KindCluster() as made:
        made.load(*archives(made.engine.builder))
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time to make the cluster: the node is built once, in about 15 minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(3600))
