"""The image of a kind node, made from package registries alone: ``localhost/kindnode:VERSION``.

Debian's packages are the base; kind's own files and clean-ups go on top; the programs are built from pinned
Go modules (tests/support/toolchain.py); the images that Kubernetes starts with are put into the node's
containerd. The result is a store that podman reads beside its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.node import archive, content
from tests.e2e.progress import cache, run, say
from tests.support.toolchain import PINS, go, kubectl, pinned_version, tool

NAME = f"localhost/kindnode:{pinned_version('kubeadm')}"
"""Name of the image."""

SUITE = "bookworm"
"""Debian's release that the node is made of."""

HERE = Path(__file__).parent

_ON_THE_NODE = {
    "/usr/bin": ("kubeadm", "kubelet"),
    "/usr/local/bin": ("containerd", "containerd-shim-runc-v2", "ctr", "crictl"),
    "/opt/cni/bin": ("host-local", "loopback", "portmap", "ptp"),
}
"""Programs of the toolchain, by their folder on the node."""

_IN_IMAGES = ("kube", "etcd", "coredns", "local-path-provisioner")


def store() -> Path:
    """Return a podman image store that has the image, made first if it is not kept from an earlier run."""
    programs = {
        name: tool(name)
        for name in (*(name for names in _ON_THE_NODE.values() for name in names), *_IN_IMAGES)
    }
    key = _digest(programs)
    made = cache() / f"node-{key}"
    if made.is_dir():
        return made
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f".node-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            # Not under the system's folder for temporary files, which may be small or in memory.
            with tempfile.TemporaryDirectory(prefix=".node.", dir=cache()) as scratch:
                root = Path(scratch) / "root"
                _make_root(root, programs)
                _add_images(root, Path(scratch))
                _import(root, Path(scratch) / "store")
                (Path(scratch) / "store").rename(made)
    return made


def _digest(programs: Mapping[str, Path]) -> str:
    inputs = hashlib.sha256(f"{SUITE} {pinned_version('kind')}".encode())
    for path in sorted(
        path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ):
        inputs.update(f"\n{path.relative_to(HERE)}\n".encode() + path.read_bytes())
    for name, path in sorted(programs.items()):
        inputs.update(f"\n{name} {path.parent.name}".encode())  # the folder's name is a hash of its inputs
    return inputs.hexdigest()[:12]


def _kind_sources() -> Path:
    """Return the folder of kind's Go module."""
    pins = PINS / "kind"
    needed = re.search(r"^go (\S+)", (pins / "go.mod").read_text(), re.MULTILINE)
    assert needed
    listed = run([go(needed[1]), "-C", pins, "mod", "download", "-json", "sigs.k8s.io/kind"])
    return Path(json.loads(listed)["Dir"])


def _make_root(root: Path, programs: Mapping[str, Path]) -> None:
    say("node image: Debian's packages (half a minute)")
    packages = ",".join((HERE / "packages.txt").read_text().split())
    merged = Path("/usr/share/mmdebstrap/hooks/merged-usr")  # Debian's own switch for it would bring Perl
    hooks = [f"--hook-dir={merged}"] if merged.is_dir() else []
    run(["mmdebstrap", "--variant=minbase", *hooks, f"--include={packages}", SUITE, root])

    say("node image: kind's files and the programs")
    kind = _kind_sources()
    for files in (kind / "images/base/files", HERE / "files"):
        for source in sorted(path for path in files.rglob("*") if path.is_file()):
            target = root / source.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)  # the module cache is read-only: not its modes
            target.chmod(0o755 if target.parent.name == "bin" else 0o644)
    (root / "kind/manifests/default-storage.yaml").write_text(content.storage_manifest(kind))
    (root / "kind/version").write_text(pinned_version("kubeadm"))

    for folder, names in _ON_THE_NODE.items():
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(programs[name], root / folder.lstrip("/") / name)
    shutil.copy(kubectl(), root / "usr/bin/kubectl")
    shutil.copy(HERE / "setup.sh", root / "setup.sh")
    run(["chroot", root, "sh", "/setup.sh"])
    (root / "setup.sh").unlink()


def _add_images(root: Path, scratch: Path) -> None:
    say("node image: the images that Kubernetes starts with")
    images = scratch / "images.tar"
    archive.write(content.images(root, _kind_sources()), images)
    run(["unshare", "--mount", "--propagation", "private", HERE / "import.sh", root, images])
    images.unlink()


def _import(root: Path, store: Path) -> None:
    say("node image: packing")
    packed = root.with_name("root.tar")
    run(["tar", "--create", "--xattrs", "--numeric-owner", "--file", packed, "--directory", root, "."])
    changes = [
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
        "ENV container=podman",
        "STOPSIGNAL SIGRTMIN+3",
    ]
    options = [option for change in changes for option in ("--change", change)]
    # podman wants this path to be short.
    with tempfile.TemporaryDirectory(prefix="konstruct-", dir="/run") as running:
        podman: list[str | Path] = ["podman", "--root", store, "--runroot", running, "--tmpdir", running]
        podman += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
        run([*podman, "import", *options, packed, NAME])
    packed.unlink()
