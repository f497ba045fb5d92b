"""Be long while the fast average is above the slow one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from torghut_core import Columns, Context, Decision, Signal, Strategy, param


class EmaCross(Strategy):
    """EMA12 against EMA26. Long only.

    Hypothesis: trends last longer than the lag of a 12-bar average behind a 26-bar one.
    Entry: flat, EMA12 above EMA26: buy `quantity`.
    Exit: long, EMA12 no longer above EMA26: close.
    Limits: one entry at a time; in a market without a trend it pays spread and fees at every cross.
    Roll-back: ``enabled: false`` stops it at the next row and keeps the position; removing the entry with
    ``on_remove: flatten`` closes it. No state is kept between rows, so changed parameters apply from the next row on.
    """

    columns = ("ema12", "ema26")

    class Params(Strategy.Params):
        """Parameters of `EmaCross`."""

        quantity: Decimal = param("1", gt=0, help="units per entry")

    def decide(self, columns: Columns) -> tuple[Any, Any]:
        """Hold `quantity` while the fast average is above the slow one, and nothing otherwise."""
        is_above = columns.ema12 > columns.ema26
        reasons = "fast average above slow", "fast average no longer above slow"
        return np.where(is_above, float(self.params.quantity), 0.0), np.where(is_above, *reasons)

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Enter while the fast average is above the slow one, exit otherwise."""
        if signal.ema12 > signal.ema26:
            if context.is_flat:
                return context.buy(self.params.quantity, because="fast average above slow")
        elif context.is_long:
            return context.close(because="fast average no longer above slow")
        return None
