"""Panels in one look: a description on each, units, colours and legends that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = dashboard.DataSourceRef("prometheus", "${datasource}")
"""The Prometheus that is chosen at the top of the dashboard."""

MIN_STEP = "30s"
"""``monitoring.interval`` of the chart: Grafana makes windows of at least four of these."""

GOOD, WARNING, BAD, NEUTRAL, UNIMPORTANT = "green", "orange", "red", "blue", "#8e8e8e"
"""Colours of verdicts; orange is for what wants a look, red for what wants a person now."""

PER_SECOND = "suffix:/s"
"""Unit of rates."""

YELLOW, LIGHT_BLUE, PURPLE = "#fade2a", "#8ab8ff", "#b877d9"
"""Further colours of series."""

OUTCOMES = {
    "none": UNIMPORTANT,
    "answered": GOOD,
    "apologised": WARNING,
    "failed": BAD,
    "ok": GOOD,
    "cancelled": UNIMPORTANT,
    "unchanged": GOOD,
    "changed": NEUTRAL,
    "retried": WARNING,
    "skipped": UNIMPORTANT,
    "cooldown": LIGHT_BLUE,
    "rate_limited": WARNING,
    "timeout": YELLOW,
    "unavailable": BAD,
    "auth": PURPLE,
    "fallback_refused": WARNING,
    "deadline_exceeded": YELLOW,
    "providers_failed": BAD,
    "overloaded": PURPLE,
    "unreachable": BAD,
    "lost": YELLOW,
}
"""Colours of outcomes and reasons, wherever one is a series."""


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    expression: str
    """PromQL, with Grafana's variables."""

    legend: str = ""
    """Name of its series; ``{{label}}`` is filled in."""


Words = Mapping[float, tuple[str, str]]
"""What a value is called, and its colour."""

Limits = Sequence[tuple[float, str]]
"""From which value on a colour holds; below the first it is green."""


def words(
    title: str, description: str, query: Query, said: Words, *, unit: str = "none", limits: Limits = ()
) -> dashboard.Panel:
    """Make a panel that answers the question of its title in a word, or in a number that has none."""
    panel = _stat(title, description, [query], unit).mappings(_mappings(said))
    return panel.thresholds(_thresholds(limits, GOOD)).build()


def name(title: str, description: str, query: Query) -> dashboard.Panel:
    """Make a panel that says the name of its one series: green while its value is 0."""
    panel = _stat(title, description, [query], "none").text_mode(common.BigValueTextMode.NAME)
    return panel.thresholds(_thresholds([(1e-9, WARNING)], GOOD)).build()


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    limits: Limits = (),
    base: str = GOOD,
    decimals: int | None = None,
    nothing: str = "",
) -> dashboard.Panel:
    """Make a panel of large numbers, one for each series; `nothing` is said where nothing happened."""
    panel = _stat(title, description, queries, unit).thresholds(_thresholds(limits, base))
    if nothing:
        result = dashboard.ValueMappingResult(text=nothing, color=NEUTRAL)
        nan = dashboard.DashboardSpecialValueMapOptions(dashboard.SpecialValueMatch.NA_N, result)
        panel.mappings([dashboard.SpecialValueMap(nan)]).no_value(nothing)
    if decimals is not None:
        panel.decimals(decimals)
    return panel.build()


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    stacked: bool = False,
    limits: Limits = (),
    most: float | None = None,
    colours: Mapping[str, str] | None = None,
    limit: str = "",
) -> dashboard.Panel:
    """Make a graph over time.

    Args:
        title: What it shows.
        description: How to read it.
        queries: What is drawn.
        unit: Grafana's unit of the values.
        stacked: Draw areas one on top of the other.
        limits: Values drawn as dashed lines.
        most: Upper end of the axis.
        colours: Colour of a series, by its name or by ``/a regular expression/``; a later one holds.
        limit: Name of the series that the others should stay below; it is dashed.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_target(query, index) for index, query in enumerate(queries)])
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
    )
    if stacked:
        panel.stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL))
    if limits:
        panel.thresholds(_thresholds(limits, "transparent"))
        panel.thresholds_style(
            build_common.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        )
    if most is not None:
        panel.max(most)
    for series, colour in (colours or {}).items():
        fixed = [_fixed(colour)]
        if series.startswith("/"):
            panel.override_by_regexp(series, fixed)
        else:
            panel.override_by_name(series, fixed)
    if limit:
        dashed = dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
        empty = dashboard.DynamicConfigValue("custom.fillOpacity", 0)
        panel.override_by_name(limit, [_fixed(BAD), dashed, empty])
    return panel.build()


def timeline(title: str, description: str, query: Query, said: Words) -> dashboard.Panel:
    """Make a band for each series that shows when it was in which state."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_target(query, 0)])
        .mappings(_mappings(said))
        .thresholds(_thresholds([], GOOD))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .merge_values(True)  # noqa: FBT003  # the SDK's own signature
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .legend(_legend())
        .tooltip(_tooltip())
        .build()
    )


def rows(title: str, description: str, query: Query, columns: Mapping[str, str]) -> dashboard.Panel:
    """Make a table of what is now: `columns` gives each label, and ``Value``, its heading."""
    target = _target(query, 0).instant().format(PromQueryFormat.TABLE)
    order = {label: index for index, label in enumerate(columns)}
    shaped = dashboard.DataTransformerConfig(
        id_val="organize",
        options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": dict(columns)},
    )
    panel = table.Panel().title(title).description(description).datasource(DATASOURCE)
    return panel.targets([target]).transformations([shaped]).build()


def _stat(title: str, description: str, queries: Sequence[Query], unit: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_target(query, index).instant() for index, query in enumerate(queries)])
        .unit(unit)
        .reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .no_value("no data")
    )


def _target(query: Query, index: int) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).ref_id("ABCDEFGH"[index]).interval(MIN_STEP)
    return made.legend_format(query.legend or "__auto").range()


def _fixed(colour: str) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _mappings(said: Words) -> list[dashboard.ValueMapping]:
    results = {
        f"{value:g}": dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(said.items())
    }
    return [dashboard.ValueMap(options=results)]


def _thresholds(limits: Limits, base: str) -> build.ThresholdsConfig:
    steps = [
        dashboard.Threshold(None, base),
        *(dashboard.Threshold(value, colour) for value, colour in limits),
    ]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _legend() -> build_common.VizLegendOptions:
    legend = build_common.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    return legend.placement(common.LegendPlacement.BOTTOM).show_legend(True)  # noqa: FBT003


def _tooltip() -> build_common.VizTooltipOptions:
    return (
        build_common.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
