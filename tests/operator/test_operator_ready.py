"""``/readyz`` of the operator: whether it can do its work, which ``/healthz`` does not ask."""

from __future__ import annotations

import httpx
import psutil

from tests.operator.operator_stage import OperatorProcess, OperatorStage, both_modes
from tests.operator.operator_workers import FakeWorker
from tests.operator.test_operator_outages import through
from tests.support.half_open import half_open
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


def readiness(operator: OperatorProcess) -> tuple[int, str]:
    """Ask ``/readyz``; ``/healthz`` has to be well at the same moment."""
    answer = httpx.get(f"{operator.url}/readyz", timeout=2, trust_env=False)
    assert operator.healthy()
    return answer.status_code, answer.text.strip()


@both_modes
def test_it_is_ready_while_it_can_work(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy:
        proxy.set(Mode.REFUSE)
        operator = stage.start(ready=False, KONSTRUCT_KUBECONFIG=through(stage, proxy))
        eventually(operator.healthy, within_s=30, what="a start without the API server")
        eventually(lambda: "cannot start yet" in operator.log(), within_s=30, what="a first try")
        assert readiness(operator) == (503, "the Agents, ConfigMaps and Leases are not all read yet")

        proxy.set(Mode.PASS)
        eventually(lambda: readiness(operator) == (200, "ok"), within_s=60, what="readiness")

        proxy.set(Mode.REFUSE)
        proxy.reset()
        away = (503, "the Kubernetes API cannot be followed; the log says why")
        eventually(lambda: readiness(operator) == away, within_s=30, what="the outage in /readyz")

        proxy.set(Mode.PASS)
        eventually(lambda: readiness(operator) == (200, "ok"), within_s=60, what="readiness after the outage")
        stage.apply()
        stage.until("Ready", "True", "Ready", within_s=60)


def test_whoever_holds_connections_keeps_no_probe_out(operator_stage: OperatorStage) -> None:
    operator = operator_stage.start()
    with half_open(operator.url.removeprefix("http://"), 200):
        for _ in range(3):
            assert readiness(operator) == (200, "ok")
        assert psutil.Process(operator.process.pid).num_fds() < 200
