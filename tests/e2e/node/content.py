"""The images that a node holds from the start: Kubernetes' own, CoreDNS, etcd, pause, storage.

Their names come from the programs that ask for them (kubeadm, kind's files), so they are always the right
ones. Most hold one static program; some take programs of Debian's from the node's root file system.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.node.archive import Image, Layer
from tests.e2e.progress import run
from tests.support.toolchain import pinned_version, tool

_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


def images(root: Path, kind: Path) -> list[Image]:
    """Return the images of a node whose root file system is `root`; `kind` has kind's sources."""
    listed = run(
        [tool("kubeadm"), "config", "images", "list", "--kubernetes-version", pinned_version("kubeadm")]
    )
    names = {name.rpartition("/")[2].partition(":")[0]: name for name in listed.split()}
    kube = Layer(
        {"/usr/local/bin/kube": tool("kube").resolve()},
        {f"/usr/local/bin/{name}": "kube" for name in _COMPONENTS},
    )
    found = [Image(names[name], [kube]) for name in _COMPONENTS[:-1]]
    found.append(Image(names["kube-proxy"], [kube, _iptables(root)]))
    found.append(Image(names["etcd"], [Layer({"/usr/local/bin/etcd": tool("etcd")})]))
    found.append(Image(names["coredns"], [Layer({"/coredns": tool("coredns")})], ["/coredns"]))

    runtime = (kind / "images/base/files/etc/containerd/config.toml").read_text()
    pause = Image(
        _quoted("sandbox_image", runtime), [_programs(root, "catatonit")], ["/usr/bin/catatonit", "-P"]
    )
    storage = (kind / "pkg/build/nodeimage/const_storage.go").read_text()
    provisioner = Layer({"/usr/local/bin/local-path-provisioner": tool("local-path-provisioner")})
    helper = _programs(root, "dash", "mkdir", "rm")
    shell = Layer(helper.files, {**helper.links, "/bin/sh": "/usr/bin/dash"})
    return [
        *found,
        pause,
        Image(_quoted("storageProvisionerImage", storage), [provisioner]),
        Image(_quoted("storageHelperImage", storage), [shell]),
    ]


def storage_manifest(kind: Path) -> str:
    """Return the manifest of the storage provisioner that kind puts into its own node images."""
    source = (kind / "pkg/build/nodeimage/const_storage.go").read_text()
    manifest = source.split("const defaultStorageManifest = `", 1)[1].rstrip().removesuffix("`")
    for name in ("storageProvisionerImage", "storageHelperImage"):
        manifest = manifest.replace(f"` + {name} + `", _quoted(name, source))
    return manifest


def _quoted(name: str, text: str) -> str:
    found = re.search(rf'\b{name} = "([^"]+)"', text)
    assert found, f"kind's sources no longer say {name}"
    return found[1]


def _programs(root: Path, *names: str) -> Layer:
    """Return programs of the node with the libraries they need."""
    return _with_libraries(root, [f"/usr/bin/{name}" for name in names])


def _iptables(root: Path) -> Layer:
    """Return what kube-proxy runs: the same iptables that the node itself chooses, with all its modules."""
    legacy = [f"{tables}{does}" for tables in ("iptables", "ip6tables") for does in ("", "-save", "-restore")]
    modules = [f"/{path.relative_to(root)}" for path in root.glob("usr/lib/*/xtables/*.so")]
    layer = _with_libraries(root, ["/usr/sbin/xtables-legacy-multi", "/usr/sbin/conntrack", *modules])
    return Layer(
        layer.files, {**layer.links, **{f"/usr/sbin/{name}": "xtables-legacy-multi" for name in legacy}}
    )


def _with_libraries(root: Path, paths: Sequence[str]) -> Layer:
    files = {}
    for path in paths:
        files[path] = root / path.lstrip("/")
        # A static program makes ldd fail: it needs no libraries.
        listed = run(["chroot", root, "sh", "-c", 'ldd "$1" || true', "sh", path])
        for library in re.findall(r"(/\S+) \(0x", listed):
            # By the path under /usr: in the image /lib and /lib64 are no links.
            files[library] = root / run(["chroot", root, "realpath", library]).strip().lstrip("/")
    return Layer(files)
