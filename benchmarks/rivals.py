"""Runs a rival's side of a comparison in its own environment (.venv-rivals) and prints one JSON line.

    .venv-rivals/bin/python benchmarks/rivals.py backtesting.py DATA.npy

DATA.npy holds the bars as columns open, high, low, close, volume. The rule is the same for all: EMA(12) over EMA(26)
from the 27th bar on, long one unit or flat, 0.1 % commission, filled at the next open. "nautilus_trader: stops" is for
`stops.py`, which states its rule; its DATA.npy has the shape (columns, bars, symbols). "vectorbt" is for `portfolio.py`; its
DATA.npy has opens and closes, shape (2, bars, symbols). "vectorbt: sweep" and "vectorbt: brackets" are for `sweep.py`; their DATA.npy
has the columns open, high, low, close and the index of relative strength.
"""

import json
import resource
import sys
import time
from functools import partial

import numpy as np

FEE, CASH = 0.001, 1_000_000.0


def run_backtesting(ohlcv):
    import pandas as pd
    from backtesting import Backtest, Strategy

    names = ["Open", "High", "Low", "Close", "Volume"]
    data = pd.DataFrame(ohlcv, columns=names, index=pd.date_range("2024-01-01", periods=len(ohlcv), freq="1min"))

    def ema(values, span):
        return pd.Series(values).ewm(span=span, adjust=False).mean().to_numpy()

    class Cross(Strategy):
        def init(self):
            self.fast = self.I(ema, data["Close"], 12)
            self.slow = self.I(ema, data["Close"], 26)
            self.seen = 0
            self.was_above = False

        def next(self):
            self.seen += 1
            is_above = self.fast[-1] > self.slow[-1]
            if self.seen >= 26:
                if is_above and not self.was_above and not self.position:
                    self.buy(size=1)
                elif self.was_above and not is_above and self.position:
                    self.position.close()
            self.was_above = is_above

    test = Backtest(data, Cross, cash=CASH, commission=FEE, finalize_trades=True)
    began = time.perf_counter()
    stats = test.run()
    return time.perf_counter() - began, float(stats["Equity Final [$]"])


def run_backtrader(ohlcv):
    import backtrader as bt
    import pandas as pd

    names = ["open", "high", "low", "close", "volume"]
    data = pd.DataFrame(ohlcv, columns=names, index=pd.date_range("2024-01-01", periods=len(ohlcv), freq="1min"))

    class Cross(bt.Strategy):
        def __init__(self):
            self.cross = bt.ind.CrossOver(bt.ind.EMA(period=12), bt.ind.EMA(period=26))

        def next(self):
            if self.cross[0] > 0 and not self.position:
                self.buy(size=1)
            elif self.cross[0] < 0 and self.position:
                self.close()

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=data))
    cerebro.addstrategy(Cross)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    began = time.perf_counter()
    cerebro.run()
    return time.perf_counter() - began, float(cerebro.broker.getvalue())


def run_nautilus(ohlcv):
    from decimal import Decimal

    import pandas as pd
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.indicators import ExponentialMovingAverage
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.data import BarType
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
    from nautilus_trader.model.instruments import Equity
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.trading.strategy import Strategy

    venue = Venue("SIM")
    stock = Equity(
        InstrumentId(Symbol("WALK"), venue), Symbol("WALK"), USD, 2, Price.from_str("0.01"), Quantity.from_int(1),
        0, 0, maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"),
    )  # fmt: skip
    kind = BarType.from_str(f"{stock.id}-1-MINUTE-LAST-EXTERNAL")
    index = pd.date_range("2024-01-01", periods=len(ohlcv), freq="1min", tz="UTC")
    names = ["open", "high", "low", "close", "volume"]
    bars = BarDataWrangler(kind, stock).process(pd.DataFrame(ohlcv, columns=names, index=index))

    class Cross(Strategy):
        def on_start(self):
            self.fast, self.slow = ExponentialMovingAverage(12), ExponentialMovingAverage(26)
            self.register_indicator_for_bars(kind, self.fast)
            self.register_indicator_for_bars(kind, self.slow)
            self.subscribe_bars(kind)
            self.was_above = False

        def on_bar(self, _bar):
            if not self.slow.initialized:
                return
            is_above = self.fast.value > self.slow.value
            side = None
            if is_above and not self.was_above and self.portfolio.is_flat(stock.id):
                side = OrderSide.BUY
            elif self.was_above and not is_above and self.portfolio.is_net_long(stock.id):
                side = OrderSide.SELL
            if side is not None:
                self.submit_order(self.order_factory.market(stock.id, side, stock.make_qty(1)))
            self.was_above = is_above

    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(venue, OmsType.NETTING, AccountType.MARGIN, [Money(CASH, USD)], base_currency=USD)
    engine.add_instrument(stock)
    engine.add_data(bars, sort=False)
    engine.add_strategy(Cross())
    began = time.perf_counter()
    engine.run()
    took = time.perf_counter() - began
    return took, engine.cache.account_for_venue(venue).balance_total(USD).as_double()


