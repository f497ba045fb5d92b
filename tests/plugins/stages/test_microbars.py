"""Trades to bars of a second: against a model in plain Python, and case by case."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.microbars import Microbars

from support.effort import examples
from torghut_core import Batch, ShapeError, SymbolTable, Trades

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
T0 = 1_767_623_400 * SECOND


def model(stream, lateness_ms):
    """The bars, as the rules say it: one event after the other, windows in a dict of lists."""
    lateness = lateness_ms * MILLISECOND
    windows, keys, closed_before = {}, {}, None
    bars, counts = [], {"late": 0, "duplicates": 0, "excluded": 0}
    for at, event in enumerate(stream.events):
        watermark = int(stream.now[at]) - lateness
        for start, symbol in sorted(key for key in windows if key[0] + SECOND <= watermark):
            trades = windows.pop((start, symbol))
            priced = [t for t in trades if t[-1]]
            if not priced:
                counts["excluded"] += len(trades)
                continue
            first, last = min(priced), max(priced, key=lambda t: t[:3])
            prices, volume = [t[3] for t in priced], 0.0
            for *_, size, _ in sorted(trades, key=lambda t: t[2]):
                volume += size
            divisor = notional = 0.0
            for *_, price, size, _ in sorted(priced, key=lambda t: t[2]):
                divisor, notional = divisor + size, notional + price * size
            vwap = notional / divisor if divisor else math.nan
            bars.append((at, start, symbol, len(trades), first[3], max(prices), min(prices), last[3], volume, vwap))
        closed_before = watermark // SECOND * SECOND
        if event.kind != "trade":
            continue
        ts = int(stream.now[at]) - event.lag
        start = ts // SECOND * SECOND
        live = {key for key, window in keys.items() if window >= closed_before}
        text, is_suspicious = event.conditions
        is_priced = "/" in event.symbol or text not in ("100000", "@,T,I", "M")
        if is_suspicious or (text == "M" and not is_priced):
            counts["excluded"] += 1
        elif start < closed_before:
            counts["late"] += 1
        elif event.key and (event.symbol, event.key) in live:
            counts["duplicates"] += 1
        else:
            if event.key:
                keys[event.symbol, event.key] = start
            # arrival is part of the tuple: the first of equals opens, the last of equals closes
            windows.setdefault((start, event.symbol), []).append(
                (ts, event.seq, at, event.price, event.size, is_priced)
            )
    return bars, counts


def run(stream, **params):
    """The stage's bars in the model's form, and its counts."""
    stage, batch = Microbars(Microbars.Params(**params)), stream.batch(SymbolTable(), 0, len(stream))
    batch = stage.update(batch)
    b, names = batch.microbars, batch.symbols.names
    rows = [
        (int(b.at[i]), int(b.event_ts[i]), names[b.symbol[i]], int(b.count[i]), *b.floats[:, i].tolist())
        for i in range(len(b))
    ]
    return rows, {"late": batch.late, "duplicates": batch.duplicates, "excluded": batch.excluded}


@given(st.data(), st.sampled_from([0, 1, 999, 2000, 60_000]))
@examples(150)
def test_bars_and_counts_equal_the_model(tape, data, lateness_ms):
    """Positions, values, order and counts are those of a model that takes one event after the other."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=61 * SECOND)
    bars, counts = model(stream, lateness_ms)
    got, got_counts = run(stream, max_out_of_order_ms=lateness_ms)
    assert got_counts == counts
    np.testing.assert_equal(got, bars)


def test_open_and_close_go_by_time_and_seq_whatever_the_arrival(tape):
    """The bar opens with its first trade and closes with its last by (event_ts, seq), not by arrival."""
    trade = tape.Event("trade")
    events = [
        tape.replace(trade, wait=500 * MILLISECOND, price=3.0, seq=5),
        tape.replace(trade, price=2.0, seq=4),
        tape.replace(trade, lag=100 * MILLISECOND, price=1.0, seq=9),
        tape.replace(trade, wait=400 * MILLISECOND, lag=400 * MILLISECOND, price=4.0, seq=6),
    ]
    ((_, _, _, count, open_, high, low, close, _, _),), _ = run(tape.Stream(events, drain=3 * SECOND))
    assert (count, open_, high, low, close) == (4, 1.0, 4.0, 1.0, 4.0)


