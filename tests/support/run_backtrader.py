"""The strategies of `support.field_strategies` as an author writes them for backtrader, run there.

    .venv-rivals/bin/python tests/support/run_backtrader.py < BARS

In: JSON, ``{series: {symbol: [[seconds since 1970, open, high, low, close, volume], ...]}}``. Out: ``{strategy: [fills, equity]}``,
a fill being ``[number of the bar, symbol, side, quantity, price]``. The broker is as it comes.
"""

import datetime as dt
import json
import math
import sys

import backtrader as bt

CASH = 10_000_000
TICK = 0.25


class Author(bt.Strategy):
    """Notes what is filled."""

    def __init__(self):
        self.fills = []

    def notify_order(self, order):
        if order.status == order.Completed:
            side, quantity = ("buy" if order.isbuy() else "sell"), abs(order.executed.size)
            self.fills.append([len(order.data) - 1, order.data._name, side, quantity, order.executed.price])


class Rule(Author):
    """Buys a unit where `enters`, sells it where `leaves`."""

    def next(self):
        if not self.position and self.enters():
            self.buy(size=1)
        elif self.position and self.leaves():
            self.close()


class Cross(Rule):
    """With the faster of two lines, `fast` and `slow`."""

    def enters(self):
        return self.fast[0] > self.slow[0] and self.fast[-1] <= self.slow[-1]

    def leaves(self):
        return self.fast[0] < self.slow[0] and self.fast[-1] >= self.slow[-1]


class SmaCross(Cross):
    def __init__(self):
        super().__init__()
        self.fast, self.slow = bt.ind.SMA(period=10), bt.ind.SMA(period=40)


class EmaCross(Cross):
    def __init__(self):
        super().__init__()
        self.fast, self.slow = bt.ind.EMA(period=12), bt.ind.EMA(period=48)


class RsiReversion(Rule):
    def __init__(self):
        super().__init__()
        self.rsi = bt.ind.RSI(self.data.close, period=14, safediv=True)

    def enters(self):
        return self.rsi[0] < 30

    def leaves(self):
        return self.rsi[0] > 55


class BollingerReversion(Rule):
    def __init__(self):
        super().__init__()
        self.bands = bt.ind.BollingerBands(self.data.close, period=20, devfactor=2.25)

    def enters(self):
        return self.data.close[0] < self.bands.bot[0]

    def leaves(self):
        return self.data.close[0] > self.bands.mid[0]


class DonchianBreakout(Rule):
    def __init__(self):
        super().__init__()
        self.top = bt.ind.Highest(self.data.high, period=20)(-1)
        self.bottom = bt.ind.Lowest(self.data.low, period=10)(-1)

    def enters(self):
        return self.data.close[0] > self.top[0]

    def leaves(self):
        return self.data.close[0] < self.bottom[0]


class MacdCross(Cross):
    def __init__(self):
        super().__init__()
        lines = bt.ind.MACD(self.data.close)
        self.fast, self.slow = lines.macd, lines.signal


class Momentum(Rule):
    def __init__(self):
        super().__init__()
        self.change = bt.ind.ROC100(self.data.close, period=30)

    def enters(self):
        return self.change[0] > 0.05

    def leaves(self):
        return self.change[0] < 0


class StochasticTurn(Rule):
    def __init__(self):
        super().__init__()
        self.lines_of = bt.ind.Stochastic(period=14, period_dfast=3, period_dslow=3, safediv=True)

    def enters(self):
        return self.lines_of.percK[0] > 30 >= self.lines_of.percK[-1]

    def leaves(self):
        return self.lines_of.percK[0] > 80


class AtrChannel(Rule):
    def __init__(self):
        super().__init__()
        self.middle, self.range = bt.ind.EMA(period=20), bt.ind.ATR(period=14)

    def enters(self):
        return self.data.close[0] > self.middle[0] + 2 * self.range[0]

    def leaves(self):
        return self.data.close[0] < self.middle[0]


class VolatilityFilter(Cross):
    def __init__(self):
        super().__init__()
        self.fast, self.slow = bt.ind.SMA(period=10), bt.ind.SMA(period=40)
        self.natr = 100 * bt.ind.ATR(period=14) / self.data.close
        self.usual = bt.ind.SMA(self.natr, period=100)

    def enters(self):
        return super().enters() and self.natr[0] < self.usual[0]

    def leaves(self):
        return self.fast[0] < self.slow[0]


class VwapReversion(Rule):
    def __init__(self):
        super().__init__()
        price = (self.data.high + self.data.low + self.data.close) / 3
        amount, volume = bt.ind.SumN(price * self.data.volume, period=60), bt.ind.SumN(self.data.volume, period=60)
        self.vwap = amount / volume

    def enters(self):
        return self.data.close[0] < self.vwap[0] * 0.9995

    def leaves(self):
        return self.data.close[0] > self.vwap[0]


