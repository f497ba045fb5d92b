"""Strategies of `support.field_strategies` as an author writes them for NautilusTrader, run there.

    .venv-rivals/bin/python tests/support/run_nautilus.py < BARS

In and out as `support.run_backtrader`. The venue is as it comes, with an account that is not limited by its cash.
"""

import json
import sys

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import DonchianChannel, SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

CASH = 10_000_000
TICK = 0.25
VENUE = Venue("SIM")
ONE = Quantity.from_int(1)


class Author(Strategy):
    """Trades a unit of one symbol, and notes what is filled."""

    def __init__(self, symbol, times):
        super().__init__()
        self.stock, self.symbol, self.times = InstrumentId(Symbol(symbol), VENUE), symbol, times
        self.kind, self.fills, self.number = BarType.from_str(f"{self.stock}-1-MINUTE-LAST-EXTERNAL"), [], -1

    def on_start(self):
        for indicator in self.indicators_of():
            self.register_indicator_for_bars(self.kind, indicator)
        self.subscribe_bars(self.kind)

    def on_bar(self, bar):
        self.number += 1
        if self.indicators_initialized():
            self.decide(bar)

    def on_order_filled(self, event):
        side = "buy" if event.order_side == OrderSide.BUY else "sell"
        price, quantity = event.last_px.as_double(), int(event.last_qty)
        self.fills.append([self.times[event.ts_event], self.symbol, side, quantity, price])

    @property
    def is_long(self):
        return self.portfolio.is_net_long(self.stock)

    def market(self, side):
        self.submit_order(self.order_factory.market(self.stock, side, ONE))


class SmaCross(Author):
    def indicators_of(self):
        self.fast, self.slow, self.before = SimpleMovingAverage(10), SimpleMovingAverage(40), None
        return [self.fast, self.slow]

    def decide(self, bar):
        now = self.fast.value, self.slow.value
        (was_fast, was_slow), self.before = self.before or now, now
        if not self.is_long and now[0] > now[1] and was_fast <= was_slow:
            self.market(OrderSide.BUY)
        elif self.is_long and now[0] < now[1] and was_fast >= was_slow:
            self.market(OrderSide.SELL)


class LimitAtADiscount(Author):
    def indicators_of(self):
        self.mean, self.age = SimpleMovingAverage(30), 0
        return [self.mean]

    def decide(self, bar):
        self.age += 1
        close, bids = bar.close.as_double(), self.cache.orders_open(instrument_id=self.stock)
        if self.is_long:
            if close > self.mean.value:
                self.market(OrderSide.SELL)
        elif bids:
            if self.age >= 10:
                self.cancel_order(bids[0])
        elif close < self.mean.value:
            self.age = 0
            self.submit_order(self.order_factory.limit(self.stock, OrderSide.BUY, ONE, Price(close - 0.5, 2)))


class StopEntry(Author):
    def indicators_of(self):
        self.channel, self.level = DonchianChannel(20), 0.0
        return [self.channel]

    def decide(self, bar):
        level = self.channel.lower - TICK if self.is_long else self.channel.upper + TICK
        stops = self.cache.orders_open(instrument_id=self.stock)
        if stops and level == self.level:
            return
        self.level, side = level, OrderSide.SELL if self.is_long else OrderSide.BUY
        self.cancel_all_orders(self.stock)
        self.submit_order(self.order_factory.stop_market(self.stock, side, ONE, Price(level, 2)))


class BracketBreakout(Author):
    def indicators_of(self):
        self.channel, self.top = DonchianChannel(20), None
        return [self.channel]

    def decide(self, bar):
        close, top, self.top = bar.close.as_double(), self.top, self.channel.upper
        if top is not None and not self.is_long and close > top:
            legs = {"sl_trigger_price": Price(close - 2, 2), "tp_price": Price(close + 3, 2)}
            self.submit_order_list(self.order_factory.bracket(self.stock, OrderSide.BUY, ONE, **legs))


class StopBehindCloses(Author):
    def indicators_of(self):
        self.channel, self.top = DonchianChannel(20), None
        return [self.channel]

    def decide(self, bar):
        close, top, self.top = bar.close.as_double(), self.top, self.channel.upper
        if not self.is_long:
            if top is not None and close > top:
                self.market(OrderSide.BUY)
            return
        level, stops = Price(close - 1.5, 2), self.cache.orders_open(instrument_id=self.stock)
        if not stops:
            self.submit_order(self.order_factory.stop_market(self.stock, OrderSide.SELL, ONE, level))
        elif level > stops[0].trigger_price:
            self.modify_order(stops[0], trigger_price=level)


def traded(strategy, bars):
    ((symbol, rows),) = bars.items()
    stock = Equity(
        InstrumentId(Symbol(symbol), VENUE), Symbol(symbol), USD, 2, Price.from_str("0.01"), Quantity.from_int(1), 0, 0
    )
    kind, data, times = BarType.from_str(f"{stock.id}-1-MINUTE-LAST-EXTERNAL"), [], {}
    for number, (seconds, *prices, volume) in enumerate(rows):
        at = (seconds + 60) * 10**9
        times[at] = number
        data.append(Bar(kind, *(Price(price, 2) for price in prices), Quantity(volume, 0), at, at))
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
    engine.add_venue(VENUE, OmsType.NETTING, AccountType.MARGIN, [Money(CASH, USD)], base_currency=USD)
    engine.add_instrument(stock)
    engine.add_data(data)
    made = strategy(symbol, times)
    engine.add_strategy(made)
    engine.run()
    cash = engine.portfolio.account(VENUE).balance_total(USD).as_double()
    open_profit = engine.portfolio.unrealized_pnl(stock.id)
    engine.dispose()
    return [made.fills, cash + (open_profit.as_double() if open_profit else 0.0)]


STRATEGIES = {"minutes": [SmaCross, LimitAtADiscount, StopEntry, BracketBreakout, StopBehindCloses]}

if __name__ == "__main__":
    given = json.load(sys.stdin)
    done = {each.__name__: traded(each, given[series]) for series, chosen in STRATEGIES.items() for each in chosen}
    json.dump(done, sys.stdout)
