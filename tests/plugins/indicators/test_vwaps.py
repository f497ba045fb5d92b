"""Volume-weighted averages over bars: equal to TA-Lib, and to the plain formula."""

import numpy as np
import pytest
import talib

from support.indicators import EACH_KIND, assert_equal, bars, values

PRICES = ("high", "low", "close")


def traded(kind):
    """Bars, some of them without volume; and which are whole."""
    columns = bars(kind)
    columns["volume"] = columns["volume"] * (np.random.default_rng(5).random(len(columns["close"])) < 0.7)
    return columns, np.isfinite([columns[name] for name in PRICES]).all(axis=0)


@pytest.mark.parametrize("period", [1, 5, 50])
@pytest.mark.parametrize("kind", EACH_KIND)
def test_rolling_average_is_that_of_the_last_bars(kind, period):
    """It is the average of the last bars, those without volume among them, and NaN where none has any."""
    columns, known = traded(kind)
    (got,) = values("vwap-rolling", {"span": period}, **columns)
    assert np.isnan(got[~known]).all()
    typical = talib.TYPPRICE(*(columns[name][known] for name in PRICES))
    volume, scale = columns["volume"][known], abs(typical).max()
    wanted = np.full(len(typical), np.nan)
    for i in range(period - 1, len(typical)):
        price, weight = typical[i + 1 - period : i + 1], volume[i + 1 - period : i + 1]
        if weight.any():
            wanted[i] = (price * weight).sum() / weight.sum()
    assert_equal(got[known], wanted, scale, rtol=1e-12)
    if period > 1:  # of one bar TA-Lib gives the price, traded or not, and of a window without volume a number too
        theirs = talib.VWMA(typical, volume, period)
        assert_equal(got[known], np.where(np.isnan(wanted), np.nan, theirs), scale)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_average_anchored_at_the_first_bar_is_ta_libs(kind):
    """It is TA-Lib's VWAP."""
    columns, known = traded(kind)
    anchor = np.zeros(len(known))
    anchor[np.flatnonzero(known)[0]] = 1.0
    (got,) = values("vwap-anchored", {}, anchor=anchor, **columns)
    wanted = talib.VWAP(*(columns[name][known] for name in (*PRICES, "volume")))
    first = np.flatnonzero(columns["volume"][known])[0]
    assert np.isnan(got[known][:first]).all()
    assert_equal(got[known][first:], wanted[first:], np.nanmax(abs(columns["close"])))


def test_an_anchor_forgets_what_was_before_it():
    """It is NaN before the first anchor, and each anchor forgets what was before it."""
    price, volume = np.array([9.0, 1.0, 4.0, 5.0, 7.0, 8.0]), np.array([1.0, 2.0, 1.0, 0.0, 3.0, 1.0])
    anchor = [0, 1, 0, 1, 0, 0]
    (got,) = values("vwap-anchored", {}, anchor=anchor, high=price, low=price, close=price, volume=volume)
    np.testing.assert_array_equal(got, [np.nan, 1.0, 2.0, np.nan, 7.0, 7.25])
