"""Imbalance and microprice of a quote."""

import numpy as np
import pytest

from support.indicators import values

SIZES = {"bid_size": [1.0, 3.0, 0.0, 5.0, 0.0, 2.0], "ask_size": [3.0, 1.0, 2.0, 0.0, 0.0, -1.0]}


def test_imbalance_is_from_minus_1_to_1():
    """It is -1 to 1, and NaN of a quote without size, or with one that cannot be."""
    (got,) = values("quote-imbalance", {}, **SIZES)
    np.testing.assert_array_equal(got, [-0.5, 0.5, -1.0, 1.0, np.nan, np.nan])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_microprice_is_in_the_quote_nearer_to_less_size(scale):
    """It is nearer to the side with less size, never outside the quote, and NaN without size."""
    bid, ask = np.full(6, 10.0 * scale), np.full(6, 10.5 * scale)
    (got,) = values("microprice", {}, bid=bid, ask=ask, **SIZES)
    bids, asks = (np.array(SIZES[name][:4]) for name in ("bid_size", "ask_size"))
    np.testing.assert_allclose(got[:4], (bid[:4] * asks + ask[:4] * bids) / (bids + asks), rtol=1e-15)
    assert np.isnan(got[4:]).all()


def test_a_quote_with_one_side_has_no_microprice():
    """A quote with one side alone gives nothing."""
    (got,) = values("microprice", {}, bid=[1.0, np.nan], ask=[np.nan, 2.0], bid_size=[1, 1], ask_size=[1, 1])
    assert np.isnan(got).all()
