"""The figures of a run as people read them, and a backtest as a notebook shows it: these, and the line of its equity."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from torghut_core.model.market import FloatArray
from torghut_core.research.performance.curve import Curve, thinned
from torghut_core.research.performance.figures import COMPARED, FIGURES, unknown
from torghut_core.timestamps import DAY, HOUR, MINUTE, SECOND

_KNOWN = {**FIGURES, **COMPARED}

WIDTH, HEIGHT = 480, 120
"""Of the line, pixels."""
MOST_POINTS = 400


def summary_html(title: str, figures: Mapping[str, float], curve: Curve, notes: Sequence[str]) -> str:
    """The HTML of a notebook's cell; colours are those of the text around it.

    Parameters
    ----------
    title : above the table.
    figures : by name, see `FIGURES`.
    curve : of equity.
    notes : lines below the tables.
    """
    tables = "".join(
        f"<table style='display:inline-table;vertical-align:top;margin-right:2em'>"
        f"<tr><th colspan='2' style='text-align:left'>{html.escape(group)}</th></tr>"
        + "".join(
            f"<tr><td style='text-align:left'>{html.escape(label)}</td><td>{value}</td></tr>"
            for label, value in lines.items()
        )
        + "</table>"
        for group, lines in by_group(figures).items()
    )
    below = "".join(f"<div><em>{html.escape(line)}</em></div>" for line in notes)
    return f"<div><strong>{html.escape(title)}</strong>{_line(curve)}{tables}{below}</div>"


def by_group(figures: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Figures as text by label, in the groups of `FIGURES`; what is not known is left out.

    Examples
    --------
    >>> by_group({"sharpe": 1.25, "fills": 1200, "mean_holding_s": 93784.0, "calmar": float("nan")})
    {'risk': {'Sharpe ratio': '1.25'}, 'round trips': {'fills': '1,200', 'mean holding time': '1 d 2 h'}}
    """
    groups: dict[str, dict[str, str]] = {}
    for name, figure in FIGURES.items():
        value = figures.get(name, math.nan)
        if not math.isnan(value):
            groups.setdefault(figure.group, {})[figure.label] = written(value, figure.unit)
    return groups


def label_of(name: str) -> str:
    """What a figure is called."""
    return _KNOWN[name].label if name in _KNOWN else name.removesuffix("_pct").replace("_", " ")


def figure_text(name: str, value: float | None) -> str:
    """A figure with its unit; "-" where it is not known.

    Examples
    --------
    >>> figure_text("sharpe", 1.234), figure_text("fills", 1200), figure_text("cagr_pct", None)
    ('1.23', '1,200', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    return written(value, _KNOWN[name].unit if name in _KNOWN else "%" if name.endswith("_pct") else "")


def number(value: float | None) -> str:
    """A number with two digits; "-" where it is not known.

    Examples
    --------
    >>> number(1234.5), number(float("nan"))
    ('1,234.50', '-')
    """
    return "-" if value is None or not math.isfinite(value) else f"{value:,.2f}"


def written(value: float, unit: str) -> str:
    """A value as text, in a unit of `FIGURES`.

    Examples
    --------
    >>> written(-0.5, "%"), written(1200.5, "money"), written(61, "s"), written(2.25, "days")
    ('-0.50 %', '1,200.50', '1 min 1 s', '2.2 days')
    """
    match unit:
        case "count":
            return f"{value:,.0f}"
        case "s":
            return duration(round(value * SECOND))
        case "days":
            return f"{value:,.1f} days"
        case "" | "money":
            return f"{value:,.2f}"
    return f"{value:,.2f} {unit}"


def duration(ns: int) -> str:
    """A length of time in its two largest units.

    Examples
    --------
    >>> duration(200_000 * SECOND), duration(2 * HOUR), duration(SECOND // 4)
    ('2 d 7 h', '2 h', '0.25 s')
    """
    for unit, name, part, part_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", SECOND, "s"),
    ):
        if ns >= unit:
            rest = ns % unit // part
            return f"{ns // unit:,} {name}" + (f" {rest} {part_name}" if rest and ns < 100 * unit else "")
    return f"{ns / SECOND:.3g} s"


def not_known(figures: Mapping[str, float]) -> list[str]:
    """Which figures are not known and why, a line for each reason.

    Examples
    --------
    >>> not_known({"days": 3, "sharpe": float("nan"), "omega": float("nan")})
    ['Sharpe ratio, Omega ratio: needs 5 days, there are 3']
    """
    labels: dict[str, list[str]] = {}
    for name, reason in unknown(figures).items():
        labels.setdefault(reason, []).append(FIGURES[name].label)
    return [f"{', '.join(each)}: {reason}" for reason, each in labels.items()]


def _line(curve: Curve) -> str:
    if len(curve.equity) < 2:
        return ""
    points = thinned(curve, MOST_POINTS)
    span = float(points.event_ts[-1] - points.event_ts[0]) or 1.0
    low, high = float(points.equity.min()), float(points.equity.max())
    path = line_points(
        (points.event_ts - points.event_ts[0]) / span, (points.equity - low) / ((high - low) or 1.0), WIDTH, HEIGHT
    )
    return (
        f"<svg viewBox='-2 -2 {WIDTH + 4} {HEIGHT + 4}' style='display:block;width:100%;max-width:{WIDTH}px' role='img' "
        f"aria-label='equity from {low:,.2f} to {high:,.2f}'>"
        f"<polyline points='{path}' fill='none' stroke='currentColor' stroke-width='1.5'/></svg>"
    )


def line_points(x: FloatArray, y: FloatArray, width: float, height: float) -> str:
    """The points of a line in SVG: `x` and `y` are shares of width and height, 0 is the left and the bottom.

    Examples
    --------
    >>> line_points(np.array([0.0, 1.0]), np.array([0.25, 1.0]), 480, 120)
    '0.0,90.0 480.0,0.0'
    """
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in np.column_stack([x * width, (1 - y) * height]).tolist())
