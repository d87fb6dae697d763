"""What one worker process holds: made at its start, closed at its end, handed to the steps."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import Engine

from orchestrator.agents.catalog import AgentCatalog, AgentSource
from orchestrator.agents.directory import DirectorySource
from orchestrator.agents.runner import Runner
from orchestrator.leases import Heartbeat
from orchestrator.metrics import WorkerMetrics
from orchestrator.revisions import RevisionLog
from orchestrator.running import Running
from shared.config import ConfigurationError, Settings
from shared.db import make_engine, make_system_engine, refuse_unsafe_role


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a worker."""

    settings: Settings
    """Its settings."""

    owner: str
    """Name of this process in leases; never used again by another."""

    engine: Engine
    """Service engine, row level security on."""

    system_engine: Engine
    """System engine, for the cross-tenant functions."""

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

    @classmethod
    def build(cls, settings: Settings) -> Runtime:
        """Make every part; nothing runs yet.

        Raises:
            ConfigurationError: a setting that a worker needs is missing or unsafe.
        """
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        engine, system_engine = make_engine(settings), make_system_engine(settings)
        catalog = AgentCatalog()
        running = Running(settings.drain_s)
        return cls(
            settings=settings,
            owner=owner,
            engine=engine,
            system_engine=system_engine,
            catalog=catalog,
            source=make_source(settings, catalog),
            runner=Runner(settings),
            revisions=RevisionLog(engine),
            running=running,
            heartbeat=Heartbeat(system_engine, owner, settings.lease_s, running.held),
            metrics=WorkerMetrics(),
        )

    def start(self) -> None:
        """Load the agents and begin to follow them; begin to extend leases."""
        refuse_unsafe_role(self.engine)
        self.source.start()
        self.runner.start()
        self.metrics.follow(agents=lambda: len(self.catalog.agents), connected=self.source.healthy)
        self.metrics.in_flight.set_function(lambda: len(self.running))
        self.heartbeat.start()

    def close(self) -> None:
        """End the threads and close the connections."""
        self.source.stop()
        self.heartbeat.stop()
        self.runner.close()
        self.engine.dispose()
        self.system_engine.dispose()


def make_source(settings: Settings, catalog: AgentCatalog) -> AgentSource:
    """Choose where agents come from. The watch of the Kubernetes API takes its place here.

    Raises:
        ConfigurationError: no source is configured.
    """
    if settings.agents_dir is not None:
        return DirectorySource(settings.agents_dir, catalog)
    raise ConfigurationError(
        "KONSTRUCT_AGENTS_DIR is not set; name the folder of Agent manifests that this worker serves"
    )
