"""Buy a new high in an uptrend, with a stop."""

from torghut_core import Context, Decision, Register, Signal, Strategy, hookimpl, param
from torghut_core.features import Feature, atr, close, ema, high, highest


class AcmeAlpha(Strategy):
    """Donchian breakout in an uptrend. Long only.

    Hypothesis: a new high in an uptrend goes on.
    Entry: flat, close above the high of `lookback` bars and above the trend: buy what risks `risk_pct` at the stop.
    Exit: a stop, `stop_atrs` average true ranges below the close of the entry.
    Limits: one entry at a time; a gap goes through the stop.
    Roll-back: `enabled: false` stops it; `on_remove: flatten` closes the position.
    """

    class Params(Strategy.Params):
        """Parameters of `AcmeAlpha`."""

        lookback: int = param(20, ge=2, le=500, help="bars")
        stop_atrs: float = param(2, gt=0, help="distance of the stop, average true ranges")
        risk_pct: float = param(0.5, gt=0, le=5, help="of equity that the stop may cost, percent")

    def features(self) -> dict[str, Feature]:
        """The high before, the range of a bar, and the trend of hours."""
        top = highest(high, self.params.lookback).shift(1)
        return {"top": top, "atr": atr(14), "trend": ema(close, 10, timeframe="1Hour")}

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Buy a new high; the stop comes with the fill."""
        if not context.is_flat or signal.close <= max(signal.top, signal.trend):
            return None
        stop = signal.close - self.params.stop_atrs * signal.atr
        units = context.size_by_risk(stop, self.params.risk_pct)
        return context.buy(units, stop_loss=stop, because="new high in an uptrend")


@hookimpl
def register_strategies(register: Register[Strategy]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-alpha", AcmeAlpha)
