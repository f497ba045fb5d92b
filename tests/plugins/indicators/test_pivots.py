"""Pivots: swings are those of TA-Lib's FRACTAL, known when they are confirmed."""

import numpy as np
import pytest
import talib

from support.indicators import EACH_KIND, bars, values


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (5, 3), (3, 9)])
@pytest.mark.parametrize("kind", EACH_KIND)
def test_swings_are_those_that_ta_lib_marks(kind, before, after):
    """A swing is known in the bar in which FRACTAL marks it, and kept until the next one, whose price is that of its bar."""
    columns = bars(kind)
    known = np.isfinite([columns["high"], columns["low"]]).all(axis=0)
    got = values("pivots", {"before": before, "after": after}, **columns)
    assert np.isnan(got[:, ~known]).all()
    marks = talib.FRACTAL(columns["high"][known], columns["low"][known], before, after)
    for name, mark, (price, age) in zip(("high", "low"), marks, got[:, known].reshape(2, 2, -1), strict=True):
        last = np.maximum.accumulate(np.where(mark == 100, np.arange(len(mark)), -1))
        np.testing.assert_array_equal(age, np.where(last < 0, np.nan, np.arange(len(mark)) - last + after))
        of_swing = columns[name][known][last - after]
        np.testing.assert_array_equal(price, np.where(last < 0, np.nan, of_swing))


def test_a_swing_is_not_known_before_it_is_confirmed():
    """The bar after a high does not make it a swing where two are asked for."""
    high = np.array([1.0, 2.0, 5.0, 3.0, 2.0, 1.0])
    got = values("pivots", {"before": 2, "after": 2}, high=high, low=high)
    np.testing.assert_array_equal(got[0], [np.nan, np.nan, np.nan, np.nan, 5.0, 5.0])
    np.testing.assert_array_equal(got[1], [np.nan, np.nan, np.nan, np.nan, 2.0, 3.0])
