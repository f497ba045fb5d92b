"""What is played: tapes, made-up markets, the pace, and the shift to now."""

import gzip
import time

import pyarrow as pa
import pyarrow.parquet
import pytest
from torghut_testing.alpaca_data import event_of, messages_of, read_tape, synthetic

from torghut_core import BarPayload, Envelope, QuotePayload, TradePayload

SECOND = 1_000_000_000
AT = 1_700_000_000 * SECOND
UTC = pa.timestamp("ns", "UTC")


def table(**columns):
    return pa.table(columns | {"event_ts": pa.array(columns["event_ts"], UTC)})


def test_table_of_trades():
    """A row becomes the message of its market; an id that the tape lacks is made of seq."""
    made = messages_of(
        table(
            symbol=["BTC/USD", "BTC/USD", "AAPL"],
            event_ts=[AT, AT + 1, AT + 2],
            price=[1.5, 2.5, 3.5],
            size=[0.1, 0.2, 3.0],
            exchange=[None, None, "Q"],
            conditions=[None, None, "@,T"],
            trade_id=[2**60 + 1, None, None],
            seq=[7, 8, 9],
            side=["buy", "sell", None],
        )
    )
    assert list(made) == [
        {"T": "t", "S": "BTC/USD", "i": 2**60 + 1, "p": 1.5, "s": 0.1, "t": AT, "tks": "B"},
        {"T": "t", "S": "BTC/USD", "i": 9, "p": 2.5, "s": 0.2, "t": AT + 1, "tks": "S"},
        {"T": "t", "S": "AAPL", "i": 10, "p": 3.5, "s": 3.0, "t": AT + 2, "x": "Q", "c": ["@", "T"], "z": "C"},
    ]


def test_tables_of_quotes_and_bars():
    """A missing side of a quote is 0 for 0, as Alpaca prints it; a bar has what the tape has."""
    quotes = table(symbol=["A/B"], event_ts=[AT], bid_price=[None], bid_size=[None], ask_price=[2.0], ask_size=[1.0])
    assert list(messages_of(quotes)) == [{"T": "q", "S": "A/B", "bp": 0, "bs": 0, "ap": 2.0, "as": 1.0, "t": AT}]
    bars = table(symbol=["A/B"], event_ts=[AT], open=[1.0], high=[2.0], low=[0.5], close=[1.5], volume=[9.0])
    assert list(messages_of(bars)) == [
        {"T": "b", "S": "A/B", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 9.0, "t": AT}
    ]


def test_table_of_something_else():
    """Other columns are refused."""
    with pytest.raises(ValueError, match="not those of trades, quotes or bars"):
        messages_of(pa.table({"symbol": ["A"]}))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_envelopes(tmp_path, suffix):
    """Envelopes, plain or zipped, become messages with the same values; other channels are passed over."""
    payloads = {
        "trades": TradePayload(trade_id=2**60, price=1.5, size=2.0, event_ts=AT),
        "quotes": QuotePayload(bid_price=1.0, bid_size=2.0, ask_price=3.0, ask_size=4.0, event_ts=AT),
        "bars": BarPayload(open=1.0, high=2.0, low=0.5, close=1.5, volume=9.0, count=3, event_ts=AT),
        "trade-updates": {"event": "fill"},
    }
    lines = [
        Envelope(
            ingest_ts=AT,
            event_ts=AT,
            feed="crypto",
            channel=channel,
            symbol="BTC/USD",
            seq=seq,
            is_final=True,
            source="test",
            payload=payload,
        ).encode()
        for seq, (channel, payload) in enumerate(payloads.items())
    ]
    path = tmp_path / f"tape{suffix}"
    path.write_bytes((gzip.compress if suffix.endswith("gz") else bytes)(b"\n".join(lines) + b"\n"))
    assert list(read_tape(path)) == [
        {"T": "t", "S": "BTC/USD", "i": 2**60, "p": 1.5, "s": 2.0, "t": AT},
        {"T": "q", "S": "BTC/USD", "bp": 1.0, "bs": 2.0, "ap": 3.0, "as": 4.0, "t": AT},
        {"T": "b", "S": "BTC/USD", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 9.0, "n": 3, "t": AT},
    ]


def test_parquet(tmp_path):
    """A Parquet file is its table, whatever the unit of its times."""
    trades = table(symbol=["A/B"], event_ts=[AT], price=[1.0], size=[1.0])
    coarse = trades.set_column(1, "event_ts", trades.column("event_ts").cast(pa.timestamp("ms", "UTC")))
    pyarrow.parquet.write_table(coarse, tmp_path / "tape.parquet")
    assert list(read_tape(tmp_path / "tape.parquet")) == list(messages_of(trades))


