"""Audit every lock against known vulnerabilities, without a network: ``python -m requirements.audit``.

It says what was audited, with whose data and of which date: no finding is never silence.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

FOLDER = Path(__file__).parent
"""Where the locks and the advisories are."""

OWN: tuple[Mapping[str, Any], ...] = (
    {
        "id": "litellm-2026-trojan",
        "aliases": [],
        "package": "litellm",
        "versions": ["1.82.7", "1.82.8"],
    },
)
"""Advisories that the database's date is too early for."""

ACCEPTED: Mapping[tuple[str, str], str] = {}
"""Findings that are no reason to fail, by lock and advisory, with why."""


def main() -> int:
    """Audit, tell and return the exit status."""
    database = json.loads((FOLDER / "advisories.json").read_text())
    known = [*database["advisories"], *OWN]
    locks = {path.name: locked(path.read_text()) for path in sorted(FOLDER.glob("*.txt"))}
    found = [
        (lock, name, version, advisory)
        for lock, packages in locks.items()
        for name, version in packages
        for advisory in affecting(name, version, known)
    ]
    failing = [one for one in found if (one[0], one[3]["id"]) not in ACCEPTED]
    for lock, name, version, advisory in found:
        why = ACCEPTED.get((lock, advisory["id"]))
        names = ", ".join([advisory["id"], *advisory["aliases"]])
        say(f"{lock}: {name} {version} has {names}{f' (accepted: {why})' if why else ''}")
    packages = {package for each in locks.values() for package in each}
    made = date.fromisoformat(database["date"])
    say(
        f"{len(packages)} packages of {len(locks)} locks against {len(known)} advisories:"
        f" {len(failing)} findings, {len(found) - len(failing)} accepted."
        f" Data: {database['source']} of {made}, {(datetime.now(UTC).date() - made).days} days old,"
        f" and {len(OWN)} of ours; nobody was asked."
    )
    return 1 if failing or not packages or not database["advisories"] else 0


def locked(text: str) -> list[tuple[str, str]]:
    """Return every package of a lock with its version."""
    return re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ \\;]+)", text, re.MULTILINE)


def affecting(
    name: str, version: str, advisories: Iterable[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Yield the advisories that a version of a package is affected by."""
    same = re.sub(r"[-_.]+", "-", name).lower()
    for advisory in advisories:
        if advisory["package"] == same and is_affected(Version(version), advisory):
            yield advisory


def is_affected(version: Version, advisory: Mapping[str, Any]) -> bool:
    """Whether a version is one of those listed, or after what introduced it and not after what fixed it."""
    if "events" not in advisory:
        return version in map(Version, advisory["versions"])
    inside = False
    for event in sorted(advisory["events"], key=_place):
        ((kind, at),) = event.items()
        if kind == "introduced" and version >= Version(at):
            inside = True
        elif (kind == "fixed" and version >= Version(at)) or (
            kind == "last_affected" and version > Version(at)
        ):
            inside = False
    return inside


def _place(event: Mapping[str, str]) -> tuple[Version, bool]:
    ((kind, at),) = event.items()
    return Version(at), kind != "introduced"


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"audit: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
