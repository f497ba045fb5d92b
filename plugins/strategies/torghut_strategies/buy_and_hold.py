"""Buy and hold: the benchmark that every other strategy has to beat."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Context, Decision, Signal, Strategy, param


class BuyAndHold(Strategy):
    """The benchmark. Long only.

    Hypothesis: none; it shows what holding the market earned over the same bars at the same costs.
    Entry: flat: buy `quantity`, on the first row of each symbol.
    Exit: none.
    Limits: one entry; it loses whatever the market loses.
    Roll-back: ``enabled: false`` keeps the position; removing the entry with ``on_remove: flatten`` sells it.
    """

    class Params(Strategy.Params):
        """Parameters of `BuyAndHold`."""

        quantity: Decimal = param("1", gt=0, help="units to hold")

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:  # noqa: ARG002 - the contract passes it
        """Enter when nothing is held."""
        if context.is_flat:
            return context.buy(self.params.quantity, because="the benchmark holds")
        return None
