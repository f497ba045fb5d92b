"""What a walk forward leaves in its folder: the result, tables, and a page that needs no script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup, escape

from torghut_core.audit.values import plain
from torghut_core.model.market import FloatArray
from torghut_core.research.belief.judge import Answer
from torghut_core.research.experiments import Experiment, Ledger
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.run_folder import RESULT, new_folder
from torghut_core.research.sweeps.sweep import Sweep
from torghut_core.research.walk_forward.walk import NONE, WalkForward

WIDTH = 1100
MOST_COLUMNS = 400
"""Sets in the heat map at most; of more, those that are best on average."""


def equity_table(done: WalkForward) -> pa.Table:
    """A row for each tested day: time (UTC), equity, drawdown, return, and the fold and set that it is of."""
    tested, returns = done.out_of_sample
    fold_of = np.concatenate([np.full(len(done.folds[fold].fold.tests[place]), fold) for fold, place in done.paths[0]])
    equity = done.equity
    highest = np.maximum(np.maximum.accumulate(equity), done.cash)
    return pa.table(
        {
            "time": pa.array(done.ends[tested]).cast(pa.timestamp("ns", "UTC")),
            "equity": equity,
            "drawdown": equity / highest - 1,
            "return": returns,
            "fold": fold_of,
            "set": np.array([done.folds[fold].best for fold in fold_of.tolist()]),
        }
    )


def trial_table(done: WalkForward) -> pa.Table:
    """A row for each fold and set: its parameters, the objective where it was chosen and where it was tested."""
    folds, sets = done.trained.shape
    paths = list(done.trials[0].params)
    columns: dict[str, Any] = {"fold": np.repeat(np.arange(folds), sets), "set": np.tile(np.arange(sets), folds)}
    for path in paths:
        columns[path] = [str(trial.params[path]) for trial in done.trials] * folds
    columns |= {"trained": done.trained.ravel(), "tested": done.tested.ravel()}
    columns["is_chosen"] = columns["set"] == np.repeat([each.best for each in done.folds], sets)
    return pa.table(columns)


def keep(
    folder: Path, done: WalkForward, sweep: Sweep, ledger: Ledger, run_id: str
) -> tuple[WalkForward, dict[str, Any]]:
    """Write everything to a folder, and add the run to the ledger; return it as it counts in the ledger, and the result.

    Parameters
    ----------
    folder : a new one, or an empty one; it is there as a whole, or not at all.
    done, sweep : the run, and what made it.
    ledger : says how often the same was tried in another way before.
    run_id : see `new_run_id`.

    Raises
    ------
    InputError : there is something in the folder.
    StateError : the folder cannot be written; or the ledger, and then the folder is there.
    TapeError : a tape is gone.
    """
    found, tape = done.to_json(), sweep.runner.tape
    experiment = Experiment.of(
        replace(sweep.generation, source=tape.source, catalog=sweep.runner.catalog),
        "walk-forward",
        run_id=run_id,
        began_at=tape.began_at,
        ended_at=tape.ended_at,
        figures=done.figures,
        params={axis.path: plain(axis.values) for axis in sweep.runner.axes},
        folds=found["plan"] | {"figures": found["folds"]},
        variants=len(done.trials) + len(done.refused),
        selection=f"highest {done.objective} where it was chosen",
        folder=str(folder.absolute()),
    )
    same = experiment.strategy, experiment.data_digest
    before = ledger.find(kind="walk-forward")
    others = {row.is_again for row in before if (row.strategy, row.data_digest) == same} - {experiment.is_again}
    done = replace(done, earlier=len(others))
    result = done.to_json() | experiment.to_json()
    write(folder, done, result, f"Walk forward of {experiment.strategy}")
    ledger.add(experiment)
    return done, result


def write(folder: Path, done: WalkForward, result: Mapping[str, Any], title: str) -> None:
    """Write tables, page and ``result.json``; raises as `keep`."""
    with new_folder(folder) as made:
        pq.write_table(equity_table(done), made / "equity.parquet")
        pq.write_table(trial_table(done), made / "trials.parquet")
        (made / "page.html").write_text(page(done, result, title), encoding="utf-8")
        (made / RESULT).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def page(done: WalkForward, result: Mapping[str, Any], title: str) -> str:
    """The page of a walk forward, one HTML file."""
    dates = done.days.dates
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files("torghut_core.research.walk_forward").joinpath("walk_forward.html").read_text(encoding="utf-8")
    )
    heat, shown = _heat(done)
    return template.render(
        title=title,
        span=f"{dates[0]} to {dates[-1]}",
        plan=str(done.plan),
        objective=FIGURES[done.objective].label,
        sets=f"{len(done.trials):,} parameter sets",
        sentence=done.belief.sentence,
        tone={Answer.YES: "good", Answer.NO: "bad", Answer.UNKNOWN: ""}[done.belief.answer],
        cards=_cards(done),
        equity=_equity(done),
        axes=[path.removeprefix("params.") for path in done.trials[0].params],
        folds=[_row(row, list(done.trials[0].params)) for row in done.to_json()["folds"]],
        heat=heat,
        shown=shown,
        facts=_facts(done, result),
    )


def _cards(done: WalkForward) -> list[dict[str, str]]:
    found, believed = done.figures, done.belief
    trained, tested = (_mean([getattr(each, name) for each in done.folds]) for name in ("trained", "tested"))
    paths = done.path_values[~np.isnan(done.path_values)]
    cards = [
        ("Return", f"{number(found['total_return_pct'])} %", f"{found['days']:,} days out of sample"),
        ("Sharpe ratio", number(found["sharpe"]), "a year, out of sample"),
        ("Max drawdown", f"{number(found['max_drawdown_pct'])} %", "at the ends of days"),
        ("Round trips", f"{found['round_trips']:,}", f"{number(found['win_rate_pct'])} % won"),
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
    return [{"label": label, "value": value, "note": note} for label, value, note in cards]


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
    height = 240
    tested, _ = done.out_of_sample
    equity = np.append(done.cash, done.equity)
    low, high = float(equity.min()), float(equity.max())
    x = np.linspace(60, WIDTH - 10, len(equity))
    y = 10 + (high - equity) / ((high - low) or 1.0) * (height - 40)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    starts = np.cumsum([0, *(len(done.folds[fold].fold.tests[place]) for fold, place in done.paths[0])])[:-1]
    marks = "".join(
        f"<line class='edge' x1='{x[at]:.1f}' x2='{x[at]:.1f}' y1='10' y2='{height - 30}'/>" for at in starts
    )
    base = 10 + (high - done.cash) / ((high - low) or 1.0) * (height - 40)
    dates = done.days.dates[tested]
    return Markup(  # noqa: S704 - numbers and dates alone
        f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='Equity from {done.cash:,.2f} to {equity[-1]:,.2f}'>"
        f"{marks}<line class='zero' x1='60' x2='{WIDTH - 10}' y1='{base:.1f}' y2='{base:.1f}'/>"
        f"<polyline class='line' points='{points}'/>"
        f"<text x='0' y='18'>{high:,.0f}</text><text x='0' y='{height - 30}'>{low:,.0f}</text>"
        f"<text x='60' y='{height - 8}'>{dates[0]}</text>"
        f"<text x='{WIDTH - 10}' y='{height - 8}' text-anchor='end'>{dates[-1]}</text></svg>"
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
    width, height = (WIDTH - 10) / len(shown), 16
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
    drawn = f"<svg viewBox='-2 -2 {WIDTH} {tall + 4}' role='img' aria-label='Objective by fold and set'>{''.join(cells)}</svg>"
    return Markup(drawn), text  # noqa: S704 - names are escaped


def _strength(values: FloatArray) -> FloatArray:
    """From 0.05 for the lowest to 1 for the highest; 0 where there is none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    low, spread = known.min(), float(np.ptp(known)) or 1.0
    return cast("FloatArray", np.nan_to_num(0.05 + 0.95 * (values - low) / spread))


def number(value: float | None) -> str:
    """A number with two digits, or a dash where it is not known."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.2f}"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
