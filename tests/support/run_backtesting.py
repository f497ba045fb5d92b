"""The strategies of `support.field_strategies` of one symbol as an author writes them for backtesting.py, run there.

    .venv-rivals/bin/python tests/support/run_backtesting.py < BARS

In and out as `support.run_backtrader`. It brings no indicators: those below are written with pandas, as its users do.
"""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

CASH = 10_000_000
TICK = 0.25


def sma(values, span):
    return pd.Series(values).rolling(span).mean().to_numpy()


def smoothed(values, span, alpha):
    """An exponential average that begins with the mean of its first values."""
    found, first = np.full(len(values), np.nan), int(np.argmax(~np.isnan(values)))
    at = first + span - 1
    found[at] = np.mean(values[first : at + 1])
    for n in range(at + 1, len(values)):
        found[n] = found[n - 1] + alpha * (values[n] - found[n - 1])
    return found


def ema(values, span):
    return smoothed(np.asarray(values, float), span, 2 / (span + 1))


def highest(values, span):
    return pd.Series(values).rolling(span).max().to_numpy()


def lowest(values, span):
    return pd.Series(values).rolling(span).min().to_numpy()


def before(values):
    return np.append(np.nan, values[:-1])


def rsi(values, span):
    changes = np.diff(np.asarray(values, float), prepend=np.nan)
    gains, losses = (
        smoothed(np.where(np.isnan(changes), np.nan, each), span, 1 / span)
        for each in (changes.clip(0), -changes.clip(max=0))
    )
    return 100 * gains / (gains + losses)


def atr(high, low, close, span):
    ranges = np.maximum(high, before(close)) - np.minimum(low, before(close))
    return smoothed(np.append(np.nan, ranges[1:]), span, 1 / span)


def macd(values):
    """The line, whose averages begin together, and its signal."""
    values = np.asarray(values, float)
    fast = np.append(np.full(14, np.nan), ema(values[14:], 12))
    line = fast - ema(values, 26)
    return line, ema(line, 9)


def place(high, low, close):
    """The stochastic oscillator's k of 14 bars, slowed by three, from where its signal is known, too."""
    fast = 100 * (close - lowest(low, 14)) / (highest(high, 14) - lowest(low, 14))
    k = (before(before(fast)) + before(fast) + fast) / 3
    return np.where(np.isnan(before(before(k))), np.nan, k)


class Rule(Strategy):
    """Buys a unit where `enters`, sells it where `leaves`."""

    def next(self):
        if not self.position and self.enters():
            self.buy(size=1)
        elif self.position and self.leaves():
            self.position.close()


class Cross(Rule):
    """With the faster of two lines, `fast` and `slow`."""

    def enters(self):
        return self.fast[-1] > self.slow[-1] and self.fast[-2] <= self.slow[-2]

    def leaves(self):
        return self.fast[-1] < self.slow[-1] and self.fast[-2] >= self.slow[-2]


class SmaCross(Cross):
    def init(self):
        self.fast, self.slow = self.I(sma, self.data.Close, 10), self.I(sma, self.data.Close, 40)


class EmaCross(Cross):
    def init(self):
        self.fast, self.slow = self.I(ema, self.data.Close, 12), self.I(ema, self.data.Close, 48)


class RsiReversion(Rule):
    def init(self):
        self.rsi = self.I(rsi, self.data.Close, 14)

    def enters(self):
        return self.rsi[-1] < 30

    def leaves(self):
        return self.rsi[-1] > 55


class BollingerReversion(Rule):
    def init(self):
        self.middle = self.I(sma, self.data.Close, 20)
        self.width = self.I(lambda close: pd.Series(close).rolling(20).std(ddof=0).to_numpy(), self.data.Close)

    def enters(self):
        return self.data.Close[-1] < self.middle[-1] - 2.25 * self.width[-1]

    def leaves(self):
        return self.data.Close[-1] > self.middle[-1]


class DonchianBreakout(Rule):
    def init(self):
        self.top = self.I(lambda high: before(highest(high, 20)), self.data.High)
        self.bottom = self.I(lambda low: before(lowest(low, 10)), self.data.Low)

    def enters(self):
        return self.data.Close[-1] > self.top[-1]

    def leaves(self):
        return self.data.Close[-1] < self.bottom[-1]


class MacdCross(Cross):
    def init(self):
        self.fast, self.slow = self.I(macd, self.data.Close)


class Momentum(Rule):
    def init(self):
        self.change = self.I(lambda close: 100 * pd.Series(close).pct_change(30).to_numpy(), self.data.Close)

    def enters(self):
        return self.change[-1] > 0.05

    def leaves(self):
        return self.change[-1] < 0


class StochasticTurn(Rule):
    def init(self):
        self.k = self.I(place, self.data.High, self.data.Low, self.data.Close)

    def enters(self):
        return self.k[-1] > 30 >= self.k[-2]

    def leaves(self):
        return self.k[-1] > 80


class AtrChannel(Rule):
    def init(self):
        self.middle = self.I(ema, self.data.Close, 20)
        self.range = self.I(atr, self.data.High, self.data.Low, self.data.Close, 14)

    def enters(self):
        return self.data.Close[-1] > self.middle[-1] + 2 * self.range[-1]

    def leaves(self):
        return self.data.Close[-1] < self.middle[-1]


