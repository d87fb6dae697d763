"""Alerts on objectives: at each pace they fire, stay quiet, keep to their floor, and end with their cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import chart_values
from tests.rules.burning import OBJECTIVES, TOTAL, Objective, Pace, Phase, expects, series
from tests.rules.promtool import run_promtool
from tests.rules.rendering import PLAIN, alerts, needed

PATH = "monitoring.rules."
VALUES = {value.path: value.default for value in chart_values.values()}
PLAIN_RULES = yaml.safe_load(PLAIN.read_text())
PACES = ("fast", "slow", "gradual")


def pace_of(objective: Objective, name: str) -> Pace:
    burn = {part: VALUES[f"{PATH}burnRates.{name}.{part}"] for part in ("factor", "long", "short", "for")}
    return Pace.of(burn, VALUES[f"{PATH}objectives.{objective.value}"])


def scenarios(objective: Objective, name: str) -> dict[str, tuple[list[Phase], list[dict[str, Any]]]]:
    """Name each scenario, with what happens in it and what is expected."""
    pace = pace_of(objective, name)
    firing = f'ALERTS{{alertname="{objective.alert}",alertstate="firing",burn_rate="{name}"}}'
    burn = {part: VALUES[f"{PATH}burnRates.{name}.{part}"] for part in ("long", "short")}
    short = f"konstruct:{objective.ratio}:ratio_rate{burn['short']} > {pace.threshold}"
    hot, cool = min(1.0, 1.5 * pace.threshold), 0.7 * pace.threshold
    few = VALUES[f"{PATH}{objective.least}"] * 0.4
    on, after = pace.wait + 3, pace.after
    brief = pace.short + pace.wait + 1  # the short window alone would let it fire
    return {
        "fires when it waited": (
            [Phase(on, hot)],
            [expects(firing, after(pace.wait), found=False), expects(firing, after(on), found=True)],
        ),
        "stays quiet below": (
            [Phase(pace.long, cool)],
            [expects(firing, after(at), found=False) for at in (on, pace.long)],
        ),
        "stays quiet when it is short": (
            [Phase(pace.long, 0), Phase(brief, hot)],
            [
                expects(short, after(pace.long + brief), found=True),
                expects(firing, after(pace.long + brief), found=False),
            ],
        ),
        "keeps to the floor": (
            [Phase(2, hot, few / 2), Phase(pace.long, 0, 0)],
            [expects(firing, after(at), found=False) for at in (on, pace.long)],
        ),
        "resets when it is over": (
            [Phase(pace.long, hot), Phase(pace.short + 1, 0)],
            [
                expects(firing, after(pace.long), found=True),
                expects(firing, after(pace.long + pace.short + 1), found=False),
            ],
        ),
        "resets when nothing comes any more": (
            [Phase(pace.long, hot), Phase(pace.short + 1, 0, 0)],
            [expects(firing, after(pace.long + pace.short + 1), found=False)],
        ),
    }


@pytest.mark.parametrize("name", PACES)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.alert)
def test_each_pace_of_each_objective(objective: Objective, name: str, tmp_path: Path) -> None:
    step = pace_of(objective, name).step
    tests = [
        {
            "name": title,
            "interval": step,
            "input_series": series(objective, phases),
            "promql_expr_test": wanted,
        }
        for title, (phases, wanted) in scenarios(objective, name).items()
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(needed(PLAIN_RULES, objective.alert)))
    file = tmp_path / "tests.yaml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": ["rules.yaml"], "evaluation_interval": step, "tests": tests}, width=10**6
        )
    )
    run_promtool("test", "rules", file)


def test_every_alert_on_an_objective_is_among_them() -> None:
    there = [rule for rule in alerts(PLAIN_RULES) if "burn_rate" in rule["labels"]]
    assert sorted((rule["alert"], rule["labels"]["burn_rate"]) for rule in there) == sorted(
        (objective.alert, name) for objective in OBJECTIVES for name in PACES
    )


def test_a_floor_is_below_what_these_series_count() -> None:
    """Else "fires" would prove nothing of the ratio."""
    assert max(VALUES[f"{PATH}{objective.least}"] for objective in OBJECTIVES) < TOTAL
