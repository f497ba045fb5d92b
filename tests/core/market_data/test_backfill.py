"""`torghut backfill` fetches the past whole, or leaves nothing behind."""

import asyncio
import itertools
import json
import time

import pytest

from torghut_core import Message, Unanswered, format_timestamp
from torghut_core.errors import InputError, VenueError
from torghut_core.market_data.backfill import write_tape
from torghut_core.market_data.deriver import Deriver
from torghut_core.runtime.backfill import run_backfill
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import DAY, SECOND


class Archive:
    """A source with a past of so many pages; None where the venue does not answer any more."""

    def __init__(self, *pages):
        self.pages = pages
        self.asked = []

    async def history(self, symbols, since, until):
        self.asked.append((tuple(symbols), since, until))
        for page in self.pages:
            await asyncio.sleep(0)
            if page is None:
                raise Unanswered("the history does not answer (try again)")
            yield [Message("trades", "BTC/USD", each) for each in page]


def test_tape_has_every_event_in_order(tmp_path):
    """The tape is what the history gave, a line each, and it is counted by channel."""
    archive, told = Archive([b"1", b"2"], [], [b"3"]), []
    events = write_tape(tmp_path / "tape.jsonl", archive, ["BTC/USD"], 0, SECOND, told.append)
    assert (tmp_path / "tape.jsonl").read_bytes() == b"1\n2\n3\n"
    assert archive.asked == [(("BTC/USD",), 0, SECOND)]
    assert (events, told[-1]) == ({"trades": 3}, 3)


def test_history_that_breaks_off_leaves_no_tape(tmp_path):
    """Half a past is none: what was there before stays, and nothing is left beside it."""
    tape = tmp_path / "tape.jsonl"
    tape.write_bytes(b"before\n")
    with pytest.raises(VenueError, match="does not answer"):
        write_tape(tape, Archive([b"1"], None), ["BTC/USD"], 0, SECOND)
    assert tape.read_bytes() == b"before\n"
    assert list(tmp_path.iterdir()) == [tape]


def test_file_that_cannot_be_written_is_named(tmp_path):
    """The error has the path and what to do."""
    with pytest.raises(InputError, match=r"no/tape\.jsonl.*choose another file"):
        write_tape(tmp_path / "no" / "tape.jsonl", Archive([b"1"]), ["BTC/USD"], 0, SECOND)


@pytest.mark.parametrize(
    ("symbols", "start", "end", "says"),
    [
        (["btc"], "2026-01-05", "", r"--symbols: 'btc' is not a symbol"),
        ([], "2026-01-05", "", "--symbols names none"),
        (["BTC/USD", "AAPL"], "2026-01-05", "", "--symbols: AAPL is not of ALPACA_MARKET_TYPE=crypto"),
        (["BTC/USD"], "yesterday", "", r"--start yesterday: .*write 2026-01-05T14:30:00Z"),
        (["BTC/USD"], "2026-01-05", "2026-13-05", r"--end 2026-13-05"),
        (["BTC/USD"], "2026-01-05", "2026-01-05", "--start has to come first"),
    ],
)
def test_bad_bounds_are_an_error_before_anything_is_requested(tmp_path, monkeypatch, symbols, start, end, says):
    """Symbols and times are checked first, each named by its option; no symbol or no time is a slip, and no empty tape."""
    monkeypatch.setenv("ALPACA_MARKET_TYPE", "crypto")
    with pytest.raises(InputError, match=says):
        run_backfill(symbols, start, end, out=tmp_path / "tape.jsonl", state=tmp_path / "state")


T0 = 1_760_000_000 * SECOND
BITCOIN = [("BTC/USD", 1, 0.1, 100.0), ("BTC/USD", 3, 6.0, 101.0), ("BTC/USD", 4, 20.0, 101.0)]
LATE = ("BTC/USD", 2, 0.5, 150.0)
ETHER = [("ETH/USD", 9, 3.5, 10.0), ("ETH/USD", 10, 20.0, 10.0)]
"""Trades as (symbol, id, seconds after `T0`, price). The ether of second 3.5 closes the first window of both."""

