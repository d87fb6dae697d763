"""Signatures of payloads: of what one says, however JSON wrote it; and nothing that is given breaks them."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs import generate
from orchestrator.signing import Signing
from shared.config import ConfigurationError, load_settings
from shared.models import KonstructMessage
from shared.signature import HEADER, is_signed, sign

KEY, OTHER = "first-key-" * 4, "other-key-" * 4

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, order: random.Random) -> Any:
    """The same value, its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(one, order) for one in value] if isinstance(value, list) else value


@given(JSON, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([None, 2]))
def test_it_outlives_every_way_of_writing_json(
    payload: Any, order: random.Random, ascii_only: bool, indent: int | None
) -> None:
    signature = sign(payload, KEY)
    for _ in range(3):  # put back, and put back again
        payload = json.loads(json.dumps(shuffled(payload, order), ensure_ascii=ascii_only, indent=indent))
        assert is_signed(payload, signature, [OTHER, KEY])
        assert sign(payload, KEY) == signature


@given(JSON, JSON)
def test_another_payload_has_another_signature(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert is_signed(other, sign(one, KEY), [KEY]) is same


@given(JSON)
def test_another_key_signs_otherwise(payload: Any) -> None:
    assert not is_signed(payload, sign(payload, OTHER), [KEY])
    assert not is_signed(payload, sign(payload, KEY), [])


ANYTHING = JSON | st.binary() | st.text() | st.datetimes() | st.floats()


@given(ANYTHING, ANYTHING)
def test_nothing_that_is_given_breaks_it(payload: Any, signature: Any) -> None:
    assert not is_signed(payload, signature, [KEY, OTHER])


def test_what_is_nested_too_deep_is_not_signed() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert not is_signed(deep, "v1=00", [KEY])


def signing(**settings: str) -> Signing:
    return Signing.of(
        load_settings({f"KONSTRUCT_PAYLOAD_{name.upper()}": value for name, value in settings.items()})
    )


def test_which_deliveries_are_taken() -> None:
    payload = {"text": "hello"}
    signed, otherwise = ({HEADER: sign(payload, key)} for key in (KEY, OTHER))
    without, strict = signing(), signing(key=KEY)
    both, lenient = signing(key=KEY, second_key=OTHER), signing(key=KEY, unsigned="true")

    def taken(by: Signing) -> list[bool]:
        return [by.fault(payload, headers) is None for headers in ({}, signed, otherwise, {HEADER: None})]

    assert taken(without) == [True, True, True, True]
    assert taken(strict) == [False, True, False, False]
    assert taken(both) == [False, True, True, False]
    assert taken(lenient) == [True, True, False, True]
    assert [by.headers(payload) for by in (without, strict, both)] == [{}, signed, signed]
    # Put back: by the key that signs now; and what was unsigned gets no signature of ours by that.
    assert both.onward(payload, otherwise) == signed
    assert lenient.onward(payload, {}) == {}


def test_a_key_is_shown_nowhere() -> None:
    made = signing(key=KEY, second_key=OTHER)
    for shown in (repr(made), str(made), f"{made!r}"):
        assert KEY not in shown
        assert OTHER not in shown


@pytest.mark.parametrize("field", ["key", "second_key"])
def test_a_weak_key_is_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"PAYLOAD_{field.upper()}: must have at least 32") as caught:
        signing(**{"key": KEY, field: "short-canary"})
    assert "short-canary" not in str(caught.value)


PAGE = (generate.DOCS / "signatures.md").read_text()


def test_the_vector_of_the_documentation_is_what_the_code_makes() -> None:
    committed = json.loads((generate.DOCS / "schemas" / "konstruct-signature.json").read_text())
    assert committed == json.loads(generate.signature_vector()), "run `python docs/generate.py`"
    KonstructMessage.model_validate(committed["payload"])
    assert is_signed(committed["payload"], committed["signature"], [committed["key"]])


def test_the_program_of_the_documentation_signs_as_the_code_does() -> None:
    """Nothing but Python's own library: what another language does too."""
    (program,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    vector = json.loads(generate.signature_vector())
    call = "import sys\nv = json.load(sys.stdin)\nprint(signature(v['payload'], v['key']))\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{program}\n{call}"],
        input=json.dumps(vector),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == vector["signature"]
