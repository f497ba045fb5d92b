"""The command that chooses parameters on some days and tests them on others: `walk-forward`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torghut_core.cli.help import RESEARCH, command
from torghut_core.cli.options import STATE, AsJson, CatalogOption, State, catalog_path
from torghut_core.errors import InputError

if TYPE_CHECKING:
    from torghut_core.research.walk_forward.walk import Plan

app = typer.Typer()


@command(
    app,
    "torghut walk-forward bars.parquet --catalog c.yaml --set params.lookback=20:200:20 --train 180d --test 30d --purge 1d\n"
    "torghut walk-forward bars.parquet --catalog c.yaml --set params.lookback=20:200:20 --combinatorial 6,2 --embargo 5d",
    name="walk-forward",
    panel=RESEARCH,
)
def walk_forward(
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
            help="What is chosen: a list (20,50,100) or a range with both ends (5:50:5). May be repeated.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="Trading days to choose on, as in 180d.", show_default=False),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="Trading days to test on, as in 30d.", show_default=False),
    ] = None,
    purge: Annotated[str, typer.Option(metavar="DAYS", help="Days between both that are left out.")] = "0d",
    embargo: Annotated[
        str,
        typer.Option(
            metavar="DAYS", help="Further days after a test that are not chosen on; counts with --combinatorial."
        ),
    ] = "0d",
    combinatorial: Annotated[
        str | None,
        typer.Option(
            metavar="N,K", help="Cut the days in N parts, and test K of them in every combination.", show_default=False
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="FIGURE",
            help="The highest is chosen: sharpe, sortino, calmar, omega, total_return_pct, cagr_pct or max_drawdown_pct.",
        ),
    ] = "sharpe",
    workers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Processes.", show_default="one for each processor"),
    ] = None,
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
        typer.Option(metavar="DIR", help="Folder of the results.", show_default="a folder in STATE/walk-forwards"),
    ] = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Choose parameters on some days and test them on others, fold by fold.

    The page and the last line say whether what was tested can be told from luck. Each parameter set runs once over the tapes;
    nothing later than a day is in its return.
    """
    from contextlib import closing

    from torghut_core.cli.render import print_walk_forward, progress
    from torghut_core.research.experiments import Ledger, new_run_id
    from torghut_core.research.run_folder import check_free
    from torghut_core.research.sweeps.sweep import open_sweep
    from torghut_core.research.walk_forward.files import keep
    from torghut_core.research.walk_forward.walk import grid, run_walk_forward
    from torghut_core.trading.totals import to_json

    plan = _plan(train, test, purge, embargo, combinatorial)
    run_id = new_run_id("walk-forward")
    folder = out or state / "walk-forwards" / run_id
    check_free(folder)
    with (
        closing(Ledger.open(state)) as ledger,
        open_sweep(
            catalog_path(catalog), tapes or [], axes or (), strategy=strategy, workers=workers, actions=actions or ()
        ) as sweep,
    ):
        sets = grid(sweep)
        print(f"{len(sets):,} parameter sets {sweep.way}; {plan}", file=sys.stderr)
        with progress(len(sets), "walk forward", "sets") as advance:
            found = run_walk_forward(sweep, sets, plan, objective, on_progress=advance)
        found, result = keep(folder, found, sweep, ledger, run_id)
    if as_json:
        print(to_json(result))
    else:
        print_walk_forward(found, folder)


def _plan(train: str | None, test: str | None, purge: str, embargo: str, combinatorial: str | None) -> Plan:
    """How days are divided, of the options.

    Raises
    ------
    InputError : it is not said, said twice, or not a number of days.
    """
    from torghut_core.research.walk_forward.folds import parse_days
    from torghut_core.research.walk_forward.walk import Plan

    left_out = {"purge": parse_days(purge, "--purge"), "embargo": parse_days(embargo, "--embargo")}
    if combinatorial is not None:
        if train or test:
            raise InputError("--combinatorial divides all days: leave out --train and --test")
        match = re.fullmatch(r"(\d+),(\d+)", combinatorial.replace(" ", ""), re.ASCII)
        if match is None or int(match[1]) < 2:
            raise InputError(f"--combinatorial {combinatorial}: is not of the form N,K (as in 6,2)")
        return Plan(parts=int(match[1]), tested=int(match[2]), **left_out)
    if train is None or test is None:
        raise InputError("say how days are divided: --train 180d --test 30d, or --combinatorial 6,2")
    return Plan(train=parse_days(train, "--train"), test=parse_days(test, "--test"), **left_out)
