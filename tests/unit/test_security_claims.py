"""Every claim of docs/security.md names tests that are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"

HEADER = "| claim | test |"
"""First line of a table of claims."""


def claims(text: str) -> Iterator[tuple[str, str]]:
    """The rows of all tables of claims: what is claimed, and the cell with the tests."""
    for table in re.findall(rf"^{re.escape(HEADER)}\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            claim, tests = row.strip("| ").split(" | ")
            yield claim, tests


def fault(tests: str, root: Path = ROOT) -> str | None:
    """What is wrong with a cell of tests: nothing is named, or something that is not there."""
    cells = [cell.strip() for cell in tests.split(",")]
    for cell in cells:
        if not (named := re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", cell)):
            return f"{cell!r} names no test"
        path, function = root / named[1], named[2]
        if not path.is_file():
            return f"{path} is not there"
        defined = ast.walk(ast.parse(path.read_text()))
        if function not in {
            one.name for one in defined if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }:
            return f"{function} is not in {named[1]}"
    return None


def test_there_are_claims_and_each_is_told_once() -> None:
    found = [claim for claim, _ in claims(PAGE.read_text())]
    assert len(found) > 30
    assert sorted(found) == sorted(set(found))
    assert PAGE.read_text().count("| claim |") == PAGE.read_text().count(HEADER)


@pytest.mark.parametrize(("claim", "tests"), list(claims(PAGE.read_text())))
def test_every_claim_has_its_tests(claim: str, tests: str) -> None:
    assert fault(tests) is None, claim


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("", "names no test"),
        ("a good feeling", "names no test"),
        ("`tests/unit/test_never.py::test_it`", "is not there"),
        ("`tests/unit/test_security_claims.py::test_never`", "is not in"),
        (
            "`tests/unit/test_security_claims.py::test_every_claim_has_its_tests`, `tests/x.py::test_y`",
            "is not there",
        ),
    ],
)
def test_a_claim_without_a_test_is_found(tests: str, said: str) -> None:
    assert said in str(fault(tests))
