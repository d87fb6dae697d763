"""Small manifests for tests of the cluster itself."""

from __future__ import annotations

from shared.kube.objects import Object
from tests.e2e.images.build import image_name


def pod(
    name: str,
    image: str,
    *,
    user: int = 10001,
    args: tuple[str, ...] = (),
    command: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    ready: Object | None = None,
    volumes: dict[str, Object] | None = None,
) -> Object:
    """Return a Pod that the restricted Pod security standard admits, with a read-only root.

    Args:
        name: Its name, and the value of its label ``app``.
        image: Short name of one of the suite's images.
        user: The user it runs as.
        args: Arguments of its program.
        command: Another program than the image's own.
        env: Environment of its program.
        ready: Its readiness probe.
        volumes: Volumes by the path they are mounted at.
    """
    mounted = [(f"volume-{index}", *item) for index, item in enumerate((volumes or {}).items())]
    container: Object = {
        "name": "main",
        "image": image_name(image),
        "imagePullPolicy": "Never",
        "args": list(args),
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path, _ in mounted],
    }
    if command:
        container["command"] = list(command)
    if ready:
        container["readinessProbe"] = {"periodSeconds": 1, **ready}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": user,
                "fsGroup": user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": volume, **source} for volume, _, source in mounted],
        },
    }


def service(name: str, port: int) -> Object:
    """Return a Service of the pods labelled ``app: name``."""
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def claim(name: str) -> Object:
    """Return a claim of a small volume of the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }


def deny_all(name: str) -> Object:
    """Return a NetworkPolicy that lets nobody reach any pod of its namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
