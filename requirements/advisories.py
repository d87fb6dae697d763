"""Rewrite ``requirements/advisories.json``: ``python -m requirements.advisories CLONE``.

CLONE is a clone of the PyPA's advisory database (github.com/pypa/advisory-database). A package registry
serves no advisories, so that the lint step can ask nobody: it reads this file, and says how old it is. What
is kept of each advisory is its id, its other names, the package and the versions.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("advisories.json")
"""What this writes."""


def main() -> None:
    """Read the clone that is named on the command line."""
    clone = sys.argv[1]
    commit, date = git(clone, "log", "-1", "--format=%H %cs").split()
    listed = git(clone, "ls-tree", "-r", "--name-only", "HEAD", "vulns").splitlines()
    names = [name for name in listed if name.endswith(".yaml")]
    kept = [one for name in names for one in shortened(yaml.safe_load(git(clone, "show", f"HEAD:{name}")))]
    source = {"source": "pypa/advisory-database", "licence": "CC-BY-4.0", "commit": commit, "date": date}
    lines = ",\n".join(json.dumps(one, sort_keys=True) for one in sorted(kept, key=lambda one: one["id"]))
    head = json.dumps(source)[1:-1]
    FILE.write_text(f'{{{head}, "advisories": [\n{lines}\n]}}\n')
    sys.stdout.write(f"{len(kept)} advisories as of {date}\n")


def git(clone: str, *arguments: str) -> str:
    """Run git there and return what it says."""
    command = ["git", "-C", clone, *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout  # noqa: S603 - ours


def shortened(advisory: dict[str, Any]) -> list[dict[str, Any]]:
    """Keep what decides whether a version is affected, for each package that is."""
    if "withdrawn" in advisory:
        return []
    return [
        {
            "id": advisory["id"],
            "aliases": advisory.get("aliases", []),
            "package": re.sub(r"[-_.]+", "-", affected["package"]["name"]).lower(),
            **versions(affected),
        }
        for affected in advisory["affected"]
    ]


def versions(affected: dict[str, Any]) -> dict[str, Any]:
    """The ranges of an advisory as its events; the versions themselves where it has no range."""
    events = [
        event for one in affected.get("ranges", []) if one["type"] == "ECOSYSTEM" for event in one["events"]
    ]
    return {"events": events} if events else {"versions": affected.get("versions", [])}


if __name__ == "__main__":
    main()