def test_unknown_format():
    """A name that ends otherwise is refused, with the fix."""
    with pytest.raises(ValueError, match=r"use a file that ends in \.parquet"):
        read_tape("tape.xlsx")


@pytest.mark.shared
def test_recorded_tape_is_played(market, listen, shared_tape):
    """The recorded trades of BTC/USD go over the wire with the values of the file."""
    path = shared_tape("crypto/trades_coinbase_btcusd_20230905_1600_1640.parquet")
    client = listen(market)
    tape = pyarrow.parquet.read_table(path)
    assert market.play(tape).wait() == len(tape)
    received = [client.receive() for _ in range(len(tape))]
    assert [message["p"] for message in received] == tape.column("price").to_pylist()
    assert [event_of(message).at for message in received] == tape.column("event_ts").cast(pa.int64()).to_pylist()


def test_synthetic_is_by_seed():
    """Made-up markets are the same for the same seed, in order, with exact large ids, and end where they shall."""
    prices = {"BTC/USD": 25_000.0, "AAPL": 190.0}
    made = list(synthetic(prices, seed=3, start=AT, count=500))
    assert made == list(synthetic(prices, seed=3, start=AT, count=500))
    assert made != list(synthetic(prices, seed=4, start=AT, count=500))
    events = [event_of(message) for message in made]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert {(event.symbol, event.kind) for event in events} == {(s, k) for s in prices for k in "tq"}
    assert len({(m["S"], m["i"]) for m in made if m["T"] == "t"}) == sum(m["T"] == "t" for m in made)
    assert all(m["i"] >= 2**60 for m in made if m["T"] == "t" and m["S"] == "BTC/USD")
    assert all(m["bp"] < m["ap"] for m in made if m["T"] == "q")
    until = list(synthetic(prices, seed=3, start=AT, until=AT + SECOND, rate=50))
    assert 45 <= len(until) <= 50


def test_retime(market, listen, trades):
    """The first event is moved to now, the others with it, and bars to a whole minute."""
    client = listen(market, trades=["*"], bars=["*"])
    bar = {"T": "b", "S": "BTC/USD", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "t": AT}
    before = time.time_ns()
    market.play([*trades(3), bar], retime=True).wait()
    after = time.time_ns()
    first, second, third, shifted = (event_of(client.receive()).at for _ in range(4))
    assert before <= first <= after
    assert (second - first, third - first) == (1_000_000, 2_000_000)
    assert shifted % (60 * SECOND) == 0


def test_pace(market, listen, trade):
    """At a speed, events come when they are due: so many seconds of the tape in a second."""
    client = listen(market)
    began = time.monotonic()
    playback = market.play([trade(0, at=AT), trade(1, at=AT + SECOND), trade(2, at=AT + 2 * SECOND)], speed=10)
    came = [(client.numbers(1), time.monotonic() - began)[1] for _ in range(3)]
    playback.wait()
    assert came[1] >= 0.1
    assert came[2] >= 0.2


def test_pace_begins_with_a_subscriber(market, listen, trade):
    """Who is waited for misses no time of the tape: nothing comes at once that was due before."""
    playback = market.play([trade(0), trade(1, at=AT + SECOND)], speed=10, wait_for=["BTC/USD"])
    with pytest.raises(TimeoutError):
        playback.wait(timeout=0.15)
    began = time.monotonic()
    assert listen(market).numbers(2) == [0, 1]
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("wrong", [{"T": "zz", "S": "A", "t": 0}, {"T": "t", "t": 0}, {"T": "t", "S": "A"}])
def test_events_that_are_none(market, trade, wrong):
    """A message that is not an event is refused: in a list before anything is played, else where it comes."""
    with pytest.raises(ValueError, match="is not an event"):
        market.play([trade(0), wrong])
    playback = market.play(iter([trade(0), wrong]))
    with pytest.raises(RuntimeError, match="ended early, at event 0"):
        playback.wait()


def test_one_at_a_time(market, trade):
    """A second playback has to wait for the first."""
    market.play([trade(0)], wait_for=["BTC/USD"])
    with pytest.raises(RuntimeError, match="another playback is running"):
        market.play([trade(1)])
    market.stop_playing()
    assert market.play([trade(1)]).wait() == 1
