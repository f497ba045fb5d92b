"""Strategies of the field, as an author writes them; tests/integration/test_against_peers.py compares them with other frameworks.

`MINUTES` trade the demo's tape in bars of a minute, `SESSIONS` made bars of a stock's sessions, `DAYS` made daily bars of four
symbols. `run_backtrader`, `run_backtesting` and `run_nautilus` have the same strategies as an author writes them there.
"""

from torghut_core import DAY, Strategy, every
from torghut_core.features import (
    atr,
    bollinger,
    close,
    cross_above,
    cross_below,
    ema,
    high,
    highest,
    log,
    low,
    lowest,
    macd,
    natr,
    roc,
    rsi,
    sma,
    stddev,
    stoch,
    vwap_rolling,
    zscore,
)

TICK = 0.25
GTC = {"time_in_force": "gtc"}


def limit(price):
    return {"order_type": "limit", "limit_price": price, **GTC}


def stop(price):
    return {"order_type": "stop", "stop_price": price, **GTC}


def is_sunday(row):
    """Whether a daily bar is the last of its week; the first day of 1970 was a Thursday."""
    return row.event_ts // DAY % 7 == 3


class Rule(Strategy):
    """Buys a unit where `enter` is true, and sells it where `leave` is."""

    def on_signal(self, signal, context):
        if context.is_flat and signal.enter:
            return context.buy(1, because="enter")
        if context.is_long and signal.leave:
            return context.close(because="leave")
        return None


class SmaCross(Rule):
    """With the faster of two simple averages."""

    def features(self):
        return {"enter": cross_above(sma(10), sma(40)), "leave": cross_below(sma(10), sma(40))}


class EmaCross(Rule):
    """With the faster of two exponential averages."""

    def features(self):
        return {"enter": cross_above(ema(12), ema(48)), "leave": cross_below(ema(12), ema(48))}


class RsiReversion(Rule):
    """Buys what is oversold."""

    def features(self):
        return {"enter": rsi(14) < 30, "leave": rsi(14) > 55}


class BollingerReversion(Rule):
    """Buys below the lower band, for the way back to the middle."""

    def features(self):
        bands = bollinger(20, 2.25)
        return {"enter": close < bands["lower"], "leave": close > bands["middle"]}


class DonchianBreakout(Rule):
    """Buys a new high of twenty bars, leaves at a new low of ten."""

    def features(self):
        return {"enter": close > highest(high, 20).shift(1), "leave": close < lowest(low, 10).shift(1)}


class MacdCross(Rule):
    """With the MACD's line and its signal."""

    def features(self):
        lines = macd(12, 26, 9)
        return {
            "enter": cross_above(lines["macd"], lines["signal"]),
            "leave": cross_below(lines["macd"], lines["signal"]),
        }


class Momentum(Rule):
    """Holds what has risen by a twentieth of a percent in half an hour."""

    def features(self):
        return {"enter": roc(30) > 0.05, "leave": roc(30) < 0}


class StochasticTurn(Rule):
    """Buys the oscillator's turn from below thirty."""

    def features(self):
        lines = stoch(14, 3, 3)
        return {"enter": cross_above(lines["k"], 30), "leave": lines["k"] > 80}


class AtrChannel(Rule):
    """Buys above a channel of average true ranges, leaves at its middle."""

    def features(self):
        return {"enter": close > ema(20) + 2 * atr(14), "leave": close < ema(20)}


class VolatilityFilter(Rule):
    """With the faster of two averages, where the market is quieter than usual."""

    def features(self):
        quiet = natr(14) < sma(natr(14), 100)
        return {"enter": cross_above(sma(10), sma(40)) & quiet, "leave": sma(10) < sma(40)}


class VwapReversion(Rule):
    """Buys below the average price that was paid."""

    def features(self):
        return {"enter": close < vwap_rolling(60) * 0.9995, "leave": close > vwap_rolling(60)}


class HourlyTrend(Rule):
    """Two averages of minutes, in the direction of the hours."""

    def features(self):
        hours, fast, slow = ema(close, 5, timeframe="1Hour"), ema(close, 10), ema(close, 30)
        return {"enter": (hours > hours.shift(1)) & cross_above(fast, slow), "leave": cross_below(fast, slow)}


class BuyAndHold(Strategy):
    """A unit, once."""

    def on_signal(self, signal, context):
        return context.buy(1, because="hold") if context.is_flat else None


