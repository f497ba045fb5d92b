"""Ten strategies of the field, made of features: the trades and the money that plain arrays and TA-Lib give, to the cent.

The peer is a few lines that anyone can read: whole arrays, and a loop that fills at the next bar's open (rules 1 and 2 of
docs/fills.md; of slices, docs/portfolios.md). It knows nothing of batches, graphs or slices. Other frameworks are asked in
test_against_peers.py.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import talib

from support.docs import ROOT
from support.effort import IS_PROOF
from torghut_core import HOUR, MINUTE, Strategy, hookimpl, parse_timestamp
from torghut_core.features import (
    bollinger,
    close,
    cross_above,
    cross_below,
    ema,
    high,
    highest,
    log,
    low,
    lowest,
    macd,
    natr,
    rank,
    roc,
    rsi,
    sma,
    vwap_rolling,
    zscore,
)
from torghut_core.plugin_host import PluginHost
from torghut_core.research import load_catalog, run_backtest, tape_generation

CRYPTO = ROOT.parent / "shared" / "data" / "crypto"
pytestmark = pytest.mark.skipif(not CRYPTO.exists(), reason="needs the recorded data beside the project (../shared)")

CASH = 10_000_000
DAY = parse_timestamp("2018-04-04T00:00:00Z")
"""The day of which the second tape has three symbols."""
ONE, SEVERAL = "bars_1m_btcperp_20211231_20220115.parquet", "bars_1m_coinbase_dev.parquet"
MINUTES = 21_659 if IS_PROOF else 6_000
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators}]
    broker: {use: simulated, params: {cash: "10000000"}}
instruments: {"*": {asset_class: crypto}}
strategies:
"""


class Rule(Strategy):
    """Buys one unit where `enter` is true, and sells it where `leave` is."""

    def on_signal(self, signal, context):
        if context.is_flat and signal.enter:
            return context.buy(1, because="enter")
        if context.is_long and signal.leave:
            return context.close(because="leave")
        return None


# Each strategy as features, and beside it as whole arrays: `bars` has the columns of a symbol.


def multi_timeframe_trend():
    hours, fast, slow = ema(close, 5, timeframe="1Hour"), ema(close, 10), ema(close, 30)
    return (hours > hours.shift(1)) & cross_above(fast, slow), cross_below(fast, slow)


