"""What one worker process holds: made at its start, closed at its end, handed to the steps."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import uuid4

from sqlalchemy import Engine

from orchestrator.agents.catalog import (
    AgentCatalog,
    AgentKey,
    AgentSource,
    GivenAgents,
    Missing,
    ServedAgent,
)
from orchestrator.agents.directory import DirectorySource
from orchestrator.agents.runner import Runner
from orchestrator.dispatcher import Dispatcher
from orchestrator.faults import Faults
from orchestrator.hearing import Backlog, Hearing
from orchestrator.leases import Heartbeat
from orchestrator.metrics import WorkerMetrics
from orchestrator.reaching import Reaching
from orchestrator.retention import Retention
from orchestrator.revisions import RevisionLog
from orchestrator.running import Running
from orchestrator.signing import Signing
from orchestrator.sweeper import Sweeper
from orchestrator.tap import Tap
from shared.config import Settings
from shared.db import make_engine, make_system_engine


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a worker."""

    settings: Settings
    """Its settings."""

    owner: str
    """Name of this process in leases; never used again by another."""

    suspect_from: int
    """Deaths from which it leaves a message to the quarantine."""

    engine: Engine
    """Service engine, row level security on."""

    system_engine: Engine
    """System engine, for the cross-tenant functions."""

    signing: Signing
    """Which deliveries it takes, and what it signs with."""

    catalog: AgentCatalog
    """Agents in effect."""

    source: AgentSource
    """What keeps the catalog up to date."""

    runner: Runner
    """Client of the llm-pool."""

    revisions: RevisionLog
    """Record of the revisions that answered."""

    running: Running
    """Messages under way."""

    heartbeat: Heartbeat
    """Extends this worker's leases."""

    metrics: WorkerMetrics
    """Its metrics."""

    faults: Faults
    """Counts what it stumbles over."""

    hearing: Hearing
    """Whether it hears its queue."""

    backlog: Backlog
    """Samples the lengths of queue and backlog."""

    dispatcher: Dispatcher
    """Queues messages whose turn it is."""

    sweeper: Sweeper
    """Finds messages whose delivery was lost."""

    retention: Retention
    """Deletes messages that were kept for long enough."""

    tap: Tap
    """Turns its consumption of the queue on and off."""

    reaching: Reaching
    """What it has reached, and waits for."""

    @property
    def accepting(self) -> bool:
        """Whether it takes messages now."""
        return self.source.accepting() and not self.running.draining

    @classmethod
    def build(cls, settings: Settings) -> Runtime:
        """Make every part of a worker; nothing runs yet.

        Raises:
            ConfigurationError: a setting that a worker needs is missing or unsafe.
        """
        catalog, metrics = AgentCatalog(), WorkerMetrics()
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        source = partial(make_source, settings, catalog, metrics)
        return cls._of(settings, owner, settings.quarantine_after_deaths, catalog, source, metrics)

    @classmethod
    def isolated(cls, settings: Settings, owner: str, key: AgentKey, agent: ServedAgent | Missing) -> Runtime:
        """Make the parts that answer one suspected message to `key`, for `agent`.

        Raises:
            ConfigurationError: as :meth:`build`.
        """
        catalog = AgentCatalog()
        catalog.swap({key: agent})
        suspect_from = settings.quarantine_after_deaths + 1
        return cls._of(settings, owner, suspect_from, catalog, GivenAgents, WorkerMetrics())

    @classmethod
    def _of(
        cls,
        settings: Settings,
        owner: str,
        suspect_from: int,
        catalog: AgentCatalog,
        following: Callable[[], AgentSource],
        metrics: WorkerMetrics,
    ) -> Runtime:
        engine, system_engine = make_engine(settings), make_system_engine(settings)
        source = following()
        faults = Faults(engine, settings.max_errors, metrics)
        running, hearing = Running(settings.drain_s), Hearing()

        def idle() -> bool:
            return source.accepting() and len(running) < settings.worker_concurrency and not running.draining

        tap = Tap(source.accepting)
        return cls(
            settings=settings,
            owner=owner,
            suspect_from=suspect_from,
            engine=engine,
            system_engine=system_engine,
            signing=Signing.of(settings),
            catalog=catalog,
            source=source,
            runner=Runner(settings, metrics.retried),
            revisions=RevisionLog(engine),
            running=running,
            heartbeat=Heartbeat(system_engine, owner, settings.lease_s, running.held),
            metrics=metrics,
            faults=faults,
            hearing=hearing,
            backlog=Backlog(hearing, idle, system_engine, metrics.waiting),
            dispatcher=Dispatcher(engine, system_engine, suspect_from, settings.tenant_queued, faults),
            sweeper=Sweeper(
                system_engine, suspect_from, settings.lease_s, metrics.requeued.inc, metrics.stranded.inc
            ),
            retention=Retention(
                system_engine,
                timedelta(days=settings.keep_days) or None,
                metrics.purged.inc,
            ),
            tap=tap,
            reaching=Reaching(engine, lambda: tap.started),
        )

    def start(self) -> None:
        """Begin to follow the agents, to extend leases and to look after the queue."""
        self.reaching.wait_for_database()
        self.source.start()
        self.start_answering()
        self.metrics.follow(
            agents=lambda: len(self.catalog),
            connected=self.source.healthy,
            accepting=lambda: self.accepting,
            consuming=lambda: self.tap.on and self.hearing.hears,
            in_flight=lambda: len(self.running),
            pool_away=lambda: self.runner.away,
        )
        self.metrics.in_flight_limit.set(self.settings.worker_concurrency)
        self.metrics.line_limit.set(self.settings.tenant_backlog)
        self.backlog.start()
        self.dispatcher.start()
        self.sweeper.start()
        self.retention.start()

    def start_answering(self) -> None:
        """Begin what a message needs while it is answered, and nothing else."""
        self.runner.start()
        self.heartbeat.start()

    def drain(self) -> None:
        """Begin to hand back what will not finish in time, and what waits for the pool at once."""
        self.runner.stop_waiting()
        self.running.drain()

    def close(self) -> None:
        """End the threads and close the connections."""
        self.source.stop()
        self.retention.stop()
        self.sweeper.stop()
        self.dispatcher.stop()
        self.backlog.stop()
        self.heartbeat.stop()
        self.runner.close()
        self.engine.dispose()
        self.system_engine.dispose()


def make_source(settings: Settings, catalog: AgentCatalog, metrics: WorkerMetrics) -> AgentSource:
    """Choose where agents come from: a folder, when one is set, or else the cluster.

    Raises:
        ConfigurationError: a setting that the source needs is missing.
    """
    if settings.agents_dir is not None:
        return DirectorySource(settings.agents_dir, catalog)
    # Only here: what speaks to Kubernetes costs a local worker nothing.
    from orchestrator.cluster.source import ClusterSource  # noqa: PLC0415

    return ClusterSource(settings, catalog, metrics.config_lag.observe)
