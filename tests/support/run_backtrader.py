"""Runs strategies of the field in the real backtrader, with its own indicators, and prints what they traded and have in the end.

    .venv-rivals/bin/python tests/support/run_backtrader.py donchian < BARS

A line of JSON for each bar in: ``[seconds since 1970, open, high, low, close, volume]``, a minute each. One line out:
``[trades, value]``, a trade being ``[seconds since 1970, side, price]``.
"""

import datetime as dt
import json
import sys

CASH = 10_000_000


def strategies():
    import backtrader as bt

    class Rule(bt.Strategy):
        """Buys one unit where `enters`, sells it where `leaves`."""

        def __init__(self):
            self.trades, self.order = [], None

        def notify_order(self, order):
            if order.status == order.Completed:
                side = "buy" if order.isbuy() else "sell"
                seconds = round(bt.num2date(order.executed.dt).replace(tzinfo=dt.UTC).timestamp())
                self.trades.append([seconds, side, order.executed.price])
                self.order = None

        def next(self):
            if self.order is not None:
                return
            if not self.position and self.enters():
                self.order = self.buy(size=1)
            elif self.position and self.leaves():
                self.order = self.sell(size=1)

    class Donchian(Rule):
        def __init__(self):
            super().__init__()
            self.top = bt.ind.Highest(self.data.high, period=20)
            self.bottom = bt.ind.Lowest(self.data.low, period=10)

        def enters(self):
            return self.data.close[0] > self.top[-1]

        def leaves(self):
            return self.data.close[0] < self.bottom[-1]

        def nextstart(self):
            """Wait one bar more: the highest of the bars before."""

    class RsiReversal(Rule):
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
            self.bands = bt.ind.BollingerBands(self.data.close, period=20, devfactor=2)

        def enters(self):
            return self.data.close[0] < self.bands.bot[0]

        def leaves(self):
            return self.data.close[0] > self.bands.mid[0]

    class MacdCross(Rule):
        def __init__(self):
            super().__init__()
            self.crossing = bt.ind.MACD(self.data.close)

        def enters(self):
            line, signal = self.crossing.macd, self.crossing.signal
            return line[0] > signal[0] and line[-1] <= signal[-1]

        def leaves(self):
            line, signal = self.crossing.macd, self.crossing.signal
            return line[0] < signal[0] and line[-1] >= signal[-1]

    class VolatilityFilter(Rule):
        def __init__(self):
            super().__init__()
            self.fast, self.slow = bt.ind.SMA(period=10), bt.ind.SMA(period=40)
            self.natr = 100 * bt.ind.ATR(period=14) / self.data.close
            self.usual = bt.ind.SMA(self.natr, period=100)

        def enters(self):
            crosses = self.fast[0] > self.slow[0] and self.fast[-1] <= self.slow[-1]
            return crosses and self.natr[0] < self.usual[0]

        def leaves(self):
            return self.fast[0] < self.slow[0]

    class VwapReversion(Rule):
        def __init__(self):
            super().__init__()
            price = (self.data.high + self.data.low + self.data.close) / 3
            amount, volume = bt.ind.SumN(price * self.data.volume, period=60), bt.ind.SumN(self.data.volume, period=60)
            self.vwap = amount / volume

        def enters(self):
            return self.data.close[0] < self.vwap[0] * 0.998

        def leaves(self):
            return self.data.close[0] > self.vwap[0]

    class MultiTimeframeTrend(Rule):
        def __init__(self):
            super().__init__()
            self.hours = bt.ind.EMA(self.data1.close, period=5)
            self.fast, self.slow = bt.ind.EMA(self.data0.close, period=10), bt.ind.EMA(self.data0.close, period=30)

        def next(self):
            if len(self.data1) > 5:
                super().next()

        def enters(self):
            crosses = self.fast[0] > self.slow[0] and self.fast[-1] <= self.slow[-1]
            return crosses and self.hours[0] > self.hours[-1]

        def leaves(self):
            return self.fast[0] < self.slow[0] and self.fast[-1] >= self.slow[-1]

    return {
        "donchian": Donchian,
        "rsi_reversal": RsiReversal,
        "bollinger_reversion": BollingerReversion,
        "macd_cross": MacdCross,
        "volatility_filter": VolatilityFilter,
        "vwap_reversion": VwapReversion,
        "multi_timeframe_trend": MultiTimeframeTrend,
    }


def traded(name, bars):
    import backtrader as bt

    class Bars(bt.DataBase):
        def start(self):
            super().start()
            self.row = 0

        def _load(self):
            if self.row == len(bars):
                return False
            seconds, *values = bars[self.row]
            end = dt.datetime.fromtimestamp(seconds + 60, dt.UTC).replace(tzinfo=None)
            self.lines.datetime[0] = bt.date2num(end)
            for line, value in zip(("open", "high", "low", "close", "volume"), values, strict=True):
                getattr(self.lines, line)[0] = value
            self.lines.openinterest[0] = 0.0
            self.row += 1
            return True

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(CASH)
    data = Bars(timeframe=bt.TimeFrame.Minutes, compression=1)
    cerebro.adddata(data)
    if name == "multi_timeframe_trend":
        cerebro.resampledata(data, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.addstrategy(strategies()[name])
    (done,) = cerebro.run(runonce=False)
    return [[[seconds - 60, side, price] for seconds, side, price in done.trades], cerebro.broker.getvalue()]


if __name__ == "__main__":
    json.dump(traded(sys.argv[1], [json.loads(line) for line in sys.stdin]), sys.stdout)
