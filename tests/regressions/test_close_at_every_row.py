"""A strategy that closes at every row was denied at each, and a limit was canceled and sent again at each: it never filled."""

from decimal import Decimal

import pytest
from torghut_brokers import Simulated

from support.actions import buy, close, sell
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, TimeInForce
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND
ASK = {"order_type": OrderType.LIMIT, "limit_price": Decimal(110)}
STOP = {"order_type": OrderType.STOP, "stop_price": Decimal(90), "time_in_force": TimeInForce.GTC}
TRAIL = {"order_type": OrderType.TRAILING_STOP, "trail_pct": Decimal(5)}


def target(quantity, **terms):
    return lambda context: context.target(quantity, because="test", **terms)


def wait(_context):
    return None


class Insisting(Strategy):
    """Does one thing after the other, and the last at every row from then on."""

    def __init__(self, acts):
        super().__init__(None)
        self._acts = list(acts)

    def on_signal(self, signal, context):
        act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
        return act(context)


def play(closes, *acts, **broker):
    """The engine after a tape of closes, a minute each, and its orders: side, quantity, state."""
    made = generation(instance("a", Insisting(acts)), broker=Simulated(Simulated.Params(**broker)))
    audit = MemoryAuditStore()
    engine = Engine(made, "test", audit, Gates(trading_enabled=True), allow_shorts=True)
    rows = [("ES", START + minute * MINUTE, *[float(price)] * 4, 10.0) for minute, price in enumerate(closes)]
    engine.step(with_signals(signal_batch(rows)))
    audit.commit()
    held = sum(position.quantity for position in engine.books.positions.values())
    return engine, held, [(row["side"], row["quantity"], str(row["state"])) for row in audit.orders("test")]


@pytest.mark.parametrize("broker", [{}, {"latency_ms": 150_000}, {"participation": Decimal("0.1")}], ids=str)
@pytest.mark.parametrize("leave", [close(), target(0)], ids=["close", "target"])
def test_an_exit_on_its_way_is_decided_once(leave, broker):
    """However long it takes, and however many fills."""
    engine, held, orders = play([100] * 20, buy(5), *[wait] * 5, leave, **broker)
    assert (held, orders) == (0, [("buy", 5, "filled"), ("sell", 5, "filled")])
    assert (engine.totals.decisions, engine.totals.denied) == (2, 0)


@pytest.mark.parametrize("latency_ms", [0, 90_000])
@pytest.mark.parametrize("terms", [ASK, STOP, TRAIL], ids=lambda terms: terms["order_type"])
@pytest.mark.parametrize("leave", [close, lambda **terms: target(0, **terms)], ids=["close", "target"])
def test_an_exit_that_waits_for_its_price_is_left_there(leave, terms, latency_ms):
    """It is one order, and fills at its price."""
    end = 120 if terms is ASK else 80
    engine, held, orders = play([100] * 12 + [end] * 4, buy(5), wait, wait, leave(**terms), latency_ms=latency_ms)
    assert (held, orders) == (0, [("buy", 5, "filled"), ("sell", 5, "filled")])
    assert engine.totals.decisions == 2


def test_a_close_on_other_terms_takes_the_one_before_back():
    """At another price, or at the market."""
    higher = close(order_type=OrderType.LIMIT, limit_price=Decimal(111))
    *_, orders = play([100] * 8, buy(5), close(**ASK), higher)
    assert orders[1:] == [("sell", 5, "canceled"), ("sell", 5, "accepted")]
    _, held, orders = play([100] * 8, buy(5), close(**ASK), close())
    assert (held, orders[1:]) == (0, [("sell", 5, "canceled"), ("sell", 5, "filled")])


@pytest.mark.parametrize("latency_ms", [0, 90_000])
def test_a_stop_beside_a_take_profit_on_the_same_terms_is_taken_back(latency_ms):
    """Then the position waits for that price alone."""
    *_, orders = play(
        [100] * 20, buy(5), wait, wait, sell(5, **STOP), sell(5, **ASK), close(**ASK), latency_ms=latency_ms
    )
    assert orders[1:] == [("sell", 5, "canceled"), ("sell", 5, "canceled"), ("sell", 5, "accepted")]


def test_a_close_after_a_part_of_the_position_closes_the_rest():
    """What is being sold is not sold again, and what is not, is."""
    slow = {"latency_ms": 150_000}
    engine, held, orders = play([100] * 20, buy(5), wait, wait, wait, sell(2), close(), **slow)
    assert (held, orders[1:]) == (0, [("sell", 2, "filled"), ("sell", 3, "filled")])
    assert engine.totals.decisions == 3


@pytest.mark.parametrize("latency_ms", [0, 90_000])
@pytest.mark.parametrize(
    "order", [buy(5, order_type=OrderType.LIMIT, limit_price=Decimal(50)), sell(5, **ASK)], ids=["bid", "ask"]
)
def test_no_order_that_is_open_keeps_a_position_open(order, latency_ms):
    """A bid stays open beside it; an ask, that was to open a short position, is taken back: `close` was denied for ever."""
    engine, held, orders = play([100] * 20, order, buy(5), wait, wait, close(), latency_ms=latency_ms)
    assert (held, orders[1:]) == (0, [("buy", 5, "filled"), ("sell", 5, "filled")])
    assert orders[0][2] == ("accepted" if orders[0][0] == "buy" else "canceled")
    assert (engine.totals.decisions, engine.totals.denied) == (3, 0)


@pytest.mark.parametrize("row", range(4, 12))
def test_a_position_that_its_stop_has_sold_in_part_is_closed_all_the_same(row):
    """While the cancel travels the stop may fill: the rest was recorded and never sent."""
    closes = [100] * 8 + [80] * 20
    acts = [buy(5), wait, wait, sell(2, **STOP), *[wait] * (row - 4), close()]
    engine, held, _ = play(closes, *acts, latency_ms=150_000)
    assert (held, engine.books.working) == (0, {})
