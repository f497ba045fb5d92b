"""Moving averages, and what is made of them, against TA-Lib after every bar."""

import numpy as np
import pytest
import talib

from support.indicators import EACH_KIND, assert_equal, bars, values, without_gaps

AVERAGES = [
    ("sma", {"span": 1}, lambda x: talib.SMA(x, 1)),
    ("sma", {"span": 7}, lambda x: talib.SMA(x, 7)),
    ("sma", {"span": 70}, lambda x: talib.SMA(x, 70)),
    ("wma", {"span": 1}, lambda x: talib.WMA(x, 1)),
    ("wma", {"span": 2}, lambda x: talib.WMA(x, 2)),
    ("wma", {"span": 33}, lambda x: talib.WMA(x, 33)),
    ("ema", {"span": 1}, lambda x: talib.EMA(x, 1)),
    ("ema", {"span": 20}, lambda x: talib.EMA(x, 20)),
    ("dema", {"span": 1}, lambda x: talib.DEMA(x, 1)),
    ("dema", {"span": 12}, lambda x: talib.DEMA(x, 12)),
    ("tema", {"span": 1}, lambda x: talib.TEMA(x, 1)),
    ("tema", {"span": 12}, lambda x: talib.TEMA(x, 12)),
    ("rma", {"span": 1}, lambda x: talib.RMA(x, 1)),
    ("rma", {"span": 14}, lambda x: talib.RMA(x, 14)),
    ("hma", {"span": 1}, lambda x: talib.HMA(x, 1)),
    ("hma", {"span": 3}, lambda x: talib.HMA(x, 3)),
    ("hma", {"span": 20}, lambda x: talib.HMA(x, 20)),
    ("hma", {"span": 25}, lambda x: talib.HMA(x, 25)),
    ("kama", {"span": 2}, lambda x: talib.KAMA(x, 2)),
    ("kama", {"span": 10}, lambda x: talib.KAMA(x, 10)),
    ("kama", {"span": 30}, lambda x: talib.KAMA(x, 30)),
    ("macd", {}, talib.MACD),
    ("macd", {"fast": 2, "slow": 3, "signal": 1}, lambda x: talib.MACD(x, 2, 3, 1)),
    ("macd", {"fast": 3, "slow": 40, "signal": 5}, lambda x: talib.MACD(x, 3, 40, 5)),
]


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(("name", "params", "wanted"), AVERAGES)
def test_averages_are_those_of_ta_lib(name, params, wanted, kind):
    """After every bar an average is TA-Lib's, in units of the price; bars without a price are left out."""
    close = bars(kind)["close"]
    (closes,), known = without_gaps({"close": close}, "close")
    got = values(name, params, close=close)
    assert np.isnan(got[:, ~known]).all()
    assert_equal(got[:, known], np.atleast_2d(wanted(closes)), closes.max())


RATIOS = [
    ("ppo", {}, lambda x: talib.PPO(x, 12, 26, 1)),
    ("ppo", {"fast": 2, "slow": 50}, lambda x: talib.PPO(x, 2, 50, 1)),
    ("trix", {"span": 1}, lambda x: talib.TRIX(x, 1)),
    ("trix", {"span": 15}, lambda x: talib.TRIX(x, 15)),
]


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(("name", "params", "wanted"), RATIOS)
def test_ratios_of_averages_are_those_of_ta_lib(name, params, wanted, kind):
    """The same for ratios, in percent."""
    (closes,), _ = without_gaps(bars(kind), "close")
    assert_equal(values(name, params, close=closes)[0], wanted(closes), 100 * closes.max() / closes.min())


@pytest.mark.parametrize("name", ["sma", "wma", "ema", "dema", "tema", "rma", "hma", "kama"])
def test_average_of_a_flat_line_is_the_line(name):
    """A flat line has the average that it is, to the bit, and so has no crossings."""
    got = values(name, {}, close=np.full(200, 0.1))[0]
    assert set(got[~np.isnan(got)]) == {0.1}


@pytest.mark.parametrize(("name", "params"), [("macd", {}), ("ppo", {}), ("trix", {})])
def test_difference_of_averages_of_a_flat_line_is_0(name, params):
    """A flat line has a difference of exactly 0, also a line of zeros."""
    for price in (0.1, 0.0):
        got = values(name, params, close=np.full(200, price))
        assert set(got[~np.isnan(got)]) == {0.0}


@pytest.mark.parametrize(("name", "spans"), [("kama", (2, 30)), ("kama", (5, 9))])
def test_adaptive_average_takes_its_speeds(name, spans):
    """The speeds of the adaptive average are those of its formula, written out bar by bar."""
    close, span = bars("walk")["close"], 10
    fast, slow = (2 / (each + 1) for each in spans)
    wanted, average = np.full(len(close), np.nan), close[span - 1]
    for i in range(span, len(close)):
        moved = np.abs(np.diff(close[i - span : i + 1])).sum()
        efficiency = abs(close[i] - close[i - span]) / moved
        average += (close[i] - average) * (efficiency * (fast - slow) + slow) ** 2
        wanted[i] = average
    got = values(name, {"span": span, "fast": spans[0], "slow": spans[1]}, close=close)[0]
    assert_equal(got, wanted, close.max())


@pytest.mark.parametrize("name", ["macd", "ppo"])
def test_fast_average_is_faster_than_the_slow_one(name):
    """Spans in the wrong order are refused with what is wrong."""
    with pytest.raises(ValueError, match="fast is 26, and has to be below slow, which is 12"):
        values(name, {"fast": 26, "slow": 12}, close=np.ones(3))
