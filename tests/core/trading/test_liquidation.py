"""What the kernel does with what a simulated venue does by itself: positions that it closes, and interest that it charges."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers import Simulated

from support.actions import Plan, buy, sell
from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore, find_decision
from torghut_core.cli.render import print_explanation
from torghut_core.errors import NotFoundError
from torghut_core.execution.venue import Access, SimulatedVenue
from torghut_core.model.trading import OrderType, TimeInForce
from torghut_core.research.verify import verify_decision
from torghut_core.timestamps import DAY, MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND
"""A midnight of UTC."""
LEVERED = {"cash": "1000", "leverage": "alpaca"}
CRASH = [100, 100, 100, 60, 60, 60, 60]
"""15 units at 100 on 1,000: at 60 equity is 400, and 270 are to be kept; with 19 units 240, and 342."""


class Listening(Plan):
    """Keeps what is reported of its orders and fills, too."""

    def __init__(self, *acts, sees=lambda context: None):
        super().__init__(*acts, sees=sees)
        self.orders, self.fills = [], []

    def on_order(self, order, context):
        self.orders.append((str(order.intent.purpose), str(order.state)))

    def on_fill(self, fill, context):
        self.fills.append((str(fill.side), fill.quantity, context.position.quantity))


def what_is_held(context):
    return context.position.quantity, [str(order.intent.purpose) for order in context.orders]


def begun(plan, audit, **broker):
    """An engine with a new broker."""
    made = generation(instance("one", plan), broker=Simulated(Simulated.Params(**broker)))
    return Engine(made, "test", audit, Gates(trading_enabled=True), allow_shorts=True)


def bars(closes, step=MINUTE):
    """Bars of a minute, one each `step`."""
    return signal_batch([("ES", START + n * step, *[float(price)] * 4, 1000.0) for n, price in enumerate(closes)])


def play(closes, *acts, cuts=(), step=MINUTE, **broker):
    """The strategy, the engine and the audit after a tape of closes; `cuts` are where batches end."""
    plan, audit = Listening(*acts, sees=what_is_held), MemoryAuditStore()
    engine = begun(plan, audit, **broker)
    batch = bars(closes, step)
    for cut in sorted(cuts):
        if batch.start < cut < batch.stop:
            head, batch = batch.split(cut)
            engine.step(with_signals(head))
    engine.step(with_signals(batch))
    audit.commit()
    return plan, engine, audit


def test_books_follow_a_liquidation():
    """The position goes to nothing by an order that nobody decided on; the strategy sees it and is called for it."""
    plan, engine, audit = play(CRASH, buy(19), **LEVERED)
    assert plan.seen[3:6] == [(19, ["liquidation"]), (0, []), (0, [])]
    assert plan.fills == [("buy", 19, 19), ("sell", 19, 0)]
    assert plan.orders[-2:] == [("liquidation", "accepted"), ("liquidation", "filled")]
    assert (engine.totals.orders, engine.totals.fills, engine.totals.liquidations) == (1, 2, 1)
    assert not engine.books.nets
    assert engine.account().equity == 240
    order = audit.orders("test")[1]
    assert (order["purpose"], order["state"], order["strategy_id"]) == ("liquidation", "filled", "one")
    assert order["reason"] == "liquidation: equity 240.00 is below the maintenance margin 342.00"
    assert audit.positions("test")["one", "ES"].quantity == 0


@pytest.mark.parametrize("act", ["cancel_all", "kill"])
def test_nobody_takes_a_liquidation_back(act):
    """Neither its strategy nor an operator's stop: no cancel is even asked for."""
    cancel = lambda context: context.cancel_all(because="no", protection=True)  # noqa: E731
    plan, audit = Listening(buy(19), None, None, cancel if act == "cancel_all" else None), MemoryAuditStore()
    engine = begun(plan, audit, **LEVERED)
    head, rest = bars(CRASH).split(4)
    engine.step(with_signals(head))
    (working,) = engine.books.working.values()
    if act == "kill":
        engine.gateway.cancel()
        engine.gateway.cancel_all_but_flattening()
    assert working.order.state == "accepted"
    engine.step(with_signals(rest))
    assert plan.fills[-1] == ("sell", 19, 0)


