"""The command that tries many parameter sets: `sweep`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from torghut_core.cli.help import RESEARCH, command
from torghut_core.cli.options import INTERRUPTED, STATE, AsJson, CatalogOption, State, catalog_path

app = typer.Typer()


@command(
    app,
    "torghut sweep --catalog catalog/trading.yaml --strategy macd-rsi-es --set params.rsi_buy=30:50:5 --set params.rsi_sell=50,55,60\n"
    "torghut sweep bars.parquet --catalog c.yaml --set params.fast=5:50:5 --search tpe --trials 200 --objective total_return_pct",
    panel=RESEARCH,
)
def sweep(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TAPE", help="Parquet, CSV or JSONL tapes (default: those of the catalog).", show_default=False
        ),
    ] = None,
    catalog: CatalogOption = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Trade this strategy of the catalog alone.", show_default="all")
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUES",
            help="What is varied: a list (20,50,100) or a range with both ends (5:50:5). May be repeated.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[str, typer.Option(metavar="NAME", help="grid, random or tpe.")] = "grid",
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="How many sets random and tpe try.", show_default="100; grid: all"),
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="FIGURE", help="By which figure the sets are compared, highest first.")
    ] = "sharpe",
    minimize: Annotated[bool, typer.Option("--minimize", help="Lowest first.")] = False,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Processes, or the address of a cluster, such as ray://local.",
            show_default="one for each processor",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of random and tpe.")] = 0,
    actions: Annotated[
        list[Path] | None,
        typer.Option(
            "--actions",
            metavar="FILE",
            help="Tape of corporate actions. May be repeated (default: those of the catalog).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the results.", show_default="a folder in STATE/sweeps"),
    ] = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Try many parameter sets of a catalog on recorded tapes.

    Every set is a backtest of its own. What was tried is kept: after Ctrl-C, or whatever stopped it, the same command goes on from
    there.
    """
    from torghut_core.cli.render import print_sweep, progress
    from torghut_core.research.sweeps.files import folder_name, identity, keep
    from torghut_core.research.sweeps.results import Objective, run_sweep
    from torghut_core.research.sweeps.search import new_search
    from torghut_core.research.sweeps.sweep import open_sweep
    from torghut_core.research.sweeps.table import open_table

    goal = Objective(objective, is_minimized=minimize)
    with open_sweep(
        catalog_path(catalog), tapes or [], axes or (), strategy=strategy, workers=workers, actions=actions or ()
    ) as opened:
        plan = new_search(search, opened.runner.axes, trials, seed)
        whose = identity(opened, search, plan, seed, goal)
        folder = out or state / "sweeps" / folder_name(whose)
        with open_table(folder, whose, opened.runner.axes) as table:
            print(f"{plan.total:,} sets {opened.way}; results in {folder}", file=sys.stderr)
            with progress(plan.total, "sweep", "sets") as advance:
                done = run_sweep(opened, plan, goal, table, advance)
            kept = keep(folder, done, opened, search, state)
    if as_json:
        print(json.dumps(kept))
    else:
        print_sweep(done, folder, (kept["belief"] or {}).get("sentence", ""))
    if not done.is_complete:
        print(
            f"{len(done.trials):,} of {done.total:,} sets are done; the same command goes on from there",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED)
