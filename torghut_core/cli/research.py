"""Commands that replay recorded tapes: `demo` and `replay`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Annotated, Literal

import typer

from torghut_core.cli.help import EVERYDAY, command
from torghut_core.cli.options import STATE, AsJson, CatalogOption, State, catalog_path
from torghut_core.errors import InputError

app = typer.Typer()

MOST_DECISIONS = 20
"""So many decisions of a replay without orders are printed."""


@command(app, "torghut demo --open\ntorghut demo --copy\ntorghut demo --catalog catalog.yaml", panel=EVERYDAY)
def demo(
    catalog: Annotated[
        Path | None,
        typer.Option(
            "--catalog",
            metavar="PATH",
            help="Catalog file or folder that trades it.",
            show_default="the example catalog",
        ),
    ] = None,
    state: State = STATE,
    copy: Annotated[
        bool, typer.Option("--copy", help="Make a folder `catalog` first, with the example catalogs and their tape.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Replay the tape that comes with torghut, and write an HTML page."""
    from torghut_core.research import example_catalogs

    examples = example_catalogs()
    if copy:
        examples = _copied(examples)
    page = state / "report.html"
    _replay(sorted((examples / "tapes").glob("*.parquet")), catalog or examples / "trading.yaml", state, page=page)
    if open_page:
        typer.launch(str(page))


