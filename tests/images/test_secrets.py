"""A build with secrets at hand leaves none of them behind: not in the image, nor where its steps are kept.

The operator's image, the smallest, is built by ``images/build`` as any other, apart from those that the other
tests look at: from an index and through a proxy that demand passwords, with secrets in the environment and
beside the code.
"""

from __future__ import annotations

import base64
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.conftest import ROOT
from tests.images.scan import STEM, archived, leaks, stored
from tests.support.canaries import found_in
from tests.support.package_index import Login, PackageIndex, command_lines, running_package_index

INDEX = Login(f"{STEM}-index-user", f"{STEM}-index+password=")
"""What the package index demands; URLs must write it encoded."""

PROXY = Login(f"{STEM}-proxy-user", f"{STEM}-proxy+password=")
"""What the proxy demands."""

ENVIRONMENT = {
    "ANTHROPIC_API_KEY": f"{STEM}-provider-key",
    "KONSTRUCT_DATABASE_URL": f"postgresql://app:{STEM}-database@127.0.0.1/konstruct",
    "KONSTRUCT_LLM_POOL_TOKEN": f"{STEM}-token",
    "KONSTRUCT_PAYLOAD_KEY": f"{STEM}-payload-key",
}
"""What somebody has in the environment who builds."""

BESIDE = (
    *(".env", "operator/.env", "operator/konstruct_operator/.env.local", "images/.netrc"),
    *("services/shared/shared/credentials.json", "services/shared/tls.key", "migrations/dump.sql"),
    *("migrations/versions/.pgpass", "migrations/versions/dump.sql", "requirements/.pypirc"),
)
"""Files that somebody left beside the code; each holds its own name."""

WITHOUT_A_DOT = ("operator/konstruct_operator/id_rsa", f"services/shared/shared/{STEM}-file-name")
"""More of them: these reach the build stage, and no further."""

EVERYTHING = (
    *(INDEX.user, INDEX.password, PROXY.user, PROXY.password),
    *(f"{STEM}-{name}" for name in ("provider-key", "database", "token", "payload-key", "file-name")),
    *(f"{STEM} {path}" for path in (*BESIDE, *WITHOUT_A_DOT)),
)
"""Every canary of the build."""

MADE_OF = ("images", "migrations", "operator", "requirements", "services", "examples")
"""Folders that the context may be taken from."""


@dataclass(frozen=True)
class Build:
    """A build, and what it left."""

    context: Path
    environment: dict[str, str]
    index: PackageIndex
    temporary: Path
    """Its folder for temporary files."""
    store: Path
    archives: Path

    def run(self, *options: str) -> None:
        folders = ["--apart", str(self.store), "--archives", str(self.archives)]
        command = ["images/build", "--tag", "canary", *folders, *options]
        subprocess.run(command, check=True, cwd=self.context, env=self.environment, timeout=600)


@pytest.fixture(scope="module")
def build(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Build the operator's image, on the base image that the others made."""
    folder = tmp_path_factory.mktemp("canaries")
    context, temporary = folder / "context", folder / "tmp"
    for name in MADE_OF:
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in (".dockerignore", "pyproject.toml"):
        shutil.copy(ROOT / name, context)
    for name in (*BESIDE, *WITHOUT_A_DOT):
        (context / name).write_text(f"{STEM} {name}\n")
    temporary.mkdir()
    # Not in `folder`: podman takes no path of more than 50 characters for some of it.
    with (
        tempfile.TemporaryDirectory(prefix="konstruct-", dir="/tmp") as short,
        running_package_index(INDEX, PROXY) as index,
    ):
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
        environment |= ENVIRONMENT | {"TMPDIR": str(temporary)}
        environment |= dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), index.url)
        environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), index.proxy_url)
        made = Build(context, environment, index, temporary, Path(short) / "store", folder / "archives")
        made.run("--only", "operator")
        yield made
        if not made.store.is_dir():  # Docker's one store
            names = [f"konstruct/{archive.stem}:canary" for archive in made.archives.iterdir()]
            subprocess.run(["docker", "image", "rm", "--force", *names], check=True, timeout=60)
    shutil.rmtree(folder)


