"""Hold what has risen, with a size that gives the wanted volatility."""

from __future__ import annotations

import math
from decimal import Decimal

from torghut_core import Context, Decision, Signal, Strategy, money, param


class TimeSeriesMomentum(Strategy):
    """Sign of the past return, scaled by volatility. Long; short too when `shorts` is set.

    Hypothesis: the sign of an instrument's own return over the last `lookback` bars predicts that of the next bars, and
    positions of equal volatility make quiet and volatile instruments comparable.
    Entry: position = sign of the return x `notional` / (price x multiplier) x min(`target_vol_bps` / volatility, `max_leverage`).
    Exit: the same rule: a return of the other sign reverses the position (closes it without `shorts`), a return of 0 closes it.
    Limits: `max_leverage` x `notional`; trades only when the position is off by more than `rebalance_band`. Bars are
    counted, not time: a gap in the tape is one bar long.
    Roll-back: ``enabled: false`` stops it at the next row and keeps the position; removing the entry with
    ``on_remove: flatten`` closes it. A longer `lookback` waits until it has seen that many bars.

    Notes
    -----
    Volatility is per bar, in basis points, not annualised: the root of an exponentially weighted mean of the squared
    returns of the closes, started with the first one, whose weights have their centre of mass `vol_bars` bars back.
    Returns are ratios, not logarithms, whose last bit depends on the machine's mathematics library.
    Source: T. J. Moskowitz, Y. H. Ooi, L. H. Pedersen (2012), Time series momentum, J. Financial Economics 104(2),
    228-250; there months, an annualised target of 40 %, and a centre of mass of 60 days.
    """

    state = ("closes", "variance")

    class Params(Strategy.Params):
        """Parameters of `TimeSeriesMomentum`."""

        lookback: int = param(60, ge=2, le=100_000, help="bars over which the return is measured")
        vol_bars: int = param(60, ge=1, le=100_000, help="centre of mass of the volatility's weights, bars")
        target_vol_bps: float = param(10, gt=0, le=10_000, help="wanted volatility of `notional`, bps per bar")
        notional: Decimal = param("1000", gt=0, help="position at that volatility, quote currency")
        max_leverage: float = param(1, gt=0, le=10, help="cap on the position, multiple of `notional`")
        rebalance_band: Decimal = param(
            "0.2", ge=0, lt=1, help="smallest change that is traded, share of the larger position"
        )
        quantity_step: Decimal = param("0.000001", gt=0, help="positions are multiples of this, units")
        shorts: bool = param(False, help="also sell short what has fallen (TRADING_ALLOW_SHORTS has to allow it)")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.closes: dict[str, list[float]] = {}
        """By symbol, the last `lookback` + 1 closes, oldest first."""
        self.variance: dict[str, float] = {}
        """By symbol, the weighted mean of squared returns per bar."""

    @property
    def warmup(self) -> int:
        """The number of closes before the first return over `lookback` bars."""
        return int(self.params.lookback)

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Trade to the wanted position when it is far enough from the current one."""
        if not context.price > 0:
            return None  # a return from such a price means nothing
        momentum = self._add_close(signal.symbol, context.price)
        if momentum is None:
            return None
        wanted = self._target(signal.symbol, momentum, context.price * float(context.instrument.multiplier))
        held = context.position.quantity + context.working
        if abs(wanted - held) <= self.params.rebalance_band * max(abs(wanted), abs(held)):
            return None
        return context.target(wanted, because="volatility-scaled momentum")

    def _add_close(self, symbol: str, price: float) -> float | None:
        """Add a close; return the change over `lookback` bars, None before there are that many."""
        closes = self.closes.setdefault(symbol, [])
        if closes:
            change = price / closes[-1] - 1
            square = change * change
            variance = self.variance.setdefault(symbol, square)
            self.variance[symbol] = variance + (square - variance) / (1 + self.params.vol_bars)
        closes.append(price)
        if len(closes) <= self.params.lookback:
            return None
        del closes[: -self.params.lookback - 1]
        return price - closes[0]

    def _target(self, symbol: str, momentum: float, cost: float) -> Decimal:
        params = self.params
        if momentum == 0 or (momentum < 0 and not params.shorts):
            return Decimal(0)
        volatility_bps = math.sqrt(self.variance[symbol]) * 10_000
        leverage = params.max_leverage
        if volatility_bps * leverage > params.target_vol_bps:
            leverage = params.target_vol_bps / volatility_bps
        units: Decimal = money(float(params.notional) * leverage / cost) // params.quantity_step * params.quantity_step
        return units if momentum > 0 else -units
