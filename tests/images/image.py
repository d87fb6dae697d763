"""An image as its archive describes it, and programs run in it the way production runs them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from konstruct_cli.stack.process import ManagedProcess
from tests.support.waiting import eventually

ENTER = Path(__file__).with_name("enter.py")

WHITEOUT = ".wh."
"""Prefix by which a layer says that a file of a lower layer is gone."""

OPAQUE = WHITEOUT + WHITEOUT + ".opq"
"""Name by which a layer says that all of a folder's lower files are gone."""


@dataclass(frozen=True)
class Image:
    """One image, unpacked."""

    name: str
    config: dict[str, Any]
    """The `config` of the image: user, environment, entry point, labels, health check."""
    history: list[dict[str, Any]]
    layers: list[list[str]]
    """Names of the files of each layer."""
    root: Path
    """Its files."""

    @classmethod
    def unpack(cls, archive: Path, root: Path) -> Image:
        """Read the archive that `docker save` and its like write."""
        root.mkdir()
        with tarfile.open(archive) as outer:

            def member(name: str) -> bytes:
                stream = outer.extractfile(name)
                assert stream is not None, name
                return stream.read()

            (manifest,) = json.loads(member("manifest.json"))
            document = json.loads(member(manifest["Config"]))
            layers = []
            for name in manifest["Layers"]:
                layer = root.parent / "layer.tar"
                layer.write_bytes(member(name))
                layers.append(_apply(layer, root))
                layer.unlink()
        return cls(
            # Some engines put a registry before the name.
            name="/".join(sorted(manifest["RepoTags"])[0].split("/")[-2:]),
            config=document["config"],
            history=document["history"],
            layers=layers,
            root=root,
        )

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    def process(
        self,
        log: Path,
        *arguments: str,
        entrypoint: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
    ) -> ManagedProcess:
        """Prepare a process of the image: read-only root, its own user, no capabilities."""
        program = [*(entrypoint or self.config["Entrypoint"]), *arguments]
        mounts = [f"{source}:{target}" for source, target in (volumes or {}).items()]
        engine = container_engine(self.name)
        if engine is None:
            uid, gid = self.config["User"].split(":")
            command = [sys.executable, "-IS", str(ENTER), str(self.root), uid, gid, self.config["WorkingDir"]]
            return ManagedProcess(
                self.name,
                [*command, *mounts, "--", *program],
                log=log,
                env={**self.environment, **(environment or {})},
                grace_s=30,
            )
        command = [engine, "run", "--rm", "--name", f"konstruct-test-{secrets.token_hex(4)}"]
        command += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "host"]
        command += ["--pull", "never", "--no-healthcheck"]  # the tests run the check themselves
        command += ["--security-opt", "no-new-privileges", "--entrypoint", program[0]]
        for variable, value in (environment or {}).items():
            command += ["--env", f"{variable}={value}"]
        for mounted in mounts:
            command += ["--volume", f"{mounted}:ro"]
        return ManagedProcess(
            self.name, [*command, self.name, *program[1:]], log=log, env=dict(os.environ), grace_s=30
        )

    def run(self, log: Path, *arguments: str, within_s: float = 60, **options: Any) -> tuple[int, str]:
        """Run a process to its end; return its exit code and what it wrote."""
        with self.process(log, *arguments, **options) as process:
            eventually(
                lambda: process.exit_code() is not None, within_s=within_s, what=f"the end of {self.name}"
            )
            code = process.exit_code()
        assert code is not None
        return code, log.read_text()


@cache
def container_engine(image: str) -> str | None:
    """Return the engine that runs containers of `image` here, or None: then `enter.py` has to do."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) is not None:
            command = [engine, "run", "--rm", "--entrypoint", "true", "--pull", "never", image]
            if subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0:
                return engine
    assert os.geteuid() == 0, (
        "no container engine here can run the images; without one this suite has to run as root (chroot)"
    )
    return None


def _apply(layer: Path, root: Path) -> list[str]:
    with tarfile.open(layer) as stream:
        names = stream.getnames()
    for name in names:
        folder, base = (root / name).parent, Path(name).name
        if base == OPAQUE:
            gone = list(folder.iterdir()) if folder.is_dir() else []
        elif base.startswith(WHITEOUT):
            gone = [folder / base.removeprefix(WHITEOUT)]
        else:
            continue
        for path in gone:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    command = ["tar", "--extract", "--keep-directory-symlink", "--numeric-owner"]
    command += [f"--exclude={WHITEOUT}*", f"--file={layer}", f"--directory={root}"]
    subprocess.run(command, check=True)
    return names
