"""Runs the real NautilusTrader, backtrader and backtesting.py, in an environment of their own (.venv-rivals), and prints what they fill.

    .venv-rivals/bin/python tests/support/run_peers.py nautilus_trader < ORDERS

A line of JSON in for each order, a line of JSON out for each, as `support.peer_fills` writes it: ``"105 @2"``, ``"open"``,
or an end such as ``"rejected @0"``. A line is ``{"is_buy", "limit", "stop", "trail", "time_in_force", "seen", "events"}``;
an event is ``[kind, prices, volume]``. With ``"legs": [stop, profit]`` it is an entry with a bracket, and the answer is what
ends its position: ``"stop 90 @1"``, ``"profit 110 @2"``, ``"open"``. Each order has an instrument of its own, so that none meets another's events; the
peers are as they come: no settings but those that an order needs to exist, such as cash.
"""

import datetime as dt
import json
import sys

SECONDS = 60
"""Between two events."""
CASH = 1_000_000_000.0


def shown(price, number):
    return f"{price:g} @{number}"


def leg_of(order, price):
    """Which leg of a bracket was filled at a price."""
    stop, _ = order["legs"]
    return "stop" if (price <= stop) is order["is_buy"] else "profit"


def nautilus_trader(orders):
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, RiskEngineConfig
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.data import Bar, BarType, QuoteTick, TradeTick
    from nautilus_trader.model.enums import (
        AccountType,
        AggressorSide,
        OmsType,
        OrderSide,
        OrderType,
        TimeInForce,
        TrailingOffsetType,
    )
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
    from nautilus_trader.model.instruments import Equity
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.trading.strategy import Strategy

    venue, began = Venue("SIM"), 1_704_067_200 * 10**9
    done, stocks, by_stock, data = ["open"] * len(orders), [], {}, []

    def stock_of(name):
        symbol = Symbol(name)
        return Equity(InstrumentId(symbol, venue), symbol, USD, 2, Price.from_str("0.01"), Quantity.from_int(1), 0, 0)

    def time_of(order, place):
        return began + (place - len(order["seen"]) + 1) * SECONDS * 10**9

    for number, order in enumerate(orders):
        stock = stock_of(f"S{number:05}")
        kind = BarType.from_str(f"{stock.id}-1-MINUTE-LAST-EXTERNAL")
        stocks.append(stock)
        by_stock[stock.id] = number
        for place, (event, prices, volume) in enumerate([*order["seen"], *order["events"]]):
            at = time_of(order, place)
            given = [Price(price, 2) for price in prices]
            size = Quantity(volume, 0)
            if event == "bar":
                data.append(Bar(kind, *given, size, at, at))
            elif event == "quote":
                data.append(QuoteTick(stock.id, *given, size, size, at, at))
            elif volume:  # it knows no trade of nothing
                data.append(TradeTick(stock.id, *given, size, AggressorSide.NO_AGGRESSOR, TradeId(str(place)), at, at))

    clock = stock_of("CLOCK")  # so that orders without a past arrive before the first event of theirs
    once = Price(1, 2), Quantity.from_int(1), AggressorSide.NO_AGGRESSOR, TradeId("0")
    data.append(TradeTick(clock.id, *once, began, began))

    class Orders(Strategy):
        """Sends each order once its last event of the past was seen."""

        def on_start(self):
            for number, (stock, order) in enumerate(zip(stocks, orders, strict=True)):
                self.subscribe_bars(BarType.from_str(f"{stock.id}-1-MINUTE-LAST-EXTERNAL"))
                self.subscribe_quote_ticks(stock.id)
                self.subscribe_trade_ticks(stock.id)
                if not order["seen"]:
                    self.send(number)

        def on_bar(self, bar):
            self.saw(by_stock[bar.bar_type.instrument_id], bar.ts_event)

        def on_quote_tick(self, tick):
            self.saw(by_stock[tick.instrument_id], tick.ts_event)

        def on_trade_tick(self, tick):
            self.saw(by_stock[tick.instrument_id], tick.ts_event)

        def saw(self, number, at):
            if at == began:
                self.send(number)

        def send(self, number):
            order, stock, make = orders[number], stocks[number], self.order_factory
            terms = {
                "instrument_id": stock.id,
                "order_side": OrderSide.BUY if order["is_buy"] else OrderSide.SELL,
                "quantity": Quantity.from_int(1),
                "time_in_force": getattr(TimeInForce, order["time_in_force"].upper()),
            }
            limit, stop = (None if order[name] is None else Price(order[name], 2) for name in ("limit", "stop"))
            if "legs" in order:
                assert stop is None, "its factory of brackets has no stop entry"
                below, above = (Price(price, 2) for price in order["legs"])
                kind = {} if limit is None else {"entry_order_type": OrderType.LIMIT, "entry_price": limit}
                self.submit_order_list(make.bracket(**terms, **kind, sl_trigger_price=below, tp_price=above))
                return
            if order["trail"] is not None:
                from decimal import Decimal

                made = make.trailing_stop_market(
                    **terms, trailing_offset=Decimal(str(order["trail"])), trailing_offset_type=TrailingOffsetType.PRICE
                )
            elif stop is None:
                made = make.market(**terms) if limit is None else make.limit(**terms, price=limit)
            elif limit is None:
                made = make.stop_market(**terms, trigger_price=stop)
            else:
                made = make.stop_limit(**terms, price=limit, trigger_price=stop)
            self.submit_order(made)

        def ended(self, what, event):
            number = by_stock[event.instrument_id]
            if done[number] == "open":
                at = max(0, (event.ts_event - began) // (SECONDS * 10**9))
                done[number] = f"{what} @{at}"

        def on_order_filled(self, event):
            order = orders[by_stock[event.instrument_id]]
            if "legs" in order:
                if event.is_buy is not order["is_buy"]:
                    price = event.last_px.as_double()
                    self.ended(f"{leg_of(order, price)} {price:g}", event)
                return
            self.ended(f"{event.last_px.as_double():g}", event)

        def on_order_rejected(self, event):
            self.ended("rejected", event)

        def on_order_denied(self, event):
            self.ended("denied", event)

        def on_order_canceled(self, event):
            self.ended("canceled", event)

        def on_order_expired(self, event):
            self.ended("expired", event)

    config = BacktestEngineConfig(
        logging=LoggingConfig(bypass_logging=True),
        run_analysis=False,
        risk_engine=RiskEngineConfig(max_order_submit_rate="1000000/00:00:01"),  # all of them come at one time
    )
    engine = BacktestEngine(config)
    engine.add_venue(venue, OmsType.NETTING, AccountType.MARGIN, [Money(CASH, USD)], base_currency=USD)
    for stock in (*stocks, clock):
        engine.add_instrument(stock)
    engine.add_data(data, validate=False)
    engine.add_strategy(Orders())
    engine.run()
    engine.dispose()
    return done


def backtrader(orders):
    return [one_of_backtrader(order) for order in orders]


def one_of_backtrader(order):
    import backtrader as bt

    rows = [*order["seen"], *order["events"]]
    done = []

    class Feed(bt.feed.DataBase):
        def start(self):
            super().start()
            self.place = 0

        def _load(self):
            if self.place == len(rows):
                return False
            _, prices, volume = rows[self.place]
            at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=SECONDS * self.place)
            self.place += 1
            self.lines.datetime[0] = bt.date2num(at)
            for line, price in zip(("open", "high", "low", "close"), prices, strict=True):
                getattr(self.lines, line)[0] = price
            self.lines.volume[0] = volume
            return True

    class Orders(bt.Strategy):
        def next(self):
            if len(self) != len(order["seen"]):
                return
            send = self.buy if order["is_buy"] else self.sell
            limit, stop, trail = order["limit"], order["stop"], order["trail"]
            if "legs" in order:
                self.send_bracket(limit, stop)
            elif trail is not None:
                send(exectype=bt.Order.StopTrail, trailamount=trail)
            elif stop is None:
                send() if limit is None else send(exectype=bt.Order.Limit, price=limit)
            elif limit is None:
                send(exectype=bt.Order.Stop, price=stop)
            else:
                send(exectype=bt.Order.StopLimit, price=stop, plimit=limit)

        def send_bracket(self, limit, stop):
            kind, price = bt.Order.Market, None
            if limit is not None:
                kind, price = bt.Order.Limit, limit
            elif stop is not None:
                kind, price = bt.Order.Stop, stop
            below, above = order["legs"]
            send = self.buy_bracket if order["is_buy"] else self.sell_bracket
            send(exectype=kind, price=price, stopprice=below, limitprice=above)

        def notify_order(self, made):
            if "legs" in order:
                if made.status == made.Completed and made.isbuy() is not order["is_buy"]:
                    at, price = len(self) - len(order["seen"]), made.executed.price
                    done.append(f"{leg_of(order, price)} {price:g} @{at}")
                return
            if made.status == made.Completed:
                done.append(shown(made.executed.price, len(self) - len(order["seen"])))
            elif not made.alive():
                done.append(f"{made.getstatusname().lower()} @{len(self) - len(order['seen'])}")

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Feed(timeframe=bt.TimeFrame.Minutes))
    cerebro.addstrategy(Orders)
    cerebro.broker.setcash(CASH)
    cerebro.run()
    return done[0] if done else "open"


