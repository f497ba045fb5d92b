"""A simulated broker by hand: events by the second, the orders that meet them, and what is reported."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
from torghut_brokers.simulated import Simulated

from torghut_core import Bars, Batch, Intent, OrderType, Quotes, Side, SymbolTable, TimeInForce, Trades, parse_timestamp

SECOND = 1_000_000_000
HOUR = 3600
T0 = parse_timestamp("2023-09-05T16:00:00Z")
MIDNIGHT = 8 * HOUR
NAN = float("nan")
BTC, ETH = "BTC/USD", "ETH/USD"


def trade(second, price, size=1.0, symbol=BTC):
    return "trade", symbol, second, second, {"price": price, "size": size}


def quote(second, bid, ask, bid_size=1.0, ask_size=1.0, symbol=BTC):
    values = {"bid_price": bid, "bid_size": bid_size, "ask_price": ask, "ask_size": ask_size}
    return "quote", symbol, second, second, values


def bar(second, opened, high, low, close, volume=10.0, step=60, symbol=BTC, known=None):
    values = {"open": opened, "high": high, "low": low, "close": close, "volume": volume, "step": step * SECOND}
    return "bar", symbol, second, second + step if known is None else known, values


def tick(second):
    return "tick", "", second, second, {}


def nanoseconds(second):
    return T0 + round(second * SECOND)


def tape(*events, symbols=None, start=0):
    """A batch of events in the order given, at positions from `start`; seconds count from T0."""
    symbols = symbols or SymbolTable()
    rows = {"trade": [], "quote": [], "bar": [], "tick": []}
    for at, (kind, symbol, begin, _, values) in enumerate(events, start):
        row = {"at": at, "event_ts": nanoseconds(begin), **values}
        if kind != "tick":
            row["symbol"] = symbols.number(symbol)
        rows[kind].append(row)
    tables = {}
    for kind, table in (("trade", Trades), ("quote", Quotes), ("bar", Bars)):
        found = rows[kind]
        tables[kind + "s"] = table.from_columns(**{name: [row[name] for row in found] for name in (found or [{}])[0]})
    now = np.maximum.accumulate(np.array([nanoseconds(known) for *_, known, _ in events], np.int64))
    return Batch.of(symbols, start, now, **tables)


def broker(**params):
    return Simulated(Simulated.Params(**params))


def intent(side="buy", quantity="2", name="tg-1", second=0, symbol=BTC, **fields):
    prices = ("limit_price", "stop_price", "trail_price", "trail_pct")
    return Intent(
        client_order_id=name,
        decision_hash="",
        account="test",
        strategy_id="test",
        symbol=symbol,
        side=Side(side),
        quantity=Decimal(quantity),
        decided_at=nanoseconds(second),
        order_type=OrderType(fields.pop("order_type", "market")),
        time_in_force=TimeInForce(fields.pop("time_in_force", "day")),
        **{price: Decimal(fields[price]) for price in prices if price in fields},
    )


def second_of(report):
    seconds = Fraction(report.event_ts - T0, SECOND)
    return int(seconds) if seconds.denominator == 1 else float(seconds)


def reported(reports):
    """Reports as a test states them: ("fill", second, quantity, price) or (event, second)."""
    lines = []
    for report in reports:
        line = (report.event.value, second_of(report))
        if report.fill is not None:
            line += (f"{report.fill.quantity.normalize():f}", f"{report.fill.price.normalize():f}")
        lines.append(line)
    return lines
