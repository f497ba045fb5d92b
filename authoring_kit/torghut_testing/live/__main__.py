"""A rehearsal from a shell: ``python -m torghut_testing.live``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from torghut_testing.live.rehearsal import Counts, Outcome, rehearse
from torghut_testing.live.system import CATALOG
from torghut_testing.live.tape import make_tape

RECORDED = Path(__file__).parents[4] / "shared/data/crypto/trades_coinbase_btcusd_20230905_1600_1640.parquet"
"""Recorded trades of BTC/USD, where they lie beside the project."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torghut_testing.live",
        description="Play market data from a stand-in of Alpaca through forwarder, Kafka, TA, signal store and trading, each "
        "a process on this machine, and check that all counts agree. Exit code 1 where they do not.",
    )
    parser.add_argument(
        "--tape", type=Path, help="Parquet tape of one pair's trades (default: a recorded one, else generated)"
    )
    parser.add_argument("--minutes", type=_positive, default=40.0, help="minutes of the tape to play (%(default)g)")
    parser.add_argument("--speed", type=_positive, default=60.0, help="seconds of the tape per second (%(default)g)")
    parser.add_argument(
        "--rate", type=_positive, default=400.0, help="generated messages a second beside the tape (%(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of generated data (%(default)d)")
    parser.add_argument(
        "--catalog", type=Path, default=CATALOG, help="a catalog with the pipelines forwarder, ta and trading"
    )
    parser.add_argument(
        "--crash", action="store_true", help="kill forward and ta while the tape plays, and restart them"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep states, outputs and logs in this empty folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse once; 0 if everything agrees, 1 if not, 2 if the rehearsal could not run."""
    parser = _parser()
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    recorded = given.tape or (RECORDED if RECORDED.exists() else None)
    stderr = Console(stderr=True)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="torghut-rehearsal-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--keep {folder} is not empty: a rehearsal starts without state (give an empty folder)")
    is_folder_kept = True
    try:
        tape = make_tape(folder, recorded, minutes=given.minutes, speed=given.speed, rate=given.rate, seed=given.seed)
        with _progress(stderr) as on_step:
            outcome = rehearse(
                folder,
                tape,
                name="generated" if recorded is None else recorded.stem,
                catalog=given.catalog.resolve(),
                crash=given.crash,
                on_step=on_step,
            )
        is_folder_kept = not outcome.agrees
    except (ValueError, RuntimeError, OSError) as error:  # a bad tape, a process that died, a stand-in without answer
        stderr.print(f"[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
        return 2
    except (KeyboardInterrupt, SystemExit):
        is_folder_kept = False
        stderr.print("interrupted; all processes were stopped")
        return 130
    finally:
        if given.keep is None and not is_folder_kept:
            shutil.rmtree(folder, ignore_errors=True)
        elif given.keep is None:
            stderr.print(f"states and logs are in {folder}", highlight=False, soft_wrap=True)
    if given.json:
        sys.stdout.buffer.write(msgspec.json.encode(msgspec.to_builtins(outcome) | {"agrees": outcome.agrees}) + b"\n")
        sys.stdout.flush()
    else:
        _print(Console(), outcome, is_crashed=given.crash)
    return 0 if outcome.agrees else 1


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


@contextmanager
def _progress(stderr: Console) -> Iterator[Callable[[str, float], None]]:
    """A progress bar, on a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)


def _rows(counts: Counts) -> list[tuple[str, str, str]]:
    """Rows of the table: what is counted, the count, and a remark."""
    return [
        (
            "sent by the venue",
            f"{counts.played:,}",
            f"of {counts.trades_sent:,} trades, {counts.quotes_sent:,} quotes",
        ),
        ("forwarded", f"{counts.forwarded:,}", ""),
        (
            "in Kafka",
            f"{counts.trades_in_kafka + counts.quotes_in_kafka:,}",
            f"{counts.trades_in_kafka_once:,} trades, {counts.quotes_in_kafka_once:,} quotes, each once",
        ),
        ("into TA", f"{counts.events_into_ta:,}", ""),
        ("late", f"{counts.late:,}", "trades after their window's close"),
        ("duplicates", f"{counts.duplicates:,}", "trades that came twice"),
        ("microbars stored", f"{counts.microbars:,}", f"of {counts.trades_in_microbars:,} trades"),
        ("signals stored", f"{counts.signals:,}", ""),
        (
            "signals into trading",
            f"{counts.signals_into_trading:,}",
            f"{counts.late_in_trading:,} late, {counts.duplicates_in_trading:,} rewritten",
        ),
        ("decisions", f"{counts.decisions:,}", f"{counts.denied:,} denied"),
        ("orders", f"{counts.orders:,}", f"{counts.fills:,} filled"),
    ]


def _print(console: Console, outcome: Outcome, *, is_crashed: bool) -> None:
    title = f"Rehearsal: {outcome.tape}, {outcome.seconds:g} s"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("", style="dim")
    for row in _rows(outcome.counts):
        table.add_row(*row)
    table.add_section()
    for what, lag in outcome.lags_ms.items():
        shown = f"p50 {lag['p50']:,.0f}, p99 {lag['p99']:,.0f}" if lag else "none seen"
        table.add_row(what, "", f"{shown} ms" if lag else shown)
    console.print(table)
    if is_crashed:
        console.print(
            "forward and ta were killed while the tape played; this table leaves out what they had counted before."
        )
    if outcome.other_quotes:
        signals = "1 signal" if outcome.other_quotes == 1 else f"{outcome.other_quotes} signals"
        console.print(f"{signals} used a different quote than the replayed history (allowed: up to 1 in 10).")
    if outcome.agrees:
        console.print("All counts agree, and the replayed history gives the same microbars and signals.")
    for line in outcome.disagreements:
        console.print(f"[red]does not agree:[/] {escape(line)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
