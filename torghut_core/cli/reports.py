"""The command `report`: runs side by side, or a live day beside its backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from torghut_core.cli.help import RESEARCH, command
from torghut_core.cli.options import STATE, AsJson, State
from torghut_core.errors import InputError

app = typer.Typer()


@command(
    app,
    "torghut report trend-2025 backtest-20261130-101500-3fa9c1 --page compared.html\ntorghut report --live 2026-01-05\ntorghut report --live 2026-01-05 --account paper --store .torghut/ta --page day.html",
    panel=RESEARCH,
)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs to compare: their folders, or their ids.", show_default=False),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option("--live", metavar="DAY", help="A day of a live account, 2026-01-05 (UTC), beside its backtest."),
    ] = None,
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
    """Compare runs, or a day of `torghut run` with a backtest of that day on what was stored.

    Of runs, their figures stand side by side, and what differs in parameters, code, data and costs. Of a day, decisions are matched, and each order has its cost against the price that it was decided at, what the simulator lets
    expect, and its latencies.
    """
    if bool(runs) == bool(live):
        raise InputError("give runs to compare, or a day with --live")
    if runs:
        options = {"--account": account, "--catalog": catalog, "--store": store}
        if wrong := [name for name, value in options.items() if value is not None]:
            raise InputError(f"{wrong[0]} goes with --live (leave it out, or give a day)")
        _compare(runs, state, page, as_json=as_json)
        return
    assert live is not None
    from torghut_core.cli.render import print_live_day, progress
    from torghut_core.research.live_day.day import open_live_day
    from torghut_core.trading.totals import to_json

    with (
        open_live_day(live, state, account=account, store=store, catalog=catalog) as make,
        progress(None, "backtest") as advance,
    ):
        day = make(advance)
    if page is not None:
        from torghut_core.research.live_day.page import write_live_day

        write_live_day(page, day)
    if as_json:
        print(to_json(day.to_json()))
    else:
        print_live_day(day, page)


def _compare(runs: list[str], state: Path, page: Path | None, *, as_json: bool) -> None:
    from torghut_core.cli.render_backtest import print_comparison
    from torghut_core.research.comparison import compare, find_runs, write_comparison

    found = compare(find_runs(runs, state))
    if page is not None:
        write_comparison(page, found)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        print_comparison(found, page)
