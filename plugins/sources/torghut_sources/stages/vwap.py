"""Volume-weighted average price, sum(price x volume) / sum(volume): since the session's start, and over a sliding time window.

Source: S. A. Berkowitz, D. E. Logue, E. A. Noser (1988), J. Finance 43(1), 97-112.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import Bars, FloatArray
from torghut_core.stages import kernel
from torghut_sources.stages.session_opens import NEVER
from torghut_sources.stages.window import expire, moments, push

SESSION = np.dtype([("open", np.int64), ("notional", np.float64), ("volume", np.float64)])
"""State: start of the session in progress, and the sums of price x volume and of volume since then."""

MOST_ROUNDING = 0.005
"""A rounded average is off by this share of the price at most: half a cent of a dollar."""

HIGH, LOW, VWAP = Bars.high.row, Bars.low.row, Bars.vwap.row


@kernel
def is_plausible(low: float, high: float, vwap: float) -> bool:
    """Return whether an average can be one of prices from `low` to `high`, rounded to the digits that it has.

    Vendors round an average to fewer digits than prices have. So it may lie outside by half a unit of its last digit, but
    by no more than `MOST_ROUNDING` of the price.
    """
    nearest = low if vwap < low else min(vwap, high)
    miss = abs(vwap - nearest)
    if not miss > 1e-9 * abs(nearest):
        return True
    if miss > MOST_ROUNDING * abs(nearest):
        return False
    scale = 1.0
    for _ in range(9):
        if math.floor(vwap * scale + 0.5) / scale == vwap:
            return miss * scale <= 0.5 + 1e-6
        scale *= 10.0
    return False


@kernel
def price_of(high: float, low: float, close: float, vwap: float) -> float:
    """Return the price of a bar's volume: its own average, or (high + low + close) / 3 without a plausible one."""
    if (vwap > 0.0 or vwap < 0.0) and is_plausible(low, high, vwap):
        return vwap
    return (high + low + close) / 3.0


@kernel
def count_implausible(floats: FloatArray) -> int:
    """Count the bars of a block whose average is not plausible."""
    count = 0
    for i in range(floats.shape[1]):
        vwap = floats[VWAP, i]
        if vwap == vwap and not is_plausible(floats[LOW, i], floats[HIGH, i], vwap):
            count += 1
    return count


@kernel
def session_step(session: Any, opened: int, price: float, volume: float) -> float:
    """Advance by the volume traded at a price in the session that opened at `opened`, ns.

    NaN as long as the session has no volume, and of a bar of a session that is over already.
    """
    if opened == NEVER:
        return math.nan
    if opened > session.open or (session.open == 0 and session.volume == 0.0):  # a new row may begin before 1970
        session.open = opened
        session.notional = 0.0
        session.volume = 0.0
    if opened < session.open:  # a late bar of a session that is over: its sums are gone
        return math.nan
    if volume > 0.0:
        session.notional += price * volume
        session.volume += volume
    return session.notional / session.volume if session.volume > 0.0 else math.nan


@kernel
def rolling_step(sales: Any, ts: int, price: float, volume: float, length: int) -> float:
    """Advance by the volume traded at a price at a time, ns; the window is the `length` ns up to that time, inclusive.

    NaN where nothing was traded in the window.
    """
    expire(sales, ts - length)
    if volume > 0.0:
        push(sales, ts, price, volume)
    weight, mean, _ = moments(sales)
    return mean if weight > 0.0 else math.nan
