"""The same text as an Agent and as a mounted ConfigMap, edited at once, on a kind cluster of the tests.

The one way ends where each of 4 workers says that it has it in effect, the other where a program in a Pod
reads it from the file. Nodes of kind run on this machine, so all of it is timed by one clock.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.cluster import quantiles
from bench.result import Row, write
from shared.kube.objects import Object
from tests.e2e.agents import namespace
from tests.e2e.cluster import KindCluster, adopt
from tests.e2e.engine import NoEngineError
from tests.e2e.images.build import archives
from tests.e2e.pods import pod
from tests.e2e.product import Product
from tests.e2e.provider_pod import KEYS
from tests.support.waiting import eventually

NAMESPACE = "bench"
READER = "reader"
TEXTS = 20
WORKERS = 4
APART_S = 4.0
"""Seconds between two edits: a kubelet looks about once a minute, and they are to meet it at any moment."""
WITHIN_S = 300
UNUSED = ("e2e-model", "e2e-providers")
"""Images of the tests that nothing here runs."""

_READ = """
import pathlib, time
seen = {}
while True:
    for path in sorted(pathlib.Path("/texts").glob("*/text")):
        text = path.read_text()
        if seen.get(path) != text:
            seen[path] = text
            print(time.time(), path.parent.name, text.split()[1], flush=True)
    time.sleep(0.02)
"""
_IN_EFFECT = re.compile(r"^(\S+) .*Agent bench/(\S+): revision (\S+) is in effect", re.MULTILINE)

Moments = dict[str, float]
"""A time by the name of a text."""


def text(number: int, version: int) -> str:
    """Build what is edited (about 1.3 kB)."""
    return f"Version {version} of {number}. " + "You answer customers of the shop, briefly. " * 30


def config_map(number: int, version: int) -> Object:
    """Build the one way to deliver a text."""
    metadata = {"name": f"text-{number}", "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"text": text(number, version)},
    }


def agent(number: int, version: int) -> Object:
    """Build the other way to deliver it."""
    return {
        "apiVersion": "konstruct.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": f"text-{number}", "namespace": NAMESPACE},
        "spec": {"displayName": f"Text {number}", "systemPrompt": text(number, version)},
    }


def install(product: Product) -> None:
    """Bring up the product, and a Pod that reads mounted ConfigMaps."""
    keys = {"name": "providers", "namespace": product.namespace}
    product.apply(
        namespace(product.namespace),
        namespace(NAMESPACE, NAMESPACE),
        {"apiVersion": "v1", "kind": "Secret", "metadata": keys, "stringData": KEYS},
    )
    product.install("--set", f"worker.replicas={WORKERS}")
    product.apply(*(config_map(number, 0) for number in range(TEXTS)))
    product.apply(*(agent(number, 0) for number in range(TEXTS)))
    mounted = {f"/texts/text-{n}": {"configMap": {"name": f"text-{n}"}} for n in range(TEXTS)}
    reader = pod(READER, "orchestrator", command=("python3", "-c", _READ), volumes=mounted)
    reader["metadata"]["namespace"] = NAMESPACE
    product.apply(reader)
    for number in range(TEXTS):
        product.ready(NAMESPACE, f"text-{number}", timeout_s=120)
    eventually(lambda: len(read(product, 0)) == TEXTS, within_s=WITHIN_S, what="the mounted texts")


def edit(product: Product) -> Moments:
    """Edit each text both ways at once; returns when that began."""
    began: Moments = {}
    due = time.monotonic()
    for number in range(TEXTS):
        time.sleep(max(due - time.monotonic(), 0))
        due += APART_S
        began[f"text-{number}"] = time.time()
        product.apply(config_map(number, 1), agent(number, 1))
    return began


def read(product: Product, version: int) -> Moments:
    """Say when each text was read from its file."""
    lines = product.kubectl("logs", READER, "-n", NAMESPACE).splitlines()
    parts = (line.split() for line in lines)
    return {name: float(moment) for moment, name, found in parts if found == str(version)}


def in_effect(product: Product, began: Moments) -> Moments:
    """Say when each text was in effect on the last worker, for those that are on all."""
    last: dict[str, list[float]] = {name: [] for name in began}
    for worker in product.pods("worker"):
        name = worker["metadata"]["name"]
        log = product.kubectl("logs", name, "-n", product.namespace, "--timestamps", "--tail=-1")
        seen: Moments = {}
        for moment, agent_name, _ in _IN_EFFECT.findall(log):
            at = datetime.fromisoformat(moment[:26].rstrip("Z") + "+00:00").timestamp()
            if at > began[agent_name]:
                seen.setdefault(agent_name, at)
        for agent_name, at in seen.items():
            last[agent_name].append(at)
    return {name: max(moments) for name, moments in last.items() if len(moments) == WORKERS}


def measure(product: Product) -> list[Row]:
    """Install, edit and wait for the last of both."""
    install(product)
    began = edit(product)
    eventually(lambda: len(in_effect(product, began)) == TEXTS, within_s=60, what="the edits in effect")
    eventually(lambda: len(read(product, 1)) == TEXTS, within_s=WITHIN_S, what="the edits in the files")
    ways = {
        f"Agent: in effect on {WORKERS} workers": in_effect(product, began),
        "mounted ConfigMap: read from the file": read(product, 1),
    }
    return [
        Row(name, quantiles([moments[text] - began[text] for text in began]))
        for name, moments in ways.items()
    ]


@contextmanager
def cluster() -> Iterator[KindCluster]:
    """Make a cluster with this checkout's images, or use the one that KONSTRUCT_E2E_CLUSTER names."""
    if kept := os.environ.get("KONSTRUCT_E2E_CLUSTER"):
        yield adopt(kept)
        return
    with KindCluster() as made:
        with tempfile.TemporaryDirectory(dir=made.folder) as folder:
            built = archives(made.engine.builder, Path(folder))
            made.load(*(archive for archive in built if archive.stem not in UNUSED))
        yield made


def main() -> None:
    """Measure, print and write the table, or say in one line why not."""
    try:
        with cluster() as made:
            rows = measure(Product(made))
    except NoEngineError as error:
        print(f"left out, since it takes a node with a kubelet: {error}", flush=True)
        return
    write("config_map_volume", "from before `kubectl apply` of both at once", rows)


if __name__ == "__main__":
    main()
