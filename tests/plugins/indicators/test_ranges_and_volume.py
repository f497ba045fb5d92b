"""Indicators of range and of volume, after every bar: TA-Lib's values, or those of a plain formula over all bars."""

import numpy as np
import pytest
import talib
from numpy.lib.stride_tricks import sliding_window_view as windows

from support.indicators import EACH_KIND, assert_equal, assert_ta_libs, bars, values, without_gaps

HLC, HLCV = ("high", "low", "close"), ("high", "low", "close", "volume")


TALIB = {
    "atr of 14": ("atr", {"span": 14}, lambda *hlc: talib.ATR(*hlc, 14), HLC),
    "atr of 1": ("atr", {"span": 1}, lambda *hlc: talib.ATR(*hlc, 1), HLC),
    "natr": ("natr", {"span": 5}, lambda *hlc: talib.NATR(*hlc, 5), HLC),
    "true range": ("true-range", {}, talib.TRANGE, HLC),
    "obv": ("obv", {}, talib.OBV, ("close", "volume")),
    "ad": ("ad", {}, talib.AD, HLCV),
}


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("case", TALIB)
def test_values_are_ta_libs(case, kind):
    """The same values, known from the same bar on."""
    assert_ta_libs(*TALIB[case], kind)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_cmf_is_the_flow_by_the_volume_of_each_window(kind):
    """0 of a window without volume."""
    (high, low, close, volume), _ = without_gaps(bars(kind), *HLCV)
    width = high - low
    flow = np.divide((close - low) - (high - close), width, out=width * 0.0, where=width > 0.0) * volume
    sums, sold = windows(flow, 20).sum(axis=1), windows(volume, 20).sum(axis=1)
    expected = np.divide(sums, sold, out=sums * 0.0, where=sold > 0.0)
    got = values("cmf", {}, high=high, low=low, close=close, volume=volume)[0]
    assert_equal(got[19:], expected, 1.0)
