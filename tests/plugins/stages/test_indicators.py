"""The stage `indicators`: the same values as each formula alone, and what is the stage's own."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.indicators import GROUPS, Indicators

from support.effort import examples
from support.stage_indicators import (
    Bollinger,
    Ema,
    Macd,
    QuoteImbalance,
    RealizedVolatility,
    RollingVwap,
    Rsi,
    SessionVwap,
)
from support.waiting import PATIENCE
from torghut_core import SIGNAL_COLUMNS, Bars, Batch, Quotes, ShapeError, SymbolTable, parse_timestamp

NAN = float("nan")
SECOND = 1_000_000_000
T0 = 1_767_623_400 * SECOND


def bars(symbols, close, start=T0, step=SECOND, symbol="ES", **columns):
    """A batch of one symbol's bars, one after the other."""
    n = len(close)
    number = symbols.number(symbol)
    ts = start + np.arange(n) * step
    table = Bars.from_columns(
        **{
            "at": np.arange(n),
            "event_ts": ts,
            "symbol": np.full(n, number),
            "step": np.full(n, step),
            "series": np.full(n, symbols.series(number, step)),
            "open": close,
            "high": close,
            "low": close,
            "close": close,
            "volume": np.ones(n),
        }
        | columns
    )
    return Batch.of(symbols, 0, ts + step, bars=table)


def signals(batch, **params):
    return Indicators(Indicators.Params(**params)).update(batch).signals