class HourlyTrend(Cross):
    hours = True

    def __init__(self):
        super().__init__()
        self.hourly = bt.ind.EMA(self.data1.close, period=5)
        self.fast, self.slow = bt.ind.EMA(self.data0.close, period=10), bt.ind.EMA(self.data0.close, period=30)

    def next(self):
        if len(self.data1) > 5:
            super().next()

    def enters(self):
        return super().enters() and self.hourly[0] > self.hourly[-1]


class BuyAndHold(Author):
    def next(self):
        if not self.position:
            self.buy(size=1)


class Turtle(Author):
    def __init__(self):
        super().__init__()
        self.top = bt.ind.Highest(self.data.high, period=20)(-1)
        self.bottom = bt.ind.Lowest(self.data.low, period=10)(-1)
        self.range = bt.ind.ATR(period=20)
        self.added, self.last = 0, 0.0

    def next(self):
        close = self.data.close[0]
        if self.position and close < self.bottom[0]:
            self.added = 0
            self.close()
            return
        level = self.last + self.range[0] / 2 if self.added else self.top[0]
        if close > level and self.added < 4:
            self.added, self.last = self.added + 1, close
            self.buy(size=math.floor(self.broker.getvalue() * 0.00002 / self.range[0]))


class VolatilityTarget(Author):
    def __init__(self):
        super().__init__()
        self.move = bt.ind.StdDev(self.data.close, period=60)

    def next(self):
        wanted, held = math.floor(self.broker.getvalue() * 0.0001 / self.move[0]), self.position.size
        if abs(wanted - held) > held / 4:
            self.order_target_size(target=wanted)


class LimitAtADiscount(Author):
    def __init__(self):
        super().__init__()
        self.mean, self.bid, self.age = bt.ind.SMA(period=30), None, 0

    def next(self):
        self.age += 1
        close = self.data.close[0]
        if self.position:
            if close > self.mean[0]:
                self.close()
        elif self.bid and self.bid.alive():
            if self.age >= 10:
                self.cancel(self.bid)
        elif close < self.mean[0]:
            self.age, self.bid = 0, self.buy(size=1, exectype=bt.Order.Limit, price=close - 0.5)


class StopEntry(Author):
    def __init__(self):
        super().__init__()
        self.top = bt.ind.Highest(self.data.high, period=20)
        self.bottom = bt.ind.Lowest(self.data.low, period=20)
        self.order, self.level = None, 0.0

    def next(self):
        level = self.bottom[0] - TICK if self.position else self.top[0] + TICK
        is_open = self.order and self.order.alive()
        if is_open and level == self.level:
            return
        if is_open:
            self.cancel(self.order)
        side = self.sell if self.position else self.buy
        self.level, self.order = level, side(size=1, exectype=bt.Order.Stop, price=level)


class StopLimitEntry(Author):
    def __init__(self):
        super().__init__()
        self.top, self.mean = bt.ind.Highest(self.data.high, period=20), bt.ind.SMA(period=20)
        self.entry, self.level = None, 0.0

    def next(self):
        if self.position:
            if self.data.close[0] < self.mean[0]:
                self.close()
            return
        level = self.top[0] + TICK
        is_open = self.entry and self.entry.alive()
        if is_open and level == self.level:
            return
        if is_open:
            self.cancel(self.entry)
        terms = {"exectype": bt.Order.StopLimit, "price": level, "plimit": level + 2 * TICK}
        self.level, self.entry = level, self.buy(size=1, **terms)


class Grid(Author):
    step, levels = 0.75, 3

    def __init__(self):
        super().__init__()
        self.mean, self.middle, self.bids = bt.ind.SMA(period=30), None, []

    def next(self):
        if self.middle is not None and abs(self.mean[0] - self.middle) < self.levels * self.step:
            return
        self.middle = round(self.mean[0] / self.step) * self.step
        for bid in self.bids:
            self.cancel(bid)
        prices = [self.middle - self.step * level for level in range(1, self.levels + 1)]
        below = [price for price in prices if price < self.data.close[0]]
        self.bids = [self.buy(size=1, exectype=bt.Order.Limit, price=price) for price in below]

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy():
            self.sell(size=1, exectype=bt.Order.Limit, price=order.executed.price + self.step)


class MovedGrid(Grid):
    """Changes no order: it has cancel and new alone."""


class BracketBreakout(Author):
    def __init__(self):
        super().__init__()
        self.top = bt.ind.Highest(self.data.high, period=20)(-1)

    def next(self):
        close = self.data.close[0]
        if not self.position and close > self.top[0]:
            self.buy_bracket(size=1, exectype=bt.Order.Market, stopprice=close - 2, limitprice=close + 3)


