"""A backtest as a notebook shows it: its figures in a table, and the line of its equity."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

import numpy as np

from torghut_core.research.performance import Curve, thinned

WIDTH, HEIGHT = 480, 120
"""Of the line, pixels."""
MOST_POINTS = 400


def summary_html(title: str, figures: Mapping[str, float], curve: Curve) -> str:
    """The HTML of a notebook's cell; colours are those of the text around it.

    Parameters
    ----------
    title : above the table.
    figures : by name; what is not known is left out.
    curve : of equity.
    """
    rows = "".join(
        f"<tr><td style='text-align:left'>{html.escape(name)}</td><td>{value}</td></tr>"
        for name, value in written(figures).items()
    )
    return f"<div><strong>{html.escape(title)}</strong>{_line(curve)}<table>{rows}</table></div>"


def written(figures: Mapping[str, float]) -> dict[str, str]:
    """Figures as text: counts whole, others with two decimals, and what is not known left out."""
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        for name, value in figures.items()
        if not math.isnan(value)
    }


def _line(curve: Curve) -> str:
    if len(curve.equity) < 2:
        return ""
    points = thinned(curve, MOST_POINTS)
    span = float(points.event_ts[-1] - points.event_ts[0]) or 1.0
    low, high = float(points.equity.min()), float(points.equity.max())
    x = (points.event_ts - points.event_ts[0]) / span * WIDTH
    y = HEIGHT - (points.equity - low) / ((high - low) or 1.0) * HEIGHT
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in np.column_stack([x, y]).tolist())
    return (
        f"<svg viewBox='-2 -2 {WIDTH + 4} {HEIGHT + 4}' style='display:block;width:100%;max-width:{WIDTH}px' role='img' "
        f"aria-label='equity from {low:,.2f} to {high:,.2f}'>"
        f"<polyline points='{path}' fill='none' stroke='currentColor' stroke-width='1.5'/></svg>"
    )
