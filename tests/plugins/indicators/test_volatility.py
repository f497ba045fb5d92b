"""Volatilities: equal to their authors' formulas over whole windows."""

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from support.indicators import EACH_KIND, assert_equal, bars, values

NAMES = ("open", "high", "low", "close")


def variances(name, period, open_, high, low, close):
    """Shape (windows,): the variance of each window."""

    def mean(series):
        return sliding_window_view(series, period).mean(axis=1)

    def var(series):
        found = sliding_window_view(series, period)
        return (found - found[:, :1]).var(axis=1, ddof=1)

    if name == "volatility-close":
        return var(np.log(close[1:] / close[:-1]))
    if name == "volatility-parkinson":
        return mean(np.log(high / low) ** 2) / (4 * math.log(2))
    if name == "volatility-garman-klass":
        return mean(0.5 * np.log(high / low) ** 2 - (2 * math.log(2) - 1) * np.log(close / open_) ** 2)
    jump = np.log(open_[1:] / close[:-1])
    up, down, change = (np.log(series / open_)[1:] for series in (high, low, close))
    k = 0.34 / (1.34 + (period + 1) / (period - 1))
    return var(jump) + k * var(change) + (1 - k) * mean(up * (up - change) + down * (down - change))


@pytest.mark.parametrize("period", [2, 20])
@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize(
    "name", ["volatility-close", "volatility-parkinson", "volatility-garman-klass", "volatility-yang-zhang"]
)
def test_volatility_is_the_root_of_its_formula(name, kind, period):
    """It is the root of the formula's variance after each bar; no scale of the prices matters, and a flat line has none."""
    columns = bars(kind)
    used = NAMES if name.endswith(("klass", "zhang")) else ("close",) if name.endswith("close") else ("high", "low")
    known = np.isfinite([columns[column] for column in used]).all(axis=0)
    wanted = np.sqrt(variances(name, period, *(columns[column][known] for column in NAMES)))
    (got,) = values(name, {"span": period}, **columns)
    assert np.isnan(got[~known]).all()
    late = np.full(known.sum() - len(wanted), np.nan)
    assert_equal(got[known] ** 2, np.concatenate([late, wanted**2]), max((wanted**2).max(), 1e-6))
    if kind == "flat":
        assert set(got[np.isfinite(got)]) == {0.0}


def test_bars_without_a_positive_price_are_left_out():
    """A close of 0 has no logarithm: the value is NaN there, and the next close is compared with the one before."""
    close = np.array([1.0, 2.0, 0.0, 3.0, -1.0, 5.0, 8.0])
    positive = close > 0
    (got,) = values("volatility-close", {"span": 2}, close=close)
    (wanted,) = values("volatility-close", {"span": 2}, close=close[positive])
    np.testing.assert_array_equal(got[positive], wanted)
    assert np.isnan(got[~positive]).all()


def test_each_finds_the_volatility_of_a_walk():
    """Of a walk in small steps, seen as bars, each finds the volatility that it was made with."""
    steps = np.random.default_rng(3).normal(0, 0.001, 2000 * 390)
    prices = 100 * np.exp(np.cumsum(steps)).reshape(2000, 390)
    columns = dict(zip(NAMES, (prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1]), strict=True))
    for name in ("close", "parkinson", "garman-klass", "yang-zhang"):
        (got,) = values(f"volatility-{name}", {"span": 1900}, **columns)
        assert got[-1] == pytest.approx(0.001 * math.sqrt(390), rel=0.06)
