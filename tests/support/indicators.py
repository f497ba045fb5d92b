"""Indicators without a graph: fed with columns, as a graph feeds them."""

from importlib import import_module

import numpy as np
import pytest
from torghut_sources.indicators import INDICATORS

from torghut_core import Indicator


def made(name: str, **params: float) -> Indicator:
    """The indicator of that name that comes with Torghut."""
    module, cls = INDICATORS[name].split(":")
    found = getattr(import_module(f"torghut_sources.indicators.{module}"), cls)
    return found(found.Params(**params))


class Fed:
    """An indicator with a state for each of some symbols, which is fed batch by batch."""

    def __init__(self, name: str, symbols: int = 1, **params: float) -> None:
        self.indicator = made(name, **params)
        self.numbers = np.array(self.indicator.numbers(), np.float64)
        self.state = np.zeros(symbols, self.indicator.row())

    def feed(self, block, symbol=None):
        """Shape (outputs, bars), of inputs of shape (inputs, bars) and symbol numbers; bars with NaN are left out."""
        block = np.asarray(block, np.float64)
        symbol = np.zeros(block.shape[1], np.int64) if symbol is None else np.asarray(symbol, np.int64)
        known = np.isfinite(block).all(axis=0)
        out = np.full((len(self.indicator.outputs), len(known)), np.nan)
        found = np.empty((len(out), int(known.sum())))
        kernel = type(self.indicator).kernel
        kernel(self.state, symbol[known], np.ascontiguousarray(block[:, known]), self.numbers, found)
        out[:, known] = found
        return out


def values(name, params, **columns):
    """The outputs of an indicator over whole columns, which are named as its inputs: shape (outputs, bars)."""
    fed = Fed(name, **params)
    return fed.feed([columns[column] for column in fed.indicator.inputs])


def bars(kind, n=400, seed=1):
    """Bars that look like nothing in particular, by column: a random walk, or one that is hard on arithmetic.

    Parameters
    ----------
    kind : one of `KINDS`.
    """
    rng = np.random.default_rng(seed)
    close = 100 + np.cumsum(rng.normal(0, 0.5, n))
    spread = rng.random((2, n))
    volume = np.floor(rng.random(n) * 1000) + 1
    if kind == "flat":
        close, spread = np.full(n, 0.1), np.zeros((2, n))
    elif kind == "flat in parts":
        close = np.repeat(close[: n // 20 + 1], 20)[:n]
        spread = spread * (np.arange(n) % 40 < 20)
    elif kind == "paused":  # nothing moves for a while, and in the end nothing is sold either
        close[n // 3 : 2 * n // 3], spread[:, n // 3 : 2 * n // 3] = close[n // 3], 0.0
        volume[n // 2 : 2 * n // 3] = 0.0
    elif kind == "rounded":
        close, spread = np.round(close, 1), np.round(spread, 1)
    elif kind == "wild":
        close = close + rng.choice([0.0, 1e6], n, p=[0.95, 0.05])
    elif kind in ("tiny", "huge"):
        scale = {"tiny": 1e-11, "huge": 1e10}[kind]
        close, spread = close * scale, spread * scale
    high, low = close + spread[0], close - spread[1]
    open_ = low + rng.random(n) * (high - low)
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
    columns["vwap"] = (high + low + close) / 3
    columns["trade_count"] = np.floor(volume / 10) + 1
    columns["bid"], columns["ask"] = low, high
    columns["bid_size"], columns["ask_size"] = volume + 1, columns["trade_count"]
    if kind == "gapped":
        columns["close"][rng.random(n) < 0.1] = np.nan
        columns["high"][rng.random(n) < 0.02] = np.nan
    return columns


KINDS = ("walk", "rounded", "flat", "flat in parts", "paused", "gapped", "wild", "tiny", "huge")
EACH_KIND = [kind if kind in ("paused", "gapped") else pytest.param(kind, marks=pytest.mark.proof) for kind in KINDS]
"""For `parametrize`: two kinds that differ most in a quick run, all in a proof."""


def without_gaps(columns, *names):
    """The named columns, in the bars that have all of them; and which bars these are."""
    block = np.array([columns[name] for name in names])
    known = np.isfinite(block).all(axis=0)
    return block[:, known], known


def assert_equal(got, wanted, scale, rtol=1e-9):
    """Both have their values at the same places, and they differ by less than `rtol` of a scale."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=rtol * scale, equal_nan=True)


def assert_ta_libs(name, params, theirs, inputs, kind, rtol=1e-9):
    """The outputs of an indicator over bars are those of TA-Lib, from the same bar on; NaN where a bar lacks an input.

    Parameters
    ----------
    theirs : gives TA-Lib's outputs of the columns named in `inputs`.
    kind : of the bars, one of `KINDS`.
    """
    columns = bars(kind)
    given, known = without_gaps(columns, *inputs)
    expected = np.atleast_2d(theirs(*given))
    got = values(name, params, **columns)
    assert np.isnan(got[:, ~known]).all()
    assert_equal(got[:, known], expected, np.nanmax(np.abs(expected)), rtol)
