"""Values as Grafana writes them, in the units that the dashboards use."""

from __future__ import annotations

import math

_TIMES = (
    (86400.0, "days"),
    (3600.0, "hours"),
    (60.0, "mins"),
    (1.0, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
)
_SHORT = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"))


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a value with its unit.

    Raises:
        ValueError: the unit is none of those in use.
    """
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{_number(value * 100, decimals)}%"
    if unit == "currencyUSD":
        return f"${_number(value, decimals)}"
    if unit == "s":
        return _time(value, decimals)
    if unit == "short":
        return _short(value, decimals)
    if unit == "none":
        return _number(value, decimals)
    if unit.startswith("suffix:"):
        return _number(value, decimals) + unit.removeprefix("suffix:")
    raise ValueError(f"{unit}: no such unit here; add it")


def _time(seconds: float, decimals: int | None) -> str:
    if not seconds:
        return "0 s"
    size, name = next((one for one in _TIMES if abs(seconds) >= one[0]), _TIMES[-1])
    count = seconds / size
    return f"{_number(count, decimals)} {name.removesuffix('s') if count == 1 and len(name) > 2 else name}"


def _short(value: float, decimals: int | None) -> str:
    for size, suffix in _SHORT:
        if abs(value) >= size:
            return _number(value / size, decimals) + suffix
    return _number(value, decimals)


def _number(value: float, decimals: int | None) -> str:
    """Write three significant digits, or `decimals`."""
    if decimals is None:
        magnitude = math.floor(math.log10(abs(value))) if value else 0
        decimals = min(max(2 - magnitude, 0), 6)
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{decimals}f}"
