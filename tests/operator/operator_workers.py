"""Workers that a test plays: what the operator sees of a worker is its Lease."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.kube.leases import Refusal, WorkerState, lease_manifest
from shared.kube.names import lease_path
from tests.operator.operator_stage import OperatorStage


@dataclass
class FakeWorker:
    """A worker as its Lease shows it."""

    stage: OperatorStage
    name: str = field(default_factory=lambda: f"worker-{secrets.token_hex(3)}")
    duration_s: int = 60

    def renew(
        self, seen: int | None = None, refused: tuple[Refusal, ...] = (), refused_total: int | None = None
    ) -> None:
        """Say what is in effect: by default everything there is."""
        version = self.stage.version() if seen is None else seen
        watched = self.stage.watched or ("*",)
        state = WorkerState(
            seen=dict.fromkeys(watched, version),
            refused=refused,
            refused_total=len(refused) if refused_total is None else refused_total,
            clause="1",
        )
        self._write(state)

    def leave(self) -> None:
        """Stop cleanly."""
        self._write(WorkerState(), released=True)
        self.vanish()

    def vanish(self) -> None:
        """Delete the Lease and nothing else, as a Pod that is deleted by force leaves it."""
        self.stage.api.delete(lease_path(self.stage.home, self.name))

    def _write(self, state: WorkerState, *, released: bool = False) -> None:
        manifest = lease_manifest(
            name=self.name,
            namespace=self.stage.home,
            pod_uid=None,
            release=self.stage.release,
            duration_s=self.duration_s,
            renewed=datetime.now(UTC),
            state=state,
            released=released,
        )
        self.stage.api.apply(lease_path(self.stage.home, self.name), manifest)
