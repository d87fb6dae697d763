"""Where a cluster's node can run: on the machine's container engine, or on podman set up for it alone."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from string import Template
from typing import Protocol

from tests.e2e.node import image
from tests.e2e.progress import E2eError, run, say

KIND_IMAGE = "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
"""kind's own node image, of the release that the toolchain pins, for Kubernetes as pinned there."""

PACKAGES = (
    *("podman", "conmon", "netavark", "aardvark-dns", "runc", "containernetworking-plugins"),
    *("mmdebstrap", "iproute2", "iptables", "util-linux"),
)
"""Debian's packages that a machine without a container engine needs."""

_FILES = Path(__file__).with_name("host")
_MOST_FILES = 1_048_576
_MOST_PROCESSES = 32_768


class NoEngineError(E2eError):
    """No cluster can be made on this machine, and no other try would change that."""


class Engine(Protocol):
    """What a cluster asks of the place it runs in."""

    image: str
    """The node's image."""
    prefix: tuple[str, ...]
    """What goes before a command that must reach the cluster."""
    environment: dict[str, str]
    """Environment of such a command."""
    builder: str
    """What builds images here: docker, podman or buildah."""

    def remove(self) -> None:
        """Take away what was made for the cluster, once kind has deleted its node."""


class MachineEngine:
    """Docker or podman, as the machine's owner set it up."""

    prefix: tuple[str, ...] = ()

    def __init__(self, program: str) -> None:
        self.image = KIND_IMAGE
        self.builder = program
        self.environment = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": program}

    def remove(self) -> None:
        """Do nothing: kind leaves nothing behind."""


class OwnPodman:
    """podman with a store, settings and a network namespace for one cluster."""

    image = image.NAME
    builder = "buildah"  # in a store of its own; it needs nothing of the machine's podman

    def __init__(self, name: str, folder: Path) -> None:
        """Set it up; `folder` will hold all that it writes."""
        self._namespace = name
        self._folder = folder
        self._running = Path("/run") / name  # podman wants this path to be short
        self._running.mkdir(exist_ok=True)
        settings = {
            "folder": folder,
            "running": self._running,
            "images": image.store(),
            "files": min(_MOST_FILES, _hard_limit(resource.RLIMIT_NOFILE)),
            "processes": min(_MOST_PROCESSES, _hard_limit(resource.RLIMIT_NPROC)),
        }
        for file in ("containers.conf", "storage.conf"):
            (folder / file).write_text(Template((_FILES / file).read_text()).substitute(settings))
        for part in ("home", "no-modules"):
            (folder / part).mkdir(exist_ok=True)
        self.prefix: tuple[str, ...] = ("nsenter", f"--net=/run/netns/{name}")
        self.environment = {
            **os.environ,
            "PATH": f"{_FILES}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "KIND_EXPERIMENTAL_PROVIDER": "podman",
            "KONSTRUCT_E2E_NO_MODULES": str(folder / "no-modules"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
        if not Path("/run/netns", name).exists():
            run(["ip", "netns", "add", name])
        run(["ip", "-netns", name, "link", "set", "lo", "up"])

    def remove(self) -> None:
        """Remove containers, volumes and networks that are left, the namespace and the folder."""
        for command in (
            ["podman", "rm", "--all", "--force", "--volumes", "--time", "0"],
            ["podman", "volume", "prune", "--force"],
            ["podman", "network", "prune", "--force"],
        ):
            subprocess.run(
                [*self.prefix, *command], env=self.environment, capture_output=True, timeout=120, check=False
            )
        subprocess.run(["ip", "netns", "delete", self._namespace], capture_output=True, check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        ours = (f"{self._folder}/", f"{self._running}/")
        for mount in reversed([mount for mount in mounts if mount.startswith(ours)]):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self._running, ignore_errors=True)


def choose(name: str, folder: Path) -> Engine:
    """Return the engine for a new cluster called `name`.

    Raises:
        NoEngineError: this machine has none, and none can be set up.
    """
    for program in ("docker", "podman"):
        if shutil.which(program) and _has_image(program):
            say(f"kind runs on {program}")
            return MachineEngine(program)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngineError(
            "a kind cluster needs a container engine that can pull kind's node image, or root on Debian "
            "(then that image is built here)."
        )
    _install()
    say("no container engine here can pull kind's node image: podman and an image of our own")
    return OwnPodman(name, folder)


def _has_image(program: str) -> bool:
    def succeeds(*command: str, within_s: float) -> bool:
        try:
            asked = subprocess.run([program, *command], capture_output=True, timeout=within_s, check=False)
        except subprocess.TimeoutExpired:
            return False
        return asked.returncode == 0

    if not succeeds("info", within_s=30):
        return False
    if succeeds("image", "inspect", KIND_IMAGE, within_s=30):
        return True
    say(f"{program} pulls {KIND_IMAGE.partition('@')[0]}")
    return succeeds("pull", "--quiet", KIND_IMAGE, within_s=900)


def _install() -> None:
    installed = run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"])
    missing = [package for package in PACKAGES if f"{package} installed" not in installed.splitlines()]
    if missing:
        say(f"installing Debian's {' '.join(missing)}")
        run(["apt-get", "update"])
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "install", "--yes", "--no-install-recommends", *missing], env=environment)


def _hard_limit(which: int) -> int:
    limit = resource.getrlimit(which)[1]
    return _MOST_FILES if limit == resource.RLIM_INFINITY else limit