class Turtle(Strategy):
    """Breakouts in units of the average true range: up to four, each half a range above the last; out at a new low."""

    state = ("added", "last")

    def __init__(self, params):
        super().__init__(params)
        self.added, self.last = 0, 0.0

    def features(self):
        return {"top": highest(high, 20).shift(1), "bottom": lowest(low, 10).shift(1), "range": atr(20)}

    def on_signal(self, signal, context):
        if context.is_long and signal.close < signal.bottom:
            self.added = 0
            return context.close(because="a new low")
        level = self.last + signal.range / 2 if self.added else signal.top
        if signal.close > level and self.added < 4:
            self.added, self.last = self.added + 1, signal.close
            return context.buy(context.size_by_volatility(signal.range, 0.002), because="a new high")
        return None


class VolatilityTarget(Strategy):
    """As many units as move the account by its target; a band keeps it from trading all the time."""

    def features(self):
        return {"move": stddev(close, 60)}

    def on_signal(self, signal, context):
        wanted, held = context.size_by_volatility(signal.move, 0.01), context.position.quantity
        return context.target(wanted, because="the target") if abs(wanted - held) > held / 4 else None


class LimitAtADiscount(Strategy):
    """Bids half a point below the close while it is below its mean; each bid stands for ten bars at most."""

    state = ("age",)

    def __init__(self, params):
        super().__init__(params)
        self.age = 0

    def features(self):
        return {"mean": sma(30)}

    def on_signal(self, signal, context):
        self.age += 1
        if context.is_long:
            return context.close(because="at the mean") if signal.close > signal.mean else None
        if context.orders:
            return context.cancel_all(because="too old") if self.age >= 10 else None
        if signal.close < signal.mean:
            self.age = 0
            return context.buy(1, because="a discount", **limit(signal.close - 0.5))
        return None


class StopEntry(Strategy):
    """A stop to buy above the highest high, then one to sell below the lowest low; each follows its level."""

    state = ("level",)

    def __init__(self, params):
        super().__init__(params)
        self.level = 0.0

    def features(self):
        return {"top": highest(high, 20), "bottom": lowest(low, 20)}

    def on_signal(self, signal, context):
        level = signal.bottom - TICK if context.is_long else signal.top + TICK
        if context.orders and level == self.level:
            return None
        self.level = level
        side = context.sell if context.is_long else context.buy
        before = context.cancel_all(because="the level has moved", protection=True)
        return [*before, side(1, because="a breakout", **stop(level))]


class StopLimitEntry(Strategy):
    """As `StopEntry`, but pays two ticks more than the breakout at most, and is out at the mean."""

    state = ("level",)

    def __init__(self, params):
        super().__init__(params)
        self.level = 0.0

    def features(self):
        return {"top": highest(high, 20), "mean": sma(20)}

    def on_signal(self, signal, context):
        if context.is_long:
            return context.close(because="below the mean") if signal.close < signal.mean else None
        level = signal.top + TICK
        if context.orders and level == self.level:
            return None
        self.level = level
        terms = {"order_type": "stop_limit", "stop_price": level, "limit_price": level + 2 * TICK, **GTC}
        return [
            *context.cancel_all(because="the level has moved"),
            context.buy(1, because="a breakout", **terms),
        ]


class Grid(Strategy):
    """Three bids below a middle; what is bought is offered a step higher. New bids where the mean has left the grid."""

    step, levels = 0.75, 3
    state = ("middle",)

    def __init__(self, params):
        super().__init__(params)
        self.middle = None

    def features(self):
        return {"mean": sma(30)}

    def on_signal(self, signal, context):
        if self.middle is not None and abs(signal.mean - self.middle) < self.levels * self.step:
            return None
        middle = self.middle = round(signal.mean / self.step) * self.step
        prices = [middle - self.step * level for level in range(1, self.levels + 1)]
        old = [order for order in context.orders if order.intent.side == "buy"]
        return self.moved(old, [price for price in prices if price < signal.close], context)

    def moved(self, old, prices, context):
        return [
            *(context.cancel(order, because="the price has left the grid") for order in old),
            *(context.buy(1, because="bid", **limit(price)) for price in prices),
        ]

    def on_fill(self, fill, context):
        if fill.side == "sell":
            return None
        return context.sell(fill.quantity, because="offer", **limit(float(fill.price) + self.step))


class MovedGrid(Grid):
    """The same grid, whose bids are moved and not made anew."""

    def moved(self, old, prices, context):
        why = "the price has left the grid"
        return [
            *(context.replace(order, why, limit_price=price) for order, price in zip(old, prices, strict=False)),
            *(context.cancel(order, because=why) for order in old[len(prices) :]),
            *(context.buy(1, because="bid", **limit(price)) for price in prices[len(old) :]),
        ]


class BracketBreakout(Strategy):
    """Buys a new high of twenty bars, with a stop two points below and a take-profit three above."""

    def features(self):
        return {"top": highest(high, 20).shift(1)}

    def on_signal(self, signal, context):
        if context.is_flat and signal.close > signal.top:
            legs = {"stop_loss": signal.close - 2, "take_profit": signal.close + 3}
            return context.buy(1, because="a new high", **legs)
        return None


