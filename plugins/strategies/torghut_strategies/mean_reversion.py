"""Buy below the Bollinger band, sell at its middle."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Context, Decision, Signal, Strategy, param


class MeanReversion(Strategy):
    """Bollinger bands (20 bars, 2 standard deviations). Long; short too when `shorts` is set.

    Hypothesis: a close two standard deviations off its 20-bar mean is mostly a trader in a hurry, and the price comes back.
    Entry: flat, close below the lower band: buy `quantity`; with `shorts`, close above the upper band: sell it.
    Exit: close at or beyond the middle of the band.
    Limits: one entry at a time; no stop, and a breakout looks like an entry, so keep the catalog's limits small. In a flat
    market the band has no width, and there is no entry.
    Roll-back: ``enabled: false`` stops it at the next row and keeps the position; removing the entry with
    ``on_remove: flatten`` closes it. No state is kept between rows, so changed parameters apply from the next row on.
    A short is still closed at the middle after `shorts` is set to false.
    """

    columns = ("boll_lower", "boll_mid", "boll_upper")

    class Params(Strategy.Params):
        """Parameters of `MeanReversion`."""

        quantity: Decimal = param("1", gt=0, help="units per entry")
        shorts: bool = param(False, help="also sell above the upper band (TRADING_ALLOW_SHORTS has to allow it)")

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Enter outside the band, exit at its middle."""
        price = context.price
        if context.is_flat:
            if price < signal.boll_lower:
                return context.buy(self.params.quantity, because="below the lower band")
            if price > signal.boll_upper and self.params.shorts:
                return context.sell(self.params.quantity, because="above the upper band")
            return None
        is_back = price >= signal.boll_mid if context.is_long else price <= signal.boll_mid
        return context.close(because="back at the middle of the band") if is_back else None
