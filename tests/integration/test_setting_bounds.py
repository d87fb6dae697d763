"""Settings at their bounds against PostgreSQL: what it is handed of them fits its types."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.admission import look_for_room
from orchestrator.dispatcher import Dispatcher
from orchestrator.faults import Faults
from orchestrator.leases import Heartbeat
from orchestrator.messages import Claim, claim
from orchestrator.metrics import WorkerMetrics
from orchestrator.retention import purge
from shared.config import Settings
from shared.db import get_session, make_system_engine
from shared.rls import tenant_scope
from tests.support.worker import Cell
from tests.unit.test_setting_bounds import BOUNDS


@pytest.mark.parametrize("bound", [0, 1], ids=["least", "greatest"])
def test_postgresql_takes_every_number_at_its_bounds(cell: Cell, bound: int) -> None:
    at = Settings.model_validate(
        {
            name: BOUNDS[name][bound]
            for name in ("lease_s", "keep_days", "quarantine_after_deaths", "tenant_queued", "tenant_backlog")
        }
    )
    suspect_from = at.quarantine_after_deaths + 1
    message = cell.message("hello")
    with tenant_scope("acme"):
        with get_session(cell.engine) as session:
            room = look_for_room(session, message, at)
        assert (room.at_once, room.full) == (True, False)
    cell.submit(message)
    with tenant_scope("acme"):
        held = claim(message, "me", at.lease_s, suspect_from, on=cell.engine)
    assert isinstance(held, Claim)
    lasts = "select lease_expires_at between now() and now() + make_interval(secs => %s) from messages"
    ((held_until_then,),) = cell.database.rows(lasts, at.lease_s)
    assert held_until_then
    system_engine = make_system_engine(cell.database.settings())
    try:
        Heartbeat(system_engine, "me", at.lease_s, lambda: [held.seq])._beat()
        faults = Faults(cell.engine, at.max_errors, WorkerMetrics())
        dispatcher = Dispatcher(cell.engine, system_engine, suspect_from, at.tenant_queued, faults)
        assert dispatcher._take_turns(at.tenant_queued) == []
        assert purge(system_engine, older_than=timedelta(days=at.keep_days)).messages == 0
    finally:
        system_engine.dispose()
