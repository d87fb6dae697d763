"""Every sentence of the README and the docs with "never", "always" or "every" names the test that holds it.

Such a sentence is a promise, and a promise without a test is a hope. docs/promises.md lists them; a sentence
that is not there fails here: tie it to a test, or write what is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_security_claims import HEADER, claims, fault

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {PAGE})]

_ABSOLUTE = re.compile(r"\b(never|always|every)\b", re.IGNORECASE)
_PERIOD = re.compile(
    r"\bevery (?:`?\d|second\b|two\b|three\b|five\b|ten\b|half\b|few\b|minute\b)", re.IGNORECASE
)
_OPTION = re.compile(r"`[^`]*`")
_CLAIMS = re.compile(rf"^{re.escape(HEADER)}\n\| --- \| --- \|\n(?:\|.*\n)+", re.MULTILINE)
_GENERATED = re.compile(r"<!-- (\w[\w-]*) -->.*?<!-- /\1 -->", re.DOTALL)
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")


def sentences(page: str) -> Iterator[str]:
    """The sentences, list items and table cells of a page, without what is generated or code."""
    for pattern in (_FENCE, _INDENTED, _GENERATED, _CLAIMS):
        page = pattern.sub("\n\n", page)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=\|)|\n(?=#)", page):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
        if text.startswith("#"):
            continue  # a heading is explained by what is below it
        cells = re.split(r"(?<!\\)\|", text.strip("|")) if text.startswith("|") else [text]
        for cell in cells:
            bare = re.sub(r"^(?:[-*]|\d+\.) ", "", cell.strip()).replace("**", "").replace("*", "")
            yield from (part.strip() for part in re.split(r"(?<=[.?!]) (?=[A-Z`])", bare) if part.strip())


def is_absolute(sentence: str) -> bool:
    """Whether a sentence promises something without exception; "every 30 s" says how often."""
    return bool(_ABSOLUTE.search(_PERIOD.sub("", _OPTION.sub("", sentence))))


def promises(page: str) -> list[str]:
    """The absolute sentences of a page."""
    return [sentence for sentence in sentences(page) if is_absolute(sentence)]


TIED = dict(claims(PAGE.read_text()))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_absolute_sentence_is_tied_to_a_test(path: Path) -> None:
    """Add a row with the sentence, word for word, and its tests to docs/promises.md, or change it."""
    untied = [sentence for sentence in promises(path.read_text()) if sentence not in TIED]
    assert not untied, "\n".join(untied)


def test_nothing_is_listed_that_no_page_says() -> None:
    said = {sentence for path in PAGES for sentence in promises(path.read_text())}
    assert not set(TIED) - said, "\n".join(sorted(set(TIED) - said))


@pytest.mark.parametrize(("claim", "tests"), list(TIED.items()))
def test_each_promise_has_its_tests(claim: str, tests: str) -> None:
    assert fault(tests) is None, claim


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("A worker never\nlies. It says so.", ["A worker never lies."]),
        ("- *Every* one.\n- Some.\n", ["Every one."]),
        ("| a | always |\n| --- | --- |\n", ["always"]),
        ("See [every page](x.md) for it.", ["See every page for it."]),
        ("It looks every 30 s, and `--every`.", []),
        ("```\nnever\n```\n\n## Never\n\n<!-- t -->\nnever\n<!-- /t -->\n", []),
        (f"{HEADER}\n| --- | --- |\n| It never ends | `tests/x.py::test_y` |\n", []),
    ],
)
def test_absolute_sentences_are_found(page: str, found: list[str]) -> None:
    assert promises(page) == found