class TrailingStop(Strategy):
    """Buys a new high of twenty bars; a trailing stop of a point and a half is the only way out."""

    def features(self):
        return {"top": highest(high, 20).shift(1)}

    def on_signal(self, signal, context):
        return (
            context.buy(1, because="a new high", trail=1.5) if context.is_flat and signal.close > signal.top else None
        )


class StopBehindCloses(Strategy):
    """Buys a new high of twenty bars; its stop is moved to a point and a half below each close that is higher."""

    def features(self):
        return {"top": highest(high, 20).shift(1)}

    def on_signal(self, signal, context):
        if context.is_flat:
            return context.buy(1, because="a new high") if signal.close > signal.top else None
        level = signal.close - 1.5
        if not context.orders:
            return context.sell(1, because="protect it", **stop(level))
        (order,) = context.orders
        return context.replace(order, because="follow", stop_price=level) if level > order.intent.stop_price else None


class OpeningRange(Strategy):
    """The way out of the first half hour, long or short, until ten minutes before the close."""

    minutes = 30
    state = ("opened", "seen", "high", "low")
    timers = (every("1Day", at="close-10", calendar="XNYS", name="end"),)

    def __init__(self, params):
        super().__init__(params)
        self.seen, self.high, self.low = 0, 0.0, 0.0

    def on_timer(self, timer, context):
        self.seen = -11  # rows that are left of the session
        return [context[symbol].close(because="the session ends") for symbol in context]

    def on_signal(self, signal, context):
        self.seen += 1
        if self.seen <= self.minutes:
            is_first = self.seen <= 1
            self.high = signal.high if is_first else max(self.high, signal.high)
            self.low = signal.low if is_first else min(self.low, signal.low)
            return None
        if not context.is_flat or self.low <= signal.close <= self.high:
            return None
        return self.entry(signal, context)

    def entry(self, signal, context):
        return context.target(1 if signal.close > self.high else -1, because="out of the opening's range")


class OpeningRangeBracket(OpeningRange):
    """With a stop at the range's other end, and a take-profit of the range's width."""

    def entry(self, signal, context):
        is_up, width = signal.close > self.high, self.high - self.low
        side, away = (context.buy, width) if is_up else (context.sell, -width)
        legs = {"stop_loss": self.low if is_up else self.high, "take_profit": signal.close + away}
        return side(1, because="out of the opening's range", **legs)


class WeeklyWeights(Strategy):
    """Fixed parts of the equity, brought about anew each week."""

    def on_slice(self, slice, context):
        if not is_sunday(slice["AAA"]):
            return None
        return context.target_weights({"AAA": 0.4, "BBB": 0.3, "CCC": 0.2}, because="a new week")


class PairByZscore(Strategy):
    """Two symbols that share a walk: sells the dear one, buys the cheap one."""

    def features(self):
        return {"z": zscore(log(close.of("AAA") / close.of("BBB")), 30)}

    def on_slice(self, slice, context):
        first, second, z = context["AAA"], context["BBB"], slice["AAA"].z
        if abs(z) < 0.5 and not first.is_flat:
            return [first.close(because="the ratio is back"), second.close(because="the ratio is back")]
        if abs(z) > 1.5 and first.is_flat:
            units = 100 if z < 0 else -100
            return [first.target(units, because="far apart"), second.target(-units, because="far apart")]
        return None


class DualMomentum(Strategy):
    """Each week the symbol that has risen most in a quarter, if it has risen; or nothing."""

    def features(self):
        return {"momentum": roc(60)}

    def on_slice(self, slice, context):
        if not is_sunday(slice["AAA"]):
            return None
        best = max(slice, key=lambda symbol: slice[symbol].momentum)
        wanted = {best: 0.9} if slice[best].momentum > 0 else {}
        held = {symbol for symbol in context if context[symbol].is_long}
        return context.target_weights(wanted, because="the strongest") if set(wanted) != held else None


MINUTES = [
    SmaCross,
    EmaCross,
    RsiReversion,
    BollingerReversion,
    DonchianBreakout,
    MacdCross,
    Momentum,
    StochasticTurn,
    AtrChannel,
    VolatilityFilter,
    VwapReversion,
    HourlyTrend,
    BuyAndHold,
    Turtle,
    VolatilityTarget,
    LimitAtADiscount,
    StopEntry,
    StopLimitEntry,
    Grid,
    MovedGrid,
    BracketBreakout,
    TrailingStop,
    StopBehindCloses,
]
SESSIONS = [OpeningRange, OpeningRangeBracket]
DAYS = [WeeklyWeights, PairByZscore, DualMomentum]
