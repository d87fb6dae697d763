"""The running system with a real Prometheus on it.

PostgreSQL, Redis, an API server, the operator, an llm-pool and two workers as processes; providers that do
what a script says; a steady load; and a Prometheus that scrapes every second what the chart's monitors name,
with the chart's rules.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from konstruct_cli.stack.services import LlmPool, Worker
from shared.db import make_engine
from tests.chart.rendering import ENVIRONMENTS, Manifest, render_chart
from tests.observability.load import AGENTS, Load
from tests.observability.scraping import Target, configuration
from tests.observability.stubs import ATTEMPT_TIMEOUT_S, Providers
from tests.operator.operator_stage import AdminApi, OperatorProcess, OperatorStage
from tests.operator.release import released
from tests.support.control_plane import ControlPlane
from tests.support.database import Database, fresh_database, make_template
from tests.support.prometheus import Api, Prometheus
from tests.support.waiting import eventually
from tests.support.worker import PAYLOAD_KEY, sending_to

VALUES = Path(__file__).with_name("values.yaml")
"""Values of the chart beside those of a development cluster: what would take hours is done in seconds."""

HOME = "konstruct"
"""Name and namespace of the release."""

WORKERS = ("konstruct-orchestrator-a", "konstruct-orchestrator-b")
"""The workers, by the names of the Pods that they play."""

SPECS: Mapping[str, Mapping[str, Any]] = {
    "ada": {"onFallback": "allow"},
    "greta": {"onFallback": "disclose"},
    "hugo": {"onFallback": "refuse"},
}
"""What is special of each agent."""

WORKER_LEASE_S = 4
"""Seconds without the Kubernetes API after which a worker takes no messages."""

LINE = 100
"""Messages of a tenant that may wait their turn, as workers see it: senders here refuse none."""

COOLDOWN_S = 2
"""Seconds that a failing deployment is left alone."""


@dataclass
class Stage:
    """What runs."""

    providers: Providers
    """The model providers."""
    cluster: OperatorStage
    """Agents, and the cluster they are in."""
    operator: OperatorProcess
    """The operator."""
    pool: LlmPool
    """The llm-pool."""
    workers: tuple[Worker, ...]
    """The workers."""
    database: Database
    """Where messages are."""
    prometheus: Prometheus
    """What scrapes all of them."""
    load: Load
    """What keeps them busy; not begun."""
    manifests: list[Manifest]
    """The chart as rendered: its monitors and rules are what the Prometheus was told."""

    def edit(self, prompt: str) -> None:
        """Edit the first agent."""
        tenant, agent = AGENTS[0]
        self.cluster.apply(agent, tenant, systemPrompt=prompt, **SPECS[agent])

    def synced(self) -> None:
        """Wait until every worker is proved to answer from what every agent is now."""
        for tenant, agent in AGENTS:
            self.cluster.until("ConfigSynced", "True", "WorkersSynced", agent, tenant)


def manifests() -> list[Manifest]:
    """Render the chart with the stage's values."""
    return render_chart(ENVIRONMENTS["dev"], yaml.safe_load(VALUES.read_text()), release=HOME, namespace=HOME)


@contextmanager
def running_stage(folder: Path) -> Iterator[Stage]:
    """Start everything; `folder` holds its files and logs."""
    with ExitStack() as end:
        providers = end.enter_context(Providers())
        redis = end.enter_context(Redis(folder / "redis", appendonly=False))
        postgres = end.enter_context(Postgres(folder / "postgres", durable=False))
        database = end.enter_context(fresh_database(postgres, make_template(postgres)))
        plane = end.enter_context(ControlPlane(folder / "plane", audit=True))
        api = AdminApi(plane)
        end.callback(api.close)
        tenants = tuple(dict.fromkeys(tenant for tenant, _ in AGENTS))
        cluster = released(plane, api, folder, HOME, tenants, clusterwide=False)
        end.enter_context(cluster.end)
        pool = LlmPool(_pool_environment(providers), log=folder / "llm-pool.log")
        end.callback(pool.stop)
        pool.launch()
        account = plane.kubeconfig_for(HOME, f"{HOME}-worker")
        workers = tuple(
            Worker(
                {
                    "PATH": os.environ["PATH"],
                    "KONSTRUCT_DATABASE_URL": database.service_url,
                    "KONSTRUCT_SYSTEM_DATABASE_URL": database.system_url,
                    "KONSTRUCT_REDIS_URL": redis.url(),
                    "KONSTRUCT_PAYLOAD_KEY": PAYLOAD_KEY,
                    "KONSTRUCT_TENANT_BACKLOG": str(LINE),
                    "KONSTRUCT_LLM_POOL_URL": pool.base_url,
                    "KONSTRUCT_KUBECONFIG": str(account),
                    "KONSTRUCT_RELEASE": HOME,
                    "KONSTRUCT_POD_NAME": name,
                    "KONSTRUCT_POD_NAMESPACE": HOME,
                    "KONSTRUCT_WORKER_CONCURRENCY": "8",
                    "KONSTRUCT_WORKER_LEASE_S": str(WORKER_LEASE_S),
                },
                log=folder / f"{name}.log",
            )
            for name in WORKERS
        )
        for worker in workers:
            end.callback(worker.stop)
            worker.launch()
        operator = cluster.start(KONSTRUCT_WORKER_LEASE_S=str(WORKER_LEASE_S))
        for server in (pool, *workers):
            server.wait_ready()
        for tenant, agent in AGENTS:
            cluster.apply(agent, tenant, **SPECS[agent])
        targets = [
            Target("llm-pool", f"{HOME}-llm-pool-a", pool.address),
            *(Target("worker", name, one.address) for name, one in zip(WORKERS, workers, strict=True)),
            Target("operator", f"{HOME}-operator-a", operator.url.removeprefix("http://")),
        ]
        rendered = manifests()
        (folder / "prometheus").mkdir()
        told = configuration(rendered, targets, folder / "prometheus")
        prometheus = end.enter_context(Prometheus(folder / "prometheus", told))
        end.enter_context(sending_to(redis.url()))
        end.enter_context(pytest.MonkeyPatch.context()).setenv("KONSTRUCT_PAYLOAD_KEY", PAYLOAD_KEY)
        engine = make_engine(database.settings(worker_concurrency=8))
        end.callback(engine.dispose)
        load = Load(pool.base_url, engine, database)
        made = Stage(providers, cluster, operator, pool, workers, database, prometheus, load, rendered)
        made.synced()
        # Counting begins at a scrape of zeroes; and what is absent before it is not missing.
        eventually(
            lambda: [one["health"] for one in prometheus.api.targets()] == ["up"] * len(targets),
            within_s=60,
            what="a scrape of everything",
        )
        prometheus.api.wait_scraped(time.time())
        evaluated = time.time()
        eventually(
            lambda: _quiet_since(evaluated, prometheus.api),
            within_s=60,
            what="rules that see what was scraped",
        )
        yield made


def _quiet_since(moment: float, api: Api) -> bool:
    """Say whether every rule was evaluated after a moment, and no alert has even begun."""
    times = [datetime.fromisoformat(rule["lastEvaluation"]).timestamp() for rule in api.rules()]
    return min(times) > moment and not api.call("alerts")["alerts"]


def _pool_environment(providers: Providers) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        **providers.environment(),
        "KONSTRUCT_LLM_POOL_ATTEMPT_TIMEOUT_S": str(ATTEMPT_TIMEOUT_S),
        "KONSTRUCT_LLM_POOL_COOLDOWN_S": str(COOLDOWN_S),
    }
