"""What a person reads of backtests in a terminal: figures, the ledger, and runs side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torghut_core.cli.render import counted, new_console, plain_table, print_figures, print_rows, print_summary
from torghut_core.research.comparison import compare
from torghut_core.research.performance.summary import figure_text, label_of
from torghut_core.timestamps import format_timestamp

if TYPE_CHECKING:
    from torghut_core.research.belief.judge import Belief
    from torghut_core.research.comparison import Comparison
    from torghut_core.research.experiments import Experiment
    from torghut_core.research.study import Studied

_OF_COSTS = ("total_return_pct", "sharpe", "max_drawdown_pct", "round_trips", "costs")
_OF_LEDGER = ("total_return_pct", "sharpe", "max_drawdown_pct", "round_trips")


def print_backtest(studied: Studied, belief: Belief, folder: Path) -> None:
    """Print what was traded, its figures beside the benchmark and at other costs, how far to believe it, and where everything is."""
    console, done = new_console(), studied.done
    print_summary(done, None, None)
    console.print()
    print_figures(done.statistics)
    if done.series and done.starting_cash > 0:
        against = done.against(studied.benchmark)
        known = {name: value for name, value in against.items() if not math.isnan(value)}
        texts = (f"{label_of(name)} {figure_text(name, value)}" for name, value in known.items())
        console.print(f"beside {studied.benchmark}: {', '.join(texts)}", markup=False)
    if studied.costs:
        console.print()
        table = plain_table("costs", *map(label_of, _OF_COSTS))
        for factor, figures in studied.costs.items():
            table.add_row(f"{factor.normalize():f}x", *(figure_text(name, figures.get(name)) for name in _OF_COSTS))
        console.print(table)
        console.print("how the price moved from decision to fill is part of all costs, and stays at each multiple")
    console.print()
    console.print(belief.sentence, style="bold", markup=False)
    if drawn := done.monte_carlo.sentence:
        console.print(drawn, markup=False)
    console.print(f"results: {folder}", markup=False)
    console.print(f"page:    {folder / 'page.html'}", markup=False)


def print_experiments(rows: Sequence[Experiment], asked: str) -> None:
    """Print the ledger, a line for each run; `asked` says of which runs, "" of all."""
    if not rows:
        print(
            f"no run {asked} (torghut experiments lists all)" if asked else "nothing was tried yet (torghut backtest)"
        )
        return
    lines = [
        {
            "run": row.run_id,
            "author": row.author,
            "strategy": row.strategy,
            "from": format_timestamp(row.began_at)[:10],
            "to": format_timestamp(row.ended_at)[:10],
            "variants": f"{row.variants:,}",
            **{label_of(name): figure_text(name, row.figures.get(name)) for name in _OF_LEDGER},
        }
        for row in rows
    ]
    print_rows(lines, list(lines[0]))
    print(f"{counted(len(rows), 'run')}, {counted(sum(row.variants for row in rows), 'variant')}")


def print_experiment(row: Experiment) -> None:
    """Print all that the ledger has of a run."""
    found = compare([row])
    lines = [{"": name, "value": value} for name, (value,) in found.described.items() if value not in ("", None)]
    times = {"created at": format_timestamp(row.created_at), "folder": row.folder}
    lines += [{"": name, "value": value} for name, value in times.items()]
    lines += [{"": label_of(name), "value": figure_text(name, value)} for name, (value,) in found.figures.items()]
    print(row.run_id)
    print_rows(lines, ["", "value"])


def print_comparison(found: Comparison, page: Path | None) -> None:
    """Print figures side by side, then what differs."""
    names = [run.run_id for run in found.runs]
    known = {name: values for name, values in found.figures.items() if any(value is not None for value in values)}
    rows = [(label_of(name), [figure_text(name, value) for value in values]) for name, values in known.items()]
    _print_columns("figure", names, rows)
    for name, sentence in zip(names, found.sentences, strict=True):
        if sentence:
            print(f"{name}: {sentence}")
    print()
    if found.differences:
        _print_columns("what differs", names, found.differences.items())
    else:
        print("nothing differs but the runs themselves")
    if page is not None:
        print(f"page: {page}")


def _print_columns(title: str, names: Sequence[str], rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
    numbered = [
        f"{name}" if names.index(name) == place else f"{name} ({place + 1})" for place, name in enumerate(names)
    ]
    lines = [{title: name, **dict(zip(numbered, values, strict=True))} for name, values in rows]
    print_rows(lines, [title, *numbered])
