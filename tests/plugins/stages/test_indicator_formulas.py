"""Each formula of `ta_signals` alone, after every element, against the plain formula over all that came before; and against TA-Lib
and bottleneck, over whole arrays.
"""

import math

import bottleneck as bn
import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

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
from torghut_core import Bars, Quotes

NAN = math.nan
PRICES = st.lists(st.floats(0.01, 1e5, allow_nan=False), min_size=1, max_size=80)
SETTINGS = examples(60)


def alone(indicator, *columns):
    """What an indicator gives for one symbol, all at once."""
    return indicator.update(np.zeros(len(columns[0]), np.int64), *(np.asarray(column) for column in columns))


def walk(n=600, seed=3):
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 2e-3, n)))


def weighted_ema(x, span):
    """EMA that begins with the first value, as the weighted sum that it is."""
    a = 2 / (span + 1)
    weights = np.array([(1 - a) ** k for k in range(len(x))])
    return (a * weights[:-1] * x[:0:-1]).sum() + weights[-1] * x[0]


@given(PRICES)
@SETTINGS
def test_ema_equals_its_weighted_sum(prices):
    """After every price: the sum of all prices, each a factor lighter than the next."""
    expected = [weighted_ema(np.array(prices[: n + 1]), 12) if n >= 11 else NAN for n in range(len(prices))]
    np.testing.assert_allclose(alone(Ema(12, 1), prices), expected, rtol=1e-12)


@given(PRICES)
@SETTINGS
def test_macd_equals_its_averages(prices):
    """After every price: EMA12 - EMA26, and the EMA9 of that from the first bar on."""
    x = np.array(prices)
    line = np.array([weighted_ema(x[: n + 1], 12) - weighted_ema(x[: n + 1], 26) for n in range(len(x))])
    signal = np.array([weighted_ema(line[: n + 1], 9) for n in range(len(x))])
    index = np.arange(len(x))
    expected = np.where(index >= 25, line, NAN), np.where(index >= 33, signal, NAN)
    macd, macd_signal, hist = alone(Macd(1), prices)
    np.testing.assert_allclose(macd, expected[0], atol=1e-9 * x.max())
    np.testing.assert_allclose(macd_signal, expected[1], atol=1e-9 * x.max())
    np.testing.assert_array_equal(hist, macd - macd_signal)


@given(PRICES)
@SETTINGS
def test_rsi_equals_wilders_averages(prices):
    """After every price: the mean of 14 changes, then 13 parts of the old average and 1 of the new change."""
    expected, changes = [], np.diff(prices)
    for n in range(len(prices)):
        if n < 14:
            expected.append(NAN)
            continue
        gain, loss = (np.maximum(sign * changes[:14], 0).mean() for sign in (1, -1))
        for change in changes[14:n]:
            gain, loss = (13 * gain + max(change, 0)) / 14, (13 * loss + max(-change, 0)) / 14
        expected.append(100 * gain / (gain + loss) if gain + loss else 50.0)
    np.testing.assert_allclose(alone(Rsi(1), prices), expected, rtol=1e-9, atol=1e-9)


@given(PRICES)
@SETTINGS
def test_bollinger_equals_mean_and_deviation_of_the_last_twenty(prices):
    """After every price: the mean of 20, and two of their population standard deviations to either side."""
    windows = [np.array(prices[n - 19 : n + 1]) if n >= 19 else np.array([NAN]) for n in range(len(prices))]
    mid, std = np.array([bn.nanmean(w) for w in windows]), np.array([bn.nanstd(w) for w in windows])
    np.testing.assert_allclose(
        alone(Bollinger(1), prices), [mid, mid + 2 * std, mid - 2 * std], rtol=1e-9, atol=1e-9 * max(prices)
    )


TIMES = st.lists(
    st.tuples(st.integers(0, 40), st.floats(0.01, 1e5), st.sampled_from([0.0, 1.0, 2.5, 1e6])), min_size=1, max_size=120
)


