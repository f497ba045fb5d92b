"""Windows, bands and channels against TA-Lib after every bar."""

import numpy as np
import pytest
import talib

from support.indicators import EACH_KIND, assert_equal, bars, values, without_gaps

WINDOWS = [
    ("highest", {"span": 20}, "high", lambda x: talib.MAX(x, 20)),
    ("highest", {"span": 2}, "high", lambda x: talib.MAX(x, 2)),
    ("highest", {"span": 1}, "high", lambda x: x),
    ("lowest", {"span": 20}, "low", lambda x: talib.MIN(x, 20)),
    ("lowest", {"span": 100}, "low", lambda x: talib.MIN(x, 100)),
]


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(("name", "params", "column", "wanted"), WINDOWS)
def test_highest_and_lowest_are_those_of_ta_lib(name, params, column, wanted, kind):
    """After every bar the highest and the lowest value are TA-Lib's, to the bit."""
    (column_values,), known = without_gaps(bars(kind), column)
    got = values(name, params, **{column: bars(kind)[column]})[0]
    np.testing.assert_array_equal(got[known], wanted(column_values))


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("span", [2, 20, 100])
def test_donchian_channel_is_that_of_ta_lib(span, kind):
    """After every bar the channel is TA-Lib's; a bar without a high or a low is left out."""
    (high, low), known = without_gaps(bars(kind), "high", "low")
    got = values("donchian", {"span": span}, high=bars(kind)["high"], low=bars(kind)["low"])
    assert_equal(got[:, known], np.array(talib.DONCHIAN(high, low, span)), high.max())


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(("span", "atr_span", "width"), [(20, 10, 2.0), (5, 14, 1.0), (14, 14, 3.0), (15, 14, 0.5)])
def test_keltner_channel_is_that_of_ta_lib(span, atr_span, width, kind):
    """After every bar the channel is TA-Lib's, whichever of its two averages takes longer to be known."""
    (high, low, close), known = without_gaps(bars(kind), "high", "low", "close")
    columns = {column: bars(kind)[column] for column in ("high", "low", "close")}
    got = values("keltner", {"span": span, "atr_span": atr_span, "width": width}, **columns)
    assert_equal(got[:, known], np.array(talib.KC(high, low, close, span, atr_span, width)), high.max())


def windows(values, span):
    """The last `span` values at each value, of shape (values - span + 1, span)."""
    return np.lib.stride_tricks.sliding_window_view(values, span)


def deviations(values, span):
    """Their standard deviations, of distances from one of the values: TA-Lib loses digits, and gives 0 below 1e-7."""
    found = np.full(len(values), np.nan)
    found[span - 1 :] = (windows(values, span) - windows(values, span)[:, -1:]).std(axis=1)
    return found


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("span", [2, 20, 100])
def test_deviation_is_that_of_the_window(span, kind):
    """After every bar the deviation is that of the values in the window, whatever was in it before."""
    (close,), _ = without_gaps(bars(kind), "close")
    got = values("stddev", {"span": span}, close=close)[0]
    wanted = deviations(close, span)
    assert_equal(got, wanted, close.max())
    np.testing.assert_allclose(got, wanted, rtol=1e-6, equal_nan=True)
    if kind in ("walk", "flat", "flat in parts", "gapped"):  # its sums of squares keep about 8 digits
        assert_equal(got, talib.STDDEV(close, span), close.max(), rtol=1e-7)


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(("span", "width"), [(20, 2.0), (5, 0.5), (100, 3.0)])
def test_bollinger_bands_are_those_of_the_window(span, width, kind):
    """After every bar the bands are mean and deviations of the window, and where TA-Lib keeps the digits its own."""
    (close,), _ = without_gaps(bars(kind), "close")
    got = values("bollinger", {"span": span, "width": width}, close=close)
    middle, band = talib.SMA(close, span), width * deviations(close, span)
    assert_equal(got, np.array([middle + band, middle, middle - band]), close.max())
    if kind in ("walk", "flat", "flat in parts", "gapped"):
        assert_equal(got, np.array(talib.BBANDS(close, span, width, width)), close.max(), rtol=1e-7)


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("span", [2, 20, 100])
def test_zscore_is_the_distance_from_the_mean_in_deviations(span, kind):
    """After every bar: (value - mean) / deviation of the window, 0 where all values of it are equal."""
    (close,), _ = without_gaps(bars(kind), "close")
    wanted = np.full(len(close), np.nan)
    away = windows(close, span) - windows(close, span)[:, -1:]
    deviation = away.std(axis=1)
    wanted[span - 1 :] = np.where(deviation > 0, -away.mean(axis=1) / np.where(deviation > 0, deviation, 1.0), 0.0)
    assert_equal(values("zscore", {"span": span}, close=close)[0], wanted, 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["bollinger", "zscore", "stddev"])
def test_flat_line_has_no_width(name):
    """A flat line has a deviation of exactly 0, also where wild prices were before."""
    close = np.concatenate([bars("wild")["close"], np.full(30, 0.1)])
    last = values(name, {"span": 20}, close=close)[:, -1]
    assert last.tolist() == ([0.1, 0.1, 0.1] if name == "bollinger" else [0.0])


@pytest.mark.parametrize(("name", "sign"), [("highest", 1), ("lowest", -1)])
@pytest.mark.parametrize("steps", [1, -1, 0])
def test_extreme_of_a_long_trend_is_found_in_every_slot(name, sign, steps):
    """Rising, falling and equal values fill the window to its last slot and no further."""
    series = steps * np.arange(200.0)
    got = values(name, {"span": 16}, **{"high" if sign > 0 else "low": series})[0]
    wanted = windows(series, 16).max(axis=1) if sign > 0 else windows(series, 16).min(axis=1)
    assert got[15:].tolist() == wanted.tolist()
