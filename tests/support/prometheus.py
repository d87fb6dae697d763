"""A real Prometheus for tests: it scrapes and evaluates what its configuration says, and answers queries.

What asks a Prometheus (:class:`Api`) does not care where it runs: it is given a function that gets a path of
its HTTP API, so that one in a cluster can be asked through the API server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from konstruct_cli.stack.process import ManagedProcess
from konstruct_cli.stack.server import Server, answers
from tests.support.toolchain import tool
from tests.support.waiting import eventually

Get = Callable[[str, Mapping[str, str]], str]
"""Gets a path of the HTTP API with a query; returns the body, whatever the status."""


class PrometheusError(Exception):
    """Prometheus refused a request; the message is what it said."""


class Point(NamedTuple):
    """A sample of a series."""

    at: float
    """When, in seconds since the epoch."""
    value: float
    """What."""


@dataclass(frozen=True)
class Series:
    """One series of an answer."""

    labels: Mapping[str, str]
    """Its labels, ``__name__`` among them where it has one."""
    points: tuple[Point, ...]
    """Its samples, oldest first; one for an instant."""

    @property
    def value(self) -> float:
        """The newest sample's value."""
        return self.points[-1].value


@dataclass(frozen=True)
class Selector:
    """What an expression selects: a metric and the labels asked for."""

    metric: str
    """Name of the metric."""
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""


class Api:
    """Asks a Prometheus."""

    def __init__(self, get: Get) -> None:
        self._get = get

    def call(self, path: str, **query: str) -> Any:
        """Return the data of an answer of ``/api/v1/<path>``.

        Raises:
            PrometheusError: it refused.
        """
        answer = json.loads(self._get(f"/api/v1/{path}", query))
        if answer.get("status") != "success":
            raise PrometheusError(f"{path} {query}: {answer.get('error', answer)}")
        return answer["data"]

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """Evaluate `expression` now, or at a time; an expression of a range gives all its samples."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        return _series(self.call("query", query=expression, **moment))

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[Series]:
        """Evaluate `expression` at every step from `start` to `end`."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:g}"}
        return _series(self.call("query_range", query=expression, **times))

    def value(self, expression: str, at: float | None = None) -> float:
        """Evaluate an expression that gives one number."""
        (series,) = self.query(expression, at)
        return series.value

    def tally(self, expression: str, *labels: str, at: float | None = None) -> dict[tuple[str, ...], float]:
        """Evaluate `expression` and return what is not zero, by the values of `labels`."""
        found = self.query(f"sum by ({','.join(labels)}) ({expression})", at)
        return {tuple(one.labels.get(label, "") for label in labels): one.value for one in found if one.value}

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule that is loaded, with its state."""
        return [rule for group in self.call("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped, and how it went."""
        found: list[dict[str, Any]] = self.call("targets", state="active")["activeTargets"]
        return found

    def names(self) -> set[str]:
        """Return the name of every metric that was ever seen."""
        return set(self.call("label/__name__/values"))

    def selectors(self, expression: str) -> list[Selector]:
        """Return what `expression` selects, as Prometheus's own parser sees it."""
        return list(_selectors(self.call("parse_query", query=expression)))

    def wait_scraped(self, since: float, within_s: float = 30.0) -> None:
        """Wait until everything that is scraped was scraped after `since`."""
        eventually(
            lambda: self.query("up") and all(one.value > since for one in self.query("timestamp(up)")),
            within_s=within_s,
            what="a scrape of everything",
        )


class Prometheus(Server):
    """A Prometheus on this machine, with its data in a folder."""

    NAME = "Prometheus"
    READY_DEADLINE_S = 60.0

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Prepare one.

        Args:
            folder: Where its files are; made when missing.
            config: Its configuration.
        """
        super().__init__(port=None, log=folder / "prometheus.log")
        self._folder = folder
        self._config = config
        self._client = httpx.Client(trust_env=False, timeout=30)
        self.api = Api(self._get)
        """Asks it."""

    @property
    def url(self) -> str:
        """Where it answers; only after the launch."""
        return f"http://{self.address}"

    def stop(self) -> None:
        """Stop it."""
        super().stop()
        self._client.close()

    def _make_process(self) -> ManagedProcess:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(dict(self._config)))
        flags = {
            "config.file": config,
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": self.address,
            "log.level": "warn",
        }
        command: list[str | Path] = [
            tool("prometheus"),
            *(f"--{name}={value}" for name, value in flags.items()),
        ]
        return ManagedProcess(self.NAME, command, log=self.log, env={"PATH": os.defpath})

    def _ready(self) -> bool:
        return answers(f"{self.url}/-/ready")

    def _get(self, path: str, query: Mapping[str, str]) -> str:
        return self._client.get(f"{self.url}{path}", params=dict(query)).text


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, (_point(data["result"]),))]
    return [
        Series(one["metric"], tuple(map(_point, one["values"] if "values" in one else [one["value"]])))
        for one in data["result"]
    ]


def _point(pair: tuple[float, str]) -> Point:
    return Point(float(pair[0]), float(pair[1]))


def _selectors(node: Any) -> Iterator[Selector]:
    """Walk a parsed expression."""
    if isinstance(node, list):
        for part in node:
            yield from _selectors(part)
    elif isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            found = ((one["name"], one["type"], one["value"]) for one in node["matchers"])
            yield Selector(node["name"], tuple(one for one in found if one[0] != "__name__"))
        for name, part in node.items():
            if name != "matchers":
                yield from _selectors(part)