def backtesting(orders):
    return [one_of_backtesting(order) for order in orders]


def one_of_backtesting(order):
    """What ends a bracket; it calls a strategy from the second bar on, so the first is there twice."""
    import pandas as pd
    from backtesting import Backtest, Strategy

    rows = [prices for _, prices, _ in (order["seen"][0], *order["seen"], *order["events"])]
    sent_at = len(order["seen"])
    below, above = order["legs"]

    class Orders(Strategy):
        def init(self):
            pass

        def next(self):
            if len(self.data) - 1 == sent_at:
                send = self.buy if order["is_buy"] else self.sell
                send(size=1, limit=order["limit"], stop=order["stop"], sl=below, tp=above)

    data = pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], dtype=float)
    trades = Backtest(data, Orders, cash=CASH).run()["_trades"]
    if trades.empty:
        return "open"
    price = float(trades["ExitPrice"].iloc[0])
    return f"{leg_of(order, price)} {price:g} @{int(trades['ExitBar'].iloc[0]) - sent_at}"


PEERS = {"nautilus_trader": nautilus_trader, "backtrader": backtrader, "backtesting.py": backtesting}


def of_all(peer, orders):
    """What a peer does with each order; an order that ends its run, with all others in it, is an ``"error @0"``."""
    try:
        return peer(orders)
    except RuntimeError:
        half = len(orders) // 2
        return of_all(peer, orders[:half]) + of_all(peer, orders[half:]) if half else ["error @0"]


if __name__ == "__main__":
    for answer in of_all(PEERS[sys.argv[1]], [json.loads(line) for line in sys.stdin]):
        sys.stdout.write(json.dumps(answer) + "\n")