@given(st.data(), st.sampled_from(["first", "sma"]))
@examples(60)
def test_every_column_equals_its_indicator_alone(tape, data, seed):
    """Each column of each series is what its formula alone makes of that series' bars."""
    stream = tape.Stream(data.draw(tape.events()))
    batch = stream.batch(SymbolTable(), 0, len(stream))
    got = signals(batch, seed=seed, calendars={"*": "24/7"})
    b = batch.bars
    series, n = b.series, max(len(batch.symbols.series_step), 1)
    typical = np.where(np.isnan(b.vwap), (b.high + b.low + b.close) / 3, b.vwap)
    volume, day = np.where(np.isnan(typical), 0.0, b.volume), 86400 * SECOND
    imbalance = QuoteImbalance(max(len(batch.symbols), 1), 2 * SECOND)
    expected = dict(
        zip(
            SIGNAL_COLUMNS,
            [
                *Macd(n, seed=seed).update(series, b.close),
                Ema(12, n, seed).update(series, b.close),
                Ema(26, n, seed).update(series, b.close),
                Rsi(n).update(series, b.close),
                *Bollinger(n).update(series, b.close),
                SessionVwap(n).update(series, b.event_ts // day * day, typical, volume),
                RollingVwap(n, 300 * SECOND).update(series, b.event_ts, typical, volume),
                *imbalance.update(batch.now, 0, batch.quotes, b),
                RealizedVolatility(n, 60 * SECOND).update(series, b.event_ts, b.close),
            ],
            strict=True,
        )
    )
    for column, values in expected.items():
        np.testing.assert_array_equal(getattr(got, column), values, err_msg=column)
    np.testing.assert_array_equal(got.close, b.close)


def test_values_are_missing_until_their_indicator_is_warm():
    """The first bar with a value: 12, 26, 26, 34, 15, 20 closes, two returns."""
    close = 100 + np.sin(np.arange(60.0))
    for seed in ("first", "sma"):
        got = signals(bars(SymbolTable(), close), seed=seed, calendars={"*": "24/7"})
        first = {column: int(np.isnan(getattr(got, column)).sum()) + 1 for column in SIGNAL_COLUMNS}
        assert first == {
            "macd": 26,
            "macd_signal": 34,
            "macd_hist": 34,
            "ema12": 12,
            "ema26": 26,
            "rsi14": 15,
            "boll_mid": 20,
            "boll_upper": 20,
            "boll_lower": 20,
            "vwap_session": 1,
            "vwap_w5m": 1,
            "imbalance_spread": 61,
            "imbalance_bid_px": 61,
            "imbalance_ask_px": 61,
            "imbalance_bid_sz": 61,
            "imbalance_ask_sz": 61,
            "vol_realized_w60s": 3,
        }


@pytest.mark.parametrize(
    "wanted", [[], ["rsi14"], ["ema12", "vwap_w5m"], ["macd"], ["imbalance_ask_px"], ["boll", "vwap"], list(GROUPS)]
)
def test_only_wanted_columns_are_computed(tape, wanted):
    """A deployment that asks for some columns gets these, unchanged, and NaN in the others; the close is always there."""
    close = 100 + np.sin(np.arange(60.0))
    batch = bars(SymbolTable(), close)
    batch.quotes = Quotes.from_columns(
        at=[0], event_ts=[T0 + 55 * SECOND], bid_price=[1.0], bid_size=[1.0], ask_price=[2.0], ask_size=[1.0]
    )
    everything = signals(batch, calendars={"*": "24/7"})
    got = signals(batch, columns=wanted, calendars={"*": "24/7"})
    names = {column for name in wanted for column in GROUPS.get(name, (name,))}
    for column in SIGNAL_COLUMNS:
        np.testing.assert_array_equal(
            getattr(got, column), getattr(everything, column) if column in names else np.full(60, NAN)
        )
    np.testing.assert_array_equal(got.close, close)


def test_each_series_has_its_own_state():
    """A symbol's bars of a second and of a minute do not mix."""
    symbols = SymbolTable()
    close = np.arange(30.0)
    one = bars(symbols, close)
    other = bars(symbols, 1000 - close, step=60 * SECOND)
    both = Bars.concatenate([one.bars, other.bars])
    both.ints[Bars.at.row] = [*range(0, 60, 2), *range(1, 60, 2)]
    both = both.take(np.argsort(both.at))
    got = signals(Batch.of(symbols, 0, np.full(60, T0 + 3600 * SECOND), bars=both), columns=["rsi14"])
    assert set(got.rsi14[28:].tolist()) == {100.0, 0.0}


def test_bars_and_microbars_are_merged_by_position():
    """A signal row per bar of either table, in order of (at, event_ts, symbol name, step)."""
    symbols = SymbolTable()
    zzz, aaa = bars(symbols, np.ones(4), symbol="ZZZ"), bars(symbols, np.ones(4), symbol="AAA")
    zzz.microbars = aaa.bars
    aaa.bars.ints[Bars.at.row] = [1, 1, 3, 3]
    got = Indicators(Indicators.Params(calendars={"*": "24/7"})).update(zzz).signals
    assert [(int(at), symbols.names[s]) for at, s in zip(got.at, got.symbol, strict=True)] == [
        (0, "ZZZ"),
        (1, "AAA"),
        (1, "AAA"),
        (1, "ZZZ"),
        (2, "ZZZ"),
        (3, "AAA"),
        (3, "AAA"),
        (3, "ZZZ"),
    ]


def test_bar_without_a_close_has_no_values_and_changes_none():
    """A missing close is a row of NaN; the next bar continues from the last good one."""
    close = 100 + np.sin(np.arange(60.0))
    holes = np.insert(close, 45, NAN)
    columns = ["macd", "ema", "rsi14", "boll"]
    got = signals(bars(SymbolTable(), holes), columns=columns)
    assert np.isnan(got.floats[: len(SIGNAL_COLUMNS), 45]).all()
    np.testing.assert_array_equal(
        np.delete(got.floats, 45, axis=1)[: len(SIGNAL_COLUMNS)],
        signals(bars(SymbolTable(), close), columns=columns).floats[: len(SIGNAL_COLUMNS)],
    )


def test_session_average_begins_at_the_exchanges_open():
    """The bar before 09:30 New York still belongs to the session before, the next one begins a new average."""
    start = parse_timestamp("2026-01-05T14:28:00Z")
    batch = bars(SymbolTable(), np.array([1.0, 2.0, 7.0, 9.0]), start=start, step=60 * SECOND, symbol="AAPL")
    assert signals(batch, columns=["vwap_session"]).vwap_session.tolist() == [1.0, 1.5, 7.0, 8.0]


def test_symbol_without_a_calendar_has_no_session_average():
    """What no pattern fits has no sessions."""
    got = signals(bars(SymbolTable(), np.ones(3)), columns=["vwap_session"], calendars={"BTC/*": "24/7"})
    assert np.isnan(got.vwap_session).all()


def test_hand_over_to_another_calendar_begins_its_sessions():
    """After a reload with another calendar the average runs from that calendar's open."""
    day = 86400 * SECOND
    batch = bars(SymbolTable(), np.array([1.0, 5.0]), start=T0 - T0 % day + day - SECOND)
    first, second = batch.split(1)
    old = Indicators(Indicators.Params(calendars={"*": "XNYS"}))
    assert old.update(first).signals.vwap_session.tolist() == [1.0]
    new = Indicators(Indicators.Params(calendars={"*": "24/7"}))
    new.load_state(old.save_state(), new.state_version)
    assert new.update(second).signals.vwap_session.tolist() == [5.0]


def test_hand_over_to_more_columns_keeps_the_old_and_begins_the_new():
    """Columns that were computed continue; the others start cold."""
    close = 100 + np.sin(np.arange(60.0))
    first, second = bars(SymbolTable(), close).split(40)
    old, new = (Indicators(Indicators.Params(columns=c, calendars={"*": "24/7"})) for c in (["ema"], ["ema", "vwap"]))
    old.update(first)
    new.load_state(old.save_state(), new.state_version)
    got = new.update(second).signals
    np.testing.assert_array_equal(got.ema26, signals(bars(SymbolTable(), close), columns=["ema"]).ema26[40:])
    np.testing.assert_allclose(got.vwap_w5m, np.cumsum(close[40:]) / np.arange(1, 21))


def test_tables_may_be_slices():
    """Rows of a larger table, which lie apart in memory, give the same values."""
    symbols = SymbolTable()
    batch = bars(symbols, 100 + np.sin(np.arange(60.0)))
    half = Batch.of(symbols, 0, batch.now[:30], bars=batch.bars.rows(0, 30))
    copied = Batch.of(symbols, 0, batch.now[:30], bars=batch.bars.take(np.arange(30)))
    for one, other in zip(*(signals(x, calendars={"*": "24/7"}).floats for x in (half, copied)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_series_that_is_not_in_the_table_is_an_error():
    """A made-up series number is refused, not read from somewhere else."""
    batch = bars(SymbolTable(), np.ones(2))
    batch.bars.ints[Bars.series.row] = 99
    with pytest.raises(ShapeError, match="series 99"):
        signals(batch)


def test_quote_of_a_symbol_that_is_not_in_the_table_is_an_error():
    """The same for quotes."""
    batch = bars(SymbolTable(), np.ones(2))
    batch.quotes = Quotes.from_columns(at=[0], event_ts=[T0], symbol=[99])
    with pytest.raises(ShapeError, match="symbol 99"):
        signals(batch, calendars={"*": "24/7"})


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        ({"columns": ["rsi"]}, "'rsi14'"),
        ({"columns": ["bol"]}, "'boll'"),
        ({"calendars": {"*": "XNYSE"}}, "'XNYS'"),
        ({"seed": "mean"}, "'first' or 'sma'"),
        ({"quote_stale_after_ms": -1}, "greater than or equal to 0"),
        ({"alpha": 1}, "alpha"),
    ],
)
def test_bad_parameter_is_an_error_with_a_hint(params, hint):
    """The error for an invalid parameter says what is allowed."""
    with pytest.raises(ValueError, match=hint):
        Indicators.Params(**params)


def test_calendars_are_imported_only_where_sessions_need_them():
    """Neither round-the-clock symbols, nor columns without sessions, pay a second for exchange_calendars."""
    code = """
import sys
import numpy as np
from torghut_sources.stages.indicators import Indicators
from torghut_core import Bars, Batch, SymbolTable

for symbol, params in (("BTC/USD", {}), ("AAPL", {"columns": ["macd", "vwap_w5m", "imbalance"]})):
    symbols = SymbolTable()
    series = symbols.series(symbols.number(symbol), 10**9)
    bars = Bars.from_columns(at=[0], event_ts=[10**18], step=[10**9], series=[series], close=[1.0], volume=[1.0])
    Indicators(Indicators.Params(**params)).update(Batch.of(symbols, 0, np.array([10**18 + 10**9]), bars=bars))
assert "exchange_calendars" not in sys.modules and "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=2 * PATIENCE)
