"""The page of a walk forward: what its days out of sample came to, its folds, and how the choice moves from one to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from markupsafe import Markup, escape

from torghut_core.model.market import FloatArray
from torghut_core.research.pages.documents import Card, write_document
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.performance.summary import figure_text, line_points, number
from torghut_core.research.walk_forward.walk import NONE, WalkForward

WIDTH, HEIGHT = 1100, 200
"""Of the line of equity, in its own units."""
MOST_COLUMNS = 400
"""Sets in the heat map at most; of more, those that are best on average."""


def write_walk_forward(path: Path, title: str, done: WalkForward, result: Mapping[str, Any]) -> None:
    """Write the page of a walk forward.

    Parameters
    ----------
    path : of the HTML file.
    result : what ``result.json`` has; what the run is made of is listed from it.

    Raises
    ------
    StateError : the file cannot be written.
    """
    dates = done.days.dates
    objective = FIGURES[done.objective].label
    heat, shown = _heat(done)
    write_document(
        path,
        "walk_forward.html",
        title=title,
        subtitle=f"{dates[0]} to {dates[-1]}, {done.plan}, chosen by {objective} from {len(done.trials):,} parameter sets",
        objective=objective,
        belief=done.belief.sentence,
        cards=_cards(done),
        equity=_equity(done),
        axes=[path.removeprefix("params.") for path in done.trials[0].params],
        folds=[_row(row, list(done.trials[0].params)) for row in done.to_json()["folds"]],
        heat=heat,
        shown=shown,
        facts=_facts(done, result),
    )


def _cards(done: WalkForward) -> list[Card]:
    found, believed = done.figures, done.belief
    trained, tested = (_mean([getattr(each, name) for each in done.folds]) for name in ("trained", "tested"))
    paths = done.path_values[~np.isnan(done.path_values)]
    cards = [
        ("Return", figure_text("total_return_pct", found["total_return_pct"]), f"{found['days']:,} days out of sample"),
        ("Sharpe ratio", number(found["sharpe"]), "a year, out of sample"),
        ("Max drawdown", figure_text("max_drawdown_pct", found["max_drawdown_pct"]), "at the ends of days"),
        ("Round trips", f"{found['round_trips']:,}", f"{figure_text('win_rate_pct', found['win_rate_pct'])} won"),
        ("Objective when tested", number(tested), f"{number(trained)} where it was chosen, means of folds"),
        (
            "Overfitting (PBO)",
            number(believed.overfitting),
            f"0.5 is a coin; lost in {number(100 * believed.losses)} %",
        ),
        ("Deflated Sharpe", number(believed.deflated_sharpe), "at least 0.95 is wanted"),
        ("Choice changed", f"{done.changes:,}", f"in {len(done.folds):,} folds"),
    ]
    if len(paths) > 1:
        spread = f"{number(float(paths.min()))} to {number(float(paths.max()))}"
        cards.append((f"Objective of {len(paths)} paths", spread, f"median {number(float(np.median(paths)))}"))
    return [Card(label, value, note) for label, value, note in cards]


def _row(row: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    params = row["params"] or {}
    return {
        "tested_on": [f"{first} to {last}" for first, last in row["test"]],
        "chosen_on": [f"{first} to {last}" for first, last in row["train"]],
        "params": [str(params.get(axis, "none")) for axis in axes],
        **{name: number(row[name]) for name in ("trained", "tested", "median", "agreement")},
    }


def _facts(done: WalkForward, result: Mapping[str, Any]) -> dict[str, str]:
    names = ("run_id", "created_at", "author", "strategy", "universe", "catalog_digest", "code_digest", "data_digest")
    facts = {name.replace("_", " "): _text(result[name]) for name in names if name in result}
    if done.refused:
        facts["sets that could not be tried"] = f"{len(done.refused):,}: {'; '.join(result['reasons'])}"
    return facts


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _equity(done: WalkForward) -> Markup:
    """The line of equity, with a mark at the beginning of each fold."""
    tested, _ = done.out_of_sample
    equity = np.append(done.cash, done.equity)
    low, high = float(equity.min()), float(equity.max())
    spread = (high - low) or 1.0
    x = np.linspace(0, 1, len(equity))
    starts = np.cumsum([0, *(len(done.folds[fold].fold.tests[place]) for fold, place in done.paths[0])])[:-1]
    marks = "".join(
        f"<line class='edge' x1='{at:.1f}' x2='{at:.1f}' y1='0' y2='{HEIGHT}'/>" for at in (x[starts] * WIDTH).tolist()
    )
    base = (high - done.cash) / spread * HEIGHT
    dates = done.days.dates[tested]
    return Markup(  # noqa: S704 - numbers and dates alone
        f"<svg class='lines' viewBox='-60 -10 {WIDTH + 70} {HEIGHT + 40}' role='img' "
        f"aria-label='Equity from {done.cash:,.2f} to {equity[-1]:,.2f}'>"
        f"{marks}<line class='edge' x1='0' x2='{WIDTH}' y1='{base:.1f}' y2='{base:.1f}'/>"
        f"<polyline class='line' points='{line_points(x, (equity - low) / spread, WIDTH, HEIGHT)}'/>"
        f"<text x='-60' y='8'>{high:,.0f}</text><text x='-60' y='{HEIGHT}'>{low:,.0f}</text>"
        f"<text x='0' y='{HEIGHT + 20}'>{dates[0]}</text>"
        f"<text x='{WIDTH}' y='{HEIGHT + 20}' text-anchor='end'>{dates[-1]}</text></svg>"
    )


def _heat(done: WalkForward) -> tuple[Markup, str]:
    """The objective of sets by fold where they were chosen, and which of the sets are shown, in words."""
    trained = done.trained
    shown = np.arange(trained.shape[1])
    if len(shown) > MOST_COLUMNS:
        chosen = {each.best for each in done.folds} - {NONE}
        ranks = np.nan_to_num(trained, nan=-np.inf).argsort(axis=1).argsort(axis=1).mean(axis=0)
        ranks[sorted(chosen)] = np.inf
        shown = np.sort(np.argsort(-ranks, kind="stable")[:MOST_COLUMNS])
    width, height = WIDTH / len(shown), 16
    cells = []
    for fold, each in enumerate(done.folds):
        strength = _strength(trained[fold])[shown]
        for place, value in enumerate(strength.tolist()):
            box = f"x='{place * width:.1f}' y='{fold * height}' width='{width + 0.1:.1f}' height='{height}'"
            name = ", ".join(f"{path} {value}" for path, value in done.trials[int(shown[place])].params.items())
            label = f"<title>{escape(name)}: {number(float(trained[fold, shown[place]]))}</title>"
            cells.append(f"<rect class='cell' opacity='{value:.2f}' {box}>{label}</rect>")
            if shown[place] == each.best:
                cells.append(f"<rect class='chosen' {box}/>")
    tall = height * len(done.folds)
    text = "" if len(shown) == trained.shape[1] else f" (the best {len(shown)} of {trained.shape[1]:,})"
    drawn = f"<svg class='lines' viewBox='-2 -2 {WIDTH + 4} {tall + 4}' role='img' aria-label='Objective by fold and set'>{''.join(cells)}</svg>"
    return Markup(drawn), text  # noqa: S704 - names are escaped


def _strength(values: FloatArray) -> FloatArray:
    """From 0.05 for the lowest to 1 for the highest; 0 where there is none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    low, spread = known.min(), float(np.ptp(known)) or 1.0
    return cast("FloatArray", np.nan_to_num(0.05 + 0.95 * (values - low) / spread))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
