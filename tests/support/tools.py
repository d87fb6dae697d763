"""The table of what :mod:`tests.support.toolchain` can build, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tool:
    """How one binary is built."""

    module: str
    """The Go module whose pinned version is the tool's version."""
    package: str
    """The Go package that is built; ``.`` is the pins' own folder."""
    expected: str
    """How long a first build takes on two cores."""
    folder: str = ""
    """Folder of its pins; the tool's own name when empty."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go variables set by the linker; {version} (v1.2.3), {major} and {minor} are filled in."""
    tags: tuple[str, ...] = ()
    """Build tags."""
    aliases: tuple[str, ...] = ()
    """Further names of the binary, for one that acts by the name it is called by."""
    version_command: tuple[str, ...] = ()
    """Arguments that make it print its version; without them a binary on PATH is never used."""


_KUBERNETES_VERSION = {
    f"k8s.io/component-base/version.{name}": value
    for name, value in {
        "gitVersion": "{version}",
        "gitMajor": "{major}",
        "gitMinor": "{minor}",
        "gitTreeState": "clean",
    }.items()
}
_RUNTIME = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"
_PROMETHEUS = "github.com/prometheus/prometheus"
_OPERATOR = "github.com/prometheus-operator/prometheus-operator"

TOOLS: Mapping[str, Tool] = {
    "kube": Tool(
        module="k8s.io/kubernetes",
        package=".",
        expected="6 minutes",
        variables=_KUBERNETES_VERSION,
        aliases=("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"),
    ),
    "etcd": Tool(
        module="go.etcd.io/etcd/server/v3",
        package="go.etcd.io/etcd/server/v3",
        expected="1 minute",
    ),
    "helm": Tool(
        module="helm.sh/helm/v4",
        package="helm.sh/helm/v4/cmd/helm",
        expected="2 minutes",
        variables={"helm.sh/helm/v4/internal/version.version": "{version}"},
        version_command=("version", "--short"),
    ),
    "kubeconform": Tool(
        module="github.com/yannh/kubeconform",
        package="github.com/yannh/kubeconform/cmd/kubeconform",
        expected="half a minute",
        variables={"main.version": "{version}"},
        version_command=("-v",),
    ),
    **{
        # Of the service discoveries only that of Kubernetes, and no web UI.
        name: Tool(
            module=_PROMETHEUS,
            package=f"{_PROMETHEUS}/cmd/{name}",
            expected=expected,
            folder="prometheus",
            variables={"github.com/prometheus/common/version.Version": "{version}"},
            tags=("remove_all_sd", "enable_kubernetes_sd"),
        )
        for name, expected in (("prometheus", "3 minutes"), ("promtool", "3 minutes"))
    },
    **{
        # Pinned to what Prometheus is made of wherever both have it: half of it is built by then.
        name: Tool(
            module=_OPERATOR,
            package=f"{_OPERATOR}/cmd/{command}",
            expected=expected,
            folder="prometheus-operator",
            variables={"github.com/prometheus/common/version.Version": "{version}"},
        )
        for name, command, expected in (
            ("prometheus-operator", "operator", "1 minute"),
            ("prometheus-config-reloader", "prometheus-config-reloader", "20 seconds"),
        )
    },
    "kubeadm": Tool(
        module="k8s.io/kubernetes",
        package="k8s.io/kubernetes/cmd/kubeadm",
        expected="1 minute",
        folder="kube",
        variables=_KUBERNETES_VERSION,
    ),
    **{
        name: Tool(module, f"{module}{package}", expected, folder)
        for name, module, package, expected, folder in (
            ("kind", "sigs.k8s.io/kind", "", "1 minute", ""),
            ("coredns", "github.com/coredns/coredns", "", "3 minutes", ""),
            ("crictl", "sigs.k8s.io/cri-tools", "/cmd/crictl", "1 minute", ""),
            ("local-path-provisioner", "github.com/rancher/local-path-provisioner", "", "1 minute", ""),
            ("containerd", _RUNTIME, "/cmd/containerd", "2 minutes", "containerd"),
            ("containerd-shim-runc-v2", _RUNTIME, "/cmd/containerd-shim-runc-v2", "1 minute", "containerd"),
            ("ctr", _RUNTIME, "/cmd/ctr", "15 seconds", "containerd"),
            ("host-local", _CNI, "/plugins/ipam/host-local", "10 seconds", "cni"),
            ("loopback", _CNI, "/plugins/main/loopback", "10 seconds", "cni"),
            ("portmap", _CNI, "/plugins/meta/portmap", "10 seconds", "cni"),
            ("ptp", _CNI, "/plugins/main/ptp", "10 seconds", "cni"),
        )
    },
}
"""Every tool that can be built. A new one is an entry here and a folder of pins."""