class Turtle(Strategy):
    def init(self):
        self.top = self.I(lambda high: before(highest(high, 20)), self.data.High)
        self.bottom = self.I(lambda low: before(lowest(low, 10)), self.data.Low)
        self.range = self.I(atr, self.data.High, self.data.Low, self.data.Close, 20)
        self.added, self.last = 0, 0.0

    def next(self):
        close = self.data.Close[-1]
        if self.position and close < self.bottom[-1]:
            self.added = 0
            self.position.close()
            return
        level = self.last + self.range[-1] / 2 if self.added else self.top[-1]
        if close > level and self.added < 4:
            self.added, self.last = self.added + 1, close
            self.buy(size=int(self.equity * 0.00002 / self.range[-1]))


class LimitAtADiscount(Strategy):
    def init(self):
        self.mean, self.age = self.I(sma, self.data.Close, 30), 0

    def next(self):
        self.age += 1
        close = self.data.Close[-1]
        if self.position:
            if close > self.mean[-1]:
                self.position.close()
        elif self.orders:
            if self.age >= 10:
                self.orders[0].cancel()
        elif close < self.mean[-1]:
            self.age = 0
            self.buy(size=1, limit=close - 0.5)


class StopEntry(Strategy):
    def init(self):
        self.top, self.bottom = self.I(highest, self.data.High, 20), self.I(lowest, self.data.Low, 20)
        self.level = 0.0

    def next(self):
        level = self.bottom[-1] - TICK if self.position else self.top[-1] + TICK
        if self.orders and level == self.level:
            return
        for order in self.orders:
            order.cancel()
        self.level, side = level, self.sell if self.position else self.buy
        side(size=1, stop=level)


class StopLimitEntry(Strategy):
    def init(self):
        self.top, self.mean = self.I(highest, self.data.High, 20), self.I(sma, self.data.Close, 20)
        self.level = 0.0

    def next(self):
        if self.position:
            if self.data.Close[-1] < self.mean[-1]:
                self.position.close()
            return
        level = self.top[-1] + TICK
        if self.orders and level == self.level:
            return
        for order in self.orders:
            order.cancel()
        self.level = level
        self.buy(size=1, stop=level, limit=level + 2 * TICK)


class BracketBreakout(Strategy):
    def init(self):
        self.top = self.I(lambda high: before(highest(high, 20)), self.data.High)

    def next(self):
        close = self.data.Close[-1]
        if not self.position and close > self.top[-1]:
            self.buy(size=1, sl=close - 2, tp=close + 3)


class StopBehindCloses(Strategy):
    def init(self):
        self.top = self.I(lambda high: before(highest(high, 20)), self.data.High)

    def next(self):
        close = self.data.Close[-1]
        for trade in self.trades:
            trade.sl = max(trade.sl or 0, close - 1.5)
        if not self.position and close > self.top[-1]:
            self.buy(size=1)


class OpeningRange(Strategy):
    def init(self):
        pass

    def next(self):
        minute = (len(self.data) - 1) % 390
        close = self.data.Close[-1]
        if minute == 29:
            self.high, self.low = self.data.High[-30:].max(), self.data.Low[-30:].min()
        elif minute == 379:
            self.position.close()
        elif 30 <= minute < 379 and not self.position and not self.low <= close <= self.high:
            self.enter(close)

    def enter(self, close):
        (self.buy if close > self.high else self.sell)(size=1)


class OpeningRangeBracket(OpeningRange):
    def enter(self, close):
        is_up, width = close > self.high, self.high - self.low
        side, away, end = (self.buy, width, self.low) if is_up else (self.sell, -width, self.high)
        side(size=1, sl=end, tp=close + away)


def traded(strategy, bars):
    ((symbol, rows),) = bars.items()
    table = pd.DataFrame(rows, columns=["time", "Open", "High", "Low", "Close", "Volume"])
    table.index = pd.to_datetime(table.pop("time"), unit="s")
    done = Backtest(table, strategy, cash=CASH).run()
    fills = []
    for _, trade in done["_trades"].iterrows():
        size, sides = trade["Size"], ("buy", "sell") if trade["Size"] > 0 else ("sell", "buy")
        for side, when in zip(sides, ("Entry", "Exit"), strict=True):
            fills.append([int(trade[f"{when}Bar"]), symbol, side, abs(int(size)), float(trade[f"{when}Price"])])
    fills += [  # what is still open
        [trade.entry_bar, symbol, "buy" if trade.size > 0 else "sell", abs(trade.size), trade.entry_price]
        for trade in done["_strategy"].trades
    ]
    return [fills, float(done["Equity Final [$]"])]


STRATEGIES = {
    "minutes": [
        SmaCross,
        EmaCross,
        RsiReversion,
        BollingerReversion,
        DonchianBreakout,
        MacdCross,
        Momentum,
        StochasticTurn,
        AtrChannel,
        Turtle,
        LimitAtADiscount,
        StopEntry,
        StopLimitEntry,
        BracketBreakout,
        StopBehindCloses,
    ],
    "sessions": [OpeningRange, OpeningRangeBracket],
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = json.load(sys.stdin)
    done = {each.__name__: traded(each, given[series]) for series, chosen in STRATEGIES.items() for each in chosen}
    json.dump(done, sys.stdout)
