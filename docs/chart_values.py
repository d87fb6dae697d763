"""Rewrites the table of the chart's values: descriptions of its schema, defaults of values.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parents[1] / "charts" / "konstruct"
"""Folder of the chart."""

README = CHART / "README.md"
"""The page that holds the table."""

PARENT_VALUES = "global"
"""Property that Helm gives every chart; it has no default and no use here."""

LONGEST_DEFAULT = 60
"""Characters of a default that the table shows; a longer one is to be read in values.yaml."""


class Value(NamedTuple):
    """One value that can be set."""

    path: str
    """Its path, as ``--set`` takes it."""

    default: Any
    """Its default."""

    description: str
    """What it means."""


def values() -> Iterator[Value]:
    """List every value that is no group of others, in the order of values.yaml.

    Raises:
        KeyError: a property has no default in values.yaml, or no description.
    """
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    known = {name: prop for name, prop in schema["properties"].items() if name != PARENT_VALUES}
    yield from _values(known, defaults, "")


def values_table() -> str:
    """Build the table: value, default, meaning."""
    rows = [f"| `{path}` | {_shown(default)} | {description} |" for path, default, description in values()]
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])


def with_values_table(page: str) -> str:
    """Put the table of values in its place in `page`."""
    return re.sub(
        r"(<!-- values -->\n).*(\n<!-- /values -->)",
        lambda marks: f"{marks[1]}{values_table()}{marks[2]}",
        page,
        flags=re.DOTALL,
    )


def _values(properties: dict[str, Any], defaults: dict[str, Any], prefix: str) -> Iterator[Value]:
    for name in sorted(properties, key=list(defaults).index):
        prop, path = properties[name], f"{prefix}{name}"
        description = prop["description"]
        if "properties" in prop:
            yield from _values(prop["properties"], defaults[name], f"{path}.")
        else:
            yield Value(path, defaults[name], description)


def _shown(default: Any) -> str:
    if default == "":
        return "none"
    text = json.dumps(default, ensure_ascii=False).strip('"')
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see values.yaml"


if __name__ == "__main__":
    README.write_text(with_values_table(README.read_text()))