@command(
    app,
    "torghut replay trades.parquet --catalog catalog/trading.yaml --page report.html\n"
    "torghut replay trades.parquet --catalog old.yaml --swap-at 250000:new.yaml --json\n"
    "torghut replay --from-store --start 2026-01-05T14:30:00Z --end 2026-01-05T15:30:00Z --symbol AAPL --apply-risk",
    panel=EVERYDAY,
)
def replay(
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TAPE",
            help="Parquet, CSV or JSONL tapes (default: those of the catalog). With --from-store: JSONL rows in place of a store.",
            show_default=False,
        ),
    ] = None,
    catalog: CatalogOption = None,
    state: State = STATE,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Events per batch; the result is the same for any size.")
    ] = 65_536,
    speed: Annotated[
        str, typer.Option(metavar="SPEED", help="'max', or a multiple of the recorded pace: 1x, 60x.")
    ] = "max",
    on_bad_row: Annotated[
        Literal["fail", "skip"], typer.Option(help="Stop at a bad row, or skip it and report it.")
    ] = "fail",
    actions: Annotated[
        list[Path] | None,
        typer.Option(
            "--actions",
            metavar="FILE",
            help="Tape of corporate actions: splits and dividends. May be repeated (default: those of the catalog).",
        ),
    ] = None,
    swap_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N:CATALOG", help="Reload to another catalog before event N, counted from 0. May be repeated."
        ),
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep no microbars and signals in the signal store.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write an HTML page with the results.")
    ] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Decide on the signals of the signal store; no order is sent.")
    ] = False,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="--from-store: start (inclusive), 2026-01-05T14:30:00Z or 2026-01-05.")
    ] = "",
    end: Annotated[str, typer.Option(metavar="TIME", help="--from-store: end (exclusive) (default: now).")] = "",
    symbol: Annotated[
        list[str] | None,
        typer.Option("--symbol", metavar="SYMBOL", help="--from-store: only rows of this symbol. May be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="--from-store: at most N rows.")] = None,
    apply_risk: Annotated[
        bool, typer.Option("--apply-risk", help="--from-store: gates, advisors and rules judge the decisions.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="--from-store: write the decisions, a JSON object a line.", dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trade recorded tapes on the simulated broker, or decide on stored signals.

    Several tapes are merged in the order in which their events became known. A tape is checked as a whole before its
    first event is traded, so a bad tape changes nothing. With --from-store nothing is traded and nothing is written.
    """
    if from_store:
        given = {"--swap-at": swap_at, "--actions": actions, "--page": page, "--no-store": no_store}
        if wrong := [name for name, value in given.items() if value]:
            raise InputError(f"{wrong[0]} is for tapes (leave it out, or leave out --from-store)")
        _replay_stored(
            tapes or [], catalog_path(catalog), state, start, end, symbol or [], limit, apply_risk, out, as_json
        )
        return
    stored = {
        "--start": start,
        "--end": end,
        "--symbol": symbol,
        "--limit": limit,
        "--apply-risk": apply_risk,
        "--out": out,
    }
    if wrong := [name for name, value in stored.items() if value]:
        raise InputError(f"{wrong[0]} goes with --from-store (add it, or leave {wrong[0]} out)")
    swaps = [_swap(text) for text in swap_at or []]
    path = catalog_path(catalog)
    _replay(
        tapes or [],
        path,
        state,
        batch_size,
        speed,
        on_bad_row,
        actions=actions or (),
        swaps=swaps,
        is_stored=not no_store,
        page=page,
        as_json=as_json,
    )


def _copied(examples: Path) -> Path:
    """Copy the example catalogs to where they look for their tape: a folder `catalog` that is not there yet."""
    made = Path("catalog")
    try:
        copytree(examples, made)
    except FileExistsError:
        raise InputError(f"{made} is there already: remove it, or do without --copy") from None
    except OSError as error:
        raise InputError(f"{made} cannot be made: {error}") from error
    return made


def _swap(text: str) -> tuple[int, Path]:
    event, colon, path = text.partition(":")
    if not (event.isascii() and event.isdigit() and colon and path):
        raise InputError(f"--swap-at {text}: is not of the form N:CATALOG (as in 250000:other.yaml)")
    return int(event), Path(path)


def _replay(
    tapes: list[Path],
    catalog: Path,
    state: Path,
    batch_size: int = 65_536,
    speed: str = "max",
    on_bad_row: str = "fail",
    *,
    actions: Sequence[Path] = (),
    swaps: list[tuple[int, Path]] | None = None,
    is_stored: bool = True,
    page: Path | None = None,
    as_json: bool = False,
) -> None:
    from torghut_core.cli.render import print_summary, progress
    from torghut_core.research import open_replay
    from torghut_core.trading.totals import to_json

    with open_replay(
        catalog,
        tapes,
        state,
        speed=speed,
        on_bad_row=on_bad_row,
        actions=actions,
        swaps=swaps or (),
        is_stored=is_stored,
    ) as job:
        with progress(job.total, "replay") as advance:
            done = job.run(batch_size, advance)
        if page is not None:
            from torghut_core.research.pages.backtest import write_backtest

            write_backtest(page, ", ".join([catalog.name, *(tape.name for tape in tapes)]), done)
        if as_json:
            print(to_json(done.result))
        else:
            print_summary(done, state, page)


def _replay_stored(
    fixtures: list[Path],
    catalog: Path,
    state: Path,
    start: str,
    end: str,
    symbols: list[str],
    limit: int | None,
    apply_risk: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from torghut_core.cli.render import print_decided, progress
    from torghut_core.research.stored.decisions import line_writer, open_stored_replay
    from torghut_core.research.stored.window import Window
    from torghut_core.timestamps import SYSTEM_CLOCK
    from torghut_core.trading.totals import to_json

    if not start:
        raise InputError("--from-store needs a window (give --start TIME, and perhaps --end TIME)")
    window = Window.parse(start, end, SYSTEM_CLOCK.wall())
    shown: list[dict[str, object]] = []

    with (
        open_stored_replay(
            catalog, state, window, fixtures=fixtures, symbols=symbols, limit=limit, apply_risk=apply_risk
        ) as job,
        line_writer(out) as write,
        progress(None, "replay") as advance,
    ):

        def on_decision(decision: dict[str, object]) -> None:
            write(to_json(decision))
            if len(shown) < MOST_DECISIONS:
                shown.append(decision)

        done = job.run(on_decision, advance)
    if as_json:
        print(to_json(done.result))
    else:
        print_decided(done, shown, out)
