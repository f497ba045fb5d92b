"""Buy when momentum turns up from weakness, sell when it turns down from strength."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Context, Decision, Signal, Strategy, param


class MacdRsi(Strategy):
    """MACD histogram against its sign, filtered by RSI. Long only.

    Hypothesis: after one-sided trading (RSI near an end) the first bars in which momentum turns (the MACD histogram changes
    sign) are followed by more in the same direction, because late traders have to follow.
    Entry: flat, histogram above 0, RSI below `rsi_buy`: buy `quantity`.
    Exit: long, histogram below 0, RSI above `rsi_sell`: close.
    Limits: one entry at a time; no stop, so the loss of a position is bounded by the catalog's limits only. In a market
    that falls without a bounce it never exits.
    Roll-back: ``enabled: false`` stops it at the next row and keeps the position; removing the entry with
    ``on_remove: flatten`` closes it. No state is kept between rows, so changed parameters apply from the next row on.
    """

    columns = ("macd_hist", "rsi14")

    class Params(Strategy.Params):
        """Parameters of `MacdRsi`."""

        rsi_buy: float = param(35, ge=0, le=100, help="enter below this RSI, points")
        rsi_sell: float = param(65, ge=0, le=100, help="exit above this RSI, points")
        quantity: Decimal = param("1", gt=0, help="units per entry")

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Enter or exit when both indicators agree."""
        if context.is_flat and signal.macd_hist > 0 and signal.rsi14 < self.params.rsi_buy:
            return context.buy(self.params.quantity, because="momentum up from weakness")
        if context.is_long and signal.macd_hist < 0 and signal.rsi14 > self.params.rsi_sell:
            return context.close(because="momentum down from strength")
        return None
