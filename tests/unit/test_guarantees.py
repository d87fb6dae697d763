"""docs/guarantees.md: every promise names tests that are there, and the table has every fault."""

from __future__ import annotations

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.table import PAGE, rows
from tests.unit.test_security_claims import claims, fault


def test_the_table_has_exactly_the_faults_of_the_suite() -> None:
    """Figures are a run's; `make chaos` writes them."""
    assert rows(PAGE.read_text()) == [one.says for one in FAULTS], "run `make chaos`"


def test_faults_have_names_of_their_own() -> None:
    assert len({one.id for one in FAULTS}) == len({one.says for one in FAULTS}) == len(FAULTS)
    assert any(one.short for one in FAULTS)


@pytest.mark.parametrize(("claim", "tests"), list(claims(PAGE.read_text())))
def test_every_promise_has_its_tests(claim: str, tests: str) -> None:
    assert fault(tests) is None, claim
