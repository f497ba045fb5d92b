"""The command `report`: what came out of runs, and of a live day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torghut_core.cli.help import EVERYDAY, command
from torghut_core.cli.options import STATE, AsJson, State

app = typer.Typer()


@command(
    app,
    "torghut report --live 2026-01-05\ntorghut report --live 2026-01-05 --account paper --store .torghut/ta --page day.html",
    panel=EVERYDAY,
)
def report(
    live: Annotated[
        str,
        typer.Option("--live", metavar="DAY", help="A day of a live account, 2026-01-05 (UTC), beside its backtest."),
    ],
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="LABEL", help="Its label (default: the one that traded on the day)."),
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(
            "--catalog", metavar="PATH", help="What is backtested (default: what traded, as it was written down)."
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", metavar="DIR", help="State directory with the signal store (default: --state).", file_okay=False
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write an HTML page.", dir_okay=False)
    ] = None,
    state: State = STATE,
    as_json: AsJson = False,
) -> None:
    """Compare a day of `torghut run` with a backtest of that day on what was stored.

    Decisions are matched, and each order has its cost against the price that it was decided at, what the simulator lets
    expect, and its latencies.
    """
    from torghut_core.cli.render import print_live_day, progress
    from torghut_core.research.live_day import open_live_day
    from torghut_core.trading.totals import to_json

    with (
        open_live_day(live, state, account=account, store=store, catalog=catalog) as make,
        progress(None, "backtest") as advance,
    ):
        day = make(advance)
    if page is not None:
        from torghut_core.research.live_day_page import write_live_day

        write_live_day(page, day)
    if as_json:
        print(to_json(day.to_json()))
    else:
        print_live_day(day, page)
