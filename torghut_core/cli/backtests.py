"""Commands for backtests and what was tried: `backtest` and `experiments`."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torghut_core.cli.help import RESEARCH, command
from torghut_core.cli.options import STATE, AsJson, CatalogOption, State, catalog_path
from torghut_core.errors import InputError, StateError

if TYPE_CHECKING:
    from torghut_core.research.experiments import Experiment

app = typer.Typer()


@command(
    app,
    "torghut backtest bars.parquet --catalog catalog.yaml\n"
    "torghut backtest bars.parquet --catalog catalog.yaml --strategy trend --start 2025-01-01 --costs 0,1,2 --out trend-2025",
    panel=RESEARCH,
)
def backtest(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TAPE", help="Parquet, CSV or JSONL tapes (default: those of the catalog).", show_default=False
        ),
    ] = None,
    catalog: CatalogOption = None,
    state: State = STATE,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Trade this entry of the catalog alone (default: all that are enabled)."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Trade on what becomes known after it; before that, features warm up. A date, or a time with its zone.",
        ),
    ] = "",
    end: Annotated[
        str, typer.Option(metavar="TIME", help="Trade on what becomes known up to it; a date is included.")
    ] = "",
    benchmark: Annotated[
        str,
        typer.Option(
            metavar="SYMBOL", help="Compare with a symbol of the tapes, or with buy-and-hold of what was traded."
        ),
    ] = "buy-and-hold",
    costs: Annotated[
        str, typer.Option(metavar="X,Y,...", help="Run it too at multiples of its fees and slippage, as 0,1,2.")
    ] = "",
    actions: Annotated[
        list[Path] | None,
        typer.Option(
            "--actions",
            metavar="FILE",
            help="Tape of corporate actions: splits and dividends. May be repeated (default: those of the catalog).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the results, new or empty (default: a new one in STATE/backtests)."
        ),
    ] = None,
    notes: Annotated[str, typer.Option(metavar="TEXT", help="What the ledger of experiments says of it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Trade recorded tapes in memory, and write figures, round trips, orders and a page.

    The run is added to the ledger (`torghut experiments`).
    """
    from torghut_core.cli.render import progress
    from torghut_core.installation.state_directory import StateDirectory
    from torghut_core.research.experiments import new_run_id, tried
    from torghut_core.research.pages.documents import charts_script
    from torghut_core.research.run_folder import check_free, experiment_of, save_backtest, summary
    from torghut_core.research.study import open_study

    path, run_id = catalog_path(catalog), new_run_id("backtest")
    kept = StateDirectory(state).path
    folder = out or kept / "backtests" / run_id
    check_free(folder)
    charts_script()  # what is not installed is said before anything is run
    study = open_study(
        path,
        tapes or [],
        strategy=strategy,
        start=start,
        end=end,
        benchmark=benchmark,
        costs=_multiples(costs),
        actions=actions or (),
    )
    with progress(study.total, "backtest") as advance:
        studied = study.run(advance)
    done = studied.done
    experiment = experiment_of(done, run_id=run_id, notes=notes, folder=str(folder.absolute()))
    belief = done.belief(tried(state, experiment))
    title = strategy or ", ".join([path.name, *(tape.name for tape in tapes or [])])
    save_backtest(folder, done, experiment, belief=belief, title=title, benchmark=benchmark, costs=studied.costs)
    if as_json:
        print(json.dumps(summary(done, experiment, belief, benchmark, studied.costs)))
    else:
        from torghut_core.cli.render_backtest import print_backtest

        print_backtest(studied, belief, folder)
    enter(state, experiment)


@command(
    app,
    "torghut experiments\ntorghut experiments --strategy trend --since 2026-11-01\ntorghut experiments backtest-20261130",
    panel=RESEARCH,
)
def experiments(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="All that is known of one run: its id, or the beginning of it.")
    ] = "",
    strategy: Annotated[str, typer.Option(metavar="NAME", help="Only runs in which it traded.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs since then: a date (UTC), or a time with its zone.")
    ] = "",
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """List what was tried: every backtest, sweep and walk-forward, and what came out."""
    from contextlib import closing

    from torghut_core.cli.render_backtest import print_experiment, print_experiments
    from torghut_core.research.experiments import Ledger
    from torghut_core.research.study import moment

    with closing(Ledger.open(state, exists=True)) as ledger:
        if run:
            one = ledger.get(run)
            print(json.dumps(one.to_json())) if as_json else print_experiment(one)
            return
        rows = ledger.find(strategy=strategy, since=moment("since", since) if since else 0)
    if as_json:
        print(json.dumps([row.to_json() for row in rows]))
    else:
        asked = [f"of {strategy!r}"] * bool(strategy) + [f"since {since}"] * bool(since)
        print_experiments(rows, " ".join(asked))


def enter(state: Path, experiment: Experiment) -> None:
    """Add a run to the ledger.

    Raises
    ------
    StateError : it cannot be written; the message says that the results are kept.
    """
    from contextlib import closing

    from torghut_core.research.experiments import Ledger

    try:
        with closing(Ledger.open(state)) as ledger:
            ledger.add(experiment)
    except StateError as error:
        raise StateError(
            f"the results are in {experiment.folder}, and the run is not in the ledger of experiments: {error}"
        ) from error


def _multiples(text: str) -> list[Decimal]:
    """The numbers of --costs."""
    try:
        found = [Decimal(each.strip()) for each in text.split(",")] if text else []
    except InvalidOperation:
        found = [Decimal("NaN")]
    if not all(each.is_finite() and each >= 0 for each in found):
        raise InputError(f"--costs {text}: is no list of numbers from 0 on (as in 0,1,2)")
    return found