@given(TIMES)
@SETTINGS
def test_rolling_vwap_equals_the_sums_over_its_window(rows):
    """After every bar: the sums over the bars of the last 100 ns, the one of exactly 100 ns ago not among them."""
    ts, price, volume = (np.array(column) for column in zip(*((t, p, v) for t, p, v in rows), strict=True))
    ts = np.cumsum(ts)
    expected = []
    for n in range(len(ts)):
        inside = (ts > ts[n] - 100) & (np.arange(len(ts)) <= n)
        sold = volume[inside].sum()
        expected.append((price * volume)[inside].sum() / sold if sold else NAN)
    np.testing.assert_allclose(alone(RollingVwap(1, 100), ts, price, volume), expected, rtol=1e-9)


@given(TIMES)
@SETTINGS
def test_session_vwap_equals_the_sums_since_the_open(rows):
    """After every bar: the sums over the bars of its session."""
    step, price, volume = (np.array(column) for column in zip(*rows, strict=True))
    opened = np.cumsum(step) // 100
    expected = []
    for n in range(len(opened)):
        inside = (opened == opened[n]) & (np.arange(len(opened)) <= n)
        sold = volume[inside].sum()
        expected.append((price * volume)[inside].sum() / sold if sold else NAN)
    np.testing.assert_allclose(alone(SessionVwap(1), opened, price, volume), expected, rtol=1e-9)


