"""Indicators of momentum, after every bar: TA-Lib's values, or those of a plain formula over all bars."""

import numpy as np
import pytest
import talib
from numpy.lib.stride_tricks import sliding_window_view as windows

from support.indicators import EACH_KIND, assert_equal, assert_ta_libs, bars, values, without_gaps

HLC = ("high", "low", "close")

TALIB = {
    "rsi of 14": ("rsi", {"span": 14}, lambda close: talib.RSI(close, 14), ("close",)),
    "rsi of 2": ("rsi", {"span": 2}, lambda close: talib.RSI(close, 2), ("close",)),
    "stoch": ("stoch", {"span": 14}, lambda *hlc: talib.STOCH(*hlc, 14, 3, 0, 3, 0), HLC),
    "fast stoch": ("stoch", {"span": 5, "smooth": 1, "signal": 4}, lambda *hlc: talib.STOCHF(*hlc, 5, 4, 0), HLC),
    "stochrsi": ("stochrsi", {"span": 5}, lambda close: talib.STOCHRSI(close, 14, 5, 3, 0), ("close",)),
    "cci of 20": ("cci", {"span": 20}, lambda *hlc: talib.CCI(*hlc, 20), HLC),
    "cci of 2": ("cci", {"span": 2}, lambda *hlc: talib.CCI(*hlc, 2), HLC),
    "willr": ("willr", {"span": 14}, lambda *hlc: talib.WILLR(*hlc, 14), HLC),
    "mfi": ("mfi", {"span": 14}, lambda *hlcv: talib.MFI(*hlcv, 14), (*HLC, "volume")),
    "roc": ("roc", {"span": 10}, lambda close: talib.ROC(close, 10), ("close",)),
    "mom": ("mom", {"span": 1}, lambda close: talib.MOM(close, 1), ("close",)),
}


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("case", TALIB)
def test_values_are_ta_libs(case, kind):
    """The same values, known from the same bar on; RSI within its noise where a print was a million times too high."""
    # after such a print RSI moves by 1e-6 a bar, and the place of one value among those shows its rounding
    rtol = 1e-7 if (case, kind) == ("stochrsi", "wild") else 1e-9
    assert_ta_libs(*TALIB[case], kind, rtol)


def ema(x, span):
    """The average from the mean of the first values on."""
    out = np.full(len(x), np.nan)
    first = np.flatnonzero(~np.isnan(x))[0] + span - 1
    out[first] = x[first - span + 1 : first + 1].mean()
    for i in range(first + 1, len(x)):
        out[i] = (x[i] * 2.0 + out[i - 1] * (span - 1)) / (span + 1)
    return out


@pytest.mark.parametrize("kind", EACH_KIND)
def test_tsi_is_the_ratio_of_two_averages_of_averages(kind):
    """Of the changes, and of their sizes; 0 where all of these are 0."""
    (close,), _ = without_gaps(bars(kind), "close")
    change = np.diff(close, prepend=np.nan)
    strength, size = (ema(ema(x, 12), 5) for x in (change, np.abs(change)))
    expected = 100.0 * np.divide(strength, size, out=size * 0.0, where=size != 0.0)
    assert_equal(values("tsi", {"slow": 12, "fast": 5}, close=close)[0], expected, 100.0)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_mfi_adds_up_each_window_anew(kind):
    """Flows of the window alone: nothing remains of a print that has left it. A change by rounding is none."""
    (high, low, close, volume), _ = without_gaps(bars(kind), *HLC, "volume")
    typical = (high + low + close) / 3.0
    flow, change = (typical * volume)[1:], np.diff(typical)
    change[np.abs(change) < 1e-13 * typical[1:]] = 0.0
    rising, falling = (windows(np.where(sign * change > 0.0, flow, 0.0), 5).sum(axis=1) for sign in (1, -1))
    total = rising + falling
    expected = 100.0 * np.divide(rising, total, out=total * 0.0, where=total > 0.0)
    got = values("mfi", {"span": 5}, high=high, low=low, close=close, volume=volume)[0]
    assert_equal(got[5:], expected, 100.0)


OF_PARTS = ("rsi", "stoch", "stochrsi", "cci", "willr", "mfi", "roc", "tsi", "adx", "dmi", "aroon", "natr", "cmf")


@pytest.mark.parametrize("name", OF_PARTS)
@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_the_unit_of_prices_changes_nothing(name, factor):
    """An indicator without a unit has the same values to the bit, however small or large prices are."""
    columns = bars("paused")
    scaled = {column: value * (1.0 if column == "volume" else factor) for column, value in columns.items()}
    np.testing.assert_array_equal(values(name, {}, **scaled), values(name, {}, **columns))


@pytest.mark.parametrize("name", ["rsi", "stochrsi", "tsi", "dmi", "adx"])
def test_hours_without_a_move_end_in_no_noise(name):
    """Averages fade until nothing of them is left but rounding: ratios stay as they were, or become 0."""
    columns = bars("walk")
    still = {column: np.append(value, np.full(20_000, columns["close"][-1])) for column, value in columns.items()}
    got = values(name, {}, **still)[:, -19_000:]
    assert (np.isclose(got, got[:, :1], rtol=1e-6) | (got == 0.0)).all()


@pytest.mark.parametrize("name", ["rsi", "stoch", "stochrsi", "cci", "willr", "mfi", "roc", "mom", "tsi", "dmi", "adx"])
def test_a_flat_line_gives_0(name):
    """There is no momentum in it."""
    assert np.nanmax(np.abs(values(name, {}, **bars("flat")))) == 0.0
