"""The llm-pool against its own OpenAPI document: it answers as documented, and never with a 500.

The document has no links: no answer of the pool names anything that another request could use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema

from tests.fuzz.pool_fixtures import TOKEN, Address, pool_process
from tests.support.fuzzing import tries

PATHS = ("/health", "/readyz", "/metrics")
"""What is looked at, beside `/complete`."""


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with pool_process(KONSTRUCT_LLM_POOL_TOKEN=TOKEN) as made:
        yield made


@pytest.fixture(scope="module")
def document(address: Address) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{address.url}/openapi.json")


def operations(document: BaseSchema) -> set[tuple[str, str]]:
    found = [made.ok() for made in document.get_all_operations() if isinstance(made, Ok)]
    return {(operation.method.upper(), operation.path) for operation in found}


def test_the_document_names_every_operation(document: BaseSchema) -> None:
    assert operations(document) == {("POST", "/complete"), *(("GET", path) for path in PATHS)}


def tried(
    document: BaseSchema, address: Address, method: str, path: str, token: str | None, **how: Any
) -> Any:
    """Make the test of one operation."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    @given(case=document[path][method].as_strategy(**how))
    def answers(case: Any) -> None:
        # A time that is up before a provider can answer is no fault: its 504 is documented.
        response = case.call(base_url=address.url, headers=headers, timeout=30)
        assert response.status_code not in (500, 502)
        case.validate_response(response, headers=headers, excluded_checks=[not_a_server_error])

    return answers


@pytest.mark.timeout(0)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("token", [TOKEN, "wrong", None], ids=["token", "wrong-token", "no-token"])
def test_every_answer_of_complete_is_a_documented_one(
    address: Address, document: BaseSchema, token: str | None, mode: GenerationMode
) -> None:
    test = tried(document, address, "POST", "/complete", token, generation_mode=mode)
    tries(60 if token == TOKEN else 8)(test)()


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_to_a_look_is_a_documented_one(
    address: Address, document: BaseSchema, path: str
) -> None:
    tries(2)(tried(document, address, "GET", path, None))()