def test_protection_goes_with_the_position():
    """The stop that protected it is canceled when it is closed, and nothing is sold twice."""
    stop = sell(19, order_type=OrderType.STOP, stop_price=Decimal(10), time_in_force=TimeInForce.GTC)
    plan, engine, audit = play([*CRASH, 5, 5], buy(19), None, stop, **LEVERED)
    assert plan.fills == [("buy", 19, 19), ("sell", 19, 0)]
    assert [row["state"] for row in audit.orders("test")] == ["filled", "canceled", "filled"]
    assert not engine.books.working


@examples(30)
@given(st.lists(st.integers(1, 11), max_size=4), st.integers(14, 20))
def test_cuts_change_nothing(cuts, quantity):
    """Wherever batches end, a strategy sees the same at each row, and the books and the digest are the same."""
    closes = [100, 100, 100, 75, 70, 65, 60, 55, 52, 50, 49, 48]
    terms = LEVERED | {"interest": {"loan_pct": "36"}}
    whole, engine, audit = play(closes, buy(quantity), None, None, None, buy(1), step=DAY // 2, **terms)
    parts, other, cut = play(closes, buy(quantity), None, None, None, buy(1), cuts=cuts, step=DAY // 2, **terms)
    assert (whole.seen, whole.fills, whole.orders) == (parts.seen, parts.fills, parts.orders)
    assert (engine.digest, engine.account()) == (other.digest, other.account())
    assert audit.charges("test") == cut.charges("test") != []


def test_explain_says_who_closed_the_position(capsys):
    """By the id of the order, as the audit has it; and that there is no decision to judge again."""
    _, _, audit = play(CRASH, buy(19), **LEVERED)
    found = find_decision(audit, "liquidation-1")
    assert found["decision"] is None
    print_explanation(found)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "no decision led to this order of one in account test: the broker closed a position for want of margin" in said
    )
    assert "accept (liquidation: equity 240.00 is below the maintenance margin 342.00)" in said
    with pytest.raises(NotFoundError, match="nothing to judge again"):
        verify_decision(audit, "liquidation-1", None)


def test_interest_is_recorded_and_counted():
    """Each night in a row of the audit, under no strategy's name; profits of strategies are as before."""
    _, engine, audit = play([100] * 5, buy(15), step=DAY, **LEVERED, interest={"loan_pct": "36"})
    rows = audit.charges("test")
    assert [(row["at"], row["symbol"], row["fees"]) for row in rows] == [
        (START + 2 * DAY, "", Decimal("0.500000")),
        (START + 3 * DAY, "", Decimal("0.500500")),
        (START + 4 * DAY, "", Decimal("0.501001")),
    ]
    assert engine.totals.interest == sum(row["fees"] for row in rows) == 1000 - engine.account().equity
    assert engine.books.context("one", "ES").position.fees == 0


def test_account_that_is_kept_is_charged_each_night_once():
    """Interest alone is reason enough to record the broker's state: a process that resumes there charges the later nights only."""
    audit = MemoryAuditStore()
    terms = LEVERED | {"interest": {"loan_pct": "36"}}
    pieces, rest = [], bars([100] * 5, DAY)
    for cut in (3, 4):
        head, rest = rest.split(cut)
        pieces.append(head)
    equity = []
    for number, piece in enumerate([*pieces, rest]):  # each in a process of its own
        engine = begun(Plan(buy(15) if not number else None), audit, **terms)
        broker = engine.generation.broker
        venue = SimulatedVenue(broker, Access("test", None, None), engine.gateway, audit)
        venue.start()
        engine.step(with_signals(piece))
        venue.save()
        audit.commit()
        equity.append(engine.account().equity)
    _, whole, _ = play([100] * 5, buy(15), step=DAY, **terms)
    assert equity[-1] == whole.account().equity
    assert [row["at"] for row in audit.charges("test")] == [START + night * DAY for night in (2, 3, 4)]
