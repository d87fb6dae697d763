"""A dashboard: rows of panels on Grafana's grid, with the variables, links and annotations that all share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import BAD, DATASOURCE, WARNING
from dashboards.promql import KNOWN_GROUP, select

GRID = 24
"""Columns of Grafana's grid."""

TAG = "konstruct"
"""Tag of every dashboard: the links at the top list what has it."""

DEGRADED = 0.01
"""Share of answers by another group than the one asked for, from which a group counts as degraded."""


@dataclass(frozen=True)
class Row:
    """Panels side by side, each as wide as the others."""

    panels: Sequence[dashboard.Panel]
    """From left to right; their number divides the grid."""

    height: int = 8
    """In units of Grafana's grid."""

    title: str = ""
    """Heading above them; none for a row that continues the one before."""


class _Annotation(dashboard.AnnotationQuery):
    """An annotation whose regions are titled; the SDK does not know how."""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {
            "titleFormat": self.name,
            "textFormat": "{{requested_group}}{{alertname}}",
        }


class _Annotated(Builder[dashboard.AnnotationQuery]):
    def __init__(self, title: str, expression: str, colour: str, *, shown: bool) -> None:
        self._made = _Annotation(
            name=title, datasource=DATASOURCE, icon_color=colour, expr=expression, enable=shown
        )

    def build(self) -> dashboard.AnnotationQuery:
        return self._made


def board(
    uid: str, title: str, description: str, rows: Iterable[Row], *, groups: bool
) -> dashboard.Dashboard:
    """Lay out a dashboard; `groups` gives it a choice of model groups."""
    made = (
        build.Dashboard(f"Konstruct / {title}")
        .uid(f"konstruct-{uid}")
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .readonly()
        .variables(list(_variables(groups=groups)))
        .annotations(list(_annotations()))
        .links([_links()])
        .build()
    )
    made.panels = list(_placed(rows))
    return made


def as_json(made: dashboard.Dashboard) -> dict[str, Any]:
    """Return what Grafana loads."""
    loaded: dict[str, Any] = json.loads(json.dumps(made, cls=JSONEncoder))
    return loaded


def _placed(rows: Iterable[Row]) -> Iterable[dashboard.Panel | dashboard.RowPanel]:
    y, number = 0, 0
    for row in rows:
        if row.title:
            number += 1
            grid = dashboard.GridPos(h=1, w=GRID, x=0, y=y)
            yield build.Row(row.title).id(number).grid_pos(grid).build()
            y += 1
        width, rest = divmod(GRID, len(row.panels))
        assert not rest, f"{row.title}: {len(row.panels)} panels do not fill a row"
        for index, panel in enumerate(row.panels):
            number += 1
            panel.id_val = number
            panel.grid_pos = dashboard.GridPos(h=row.height, w=width, x=index * width, y=y)
            yield panel
        y += row.height


def _variables(*, groups: bool) -> Iterable[Builder[dashboard.VariableModel]]:
    within = 'konstruct_build_info{namespace=~"$namespace"}'
    yield build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    yield _choice("namespace", "Namespace", "label_values(konstruct_build_info, namespace)", ".*")
    yield _choice("release", "Release", f"label_values({within}, release)", ".*")
    if groups:
        known = select("konstruct_llm_requests_total", KNOWN_GROUP)
        yield _choice("group", "Group asked for", f"label_values({known}, requested_group)", ".+")


def _choice(name: str, label: str, query: str, everything: str) -> Builder[dashboard.VariableModel]:
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003  # the SDK's own signature
        .include_all(True)  # noqa: FBT003
        .all_value(everything)
        .current(dashboard.VariableOption(text=["All"], value=["$__all"]))
    )


def _annotations() -> Iterable[Builder[dashboard.AnnotationQuery]]:
    share = select("konstruct:llm_fallback:ratio_rate5m", KNOWN_GROUP)
    yield _Annotated("Degraded", f"{share} > {DEGRADED:g}", WARNING, shown=True)
    firing = select("ALERTS", 'alertname=~"Konstruct.+"', 'alertstate="firing"')
    yield _Annotated("Alerts", firing, BAD, shown=False)


def _links() -> Builder[dashboard.DashboardLink]:
    return (
        build.DashboardLink("Konstruct")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)  # noqa: FBT003  # the SDK's own signature
        .include_vars(True)  # noqa: FBT003
    )
