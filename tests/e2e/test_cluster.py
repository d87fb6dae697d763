"""The cluster is what the other tests take it for."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from shared.kube.objects import Object
from tests.e2e.cluster import KindCluster
from tests.e2e.engine import KIND_IMAGE
from tests.e2e.pods import claim, deny_all, pod, service
from tests.e2e.progress import E2eError
from tests.support.toolchain import kubectl as program
from tests.support.waiting import eventually

Kubectl = Callable[..., str]

FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
"""A program that reads a URL."""

ASK_API = """
import json, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
read = lambda name: open(folder + name).read()
url = f"https://kubernetes.default/api/v1/namespaces/{read('namespace')}/secrets/hidden"
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {read('token')}"})
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "ca.crt"), timeout=5)
    print(200)
except urllib.error.HTTPError as error:
    print(error.code)
"""
"""A program that reads a Secret as the ServiceAccount of its pod, and prints the status of the answer."""


@pytest.fixture
def kubectl(cluster: KindCluster) -> Iterator[Kubectl]:
    """Make a restricted namespace, and return kubectl for it."""
    namespace = f"test-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")

    def call(*args: str, stdin: str | None = None) -> str:
        return cluster.kubectl("--namespace", namespace, *args, stdin=stdin)

    yield call
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def start(kubectl: Kubectl, *objects: Object) -> None:
    """Apply objects and wait for the pods among them."""
    kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    )
    names = [f"pod/{made['metadata']['name']}" for made in objects if made["kind"] == "Pod"]
    if names:
        kubectl("wait", "--for=condition=Ready", "--timeout=90s", *names)


def providers(name: str) -> Object:
    return pod(name, "providers", ready={"tcpSocket": {"port": 8000}})


def fetch(kubectl: Kubectl, name: str, url: str) -> str | None:
    """Read a URL from inside a pod; None when it cannot be read."""
    try:
        return kubectl("exec", name, "--", "python3", "-c", FETCH, url)
    except E2eError:
        return None


def test_one_node_is_ready_and_has_room(cluster: KindCluster) -> None:
    (node,) = json.loads(cluster.kubectl("get", "nodes", "--output", "json"))["items"]
    conditions = {found["type"]: found["status"] for found in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert re.fullmatch(r"v1\.36\.\d+", node["status"]["nodeInfo"]["kubeletVersion"])
    assert int(node["status"]["allocatable"]["pods"]) == 250


def test_a_pod_finds_another_by_the_name_of_its_service(kubectl: Kubectl) -> None:
    start(kubectl, providers("caller"), providers("called"), service("called", 8000))
    # The first connection can be refused while kube-proxy writes its rules.
    answer = eventually(lambda: fetch(kubectl, "caller", "http://called:8000/"), within_s=30)
    assert json.loads(answer or "") == {"up": True, "served": {"anthropic": 0, "openai": 0}}


def test_a_volume_keeps_its_data_when_its_pod_is_replaced(kubectl: Kubectl) -> None:
    database = pod(
        "database",
        "postgres",
        user=999,
        env={"POSTGRES_PASSWORD": "secret", "PGDATA": "/var/lib/postgresql/data"},
        ready={"exec": {"command": ["pg_isready", "--quiet", "--host=127.0.0.1"]}},
        volumes={
            "/var/lib/postgresql": {"persistentVolumeClaim": {"claimName": "data"}},
            "/var/run/postgresql": {"emptyDir": {}},
            "/tmp": {"emptyDir": {}},
        },
    )
    start(kubectl, claim("data"), database)
    assert kubectl("get", "pvc", "data", "--output=jsonpath={.status.phase}") == "Bound"
    sql = (
        "exec",
        "database",
        "--",
        "psql",
        "--username=postgres",
        "--tuples-only",
        "--no-align",
        "--command",
    )
    kubectl(*sql, "create table kept as select 42 as answer")
    kubectl("delete", "pod", "database")
    start(kubectl, database)
    assert kubectl(*sql, "select answer from kept").strip() == "42"


def test_redis_takes_the_arguments_of_the_official_image(kubectl: Kubectl) -> None:
    start(
        kubectl,
        pod(
            "redis",
            "redis",
            user=999,
            args=("redis-server", "--dir", "/data", "--appendonly", "yes", "--requirepass", "secret"),
            env={"REDISCLI_AUTH": "secret"},
            ready={"exec": {"command": ["sh", "-c", "redis-cli ping | grep -q PONG"]}},
            volumes={"/data": {"emptyDir": {}}},
        ),
    )
    kubectl("exec", "redis", "--", "redis-cli", "set", "key", "kept")
    assert kubectl("exec", "redis", "--", "redis-cli", "get", "key").strip() == "kept"


def test_the_model_answers(kubectl: Kubectl) -> None:
    ask = (
        "import json, sys, urllib.request as r;"
        "body = json.dumps({'messages': [{'role': 'user', 'content': 'Say hello.'}]}).encode();"
        "request = r.Request('http://model:8080/v1/chat/completions', body,"
        " {'Authorization': 'Bearer key', 'Content-Type': 'application/json'});"
        "print(json.load(r.urlopen(request, timeout=60))['choices'][0]['message']['content'])"
    )
    model = pod(
        "model",
        "model",
        env={"MODEL_SERVER_KEY": "key"},
        ready={"httpGet": {"path": "/health", "port": 8080}},
        volumes={"/tmp": {"emptyDir": {}}},
    )
    start(kubectl, model, service("model", 8080), providers("caller"))

    def answered() -> str | None:
        try:
            return kubectl("exec", "caller", "--", "python3", "-c", ask).strip()
        except E2eError:
            return None

    assert eventually(answered, within_s=60, what="an answer of the model")


def test_providers_are_switched_over_http(kubectl: Kubectl) -> None:
    start(kubectl, providers("caller"), providers("called"), service("called", 8000))
    # A provider that is down refuses its port; Services have no say when a pod is asked by its address.
    address = kubectl("get", "pod", "called", "--output=jsonpath={.status.podIP}")
    switch = (
        "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], b'', method='POST'), timeout=5)"
    )
    connects = "import socket, sys; socket.create_connection((sys.argv[1], 8001), 5)"
    kubectl("exec", "caller", "--", "python3", "-c", connects, address)
    kubectl("exec", "caller", "--", "python3", "-c", switch, f"http://{address}:8000/down")
    with pytest.raises(E2eError, match="ConnectionRefusedError"):
        kubectl("exec", "caller", "--", "python3", "-c", connects, address)
    kubectl("exec", "caller", "--", "python3", "-c", switch, f"http://{address}:8000/up")
    kubectl("exec", "caller", "--", "python3", "-c", connects, address)


def test_logs_and_port_forwards_reach_a_pod(cluster: KindCluster, kubectl: Kubectl) -> None:
    talks = (
        "python3",
        "-u",
        "-c",
        "print('I was here'); import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)",
    )
    start(kubectl, pod("talker", "providers", command=talks, ready={"tcpSocket": {"port": 8000}}))
    assert "I was here" in kubectl("logs", "talker")

    namespace = kubectl("get", "pod", "talker", "--output=jsonpath={.metadata.namespace}")
    command = cluster.command(program(), "--namespace", namespace, "port-forward", "pod/talker", ":8000")
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert found
            url = f"http://127.0.0.1:{found[1]}/etc/hostname"
            assert cluster.run([sys.executable, "-c", FETCH, url]).stdout.strip() == "talker"
        finally:
            forward.terminate()


def test_a_service_account_without_rights_reads_no_secret(kubectl: Kubectl) -> None:
    kubectl("create", "secret", "generic", "hidden", "--from-literal=key=value")
    start(kubectl, providers("reader"))
    namespace = kubectl("get", "pod", "reader", "--output=jsonpath={.metadata.namespace}")
    assert kubectl("exec", "reader", "--", "python3", "-c", ASK_API).strip() == "403"

    kubectl("create", "role", "reader", "--verb=get", "--resource=secrets")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:default")

    def status() -> str:
        return kubectl("exec", "reader", "--", "python3", "-c", ASK_API).strip()

    eventually(lambda: status() == "200", within_s=10, what="the right to read it")


def test_network_policies_hold_where_the_node_enforces_them(cluster: KindCluster, kubectl: Kubectl) -> None:
    """kind's own node image does; the one that is built here (ptp) does not, so nothing may count on it."""
    start(kubectl, providers("caller"), providers("called"))
    address = kubectl("get", "pod", "called", "--output=jsonpath={.status.podIP}")
    url = f"http://{address}:8000/"
    eventually(lambda: fetch(kubectl, "caller", url), within_s=20)
    start(kubectl, deny_all("nobody"))
    if cluster.engine.image == KIND_IMAGE:
        eventually(lambda: fetch(kubectl, "caller", url) is None, within_s=30, what="the policy")
    else:
        assert fetch(kubectl, "caller", url)
