"""Somebody who edits the tenants' agents all the time, and knows which revision says what."""

from __future__ import annotations

import itertools
import threading
from types import TracebackType
from typing import Self

from tests.chaos.words import AGENTS, Edit
from tests.operator.operator_stage import OperatorStage

EVERY_S = 3.0
"""Seconds between two edits; the tenants take turns."""


class Editor:
    """Edits agents, in a thread of its own, while it is a context."""

    def __init__(self, cluster: OperatorStage) -> None:
        self._cluster = cluster
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._edits: dict[tuple[str, str], Edit] = {}
        self._thread = threading.Thread(target=self._run, name="editor")

    def __enter__(self) -> Self:
        for tenant in AGENTS:
            self._edit(tenant)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def edit_of(self, tenant: str, revision: str) -> Edit | None:
        """Find the edit that made a revision of a tenant's agent."""
        return self._edits.get((tenant, revision))

    def edit_now(self) -> Edit:
        """Make one more edit."""
        return self._edit(next(iter(AGENTS)))

    def in_effect(self, edit: Edit) -> bool:
        """Whether an edit, or a later one, is proved to be in effect at every worker."""
        agent = AGENTS[edit.tenant]
        active = self.edit_of(
            edit.tenant, str(self._cluster.status(agent, edit.tenant).get("activeRevision"))
        )
        synced = self._cluster.condition("ConfigSynced", agent, edit.tenant)
        return active is not None and active.number >= edit.number and synced.get("status") == "True"

    def _run(self) -> None:
        for tenant in itertools.cycle(AGENTS):
            if self._stop.wait(EVERY_S):
                return
            self._edit(tenant)

    def _edit(self, tenant: str) -> Edit:
        edit = Edit(tenant, next(self._numbers))
        # Known before it is written: a worker may answer from it at once.
        self._edits[tenant, edit.revision()] = edit
        self._cluster.apply(AGENTS[tenant], tenant, **edit.spec())
        return edit
