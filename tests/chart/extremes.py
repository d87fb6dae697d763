"""Values at their extremes, made from the schema: every field, everything odd that it lets through."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema

from tests.chart.rendering import CHART

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

FREE = {
    "affinity",
    "extraVolumes",
    "extraObjects",
    "global",
    "modelList",
    "providers",
    "routerSettings",
    "except",  # of an ipBlock: has to lie within its cidr, which only the API server computes
}
"""Fields that the chart passes on as they are to Kubernetes, Helm or the pool: their content is theirs."""

STRINGS = (
    "",
    " ",
    "a",
    "A",
    "Ab-C",
    "0",
    "123",
    "1e3",
    "0x10",
    "1_0",
    "true",
    "null",
    "~",
    "no",
    "2001-01-01",
    "-a",
    "a-",
    "a--b",
    ".",
    "..",
    "..a",
    "a.",
    "a..b",
    "a.b",
    "a/b",
    "a/b/c",
    "a_b",
    "a" * 63,
    "a" * 64,
    "a." * 31 + "a",
    "a" * 253,
    "a" * 254,
    "é",
    "日本",
    "😀",
    "a\nb",
    "a\n",
    "\t",
    "a: b",
    "#a",
    "a #b",
    "a b",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a`",
    "'",
    '"',
    "\\",
    "[",
    "{}",
    "{{",
    "{{ .Values }}",
    "{{ fail }}",
    "$(HOME)",
    "a=b,c",
    "@sha256:" + "0" * 64,
    "sha256:" + "0" * 64,
    "1.2.3",
    "latest",
    "a:b",
    "localhost:5000/a",
    "10.0.0.0/8",
    "10.0.0.1/33",
    "fc00::/7",
    "http://a",
    "http://u:p@a",
    "https://[::1]:8004/a?b=c#d",
    "http://a\nb",
    "0s",
    "1ms",
    "1h30m",
    "5m1h",
    "99999999999w",
    "0Gi",
    "1",
    "0.5Gi",
    "1Ki",
    "9" * 30 + "Ti",
    "0%",
    "100%",
    "101%",
    "0kb",
    "64mb",
    "kubernetes.io/os",
    "app.kubernetes.io/name",
    "helm.sh/hook",
    "KONSTRUCT_LOG_LEVEL",
    "IfNotPresent",
    "NoSchedule",
    "Exists",
    "tmp",
    "/tmp",
    "/a:b",
    "/mnt",
    "cpu",
    "250m",
    "-1",
)
"""Words that some reader of YAML, Kubernetes or Helm takes for something else."""

NUMBERS = (0, -1, 1, 2, 7, 0.5, 1e-7, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**53, 10**15, 1e21)
"""Numbers at which a type ends, or from which Go prints an exponent."""


AT_ONCE = 12
"""Entries of a map that are tried together."""


def leaves(
    prop: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """List (path, schema) of every value that is no group of others, but for those in `FREE`."""
    for name, inner in prop["properties"].items():
        if name in FREE:
            continue
        if "properties" in inner:
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), inner


def accepted(schema: dict[str, Any]) -> list[Any]:
    """List the candidates that a field's schema lets through."""
    check = jsonschema.Draft7Validator(_as_go_reads({**schema, "definitions": SCHEMA["definitions"]}))
    values = _resolved(schema).get("additionalProperties")
    if isinstance(values, dict) and values.get("type") == "string":
        # A map of texts takes many at once.
        names = [{name: "a"} for name in STRINGS if check.is_valid({name: "a"})]
        texts = [{f"k{number}": text} for number, text in enumerate(STRINGS) if check.is_valid({"k": text})]
        return [dict(pair for one in some for pair in one.items()) for some in _parts([*names, *texts])]
    return [one for one in _candidates(_resolved(schema)) if check.is_valid(one)]


def _as_go_reads(schema: Any) -> Any:
    """Let ``$`` in patterns mean the end, as it does in Go, and not also what is before a last newline."""
    if isinstance(schema, dict):
        return {
            name: inner.replace("$", r"\Z") if name == "pattern" else _as_go_reads(inner)
            for name, inner in schema.items()
            if isinstance(inner, str) or name != "pattern"
        }
    return [_as_go_reads(inner) for inner in schema] if isinstance(schema, list) else schema


def _parts(entries: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    for start in range(0, len(entries), AT_ONCE):
        yield entries[start : start + AT_ONCE]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    for part in (schema, *schema.get("allOf", [])):
        if "$ref" in part:
            return dict(SCHEMA["definitions"][part["$ref"].rpartition("/")[2]])
    return schema


def _candidates(schema: dict[str, Any]) -> Iterator[Any]:
    """Make values of the right kind; the schema decides which of them it takes."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "enum" in schema:
        yield from schema["enum"]
    if "string" in kinds:
        yield from STRINGS
    if {"integer", "number"} & set(kinds):
        edges = (schema.get("minimum"), schema.get("maximum"))
        yield from dict.fromkeys((*(edge for edge in edges if edge is not None), *NUMBERS))
    if "boolean" in kinds:
        yield from (True, False)
    if "array" in kinds:
        yield []
        for item in _candidates(_resolved(schema["items"])):
            yield [item]
        yield [*itertools.islice((one for one in _candidates(_resolved(schema["items"]))), 3, 6)]
    if "object" in kinds:
        yield from _objects(schema)


def _objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        for value in _candidates(_resolved(values)):
            yield {"cpu": value}
            yield {"ephemeral-storage": value}
    properties = {
        name: _resolved(inner) for name, inner in schema.get("properties", {}).items() if name not in FREE
    }
    base = {name: _first(inner) for name, inner in properties.items() if name in schema.get("required", [])}
    for name, inner in properties.items():
        for value in _candidates(inner):
            yield {**base, name: value}


def _first(schema: dict[str, Any]) -> Any:
    """Return an example that the schema has, or the first candidate that it takes."""
    return (schema.get("examples") or accepted(schema))[0]
