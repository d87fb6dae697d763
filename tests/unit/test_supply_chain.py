"""What comes from others: known vulnerabilities, where it came from, and under which licence."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from requirements import audit
from requirements.advisories import shortened

ROOT = Path(__file__).parents[2]

ADVISORIES = json.loads((ROOT / "requirements" / "advisories.json").read_text())["advisories"]

LICENCES = re.compile(
    r"(MIT|MIT-CMU|Apache|BSD|0BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|LGPL-3\.0-only"
    r"|Unlicense|Zlib|CC0|CNRI)\b"
)
"""Licences of what may be installed: permissive ones, and weak copyleft of parts left as they are."""

UNSAID = {"httpx-aiohttp": "BSD-3-Clause"}
"""Licences of parts whose metadata does not name them."""


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Every distribution of this environment, by its normalised name."""
    return {normalised(one.name): one for one in importlib.metadata.distributions()}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_lock_has_a_known_vulnerability(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 0
    told = capsys.readouterr().out
    assert re.search(r"\d{3} packages of \d locks against \d{4} advisories: 0 findings", told)
    assert re.search(r"Data: pypa/advisory-database of \d{4}-\d\d-\d\d, \d+ days old", told)


def test_a_vulnerability_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "requirements" / "advisories.json", tmp_path)
    (tmp_path / "bad.txt").write_text("jinja2==2.10 \\\n    --hash=sha256:00\nlitellm[proxy]==1.82.7 \\\n")
    monkeypatch.setattr(audit, "FOLDER", tmp_path)
    assert audit.main() == 1
    told = capsys.readouterr().out
    assert "bad.txt: jinja2 2.10 has PYSEC-2019-217, CVE-2019-10906" in told
    assert "bad.txt: litellm 1.82.7 has litellm-2026-trojan" in told


@pytest.mark.parametrize("missing", ["locks", "advisories"])
def test_nothing_to_audit_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    data = {"source": "nobody", "date": "2024-01-01", "advisories": ADVISORIES}
    if missing == "advisories":
        data["advisories"] = []
        shutil.copy(ROOT / "requirements" / "go.txt", tmp_path)
    (tmp_path / "advisories.json").write_text(json.dumps(data))
    monkeypatch.setattr(audit, "FOLDER", tmp_path)
    assert audit.main() == 1


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.9", False),
        ("1.0", True),
        ("1.4.9", True),
        ("1.5", False),
        ("2.0", True),
        ("2.3", True),
        ("2.3.1", False),
    ],
)
def test_ranges_of_versions(version: str, affected: bool) -> None:
    events = [{"introduced": "2.0"}, {"last_affected": "2.3"}, {"introduced": "1.0"}, {"fixed": "1.5"}]
    assert audit.is_affected(Version(version), {"events": events}) is affected


def test_an_advisory_is_shortened() -> None:
    affected: dict[str, Any] = {"package": {"name": "A_b"}, "ranges": [], "versions": ["1.0"]}
    advisory = {"id": "X-1", "aliases": ["CVE-1"], "details": "long", "affected": [affected]}
    assert shortened(advisory) == [{"id": "X-1", "aliases": ["CVE-1"], "package": "a-b", "versions": ["1.0"]}]
    assert shortened({**advisory, "withdrawn": "2024-01-01"}) == []


def test_what_is_installed_comes_from_the_locks() -> None:
    locks = [ROOT / "requirements" / name for name in ("dev.txt", "bootstrap.txt")]
    locked = {(normalised(name), at) for lock in locks for name, at in audit.locked(lock.read_text())}
    ours = {f"konstruct-{part}" for part in ("shared", "llm-pool", "orchestrator", "operator", "cli")}
    brought_by_python = {"pip", "setuptools"}
    found = {(name, one.version) for name, one in installed().items() if name not in ours | brought_by_python}
    assert found <= locked


def test_every_licence_is_one_that_may_be_used() -> None:
    found = {name: licence(one) for name, one in installed().items() if not name.startswith("konstruct-")}
    assert {name: words for name, words in found.items() if not LICENCES.search(words)} == {}


def licence(of: importlib.metadata.Distribution) -> str:
    """The licence that the metadata names: the expression, else the classifiers, else free text."""
    told = of.metadata.json
    classifiers = [one for one in told.get("classifier", []) if one.startswith("License ::")]
    free = str(told.get("license", "")).split("\n", maxsplit=1)[0]
    words = told.get("license_expression") or "; ".join(classifiers) or free
    return UNSAID.get(normalised(of.name), str(words))


@pytest.mark.parametrize("words", ["AGPL-3.0", "GPL-3.0-or-later", "SSPL-1.0", "Proprietary", ""])
def test_other_licences_would_be_noticed(words: str) -> None:
    assert not LICENCES.search(words)


def test_whoever_silences_a_security_rule_says_why() -> None:
    for folder in ("services", "operator", "migrations", "requirements"):
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text().splitlines():
                if re.search(r"# noqa:.*\bS\d{3}", line):
                    assert re.search(r"# noqa: [A-Z0-9, ]+ - \w", line), f"{path}: {line.strip()}"
