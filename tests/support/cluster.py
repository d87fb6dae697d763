"""What tests do with a cluster that they made: kubectl, and kubeconfigs of ServiceAccounts.

Nothing here reads the kubeconfig of the person who runs the tests: each program gets one that was made for
the cluster, and a home directory without another.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.toolchain import kubectl


class KubectlError(Exception):
    """Kubectl failed; the message is what it said."""


class Cluster:
    """A cluster that this test run made, known by its administrator's kubeconfig."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        """Where its files are."""
        self.kubeconfig = kubeconfig
        """The kubeconfig of an administrator."""

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """Return the environment for a program that is to see this cluster and no other."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_SERVICE_")
        }
        return {**inherited, "HOME": str(self.folder), "KUBECONFIG": str(kubeconfig or self.kubeconfig)}

    def kubeconfig_for(self, namespace: str, name: str, *, lifetime_s: int = 12 * 3600) -> Path:
        """Return a new kubeconfig of the ServiceAccount `name`, which must exist, with a token of its own."""
        token = self.kubectl(
            "create", "token", name, f"--namespace={namespace}", f"--duration={lifetime_s}s"
        ).strip()
        path = self.folder / f"{namespace}.{name}.{secrets.token_hex(4)}.kubeconfig"
        admin = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json"))
        write_kubeconfig(path, admin["clusters"][0]["cluster"], name, token, namespace)
        return path

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl on this cluster, as the administrator if not told otherwise, and return its output.

        Raises:
            KubectlError: it failed.
        """
        done = subprocess.run(
            [kubectl(), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environment(kubeconfig),
            text=True,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any] | str, kubeconfig: Path | None = None) -> None:
        """Apply manifests (mappings, or YAML text) on the server's side, each field validated strictly."""
        documents = [text if isinstance(text, str) else json.dumps(text) for text in manifests]
        self.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "--filename=-",
            stdin="\n---\n".join(documents),
            kubeconfig=kubeconfig,
        )

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what ``kubectl get`` finds: an object, or a list of them.

        Raises:
            KubectlError: there is none of that name.
        """
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def find(self, *arguments: str) -> dict[str, Any] | None:
        """Return what :meth:`get` does, or None when there is no such object."""
        found = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found")
        return json.loads(found) if found else None


def write_kubeconfig(
    path: Path, server: Mapping[str, str], user: str, token: str, namespace: str = "default"
) -> None:
    """Write a kubeconfig that holds one context: `user`, known by a token, in `namespace`."""
    context = {"cluster": "tests", "user": user, "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": server}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": context}],
        "current-context": "tests",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