def test_trades_of_one_time_and_seq_are_in_order_of_arrival(tape):
    """Where the source gives no order, the first to arrive opens and the last closes."""
    events = [tape.Event("trade", price=price, seq=seq) for price, seq in ((1.0, 0), (2.0, 1), (3.0, 0), (4.0, 1))]
    ((_, _, _, _, open_, _, _, close, _, _),), _ = run(tape.Stream(events, drain=3 * SECOND))
    assert (open_, close) == (1.0, 4.0)


def test_window_closes_at_the_first_event_of_any_kind_whose_watermark_reaches_its_end(tape):
    """A quote or a clock tick closes a window just as a trade would, at its own position."""
    for kind in ("quote", "tick"):
        waits = [0, 2 * SECOND, 999_999_999, 1]
        events = [tape.Event("trade"), *(tape.Event(kind, wait=wait) for wait in waits)]
        ((at, *_),), _ = run(tape.Stream(events))
        assert at == 4


def test_trade_at_the_end_of_a_window_belongs_to_the_next(tape):
    """Windows are half-open: a trade at start + 1 s opens the next one."""
    events = [tape.Event("trade"), tape.Event("trade", wait=SECOND)]
    bars, _ = run(tape.Stream(events, drain=3 * SECOND))
    assert [(ts - T0) // SECOND for _, ts, *_ in bars] == [0, 1]


def test_trade_that_is_exactly_too_late_is_late(tape):
    """A window whose end the watermark has reached takes no more, one nanosecond before it does."""
    end = T0 + SECOND
    for now, late in ((end + 2 * SECOND, 1), (end + 2 * SECOND - 1, 0)):
        events = [tape.Event("tick"), tape.Event("trade", wait=now - T0, lag=now - T0)]
        _, counts = run(tape.Stream(events, drain=3 * SECOND))
        assert counts["late"] == late


def test_bar_without_volume_has_no_vwap(tape):
    """Prints of size 0 make a bar with prices, volume 0 and no average."""
    ((*_, volume, vwap),), _ = run(tape.Stream([tape.Event("trade", size=0.0)], drain=3 * SECOND))
    assert volume == 0.0
    assert math.isnan(vwap)


def test_seq_is_the_window_number(tape):
    """Making a bar again gives the same seq, so that it replaces the old one in the store."""
    batch = Microbars(Microbars.Params()).update(
        tape.Stream([tape.Event("trade")], drain=3 * SECOND).batch(SymbolTable(), 0, 2)
    )
    assert batch.microbars.seq.tolist() == [T0 // SECOND]


def test_identities_are_forgotten_with_their_windows(tape):
    """The table of identities does not grow with time, and a venue may use an id again as soon as that."""
    n = 200_000
    symbols = SymbolTable()
    symbols.number("ES")
    ts = T0 + np.arange(n) * MILLISECOND
    stage = Microbars(Microbars.Params())
    trades = Trades.from_columns(
        at=np.arange(n),
        event_ts=ts,
        trade_key=1 + np.arange(n) % 4000,
        price=np.ones(n),
        size=np.ones(n),
        symbol=np.zeros(n),
    )
    batch = stage.update(Batch.of(symbols, 0, ts, trades))
    assert batch.duplicates == 0
    assert len(stage._keys) <= 1 << 14
    assert len(stage.save_state()["keys"]) <= 4000


def test_many_identities_in_open_windows_are_all_known(tape):
    """A second delivery of everything that is still open is a duplicate to the last trade."""
    n = 30_000
    symbols = SymbolTable()
    symbols.number("ES")
    ts = np.full(2 * n, T0)
    keys = np.random.default_rng(1).permutation(n) * 2**40 + 1
    stage = Microbars(Microbars.Params())
    trades = Trades.from_columns(
        at=np.arange(2 * n), event_ts=ts, trade_key=[*keys, *keys], price=np.ones(2 * n), size=np.ones(2 * n)
    )
    batch = stage.update(Batch.of(symbols, 0, ts, trades))
    assert batch.duplicates == n


def test_bars_that_close_at_one_position_come_by_name(tape):
    """A clock tick after a thousand symbols traded closes all their bars, by name, also beyond the buffer's size."""
    symbols = SymbolTable()
    names = [f"S{i:04}" for i in np.random.default_rng(2).permutation(1000)]
    number = [symbols.number(name) for name in names]
    now = np.full(1001, T0)
    now[-1] += 10 * SECOND
    trades = Trades.from_columns(
        at=np.arange(1000), event_ts=now[:-1], symbol=number, price=np.ones(1000), size=np.ones(1000)
    )
    batch = Microbars(Microbars.Params()).update(Batch.of(symbols, 0, now, trades))
    assert [names[number] for number in batch.microbars.symbol] == sorted(names)


def test_excluded_trade_leaves_no_trace(tape):
    """A print that counts for nothing is in no bar, and its identity is not kept."""
    trade = tape.Event("trade", price=168.9, conditions=("M", False), key=7)
    events = [trade, tape.replace(trade, price=167.5, conditions=("20000000", False))]
    ((*_, high, _, _, volume, _),), counts = run(tape.Stream(events, drain=3 * SECOND))
    assert (high, volume) == (167.5, 1.0)
    assert counts == {"late": 0, "duplicates": 0, "excluded": 1}


@pytest.mark.parametrize("condition", ["100000", "W", "4", "U", "Z", "B", " ,B", "@,T", "@,F,I"])
def test_print_without_a_price_gives_its_volume_alone(tape, condition):
    """It moves neither open, high, low, close nor vwap, wherever it stands in the bar."""
    trade, odd = tape.Event("trade"), tape.Event("trade", price=80.0, size=5000.0, conditions=(condition, False))
    for events in ([odd, trade, trade], [trade, odd, trade], [trade, trade, odd]):
        ((_, _, _, count, *prices, volume, vwap),), counts = run(tape.Stream(events, drain=3 * SECOND))
        assert (count, prices, volume, vwap) == (3, [100.0] * 4, 5002.0, 100.0)
        assert counts["excluded"] == 0


def test_second_without_a_price_has_no_bar(tape):
    """Its prints are excluded: a bar needs a price."""
    odd = tape.Event("trade", conditions=("W", False))
    assert run(tape.Stream([odd, odd], drain=3 * SECOND)) == ([], {"late": 0, "duplicates": 0, "excluded": 2})


def test_conditions_of_the_catalog_come_in_place_of_the_table(tape):
    """`exclude_conditions` says what counts, for the bars and for whoever reads the batch after."""
    events = [tape.Event("trade", price=price, conditions=(text, False)) for price, text in ((1.0, "@,T"), (2.0, "X"))]
    batch = tape.Stream(events, drain=3 * SECOND).batch(SymbolTable(), 0, 3)
    assert batch.counting_trades.price.tolist() == [2.0]
    batch = Microbars(Microbars.Params(exclude_conditions=["X"])).update(batch)
    assert batch.counting_trades.price.tolist() == batch.microbars.close.tolist() == [1.0]
    assert batch.excluded == 1


def test_suspicious_trades_count_when_asked(tape):
    """`exclude_suspicious: false` lets them in."""
    stream = tape.Stream([tape.Event("trade", conditions=("1", True))], drain=3 * SECOND)
    assert run(stream)[1]["excluded"] == 1
    assert run(stream, exclude_suspicious=False)[1]["excluded"] == 0


def test_trade_ahead_of_the_loop_is_an_error(tape):
    """A source that breaks the contract is an error that says where."""
    symbols = SymbolTable()
    symbols.number("ES")
    stage = Microbars(Microbars.Params())
    ahead = Trades.from_columns(at=[0], event_ts=[T0 + 60 * SECOND], price=[1.0], size=[1.0])
    with pytest.raises(ShapeError, match="ahead of the loop"):
        stage.update(Batch.of(symbols, 0, np.array([T0]), ahead))


def test_trade_of_an_unknown_symbol_is_an_error(tape):
    """A number that the table does not have is not read as another symbol's."""
    trades = Trades.from_columns(at=[0], event_ts=[T0], symbol=[3], price=[1.0], size=[1.0])
    with pytest.raises(ShapeError, match="0 symbols"):
        Microbars(Microbars.Params()).update(Batch.of(SymbolTable(), 0, np.array([T0]), trades))


@pytest.mark.parametrize("condition", ["", "A B", "a,b"])
def test_condition_that_cannot_be_looked_for_is_refused(condition):
    """A condition of no or several codes is an error that says what to write."""
    with pytest.raises(ValueError, match="100000"):
        Microbars.Params(exclude_conditions=[condition])


@pytest.mark.parametrize("params", [{"max_out_of_order_ms": -1}, {"max_out_of_order_ms": 10**9}, {"lateness": 1}])
def test_parameter_out_of_bounds_is_refused(params):
    """Bounds and names of parameters are checked."""
    with pytest.raises(ValueError, match=next(iter(params))):
        Microbars.Params(**params)


def test_drain_is_the_lag_and_a_window():
    """A clock that goes so far past the last event closes every bar."""
    assert Microbars(Microbars.Params(max_out_of_order_ms=500)).drain_ns() == 1_500_000_000
