"""Buy what is oversold, sell it when it has recovered."""

from decimal import Decimal

from torghut_core import Context, Decision, Register, Signal, Strategy, hookimpl, param


class Oversold(Strategy):
    """RSI14 against two thresholds. Long only.

    Hypothesis: forced selling ends, and the price recovers.
    Entry: flat, RSI below `rsi_buy`: buy `quantity`.
    Exit: long, RSI above `rsi_sell`: close.
    Limits: one entry at a time; no stop.
    Roll-back: `enabled: false` stops it; `on_remove: flatten` closes the position.
    """

    columns = ("rsi14",)

    class Params(Strategy.Params):
        """Parameters of `Oversold`."""

        rsi_buy: float = param(30, ge=0, le=100, help="enter below, RSI points")
        rsi_sell: float = param(55, ge=0, le=100, help="close above, RSI points")
        quantity: Decimal = param("1", gt=0, help="units per entry")

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Buy oversold, close recovered."""
        if context.is_flat and signal.rsi14 < self.params.rsi_buy:
            return context.buy(self.params.quantity, because="oversold")
        if context.is_long and signal.rsi14 > self.params.rsi_sell:
            return context.close(because="recovered")
        return None


@hookimpl
def register_strategies(register: Register[Strategy]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-oversold", Oversold)
