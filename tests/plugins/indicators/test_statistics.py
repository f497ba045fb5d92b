"""Indicators of statistics: equal to TA-Lib, and to plain formulas over whole windows where TA-Lib's own sums drift."""

import numpy as np
import pytest
import talib
from numpy.lib.stride_tricks import sliding_window_view

from support.indicators import EACH_KIND, assert_equal, bars, values

STEADY = ("walk", "flat", "flat in parts", "gapped", "huge")
"""Kinds of bars in which TA-Lib is right too: it sums up since the first bar, which jumps spoil, and calls variances below 1e-14
none, as those of tiny prices are."""
PERIODS = (2, 5, 30)


def pair(kind):
    """Two series, in the bars that have both; and a function that puts what is of these bars into all bars."""
    both = np.array([bars(kind, seed=seed)["close"] for seed in (1, 2)])
    known = np.isfinite(both).all(axis=0)

    def spread(found):
        out = np.full(len(known), np.nan)
        out[known] = found
        return out

    return both, both[:, known], spread


def windows(series, period):
    """Shape (windows, period): distances from the mean, which are exactly 0 in flat ones."""
    found = sliding_window_view(series, period)
    found = found - found[:, :1]
    return found - found.mean(axis=1, keepdims=True)


def late(found, n):
    """Of all bars: NaN until the first window is full."""
    return np.concatenate([np.full(n - len(found), np.nan), found])


def safe(above, below):
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def correlation(first, second, period):
    first, second = windows(first, period), windows(second, period)
    sizes = np.sqrt((first**2).sum(axis=1)) * np.sqrt((second**2).sum(axis=1))
    return safe((first * second).sum(axis=1), sizes)


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("kind", EACH_KIND)
def test_correlation_is_ta_libs_and_that_of_the_formula(kind, period):
    """It equals TA-Lib's CORREL, and the formula whatever the prices."""
    both, (first, second), spread = pair(kind)
    (got,) = values("correlation", {"span": period}, first=both[0], second=both[1])
    assert_equal(got, spread(late(correlation(first, second, period), len(first))), 1.0)
    if kind in STEADY:
        assert_equal(got, spread(talib.CORREL(first, second, period)), 1.0, rtol=1e-7)


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("kind", EACH_KIND)
def test_beta_is_ta_libs_and_that_of_the_formula(kind, period):
    """It equals TA-Lib's BETA, and the formula whatever the prices: changes have no scale."""
    both, (price, market), spread = pair(kind)
    (got,) = values("beta", {"span": period}, price=both[0], market=both[1])
    own, others = (windows(np.diff(series) / series[:-1], period) for series in (price, market))
    variance = (others**2).sum(axis=1)
    scale = max(1.0, np.sqrt(safe((own**2).sum(axis=1), variance)).max())
    assert_equal(got, spread(late(safe((own * others).sum(axis=1), variance), len(price))), scale)
    if kind != "wild":
        assert_equal(got, spread(talib.BETA(market, price, period)), scale)


def test_a_price_of_zero_is_followed_by_no_change():
    """As in TA-Lib: a price of 0 is followed by a change of 0."""
    price, market = np.array([1.0, 0.0, 2.0, 3.0, 2.0]), np.array([5.0, 4.0, 3.0, 4.0, 5.0])
    np.testing.assert_allclose(
        values("beta", {"span": 2}, price=price, market=market)[0], talib.BETA(market, price, 2), rtol=1e-12
    )


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("kind", EACH_KIND)
def test_linreg_is_ta_libs_regression(kind, period):
    """It equals TA-Lib's functions of the regression, and the share that it explains CORREL squared."""
    close = bars(kind)["close"]
    known = np.isfinite(close)
    got = values("linreg", {"span": period}, close=close)
    assert np.isnan(got[:, ~known]).all()
    line, scale = close[known], np.nanmax(abs(close))
    for output, name in zip(got, ("LINEARREG", "LINEARREG_SLOPE", "LINEARREG_INTERCEPT"), strict=False):
        assert_equal(output[known], getattr(talib, name)(line, period), scale)
    share = correlation(line, np.arange(len(line), dtype=float), period) ** 2
    assert_equal(got[3, known], late(share, len(line)), 1.0)


@pytest.mark.parametrize("period", [2, 5, 100])
@pytest.mark.parametrize("kind", EACH_KIND)
def test_percent_rank_is_ta_libs(kind, period):
    """It is TA-Lib's PERCENTRANK."""
    close = bars(kind)["close"]
    known = np.isfinite(close)
    (got,) = values("percent-rank", {"span": period}, close=close)
    assert np.isnan(got[~known]).all()
    np.testing.assert_allclose(got[known], talib.PERCENTRANK(close[known], period), rtol=1e-12)