def multi_timeframe_trend_in_arrays(bars):
    end = bars.event_ts + MINUTE
    last = np.flatnonzero(np.diff(end // HOUR - (end % HOUR == 0), append=-1))  # the last minute of each hour
    hours = talib.EMA(bars.close[last], 5)
    known = np.searchsorted((bars.event_ts[last] // HOUR + 1) * HOUR, end, "right") - 1
    before = np.where(known > 0, hours[known - 1], np.nan)
    now = np.where(known >= 0, hours[known], np.nan)
    fast, slow = talib.EMA(bars.close, 10), talib.EMA(bars.close, 30)
    return both(above(now, before), crosses(fast, slow)), crosses(slow, fast)


def donchian():
    return close > highest(high, 20).shift(1), close < lowest(low, 10).shift(1)


def donchian_in_arrays(bars):
    return above(bars.close, later(talib.MAX(bars.high, 20))), above(later(talib.MIN(bars.low, 10)), bars.close)


def rsi_reversal():
    return rsi(14) < 30, rsi(14) > 55


def rsi_reversal_in_arrays(bars):
    values = talib.RSI(bars.close, 14)
    return above(30, values), above(values, 55)


def bollinger_reversion():
    bands = bollinger(20, 2)
    return close < bands["lower"], close > bands["middle"]


def bollinger_reversion_in_arrays(bars):
    _, middle, lower = talib.BBANDS(bars.close, 20, 2, 2)
    return above(lower, bars.close), above(bars.close, middle)


def macd_cross():
    lines = macd(12, 26, 9)
    return cross_above(lines["macd"], lines["signal"]), cross_below(lines["macd"], lines["signal"])


def macd_cross_in_arrays(bars):
    line, signal, _ = talib.MACD(bars.close, 12, 26, 9)
    return crosses(line, signal), crosses(signal, line)


def volatility_filter():
    fast, slow = sma(10), sma(40)
    return cross_above(fast, slow) & (natr(14) < sma(natr(14), 100)), fast < slow


def volatility_filter_in_arrays(bars):
    fast, slow = talib.SMA(bars.close, 10), talib.SMA(bars.close, 40)
    ranges = talib.NATR(bars.high, bars.low, bars.close, 14)
    quiet = above(mean(ranges, 100), ranges)
    return both(crosses(fast, slow), quiet), above(slow, fast)


def vwap_reversion():
    return close < vwap_rolling(60) * 0.998, close > vwap_rolling(60)


def vwap_reversion_in_arrays(bars):
    price = (bars.high + bars.low + bars.close) / 3
    value = windows(price * bars.volume, 60).sum(axis=1) / windows(bars.volume, 60).sum(axis=1)
    value = np.append(np.full(59, np.nan), value)
    return above(value * 0.998, bars.close), above(bars.close, value)


def pairs_by_zscore():
    z = zscore(log(close / close.of("BTC/USD")), 60)
    return z < -2, z > 0


def pairs_by_zscore_in_arrays(bars):
    ratio = windows(np.log(bars.close / as_of(bars, "BTC/USD", bars.all["BTC/USD"].close)), 60)
    z = (ratio[:, -1] - ratio.mean(axis=1)) / ratio.std(axis=1)
    z = np.append(np.full(59, np.nan), z)
    return above(-2, z), above(z, 0)


def momentum_of_two_symbols():
    return (roc(30) > 0) & (roc(30).of("BTC/USD") > 0), roc(30) < 0


def momentum_of_two_symbols_in_arrays(bars):
    other = as_of(bars, "BTC/USD", talib.ROC(bars.all["BTC/USD"].close, 30))
    own = talib.ROC(bars.close, 30)
    return both(above(own, 0), above(other, 0)), both(above(0, own), known(other))


def cross_sectional_rotation():
    place = rank(roc(60))
    return place > 0.75, place < 0.25


def cross_sectional_rotation_in_arrays(bars):
    momentum = {symbol: talib.ROC(each.close, 60) for symbol, each in bars.all.items()}
    places = np.full(len(bars.close), np.nan)
    for row, event_ts in enumerate(bars.event_ts):
        slice_ = {}
        for symbol, each in bars.all.items():
            place = np.searchsorted(each.event_ts, event_ts)
            if place < len(each.event_ts) and each.event_ts[place] == event_ts:
                slice_[symbol] = momentum[symbol][place]
        own = slice_[bars.symbol]
        others = [value for symbol, value in slice_.items() if symbol != bars.symbol and value == value]
        if own == own:
            smaller, equal = sum(value < own for value in others), sum(value == own for value in others)
            places[row] = (smaller + equal / 2) / len(others) if others else 0.5
    return above(places, 0.75), above(0.25, places)


STRATEGIES = {
    multi_timeframe_trend: multi_timeframe_trend_in_arrays,
    donchian: donchian_in_arrays,
    rsi_reversal: rsi_reversal_in_arrays,
    bollinger_reversion: bollinger_reversion_in_arrays,
    macd_cross: macd_cross_in_arrays,
    volatility_filter: volatility_filter_in_arrays,
    vwap_reversion: vwap_reversion_in_arrays,
    pairs_by_zscore: pairs_by_zscore_in_arrays,
    momentum_of_two_symbols: momentum_of_two_symbols_in_arrays,
    cross_sectional_rotation: cross_sectional_rotation_in_arrays,
}
OF_SEVERAL = {pairs_by_zscore: ["ETH/USD"], momentum_of_two_symbols: ["ETH/USD"], cross_sectional_rotation: None}
"""Those of several symbols, and which they trade: all where None."""


# Arrays of 1.0, 0.0 and NaN, where a value is not known.


def known(values):
    return np.where(np.isnan(values), np.nan, 1.0)


def above(first, second):
    found = np.where(np.isnan(first) | np.isnan(second), np.nan, 0.0)
    return np.where(np.greater(first, second), 1.0, found)


def both(first, second):
    return np.where(np.isnan(first) | np.isnan(second), np.nan, (first == 1) & (second == 1))


def later(values):
    return np.append(np.nan, values[:-1])


def crosses(first, second):
    """Whether one is above the other, and at the bar before was not."""
    return both(above(first, second), 1 - above(later(first), later(second)))


def windows(values, span):
    return np.lib.stride_tricks.sliding_window_view(values, span)


def mean(values, span):
    return np.append(np.full(span - 1, np.nan), windows(values, span).mean(axis=1))


def as_of(bars, symbol, values):
    """The last value of another symbol that is known at the end of each bar."""
    place = np.searchsorted(bars.all[symbol].event_ts, bars.event_ts, "right") - 1
    return np.where(place >= 0, values[place], np.nan)


def columns_of(table):
    """The columns of each symbol of a tape."""
    found = {}
    for symbol in sorted(set(table["symbol"].to_pylist())):
        rows = table.filter(pc.equal(table["symbol"], symbol))
        place = np.flatnonzero(pc.equal(table["symbol"], symbol).to_numpy())
        columns = {name: rows[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
        event_ts = rows["event_ts"].cast("int64").to_numpy()
        found[symbol] = SimpleNamespace(symbol=symbol, all=found, place=place, event_ts=event_ts, **columns)
    return found


def traded_in_arrays(bars, enter, leave, is_sliced):
    """The trades of one symbol: what is decided at a bar is filled at the open of the next one that has volume.

    A slice is shown after the last bar of its time, and only if there is a later one.
    """
    trades, is_long, order, met = [], False, None, 0
    ends = np.sort(np.concatenate([each.event_ts for each in bars.all.values()])) + MINUTE
    for row, place in enumerate(bars.place.tolist()):
        shown = int(np.searchsorted(ends, bars.event_ts[row] + MINUTE, "right")) - 1 if is_sliced else place
        if is_sliced and shown == len(ends) - 1:
            break
        while met < len(bars.place) and bars.place[met] <= shown:
            if order and bars.event_ts[met] >= order[1] and bars.volume[met] > 0:
                trades.append((bars.event_ts.item(met), order[0], Decimal(str(bars.open.item(met)))))
                is_long, order = order[0] == "buy", None
            met += 1
        if order or np.isnan(enter[row]) or np.isnan(leave[row]):
            continue
        if not is_long and enter[row]:
            order = "buy", ends[shown]
        elif is_long and leave[row]:
            order = "sell", ends[shown]
    return trades


def plugin_of(features):
    def asked(_self):
        enter, leave = features()
        return {"enter": enter, "leave": leave}

    return type("Made", (Rule,), {"__doc__": Rule.__doc__, "features": asked})


class Run(NamedTuple):
    """A backtest of several strategies at once: trades by strategy and symbol, what the account has in the end, and the bars."""

    trades: Mapping[tuple[object, str], list[tuple[int, str, Decimal]]]
    equity: Decimal
    bars: Mapping[str, SimpleNamespace]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the strategies of a tape, once."""

    @lru_cache
    def run_once(tape):
        table = pq.read_table(CRYPTO / tape)
        if tape == ONE:
            table, chosen = table.slice(0, MINUTES), [each for each in STRATEGIES if each not in OF_SEVERAL]
        else:
            table = table.filter(pc.greater_equal(table["event_ts"].cast("int64"), DAY))
            chosen = list(OF_SEVERAL)
        table = table.take(pc.sort_indices(table, [("event_ts", "ascending"), ("symbol", "ascending")]))
        path = tmp_path_factory.mktemp("ten") / "tape.parquet"
        pq.write_table(table, path)
        bars = columns_of(table)
        named = {each.__name__.replace("_", "-"): each for each in chosen}

        @hookimpl
        def register_strategies(register):
            for name, each in named.items():
                register(name, plugin_of(each))

        module = SimpleNamespace(__name__="ten", register_strategies=register_strategies)
        places = {each: OF_SEVERAL.get(each) or list(bars) for each in chosen}
        entries = [
            f"  - {{name: {name}, use: {name}, base_timeframe: 1Min, symbols: [{', '.join(places[each])}]}}\n"
            for name, each in named.items()
        ]
        host = PluginHost.load(("torghut-*",), extra=[("ten", module)])
        done = run_backtest(tape_generation(load_catalog({"c.yaml": CATALOG + "".join(entries)}), [path], host))
        assert done.result.denied == 0
        trades = {(each, symbol): [] for each, symbols in places.items() for symbol in symbols}
        for fill in done.fills():
            place = named[fill["strategy_id"]], fill["symbol"]
            trades[place].append((fill["event_ts"], str(fill["side"]), Decimal(fill["price"])))
        return Run(trades, done.result.final_equity, bars)

    return run_once


def worth(trades, bars):
    """What trades have made, with what is held at the last close."""
    paid = sum(price if side == "sell" else -price for _, side, price in trades)
    return paid + (Decimal(str(bars.close[-1])) if len(trades) % 2 else 0)


@pytest.mark.parametrize("tape", [ONE, SEVERAL])
def test_trades_and_equity_are_those_of_plain_arrays(run, tape):
    """Every trade of every strategy at the same bar and price, and the account to the cent."""
    done, made = run(tape), Decimal(0)
    for (each, symbol), trades in done.trades.items():
        bars = done.bars[symbol]
        wanted = traded_in_arrays(bars, *STRATEGIES[each](bars), each in OF_SEVERAL)
        assert wanted, f"{each.__name__} of {symbol} never trades"
        assert trades == wanted, f"{each.__name__} of {symbol}"
        made += worth(wanted, bars)
    assert done.equity == CASH + made
