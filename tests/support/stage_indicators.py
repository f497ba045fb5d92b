"""The formulas of the stage `indicators` one by one: each over whole columns, with a row of state for each symbol."""

import numpy as np
from torghut_sources.stages import bollinger, ema, macd, quote_imbalance, realized_volatility, rsi, vwap
from torghut_sources.stages.window import last_seconds, last_values

from torghut_core.stages import kernel


class OneFormula:
    """One formula; `state` has a row for each symbol, and is all that has to be saved and restored."""

    def __init__(self, dtype, symbols, loop, *terms):
        self.state = np.zeros(symbols, dtype)
        self._loop, self._terms = loop, terms

    def update(self, symbol, *columns):
        """The values after each row of a batch: the row of the state of each, times in ns as integers, and floats."""
        given = (np.ascontiguousarray(each, np.int64 if each.dtype == np.int64 else np.float64) for each in columns)
        return self._loop(self.state, np.ascontiguousarray(symbol, np.int64), *given, *self._terms)


class Ema(OneFormula):
    """The moving average of prices, from the first one on, or with "sma" from the mean of the first `span`."""

    def __init__(self, span, symbols, seed="first"):
        super().__init__(ema.EMA, symbols, _ema, span, seed == "sma")


class Macd(OneFormula):
    """The line, its signal line, and their difference, of prices."""

    def __init__(self, symbols, fast=12, slow=26, signal=9, seed="first"):
        super().__init__(macd.MACD, symbols, _macd, fast, slow, signal, seed == "sma")


class Rsi(OneFormula):
    """The relative strength index of prices."""

    def __init__(self, symbols, span=14):
        super().__init__(rsi.RSI, symbols, _rsi, span)


class Bollinger(OneFormula):
    """The middle, the upper and the lower band of prices."""

    def __init__(self, symbols, span=20, width=2.0):
        super().__init__(last_values(span), symbols, _bollinger, span, width)


class SessionVwap(OneFormula):
    """The average since the session's open, of opens, prices and volumes."""

    def __init__(self, symbols):
        super().__init__(vwap.SESSION, symbols, _session_vwap)


class RollingVwap(OneFormula):
    """The average of the last `length` ns, of times, prices and volumes."""

    def __init__(self, symbols, length, capacity=300):
        super().__init__(last_seconds(capacity), symbols, _rolling_vwap, length)


class RealizedVolatility(OneFormula):
    """The deviation of the returns of the last `length` ns, of times and prices."""

    def __init__(self, symbols, length, capacity=60):
        super().__init__(realized_volatility.volatility(capacity), symbols, _realized_volatility, length)


class QuoteImbalance:
    """Spread, prices and sizes of each symbol's last fresh quote, at its bars."""

    def __init__(self, symbols, stale_after):
        self.state = np.zeros(symbols, quote_imbalance.QUOTE)
        self._stale_after = stale_after

    def update(self, now, start, quotes, bars):
        """Shape (5, bars): spread, bid price, ask price, bid size, ask size."""
        out, events = np.empty((5, len(bars))), (quotes.ints, quotes.floats, bars.ints)
        assert quote_imbalance.run(self.state, self._stale_after, now, start, *events, out, 0, 0b11111) == -1
        return out


@kernel
def _ema(state, symbol, price, span, sma):
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = ema.step(state[symbol[i]], price[i], span, sma)
    return out


@kernel
def _macd(state, symbol, price, fast, slow, signal, sma):
    out = np.empty((3, len(symbol)))
    for i in range(len(symbol)):
        _, _, out[0, i], out[1, i] = macd.step(state[symbol[i]], price[i], fast, slow, signal, sma)
        out[2, i] = out[0, i] - out[1, i]
    return out


@kernel
def _rsi(state, symbol, price, span):
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = rsi.step(state[symbol[i]], price[i], span)
    return out


@kernel
def _bollinger(state, symbol, price, span, width):
    out = np.empty((3, len(symbol)))
    for i in range(len(symbol)):
        out[0, i], out[1, i], out[2, i] = bollinger.step(state[symbol[i]], price[i], span, width)
    return out


@kernel
def _session_vwap(state, symbol, opened, price, volume):
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = vwap.session_step(state[symbol[i]], opened[i], price[i], volume[i])
    return out


@kernel
def _rolling_vwap(state, symbol, ts, price, volume, length):
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = vwap.rolling_step(state[symbol[i]], ts[i], price[i], volume[i], length)
    return out


@kernel
def _realized_volatility(state, symbol, ts, price, length):
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = realized_volatility.step(state[symbol[i]], ts[i], price[i], length)
    return out
