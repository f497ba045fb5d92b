"""A strategy could not leave its position where another one in the same symbol had both a stop and a take-profit out."""

from decimal import Decimal

import pytest
from torghut_brokers import Simulated
from torghut_testing import risk_context

from support.actions import Plan, buy, close, sell
from support.generations import generation, instance, signal_batch
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, Side, TimeInForce
from torghut_core.ports import OpenOrder
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

STOP, LIMIT, MARKET = OrderType.STOP, OrderType.LIMIT, OrderType.MARKET
START = 1_767_571_200 * SECOND


def stop(quantity, price):
    return sell(quantity, order_type=STOP, stop_price=Decimal(price), time_in_force=TimeInForce.GTC)


def profit(quantity, price):
    return sell(quantity, order_type=LIMIT, limit_price=Decimal(price), time_in_force=TimeInForce.GTC)


@pytest.mark.parametrize(("way", "left"), [(close(), 0), (sell(5), 0), (sell(3), 2)], ids=["close", "all", "a part"])
@pytest.mark.parametrize("latency_ms", [0, 30_000])
def test_units_of_a_stop_and_a_take_profit_are_counted_once(way, left, latency_ms):
    """What the other protects stays its own; the rest of the account can be closed."""
    one = instance("one", Plan(buy(5), None, stop(5, 50), None, None, way))
    other = instance("other", Plan(buy(5), None, stop(5, 50), profit(5, 200)))
    audit = MemoryAuditStore()
    broker = Simulated(Simulated.Params(latency_ms=latency_ms))
    engine = Engine(generation(one, other, broker=broker), "test", audit, Gates(trading_enabled=True))
    engine.step(signal_batch([("ES", START + n * MINUTE, 100.0, 100.0, 100.0, 100.0, 10.0) for n in range(12)]))
    audit.commit()
    assert engine.totals.denials == {}
    assert engine.books.positions["one", "ES"].quantity == left
    assert engine.books.positions["other", "ES"].quantity == 5
    assert [row["purpose"] for row in audit.orders("test")].count("entry") == 2


@pytest.mark.parametrize(
    ("protection", "closable"),
    [
        ([(STOP, 5), (LIMIT, 5)], 5),
        ([(STOP, 3), (STOP, 2), (LIMIT, 5)], 5),
        ([(STOP, 5), (LIMIT, 2)], 5),
        ([(STOP, 4), (STOP, 4)], 2),
        ([(MARKET, 5), (LIMIT, 5)], 0),
    ],
)
def test_rules_count_them_in_the_same_way(protection, closable):
    """Stops for other units add up, and so do take-profits; of both the larger counts. Exits on their way count besides."""
    orders = [
        OpenOrder(
            strategy_id="other",
            side=Side.SELL,
            quantity=Decimal(units),
            order_type=kind,
            is_protection=kind is not MARKET,
        )
        for kind, units in protection
    ]
    seen = risk_context(position=Decimal(10), strategy_position=Decimal(5), orders=tuple(orders))
    assert seen.closable(Side.SELL) == closable