def test_everything_was_installed_with_the_passwords(build: Build) -> None:
    for lock in ("bootstrap", "build", "operator"):
        lines = (ROOT / f"requirements/{lock}.txt").read_text().splitlines()
        wanted = {line.partition("==")[0] for line in lines if line[:1].isalnum() and ";" not in line}
        assert wanted
        assert wanted <= set(build.index.served), lock


def test_no_canary_is_in_the_image(build: Build) -> None:
    assert leaks(archived(build.archives / "operator.tar"), EVERYTHING) == {}


def test_no_canary_is_where_the_builder_keeps_its_steps(build: Build) -> None:
    if not build.store.is_dir():
        pytest.skip("Docker's store belongs to its engine")
    found = leaks(stored(build.store), EVERYTHING)
    assert set(found) == {f"{STEM}-file-name", *(f"{STEM} {path}" for path in WITHOUT_A_DOT)}, found


def test_no_canary_is_in_a_command_line(build: Build) -> None:
    assert len(build.index.command_lines) > 3
    assert found_in("\n".join(build.index.command_lines), (STEM,)) == []
    planted = subprocess.Popen([sys.executable, "-c", "input()", STEM], stdin=subprocess.PIPE)
    assert found_in("\n".join(command_lines()), (STEM,)) == [STEM]
    planted.communicate()


def test_no_temporary_file_is_left(build: Build) -> None:
    assert [path for path in build.temporary.rglob("*") if not path.is_dir()] == []


PLANTED = {
    "environment": "ENV TOKEN={}",
    "label": "LABEL token={}",
    "argument": "ARG ARGUMENT={}",
    "history": "RUN echo {} >/dev/null",
    "file": "COPY file /leak/",
    "name": "COPY {} /leak/",
    "base64": "COPY base64 /leak/",
    "packed": "COPY packed.gz /leak/",
    "removed": "COPY removed /leak/\nRUN rm /leak/removed",
}
"""Where a canary is put, and by which lines of a Dockerfile."""


def test_a_canary_would_be_found_in_each_place(build: Build, tmp_path: Path) -> None:
    planted = {place: f"{STEM}-in-{place}" for place in PLANTED}
    folder = tmp_path / "leaky"
    folder.mkdir()
    for place in ("file", "removed"):
        (folder / place).write_text(f"secret={planted[place]}")
    (folder / planted["name"]).write_text("nothing")
    (folder / "base64").write_bytes(base64.b64encode(f"user:{planted['base64']}".encode()))
    (folder / "packed.gz").write_bytes(gzip.compress(planted["packed"].encode()))
    lines = [line.format(planted[place]) for place, line in PLANTED.items()]
    # The secrets that builds are given are there to be kept by whoever is careless.
    lines += [
        "RUN --mount=type=secret,id=package-index cp /run/secrets/package-index /leak/index",
        "RUN printenv HTTP_PROXY >/leak/proxy",
    ]
    (folder / "Dockerfile").write_text("\n".join(["ARG BASE_IMAGE=", "FROM ${BASE_IMAGE}", *lines, ""]))

    build.run("--only", "none", "--also", str(folder))

    expected = {*planted.values(), INDEX.user, INDEX.password, PROXY.user, PROXY.password}
    everything = (*planted.values(), *EVERYTHING)
    found = leaks(archived(build.archives / "leaky.tar"), everything)
    assert set(found) == expected
    assert any("leak/packed.gz (unpacked)" in where for where in found[planted["packed"]])
    assert any(where.endswith("leak/removed") for where in found[planted["removed"]])
    if build.store.is_dir():
        assert set(leaks(stored(build.store), everything)) > expected
