"""What a run could as well have come to: its round trips in another order, and others like them at other costs."""

from __future__ import annotations

import math
from typing import Any, Self

import msgspec
import numpy as np

from torghut_core.model.market import FloatArray
from torghut_core.research.belief.resampling import (
    RESAMPLES,
    break_even_costs,
    interval,
    shuffled_drawdowns,
    totals_at_costs,
)

DEAREST = 2.0
"""Costs are drawn between what was paid and so many times that."""


_FEWEST, _CELLS = 100, 5_000_000
"""Draws at the least, and numbers in all draws above that: many round trips take no more time than some."""


class MonteCarlo(msgspec.Struct, frozen=True, kw_only=True):
    """Draws of a run's round trips, each number NaN where there were none.

    Attributes
    ----------
    trades : round trips that were drawn from.
    drawdown_median_pct, drawdown_bad_pct : the deepest drawdown in another order, negative: of the middle draw, and that which one of
        twenty is deeper than. Equity counts at the ends of round trips.
    total_low, total_high : between which the total profit lies in 95 % of draws with replacement, at once to `DEAREST` times the fees.
    loss_probability : the share of those draws that earn nothing.
    break_even_costs : how many times the fees would leave no profit; infinite where none were paid.
    """

    trades: int
    drawdown_median_pct: float
    drawdown_bad_pct: float
    total_low: float
    total_high: float
    loss_probability: float
    break_even_costs: float

    @classmethod
    def of(cls, profits: FloatArray, fees: FloatArray, cash: float, *, seed: int = 0) -> Self:
        """Draw.

        Parameters
        ----------
        profits, fees : shape (n,), of each round trip, money; the profit is after fees.
        cash : at the start.
        seed : of the draws.
        """
        trades = len(profits)
        draws = min(RESAMPLES, max(_FEWEST, _CELLS // max(trades, 1)))
        drawdowns = (
            100 * shuffled_drawdowns(profits, cash, resamples=draws, seed=seed)
            if trades and cash > 0
            else np.array([math.nan])
        )
        totals = (
            totals_at_costs(profits, fees, (1.0, DEAREST), resamples=draws, seed=seed)
            if trades
            else np.array([math.nan])
        )
        total = interval(totals)
        return cls(
            trades=trades,
            drawdown_median_pct=float(np.quantile(drawdowns, 0.5)),
            drawdown_bad_pct=float(np.quantile(drawdowns, 0.05)),
            total_low=total.low,
            total_high=total.high,
            loss_probability=float((totals <= 0).mean()) if trades else math.nan,
            break_even_costs=break_even_costs(profits, fees) if trades else math.nan,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: None where a number is not known or infinite."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        unknown = (name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value))
        return found | dict.fromkeys(unknown)

    @property
    def sentence(self) -> str:
        """The numbers in a sentence; "" where there was no round trip."""
        if not self.trades:
            return ""
        order = (
            f"In another order of the same round trips the deepest drawdown is {self.drawdown_median_pct:.2f} % in the middle, and worse than "
            f"{self.drawdown_bad_pct:.2f} % in one of 20; "
            if math.isfinite(self.drawdown_median_pct)
            else ""
        )
        at = f"at 1 to {DEAREST:g} times the fees" if math.isfinite(self.break_even_costs) else "without fees, as here,"
        drawn = (
            f"as many drawn from them earn {self.total_low:,.2f} to {self.total_high:,.2f} with 95 % {at} "
            f"and nothing in {self.loss_probability:.0%}"
        )
        left = (
            f"; {self.break_even_costs:.1f} times the fees leave no profit" if 1 < self.break_even_costs < 100 else ""
        )
        text = f"{order}{drawn}{left}."
        return text[0].upper() + text[1:]