VENUE = """
from torghut_core import Message, Source, hookimpl


class Past(Source):
    asked = []

    async def batches(self, size):
        return
        yield

    async def history(self, symbols, since, until):
        Past.asked.append((since, until))
        yield [Message("trades", "*", line.encode()) for line in LINES]


@hookimpl
def register_sources(register):
    register("past", Past)
"""


NUMBERS = itertools.count()
"""A process takes a plugin module of a name from one folder only."""


def envelope(symbol, number, seconds, price):
    moment = format_timestamp(T0 + round(seconds * SECOND))
    payload = {"i": number, "p": price, "s": 1.0, "t": moment}
    head = {"feed": "crypto", "channel": "trades", "symbol": symbol, "seq": number, "is_final": True, "source": "x"}
    return json.dumps(head | {"ingest_ts": moment, "event_ts": moment, "payload": payload, "version": 1})


@pytest.fixture
def past(tmp_path, monkeypatch):
    """Makes a source `past` with these trades, for a back-fill of crypto."""

    def make(trades):
        lines = [envelope(*trade) for trade in sorted(trades, key=lambda trade: trade[2])]
        folder = tmp_path / "plugins"
        folder.mkdir()
        (folder / f"past_{next(NUMBERS)}.py").write_text(VENUE.replace("LINES", repr(lines)))
        monkeypatch.setenv("TORGHUT_PLUGIN_PATH", str(folder))
        monkeypatch.setenv("ALPACA_MARKET_TYPE", "crypto")

    return make


def test_rows_of_a_back_fill_replace_those_of_the_same_window(parts, past, tmp_path, monkeypatch):
    """A trade that came too late live stayed missing where another symbol of the back-fill closed the window earlier."""
    live = MemorySignalStore()
    trades = [(T0 + round(seconds * SECOND), symbol, price, 1.0) for symbol, _, seconds, price in BITCOIN]
    asyncio.run(Deriver(parts.Tape(trades), parts.stages(), live).run())
    assert live.bars("BTC/USD")["high"].to_pylist() == [100.0, 101.0, 101.0]

    def opened(_settings, _directory, *, is_replay, learned_at):
        assert not is_replay
        store = MemorySignalStore(learned_at)
        store._rows = live._rows
        return store

    monkeypatch.setattr("torghut_core.runtime.backfill.open_signals", opened)
    past([*BITCOIN, LATE, *ETHER])
    symbols, before = ["BTC/USD", "ETH/USD"], time.time_ns()
    done = run_backfill(symbols, format_timestamp(T0), out=None, state=tmp_path / "state", source="past")

    assert (done["events"], done["microbars"]) == ({"trades": 6}, 5)
    assert live.bars("BTC/USD")["high"].to_pylist() == [150.0, 101.0, 101.0]
    assert before <= live._distinct("microbars")["ingest_ts"][0].value <= time.time_ns()


@pytest.mark.parametrize(
    ("table", "setting"), [("signals", "TA_SIGNALS_TTL_DAYS"), ("microbars", "TA_MICROBARS_TTL_DAYS")]
)
def test_a_past_that_the_store_would_delete_is_refused(past, tmp_path, monkeypatch, table, setting):
    """Rows older than a table's TTL were derived, counted and deleted: it is an error before anything is requested from the venue.

    From the day that is named on, or into a tape, it works.
    """

    class Forgetful(MemorySignalStore):
        def kept_days(self, name):
            return 14 if name == table else None

    monkeypatch.setattr("torghut_core.runtime.backfill.open_signals", lambda *_args, **_options: Forgetful())
    past([])
    options = {"source": "past", "state": tmp_path / "state"}
    today = time.time_ns() // DAY * DAY
    old, first = format_timestamp(today - 14 * DAY), format_timestamp(today - 13 * DAY)
    says = rf"--start {old}: the signal store keeps {table} for 14 days.*begin at {first}, raise {setting},.*--out"
    with pytest.raises(InputError, match=says):
        run_backfill(["BTC/USD"], old, out=None, **options)
    run_backfill(["BTC/USD"], first, out=None, **options)
    run_backfill(["BTC/USD"], old, out=tmp_path / "tape.jsonl", **options)
