"""The built images. Builds them first: `images/build` is quick when nothing has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.images.image import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the images and write their archives."""
    folder = tmp_path_factory.mktemp("archives")
    subprocess.run([ROOT / "images/build", "--archives", folder], check=True, cwd=ROOT, timeout=900)
    return folder


def unpacked(archives: Path, service: str) -> Image:
    archive = archives / f"{service}.tar"
    # Others than us have to reach the files: pytest's own folders are for their owner only.
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o755)
    image = Image.unpack(archive, archives / service)
    archive.unlink()
    return image


@pytest.fixture(scope="session")
def llm_pool(archives: Path) -> Image:
    """Unpack the image of the llm-pool."""
    return unpacked(archives, "llm-pool")


@pytest.fixture(scope="session")
def orchestrator(archives: Path) -> Image:
    """Unpack the image of the workers."""
    return unpacked(archives, "orchestrator")


@pytest.fixture(scope="session")
def operator(archives: Path) -> Image:
    """Unpack the image of the operator."""
    return unpacked(archives, "operator")


@pytest.fixture(params=["llm-pool", "orchestrator", "operator"])
def image(request: pytest.FixtureRequest) -> Image:
    """Take each image in turn."""
    chosen = request.getfixturevalue(str(request.param).replace("-", "_"))
    assert isinstance(chosen, Image)
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time to build the images."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1200))