@given(TIMES)
@SETTINGS
def test_realized_volatility_equals_the_deviation_of_the_returns_in_its_window(rows):
    """After every price: the population deviation of the log returns of the last 100 ns, if there are two."""
    step, price, _ = (np.array(column) for column in zip(*rows, strict=True))
    ts, returns = np.cumsum(step), np.diff(np.log(price), prepend=NAN)
    expected = []
    for n in range(len(ts)):
        inside = returns[(ts > ts[n] - 100) & (np.arange(len(ts)) <= n) & (np.arange(len(ts)) > 0)]
        inside = inside[-60:]
        expected.append(bn.nanstd(inside) if len(inside) > 1 else NAN)
    np.testing.assert_allclose(alone(RealizedVolatility(1, 100), ts, price), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("span", [2, 12, 26])
def test_ema_seeded_with_the_mean_is_talibs(span):
    """`seed: sma` gives TA-Lib's values from the first one on."""
    x = walk()
    np.testing.assert_allclose(alone(Ema(span, 1, seed="sma"), x), talib.EMA(x, span), rtol=1e-12)


def test_macd_becomes_talibs():
    """The seeds of the averages fade: after 400 bars both kinds of MACD are TA-Lib's."""
    x = walk()
    for seed in ("first", "sma"):
        ours = np.array(alone(Macd(1, seed=seed), x))
        np.testing.assert_allclose(ours[:, 400:], np.array(talib.MACD(x, 12, 26, 9))[:, 400:], atol=1e-9)
    np.testing.assert_array_equal(np.isnan(ours[1:]), np.isnan(talib.MACD(x, 12, 26, 9))[1:])


@given(
    st.integers(2, 8), st.integers(1, 12), st.integers(2, 6), st.lists(st.floats(1.0, 1e4), min_size=40, max_size=80)
)
@SETTINGS
def test_macd_seeded_with_means_is_talibs(fast, more, signal, prices):
    """`seed: sma` gives TA-Lib's three lines from the first value on that TA-Lib gives."""
    x, slow = np.array(prices), fast + more
    theirs, first = np.array(talib.MACD(x, fast, slow, signal)), slow + signal - 2
    ours = np.array(alone(Macd(1, fast, slow, signal, seed="sma"), x))
    np.testing.assert_allclose(ours[:, first:], theirs[:, first:], atol=1e-9 * x.max())
    np.testing.assert_array_equal(np.isnan(ours[1:]), np.isnan(theirs[1:]))


def test_rsi_is_talibs():
    """The same values, warm at the same bar."""
    x = walk()
    np.testing.assert_allclose(alone(Rsi(1), x), talib.RSI(x, 14), rtol=1e-12)


def test_bollinger_is_talibs():
    """The same bands, warm at the same bar."""
    x = walk()
    upper, mid, lower = talib.BBANDS(x, 20, 2.0, 2.0)
    np.testing.assert_allclose(alone(Bollinger(1), x), [mid, upper, lower], rtol=1e-9)


def test_bollinger_is_bottlenecks():
    """Its moving mean and deviation give the same bands, on prices tame enough for running sums."""
    x = walk()
    mid, std = bn.move_mean(x, 20), bn.move_std(x, 20)
    np.testing.assert_allclose(alone(Bollinger(1), x), [mid, mid + 2 * std, mid - 2 * std], rtol=1e-9)


def test_rolling_vwap_is_bottlenecks():
    """Over 300 bars a second apart: its moving sum of price times volume, by that of volume."""
    price, volume = walk(), np.random.default_rng(4).uniform(1, 9, 600)
    expected = bn.move_sum(price * volume, 300, min_count=1) / bn.move_sum(volume, 300, min_count=1)
    np.testing.assert_allclose(alone(RollingVwap(1, 300), np.arange(600), price, volume), expected, rtol=1e-12)


def test_realized_volatility_is_bottlenecks():
    """Over 60 returns: its moving deviation, once there are two."""
    x = walk()
    expected = bn.move_std(np.diff(np.log(x), prepend=NAN), 60, min_count=2)
    np.testing.assert_allclose(alone(RealizedVolatility(1, 60), np.arange(600), x), expected, rtol=1e-9)


def test_flat_line_has_bands_without_width_and_no_volatility():
    """A flat line has bands of no width to the bit, an RSI of 50, a MACD of 0 and no volatility."""
    x = np.full(100, 0.1)
    np.testing.assert_array_equal(alone(Bollinger(1), x)[:, 19:], 0.1)
    np.testing.assert_array_equal(alone(Rsi(1), x)[14:], 50.0)
    np.testing.assert_array_equal(alone(Macd(1), x)[:, 33:], 0.0)
    np.testing.assert_array_equal(alone(RealizedVolatility(1, 50), np.arange(100), x)[2:], 0.0)
    np.testing.assert_array_equal(alone(RollingVwap(1, 50), np.arange(100), x, x), 0.1)


def test_rsi_of_a_line_that_only_rises_is_100_and_that_falls_0():
    """The ends of the scale are reached exactly."""
    assert alone(Rsi(1), np.arange(30.0))[-1] == 100.0
    assert alone(Rsi(1), -np.arange(30.0))[-1] == 0.0


def test_deviation_of_close_large_prices_is_exact():
    """1e8, 1e8 + 1, 1e8 + 2 deviate by sqrt(2 / 3): nothing is lost to the size of the prices."""
    x = 1e8 + np.array([0.0, 1, 2, 0, 1, 2])
    mid, upper, _ = alone(Bollinger(1, span=3, width=1.0), x)
    np.testing.assert_array_equal(mid[2:], 1e8 + 1)
    np.testing.assert_array_equal(upper[2:], 1e8 + 1 + math.sqrt(2 / 3))


def test_average_of_exactly_zero_is_a_value():
    """An average that is exactly 0 is continued, not started anew."""
    x = np.array([3.0, -1.0, 4.0, 5.0])  # EMA over 7: weight 1/4; after two values 3 - 1 = 2, ...
    ema = Ema(1, 1)
    np.testing.assert_array_equal(alone(ema, [1.0, 0.0, 5.0]), [1.0, 0.0, 5.0])
    slow = alone(Ema(2, 1), [2.0, -1.0, 3.0])
    np.testing.assert_allclose(slow, [NAN, 0.0, 2.0], atol=1e-15)
    assert alone(Bollinger(1, span=2), x)[0].tolist()[1:] == [1.0, 1.5, 4.5]


def test_no_drift_in_a_long_run():
    """After half a million bars of wild prices the window knows only its own twenty."""
    rng = np.random.default_rng(5)
    x = np.concatenate([10.0 ** rng.uniform(-3, 9, 500_000), np.full(20, 0.7)])
    np.testing.assert_array_equal(alone(Bollinger(1), x)[:, -1], 0.7)
    ts = np.arange(len(x))
    np.testing.assert_array_equal(alone(RollingVwap(1, 20), ts, x, x)[-1], 0.7)


def test_window_over_a_gap_is_empty():
    """After days without a bar the windows hold the new bar only; the return over the gap is one return."""
    ts = np.array([0, 1, 2, 10**15])
    price = np.array([1.0, 2.0, 3.0, 7.0])
    assert alone(RollingVwap(1, 10), ts, price, price)[-1] == 7.0
    assert np.isnan(alone(RealizedVolatility(1, 10), ts, price)[-1])


def test_price_that_is_not_positive_has_no_return():
    """A futures price at or below 0 gives NaN there, and the next one has nothing to be compared with."""
    ts, price = np.arange(6), np.array([1.0, 2.0, 1.0, -1.0, 5.0, 10.0])
    volatility = alone(RealizedVolatility(1, 100), ts, price)
    assert np.isnan(volatility).tolist() == [True, True, False, True, False, False]
    returns = np.log([2.0, 0.5, 2.0])
    np.testing.assert_allclose(volatility[4:], [returns[:2].std(), returns.std()])


def test_bar_sees_the_last_fresh_quote():
    """The last quote at or before the bar's position; NaN when it is older than allowed, or its side is missing."""
    quotes = Quotes.from_columns(
        at=[0, 2, 4],
        event_ts=[100, 200, 300],
        bid_price=[1.0, 2.0, NAN],
        bid_size=[10.0, 20.0, NAN],
        ask_price=[1.5, 2.5, 3.5],
        ask_size=[11.0, 21.0, 31.0],
    )
    bars = Bars.from_columns(at=[1, 2, 3, 4])
    out = QuoteImbalance(1, stale_after=50).update(np.array([100, 150, 200, 251, 300]), 0, quotes, bars)
    np.testing.assert_array_equal(
        out.T, [[0.5, 1.0, 1.5, 10.0, 11.0], [0.5, 2.0, 2.5, 20.0, 21.0], [NAN] * 5, [NAN, NAN, 3.5, NAN, 31.0]]
    )


INDICATORS = {
    "ema": (lambda n: Ema(3, n), ("price",)),
    "ema-sma": (lambda n: Ema(3, n, seed="sma"), ("price",)),
    "macd": (lambda n: Macd(n, 2, 4, 3), ("price",)),
    "macd-sma": (lambda n: Macd(n, 2, 4, 3, seed="sma"), ("price",)),
    "rsi": (lambda n: Rsi(n, 3), ("price",)),
    "bollinger": (lambda n: Bollinger(n, 4), ("price",)),
    "session-vwap": (SessionVwap, ("opened", "price", "volume")),
    "rolling-vwap": (lambda n: RollingVwap(n, 5, capacity=4), ("ts", "price", "volume")),
    "realized-volatility": (lambda n: RealizedVolatility(n, 5, capacity=4), ("ts", "price")),
}


@pytest.fixture(params=INDICATORS)
def indicator(request):
    """A way to make each formula alone, and the columns that it takes."""
    return INDICATORS[request.param]


def columns(names, n, symbols, seed=11):
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.integers(0, 3, n))
    table = {"price": rng.uniform(1, 2, n), "volume": rng.integers(0, 3, n) * 1.0, "ts": ts, "opened": ts // 20}
    return rng.integers(0, symbols, n), [table[name] for name in names]


def test_any_cut_of_the_input_gives_the_same_values(indicator):
    """One by one, in two parts, or all at once: the same to the bit, also when a state is copied in between."""
    make, names = indicator
    symbol, values = columns(names, 200, 3)
    whole = make(3).update(symbol, *values)
    for size in (1, 7, 150):
        one, parts = make(3), []
        for start in range(0, 200, size):
            parts.append(one.update(symbol[start : start + size], *(v[start : start + size] for v in values)))
            state, one = one.state, make(3)
            one.state = state.copy()
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)


def test_symbols_do_not_affect_each_other(indicator):
    """Each symbol's values are those that it has by itself."""
    make, names = indicator
    symbol, values = columns(names, 200, 3)
    whole = make(3).update(symbol, *values)
    for number in range(3):
        mine = symbol == number
        np.testing.assert_array_equal(alone(make(1), *(v[mine] for v in values)), whole[..., mine])
