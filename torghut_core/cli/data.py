"""Commands of files of market data: `data import` and `data inspect`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from torghut_core.cli.help import MARKET_DATA, Group, command
from torghut_core.cli.options import AsJson
from torghut_core.errors import InputError

if TYPE_CHECKING:
    from torghut_core.market_data.imports.importer import Imported
    from torghut_core.market_data.inspection import Inspection

app = typer.Typer()
data_app = typer.Typer(cls=Group, help="Files of market data: into tapes, and what is in a tape.")
app.add_typer(data_app, name="data", rich_help_panel=MARKET_DATA)


@command(
    data_app,
    "torghut data import GOOG.csv --zone America/New_York --out goog.parquet\n"
    "torghut data import BTCUSDT-1m-2024-01.zip BTCUSDT-1m-2024-02.zip --out btc.parquet\n"
    "torghut data import Data/equity/usa/minute/spy/*_trade.zip --format lean --out spy.parquet\n"
    "torghut data import es.txt --columns time,open,high,low,close,volume --symbol ES --zone America/Chicago --out es.parquet",
    name="import",
)
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="CSV or JSON files, plain, gzipped or zipped.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="TAPE", help="Parquet tape to write.", dir_okay=False)],
    format_: Annotated[
        Literal["auto", "yahoo", "binance", "alpaca", "lean", "generic"],
        typer.Option("--format", help="Layout of the files; auto finds it in their columns and folders."),
    ] = "auto",
    columns: Annotated[
        str, typer.Option(metavar="NAMES", help="Names of the columns, in order: time,open,high,low,close,volume.")
    ] = "",
    symbol: Annotated[str, typer.Option(metavar="SYMBOL", help="Symbol of all rows.")] = "",
    timeframe: Annotated[str, typer.Option(metavar="NAME", help="Length of the bars: 1Sec, 1Min, 4Hour, 1Day.")] = "",
    zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Time zone of times that name none: America/New_York, UTC.")
    ] = "",
    epoch: Annotated[
        Literal["s", "ms", "us", "ns"] | None, typer.Option(help="Unit of epoch times (default: from their size).")
    ] = None,
    dates: Annotated[
        Literal["dmy", "mdy"] | None, typer.Option(help="Order of day and month, where the dates do not show it.")
    ] = None,
    decimal: Annotated[
        Literal["point", "comma"] | None, typer.Option(help="What begins decimals, where the numbers do not show it.")
    ] = None,
    times: Annotated[Literal["start", "end"], typer.Option(help="What the time of a bar is.")] = "start",
    divide_prices_by: Annotated[
        float | None,
        typer.Option(metavar="N", min=1e-9, help="For prices in parts of a unit: 10000 for hundredths of cents."),
    ] = None,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Adjust prices as the column of adjusted closes.")
    ] = False,
    on_bad_row: Annotated[
        Literal["fail", "skip"], typer.Option(help="Stop at a row that cannot be taken, or leave it out and say so.")
    ] = "fail",
    as_json: AsJson = False,
) -> None:
    """Make a tape of files of market data as people have them.

    What is concluded from the files is printed, each with the option that says otherwise. What cannot be known is an error
    that names the option. Rows that are not taken are counted, with the reason and the first place. The tape appears whole,
    after its reader has checked every row, or not at all.
    """
    from torghut_core.cli.render import progress
    from torghut_core.market_data.imports.cells import check_zone
    from torghut_core.market_data.imports.importer import Options
    from torghut_core.runtime.data import run_import

    if zone:
        try:
            check_zone(zone)
        except ValueError as error:
            raise InputError(f"--zone: {error}") from None
    options = Options(
        format=format_,
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
        symbol=symbol,
        step=_step(timeframe),
        zone=zone or None,
        epoch=epoch,
        dates=dates,
        decimal=decimal,
        times=times,
        divisor=divide_prices_by,
        is_adjusted=adjusted,
        on_bad_row=on_bad_row,
    )
    with progress(None, "import", "rows") as advance:
        done = run_import(files, out, options, advance)
    if as_json:
        import msgspec

        print(msgspec.json.encode(done).decode())
    else:
        print(_imported_text(done))


@command(
    data_app,
    "torghut data inspect goog.parquet\ntorghut data inspect es-*.parquet --calendar 'ES=CMES' --json",
)
def inspect(
    tapes: Annotated[
        list[Path], typer.Argument(metavar="TAPE", help="Parquet, CSV or JSONL tapes, read as one.", show_default=False)
    ],
    calendar: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PATTERN=]NAME",
            help="Exchange calendar of symbols: XNYS, CMES, 24/7. May be repeated (default: 24/7 for pairs, XNYS for others).",
        ),
    ] = None,
    spike_pct: Annotated[
        float, typer.Option(metavar="PCT", min=0.1, help="How far a price must jump, and come back, to be a spike.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Say what is in tapes: symbols, spans, gaps by calendar, duplicates, prices to look at, and what to do about each."""
    from torghut_core.calendars import check_calendar
    from torghut_core.cli.render import progress
    from torghut_core.runtime.data import run_inspect

    calendars: dict[str, str] = {}
    for each in calendar or []:
        pattern, equals, name = each.rpartition("=")
        try:
            calendars[pattern if equals else "*"] = check_calendar(name)
        except ValueError as error:
            raise InputError(f"--calendar {each}: {error}") from None
    with progress(None, "inspect", "rows") as advance:
        found = run_inspect(tapes, calendars, spike_pct, advance)
    if as_json:
        import msgspec

        print(msgspec.json.encode(found).decode())
    else:
        print(_inspected_text(found))


