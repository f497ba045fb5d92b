"""The page of a sweep: the best sets, the objective over each pair of parameters, all sets as lines, and its distribution.

The drawings are made in the browser, of the place of each set on each axis and of its objective.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torghut_core.research.pages.documents import Card, write_document
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.performance.summary import figure_text
from torghut_core.research.sweeps.results import SweepResult
from torghut_core.research.sweeps.search import value_text
from torghut_core.research.sweeps.sweep import Trial

_BEST = 50
_LINES = 4_000
"""So many sets are drawn as lines: half of them the best ones, the others spread over the rest."""

COLUMNS = ("total_return_pct", "sharpe", "max_drawdown_pct", "round_trips", "win_rate_pct", "fees")
"""Figures that are shown beside the objective."""


def write_sweep(path: Path, title: str, done: SweepResult, facts: Mapping[str, Any], belief: str = "") -> None:
    """Write the page of a sweep.

    Parameters
    ----------
    path : of the HTML file; its folder exists.
    facts : what is known of the run, by name, listed at the end.
    belief : a sentence on how far the best set can be believed.

    Raises
    ------
    StateError : the file cannot be written.
    """
    best, label, unit = done.best, FIGURES[done.objective.name].label, FIGURES[done.objective.name].unit
    columns = [done.objective.name, *(name for name in COLUMNS if name != done.objective.name)]
    counts = done.outcomes
    lacking = counts["invalid"] + counts["failed"]
    paths = [axis.path for axis in done.axes]
    write_document(
        path,
        "sweep.html",
        scripts=("sweep.js",),
        data=_data(done, best, f"{label}, {unit}" if unit in ("%", "bps", "days", "s") else label) if best else None,
        title=title,
        subtitle=f"{len(done.trials):,} of {done.total:,} sets, {done.way}",
        cards=_cards(done, best, label),
        belief=belief,
        objective=label,
        order="lowest" if done.objective.is_minimized else "highest",
        paths=paths,
        numbered=list(enumerate(paths)),
        columns=[FIGURES[name].label for name in columns],
        best=[_row(trial, done, columns) for trial in best[:_BEST]],
        count=len(best),
        drawn_note=f"{min(len(best), _LINES):,} of {len(best):,} sets",
        reasons=list(done.reasons.items())[:_BEST],
        reason_note=f"{lacking:,}: {counts['invalid']:,} invalid, {counts['failed']:,} failed",
        facts={name.replace("_", " "): _text(value) for name, value in facts.items()},
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _cards(done: SweepResult, best: list[Trial], label: str) -> list[Card]:
    name = done.objective.name
    values = np.array([trial.figures[name] for trial in best])
    gains = [trial.figures["total_return_pct"] for trial in done.trials if trial.figures]
    won = sum(gain > 0 for gain in gains)
    counts = done.outcomes
    return [
        Card("Best", figure_text(name, values[0]) if len(values) else "none", f"{label}, of {len(best):,} sets"),
        Card("Median", figure_text(name, float(np.median(values))) if len(values) else "none", label),
        Card("Sets with a gain", f"{100 * won / len(gains):.0f} %" if gains else "none", f"{won:,} of {len(gains):,}"),
        Card("Tried", f"{len(done.trials):,}", f"of {done.total:,}"),
        Card("Invalid", f"{counts['invalid']:,}", "refused by the catalog"),
        Card("Failed", f"{counts['failed']:,}", "raised, or its process died"),
    ]


def _row(trial: Trial, done: SweepResult, columns: list[str]) -> list[str]:
    params = [value_text(trial.params[axis.path]) for axis in done.axes]
    return [f"{trial.number:,}", *params, *(figure_text(name, trial.figures.get(name, math.nan)) for name in columns)]


def _data(done: SweepResult, best: list[Trial], label: str) -> dict[str, Any]:
    """What the page draws: a set as the places of its values, and the objective, the best set first."""
    places, axes = [], []
    for axis in done.axes:
        order = sorted(axis.values, key=_rank)
        place = {value_text(value): number for number, value in enumerate(order)}
        places.append(np.array([place[value_text(trial.params[axis.path])] for trial in best]))
        axes.append({"path": axis.path, "values": list(place)})
    most = _LINES // 2
    rest = np.linspace(most, len(best) - 1, min(most, len(best) - most)) if len(best) > most else np.empty(0)
    return {
        "objective": label,
        "lower": done.objective.is_minimized,
        "axes": axes,
        "places": places,
        "values": np.array([float(f"{trial.figures[done.objective.name]:.6g}") for trial in best]),
        "lines": np.append(np.arange(min(most, len(best))), rest.astype(int)),
    }


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers in their order, then whatever else there is as it is written."""
    is_number = isinstance(value, (int, float)) or hasattr(value, "is_finite")
    return (0, value) if is_number else (1, value_text(value))
