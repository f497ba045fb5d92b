"""Indicators of trend, after every bar: TA-Lib's values, or those of a plain formula over all bars."""

import numpy as np
import pytest
import talib
from numpy.lib.stride_tricks import sliding_window_view as windows

from support.indicators import EACH_KIND, assert_equal, assert_ta_libs, bars, values, without_gaps

HL, HLC = ("high", "low"), ("high", "low", "close")


def movement(*functions):
    return lambda span: lambda *hlc: [function(*hlc, span) for function in functions]


DMI = movement(talib.PLUS_DI, talib.MINUS_DI, talib.DX)
ADX = movement(talib.ADX, talib.PLUS_DI, talib.MINUS_DI)


def aroon(span):
    return lambda *hl: [*talib.AROON(*hl, span)[::-1], talib.AROONOSC(*hl, span)]


TALIB = {
    "dmi of 14": ("dmi", {"span": 14}, DMI(14), HLC),
    "dmi of 2": ("dmi", {"span": 2}, DMI(2), HLC),
    "adx of 14": ("adx", {"span": 14}, ADX(14), HLC),
    "adx of 2": ("adx", {"span": 2}, ADX(2), HLC),
    "aroon of 25": ("aroon", {"span": 25}, aroon(25), HL),
    "aroon of 2": ("aroon", {"span": 2}, aroon(2), HL),
    "psar": ("psar", {}, lambda *hl: talib.SAR(*hl, 0.02, 0.2), HL),
    "fast psar": ("psar", {"acceleration": 0.5, "maximum": 0.4}, lambda *hl: talib.SAR(*hl, 0.5, 0.4), HL),
}


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("case", TALIB)
def test_values_are_ta_libs(case, kind):
    """The same values, known from the same bar on."""
    assert_ta_libs(*TALIB[case], kind)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_supertrend_is_the_band_of_the_trend(kind):
    """Bands around the middle of the bar come nearer only, until a close is beyond them."""
    (high, low, close), _ = without_gaps(bars(kind), *HLC)
    middle, distance = (high + low) / 2.0, 2.0 * talib.ATR(high, low, close, 7)
    upper, lower, side = middle + distance, middle - distance, np.full(len(close), np.nan)
    side[7] = -1.0
    for i in range(8, len(close)):
        upper[i] = upper[i] if upper[i] < upper[i - 1] or close[i - 1] > upper[i - 1] else upper[i - 1]
        lower[i] = lower[i] if lower[i] > lower[i - 1] or close[i - 1] < lower[i - 1] else lower[i - 1]
        if side[i - 1] < 0.0:
            side[i] = 1.0 if close[i] > upper[i] else -1.0
        else:
            side[i] = -1.0 if close[i] < lower[i] else 1.0
    expected = np.where(side > 0.0, lower, upper)
    got = values("supertrend", {"span": 7, "factor": 2.0}, high=high, low=low, close=close)
    np.testing.assert_array_equal(got[1], side)
    assert_equal(got[0], expected, close.max())


@pytest.mark.parametrize("kind", EACH_KIND)
def test_ichimoku_is_the_middles_of_windows(kind):
    """The cloud is that of so many bars before, so all of it is known."""
    (high, low), _ = without_gaps(bars(kind), *HL)

    def middle(span):
        out = np.full(len(high), np.nan)
        out[span - 1 :] = (windows(high, span).max(axis=1) + windows(low, span).min(axis=1)) / 2.0
        return out

    def before(line):
        return np.concatenate([np.full(13, np.nan), line[:-13]])

    conversion, base = middle(9), middle(26)
    expected = [conversion, base, before((conversion + base) / 2.0), before(middle(52))]
    got = values("ichimoku", {"displacement": 13}, high=high, low=low)
    np.testing.assert_array_equal(got, expected)