def _step(timeframe: str) -> int | None:
    """Nanoseconds of a timeframe like 1Min; None for "".

    Raises
    ------
    InputError : it is none.
    """
    from torghut_core.model.market import TIMEFRAMES

    if not timeframe:
        return None
    match = re.fullmatch(r"([1-9]\d{0,3})(Sec|Min|Hour|Day)", timeframe, re.ASCII)
    if match is None:
        raise InputError(
            f"--timeframe {timeframe}: is no length of bars (write a number and a unit: 1Sec, 5Min, 4Hour, 1Day)"
        )
    return int(match[1]) * TIMEFRAMES[f"1{match[2]}"]


def _imported_text(done: Imported) -> str:
    symbols = ", ".join(list(done.symbols)[:10]) + (
        f" and {len(done.symbols) - 10} more" if len(done.symbols) > 10 else ""
    )
    kind = f"{done.kind} of {done.timeframe}" if done.timeframe else done.kind
    lines = [
        f"{done.rows:,} {kind} of {symbols}, {done.first} to {done.last} -> {done.out}",
        *(f"guessed: {guess}" for guess in done.guesses),
        *(f"note: {note}" for note in done.notes),
    ]
    for each in done.left_out:
        example = f": {each.example}" if each.example else ""
        lines.append(f"not taken: {each.rows:,} of {each.file}, first in line {each.first}: {each.reason}{example}")
    return "\n".join(lines)


def _inspected_text(found: Inspection) -> str:
    lines = [f"{found.rows:,} rows in {', '.join(found.tapes)}"]
    if found.duplicates:
        lines.append(
            f"{found.duplicates:,} duplicates: a replay takes the first of each (import the files again, and they are left out)"
        )
    lines += [
        f"bad rows, which a replay stops at or skips: {count:,} of {reason}" for reason, count in found.bad_rows.items()
    ]
    for each in found.series:
        kind = f"{each.kind} of {each.timeframe}" if each.timeframe else each.kind
        lines += [
            "",
            f"{each.symbol}: {each.rows:,} {kind}, {each.first} to {each.last}",
            f"  calendar {each.calendar}: {each.sessions:,} sessions, {each.missing_sessions:,} without a row"
            + (f", {each.missing_bars:,} bars missing in the others" if each.missing_bars is not None else "")
            + f", {each.outside_pct:g} % of rows outside sessions",
        ]
        for finding in each.findings:
            lines.append(f"  {finding.count:,} {finding.what}")
            lines += [f"    {place}" for place in finding.places]
            lines += [f"    means: {finding.means}", f"    do: {finding.todo}"]
    return "\n".join(lines)
