"""A real Kubernetes cluster for the tests: one kind node, made for one run and deleted after it.

    with KindCluster() as cluster:
        cluster.load(archive)
        cluster.kubectl("get", "nodes")

``KONSTRUCT_E2E_KEEP=1`` keeps the cluster and says how to use it. By hand: ``python -m tests.e2e.cluster``
makes one and waits for Ctrl-C.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tests.e2e.engine import Engine, OwnPodman, choose
from tests.e2e.progress import E2eError, cache, run, say
from tests.support.toolchain import kubectl, tool

PREFIX = "konstruct-e2e-"
"""What the names of the tests' clusters begin with."""

_FILES = Path(__file__).with_name("host")
_READY_S = 180
_OWNER = "owner"
_KEPT = "kept"


class KindCluster:
    """One cluster. Commands for it go through :meth:`run` or :meth:`kubectl`: nothing else reaches it."""

    def __init__(self) -> None:
        self.name = PREFIX + secrets.token_hex(3)
        """Name of the cluster; its node is called ``<name>-control-plane``."""
        self.folder = cache() / "clusters" / self.name
        """All that was written for it."""
        self.kubeconfig = self.folder / "kubeconfig"
        """The administrator's credentials. The user's own file is never touched."""
        self._engine: Engine | None = None
        self._lock: TextIO | None = None  # held for as long as this process owns the cluster

    def __enter__(self) -> Self:
        _sweep()
        self.folder.mkdir(parents=True)
        self._lock = (self.folder / _OWNER).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._create()
        except BaseException:
            self.delete()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.environ.get("KONSTRUCT_E2E_KEEP", "0") in ("", "0"):
            self.delete()
            return
        (self.folder / _KEPT).touch()
        if self._lock is not None:
            self._lock.close()
        prefix = shlex.join(self.engine.prefix)
        say(
            f"kept {self.name}. To use it:  export KUBECONFIG={self.kubeconfig}; {prefix} kubectl get pods -A"
        )
        say(f"To delete it:  {sys.executable} -m tests.e2e.cluster delete {self.name}")

    @property
    def engine(self) -> Engine:
        """What the cluster runs on."""
        assert self._engine is not None, "the cluster was not made: use it as a context manager"
        return self._engine

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands for the cluster."""
        return {**self.engine.environment, "KUBECONFIG": str(self.kubeconfig)}

    def command(self, *argv: str | Path) -> list[str]:
        """Return a command so that it reaches the cluster, for ``Popen`` with :attr:`environment`."""
        return [*self.engine.prefix, *map(str, argv)]

    def run(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command where the cluster can be reached; `options` are those of ``subprocess.run``."""
        options = {"env": self.environment, "text": True, "capture_output": True, **options}
        return subprocess.run(self.command(*argv), check=options.pop("check", True), **options)

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Return what kubectl prints.

        Raises:
            E2eError: it failed; the message has its words.
        """
        command = self.command(kubectl(), *args)
        return run(command, stdin=stdin, env=self.environment, timeout_s=timeout_s)

    def load(self, *archives: Path) -> None:
        """Give the images of archives to the node; manifests name them as they were built."""
        for archive in archives:
            say(f"loading {archive.name}")
            self._kind("load", "image-archive", str(archive), "--name", self.name)

    def delete(self) -> None:
        """Delete the cluster and all that was made for it."""
        if self._engine is not None:
            say(f"deleting {self.name}")
            try:
                self._kind("delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig))
            except (E2eError, subprocess.TimeoutExpired) as error:
                say(f"kind could not delete the cluster; what is left of it goes now: {error}")
            self._engine.remove()
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create(self) -> None:
        self._engine = choose(self.name, self.folder)
        say(f"creating {self.name} ({self._engine.image.partition('@')[0]})")
        options = ["--name", self.name, "--image", self._engine.image, "--kubeconfig", str(self.kubeconfig)]
        options += ["--config", str(_FILES / "kind.yaml"), "--wait", f"{_READY_S}s", "--retain"]
        try:
            self._kind("create", "cluster", *options)
            self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={_READY_S}s")
            for deployment in ("kube-system/coredns", "local-path-storage/local-path-provisioner"):
                namespace, name = deployment.split("/")
                self.kubectl(
                    "-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={_READY_S}s"
                )
        except (E2eError, subprocess.TimeoutExpired):
            self._export_logs()
            raise
        say(f"{self.name} is ready")

    def _kind(self, *args: str) -> str:
        return run(self.command(tool("kind"), *args), env=self.engine.environment)

    def _export_logs(self) -> None:
        """Keep the node's logs in a folder, and show the end of those that tell most."""
        logs = cache() / "logs" / self.name
        try:
            self._kind("export", "logs", str(logs), "--name", self.name)
        except (E2eError, subprocess.TimeoutExpired) as error:
            say(f"there are no logs of the node: {error}")
            return
        for part in ("containerd.log", "kubelet.log"):
            for log in logs.rglob(part):
                lines = log.read_text(errors="replace").splitlines()[-30:]
                sys.stderr.write("\n".join([f"--- the end of {log}", *lines, ""]))
        say(f"the node's logs are in {logs}")


def _sweep() -> None:
    """Delete the clusters of runs that were killed."""
    for folder in (cache() / "clusters").glob(f"{PREFIX}*"):
        if (folder / _KEPT).exists() or not (folder / _OWNER).exists():
            continue
        with (folder / _OWNER).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            adopt(folder.name).delete()


def adopt(name: str) -> KindCluster:
    """Return a cluster that another process made."""
    cluster = KindCluster()
    cluster.name = name
    cluster.folder = cache() / "clusters" / name
    cluster.kubeconfig = cluster.folder / "kubeconfig"
    if (cluster.folder / "containers.conf").exists():
        cluster._engine = OwnPodman(name, cluster.folder)
    return cluster


if __name__ == "__main__":
    if sys.argv[1:2] == ["delete"]:
        for wanted in sys.argv[2:]:
            adopt(wanted).delete()
    else:
        with KindCluster() as made:
            say(f"export KUBECONFIG={made.kubeconfig}; {shlex.join(made.command('kubectl'))} get pods -A")
            ending = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ending)
            signal.sigwait(ending)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