class TrailingStop(Author):
    def __init__(self):
        super().__init__()
        self.top = bt.ind.Highest(self.data.high, period=20)(-1)

    def next(self):
        if not self.position and self.data.close[0] > self.top[0]:
            self.buy(size=1)

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy():
            self.sell(size=1, exectype=bt.Order.StopTrail, trailamount=1.5)


class StopBehindCloses(TrailingStop):
    """Its trailing stop does that."""


class OpeningRange(Author):
    legs = ()

    def next(self):
        minute = (len(self) - 1) % 390
        high, low, close = self.data.high[0], self.data.low[0], self.data.close[0]
        if minute < 30:
            self.high, self.low = (max(self.high, high), min(self.low, low)) if minute else (high, low)
        elif minute == 379:
            for leg in self.legs:
                self.cancel(leg)
            self.close()
        elif minute < 379 and not self.position and not self.low <= close <= self.high:
            self.enter(close)

    def enter(self, close):
        self.order_target_size(target=1 if close > self.high else -1)


class OpeningRangeBracket(OpeningRange):
    def enter(self, close):
        is_up, width = close > self.high, self.high - self.low
        side, away, end = (self.buy_bracket, width, self.low) if is_up else (self.sell_bracket, -width, self.high)
        _, *self.legs = side(size=1, exectype=bt.Order.Market, stopprice=end, limitprice=close + away)


class WeeklyWeights(Author):
    def next(self):
        if self.data.datetime.date(0).weekday() == 6:
            for symbol, weight in {"AAA": 0.4, "BBB": 0.3, "CCC": 0.2}.items():
                data = self.getdatabyname(symbol)
                self.order_target_size(data, math.floor(self.broker.getvalue() * weight / data.close[0]))


class LogRatio(bt.Indicator):
    lines = ("ratio",)

    def next(self):
        self.lines.ratio[0] = math.log(self.data0.close[0] / self.data1.close[0])


class PairByZscore(Author):
    def __init__(self):
        super().__init__()
        ratio = LogRatio(self.data0, self.data1)
        self.z = (ratio - bt.ind.SMA(ratio, period=30)) / bt.ind.StdDev(ratio, period=30)

    def next(self):
        z, is_flat = self.z[0], not self.getposition(self.data0).size
        if abs(z) < 0.5 and not is_flat:
            self.close(self.data0)
            self.close(self.data1)
        elif abs(z) > 1.5 and is_flat:
            units = 100 if z < 0 else -100
            self.order_target_size(self.data0, units)
            self.order_target_size(self.data1, -units)


class DualMomentum(Author):
    def __init__(self):
        super().__init__()
        self.changes = {data: bt.ind.ROC100(data.close, period=60) for data in self.datas}

    def next(self):
        if self.data.datetime.date(0).weekday() != 6:
            return
        best = max(self.datas, key=lambda data: self.changes[data][0])
        wanted = {best} if self.changes[best][0] > 0 else set()
        held = {data for data in self.datas if self.getposition(data).size}
        if wanted != held:
            for data in held - wanted:
                self.close(data)
            for data in wanted - held:
                self.order_target_size(data, math.floor(self.broker.getvalue() * 0.9 / data.close[0]))


class Bars(bt.DataBase):
    """Rows of bars, each at its start, or so many seconds `late`."""

    params = (("rows", ()), ("late", 0))

    def start(self):
        super().start()
        self.rows = iter(self.p.rows)

    def _load(self):
        row = next(self.rows, None)
        if row is None:
            return False
        seconds, *values = row
        self.lines.datetime[0] = bt.date2num(
            dt.datetime.fromtimestamp(seconds + self.p.late, dt.UTC).replace(tzinfo=None)
        )
        for line, value in zip(("open", "high", "low", "close", "volume"), values, strict=True):
            getattr(self.lines, line)[0] = value
        self.lines.openinterest[0] = 0.0
        return True


def traded(strategy, bars):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(CASH)
    for symbol, rows in bars.items():
        frame = bt.TimeFrame.Minutes if rows[1][0] - rows[0][0] == 60 else bt.TimeFrame.Days
        late = 60 if strategy is HourlyTrend else 0  # a bar of an hour ends where its last minute does
        data = Bars(rows=rows, late=late, timeframe=frame)
        cerebro.adddata(data, name=symbol)
        if strategy is HourlyTrend:
            cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.addstrategy(strategy)
    (done,) = cerebro.run(runonce=False)
    return [done.fills, cerebro.broker.getvalue()]


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
    ],
    "sessions": [OpeningRange, OpeningRangeBracket],
    "days": [WeeklyWeights, PairByZscore, DualMomentum],
}

if __name__ == "__main__":
    given = json.load(sys.stdin)
    done = {each.__name__: traded(each, given[series]) for series, chosen in STRATEGIES.items() for each in chosen}
    json.dump(done, sys.stdout)
