"""The trading strategies that come with Torghut."""

from __future__ import annotations

from torghut_core import Register, Strategy, hookimpl
from torghut_strategies.buy_and_hold import BuyAndHold
from torghut_strategies.ema_cross import EmaCross
from torghut_strategies.macd_rsi import MacdRsi
from torghut_strategies.mean_reversion import MeanReversion
from torghut_strategies.tsmom import TimeSeriesMomentum


@hookimpl
def register_strategies(register: Register[Strategy]) -> None:
    """Register every strategy of this package."""
    register("buy-and-hold", BuyAndHold)
    register("ema-cross", EmaCross)
    register("macd-rsi", MacdRsi)
    register("mean-reversion", MeanReversion)
    register("tsmom", TimeSeriesMomentum)