def run_nautilus_stops(ohlcv):
    from decimal import Decimal

    import pandas as pd
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, StrategyConfig
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.data import BarType
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, TimeInForce
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
    from nautilus_trader.model.instruments import Equity
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.trading.strategy import Strategy

    _, count, symbols = ohlcv.shape
    venue, fee = Venue("SIM"), Decimal("0.0001")
    index = pd.date_range("2024-01-01", periods=count, freq="1min", tz="UTC")
    names = ["open", "high", "low", "close", "volume"]
    stocks, kinds, bars = [], [], []
    for number in range(symbols):
        symbol = Symbol(f"S{number:03}")
        stock = Equity(
            InstrumentId(symbol, venue), symbol, USD, 2, Price.from_str("0.01"), Quantity.from_int(1),
            0, 0, maker_fee=fee, taker_fee=fee,
        )  # fmt: skip
        kind = BarType.from_str(f"{stock.id}-1-MINUTE-LAST-EXTERNAL")
        bars += BarDataWrangler(kind, stock).process(pd.DataFrame(ohlcv[:, :, number].T, columns=names, index=index))
        stocks.append(stock)
        kinds.append(kind)

    class Stops(Strategy):
        def __init__(self, number):
            super().__init__(StrategyConfig(order_id_tag=f"{number:03}"))
            self.mine = range(number, symbols, 20)
            self.stops = {}

        def on_start(self):
            for number in self.mine:
                self.subscribe_bars(kinds[number])

        def on_bar(self, bar):
            stock = self.cache.instrument(bar.bar_type.instrument_id)
            positions = self.cache.positions_open(instrument_id=stock.id)
            if not positions:
                self.stops.pop(stock.id, None)
                self.submit_order(self.order_factory.market(stock.id, OrderSide.BUY, stock.make_qty(1)))
            elif stock.id not in self.stops:
                price = stock.make_price(positions[0].avg_px_open * 0.98)
                stop = self.order_factory.stop_market(
                    stock.id, OrderSide.SELL, stock.make_qty(1), price, time_in_force=TimeInForce.GTC, reduce_only=True
                )
                self.stops[stock.id] = stop
                self.submit_order(stop)

    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(venue, OmsType.NETTING, AccountType.MARGIN, [Money(10_000_000, USD)], base_currency=USD)
    for stock in stocks:
        engine.add_instrument(stock)
    engine.add_data(bars)
    for number in range(20):
        engine.add_strategy(Stops(number))
    began = resource.getrusage(resource.RUSAGE_SELF)
    engine.run()
    ended = resource.getrusage(resource.RUSAGE_SELF)
    took = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return took, engine.cache.account_for_venue(venue).balance_total(USD).as_double()


def run_vectorbt(prices):
    import pandas as pd
    import vectorbt

    index = pd.date_range("2024-01-01", periods=prices.shape[1], freq="1min")
    opened, close = (pd.DataFrame(each, index) for each in prices)

    def once():
        began = resource.getrusage(resource.RUSAGE_SELF)
        is_above = close.ewm(span=12, adjust=False).mean() > close.ewm(span=26, adjust=False).mean()
        is_above.iloc[:25] = False
        entries, exits = (each.shift(1, fill_value=False) for each in (is_above, ~is_above))
        portfolio = vectorbt.Portfolio.from_signals(
            close, entries, exits, price=opened, size=1, fees=1e-4, init_cash=1e8, cash_sharing=True, group_by=True,
            freq="1min",
        )  # fmt: skip
        equity = float(portfolio.final_value())
        ended = resource.getrusage(resource.RUSAGE_SELF)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime, equity

    once()  # compiles
    return min(once() for _ in range(3))


def run_vectorbt_sweep(columns, **stops):
    import pandas as pd
    import vectorbt

    index = pd.date_range("2024-01-01", periods=len(columns), freq="1min")
    opened, high, low, close = (pd.Series(column, index) for column in columns.T[:4])
    strength = columns[:, 4:]
    low_levels, high_levels = np.array(
        [(20 + row * 0.5, 55 + column * 0.8) for row in range(32) for column in range(32)]
    ).T

    def once():
        began = resource.getrusage(resource.RUSAGE_SELF)
        none = np.zeros((1, 1024), bool)
        entries, exits = (np.vstack([none, each[:-1]]) for each in (strength < low_levels, strength > high_levels))
        portfolio = vectorbt.Portfolio.from_signals(
            close, pd.DataFrame(entries, index), pd.DataFrame(exits, index), price=opened, open=opened, high=high, low=low,
            size=1, fees=1e-4, init_cash=1e6, freq="1min", **stops,
        )  # fmt: skip
        equity = float(portfolio.final_value().sum())
        ended = resource.getrusage(resource.RUSAGE_SELF)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime, equity

    once()  # compiles
    return min(once() for _ in range(3))


RIVALS = {
    "backtesting.py": run_backtesting,
    "backtrader": run_backtrader,
    "nautilus_trader": run_nautilus,
    "nautilus_trader: stops": run_nautilus_stops,
    "vectorbt": run_vectorbt,
    "vectorbt: sweep": run_vectorbt_sweep,
    "vectorbt: brackets": partial(run_vectorbt_sweep, sl_stop=0.01, tp_stop=0.02),
}

if __name__ == "__main__":
    name, path = sys.argv[1:]
    bars = np.load(path)
    seconds, equity = RIVALS[name](bars)
    print(json.dumps({"case": name, "bars": len(bars), "seconds": seconds, "equity": round(equity, 2)}))
