"""The engine's promises: what a strategy sees, what an order meets, what is written, and whom a failure stops."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated

from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.market import Batch
from torghut_core.model.trading import OrderEvent, Report, Side, TimeInForce
from torghut_core.ports import Strategy
from torghut_core.timestamps import SECOND, parse_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

MINUTE = 60 * SECOND
START = 1_767_571_200 * SECOND


class Scripted(Strategy):
    """Does at each row what `plan` says: a function of (signal, context)."""

    columns = ("ema12",)

    def __init__(self, plan):
        super().__init__(self.Params())
        self.plan = plan
        self.seen = []

    def on_signal(self, signal, context):
        self.seen.append((signal.symbol, signal.event_ts, context.now, context.price, context.position.quantity))
        return self.plan(signal, context)


def idle(_signal, _context):
    return None


def flip(signal, context):
    """Buy when flat, close when long: an order at every other row."""
    if context.is_flat:
        return context.buy(1, because="flat")
    return context.close(because="long") if context.is_long else None


def engine_of(*instances, broker=None, gates=None, rules=(), observers=()):
    made = generation(*instances, broker=broker, number=7, rules=rules, observers=observers)
    audit = MemoryAuditStore()
    return Engine(made, "test-1", audit, gates or Gates(trading_enabled=True)), audit


def batch_of(prices, symbols=("ES",), ema12=1.0):
    """One-minute bars whose open is `price` and close `price` + 0.5; each symbol has a bar per price."""
    rows = [
        (symbol, START + minute * MINUTE, price, price + 1, price - 1, price + 0.5, 100.0)
        for minute, price in enumerate(prices)
        for symbol in symbols
    ]
    return signal_batch(rows, ema12=ema12)


def cut(batch, cuts):
    """The same stream in several batches."""
    for position in sorted(cuts):
        if batch.start < position < batch.stop:
            head, tail = batch.split(position)
            yield with_signals(head)
            batch = tail
    yield with_signals(batch)


def test_order_fills_at_the_open_after_the_bar_that_decided():
    """A decision meets the next event, never its own."""
    engine, audit = engine_of(instance("buyer", Scripted(flip)))
    engine.step(batch_of([100.0, 101.0]))
    audit.commit()
    (fill,) = audit.fills("test-1")
    assert (fill["price"], fill["event_ts"]) == (Decimal("101.0"), START + MINUTE)


def test_strategy_sees_its_fill_at_the_next_row():
    """The context at a row has every fill up to that row's position."""
    strategy = Scripted(flip)
    engine, _ = engine_of(instance("buyer", strategy))
    engine.step(batch_of([100.0, 101.0, 102.0]))
    assert [held for *_, held in strategy.seen] == [0, 1, 0]


def test_row_carries_the_loops_time_and_the_bars_close():
    """A bar is known at its end, and its close is the price that a decision refers to."""
    strategy = Scripted(idle)
    engine, _ = engine_of(instance("watcher", strategy))
    engine.step(batch_of([100.0]))
    assert strategy.seen == [("ES", START, START + MINUTE, 100.5, 0)]


def test_row_with_a_missing_column_is_not_shown():
    """A strategy never sees NaN: what is not warm is not handed over."""
    strategy = Scripted(idle)
    engine, _ = engine_of(instance("watcher", strategy))
    engine.step(batch_of([100.0, 101.0], ema12=np.array([np.nan, 2.0])))
    assert len(strategy.seen) == 1


def test_strategy_is_shown_its_own_symbols_only():
    """A symbol that the catalog entry does not list never reaches the strategy."""
    strategy = Scripted(idle)
    engine, _ = engine_of(instance("watcher", strategy, symbols=("NQ",)))
    engine.step(batch_of([100.0, 101.0], symbols=("ES", "NQ")))
    assert {symbol for symbol, *_ in strategy.seen} == {"NQ"}


def test_disabled_strategy_is_not_asked():
    """`enabled: false` stops a strategy."""
    strategy = Scripted(flip)
    engine, _ = engine_of(instance("sleeper", strategy, enabled=False))
    engine.step(batch_of([100.0]))
    assert strategy.seen == []


def test_strategies_share_a_row_in_order_of_their_names():
    """Two strategies on one row decide in a fixed order, whatever their number of rows."""
    order = []
    plans = {name: (lambda _s, _c, name=name: order.append(name)) for name in ("a", "b")}
    engine, _ = engine_of(*(instance(name, Scripted(plan)) for name, plan in plans.items()))
    engine.step(batch_of([100.0, 101.0]))
    assert order == ["a", "b", "a", "b"]


def test_strategies_hold_positions_of_their_own():
    """What one strategy bought is not the other's to see or sell."""
    watcher = Scripted(idle)
    engine, _ = engine_of(instance("buyer", Scripted(flip)), instance("watcher", watcher))
    engine.step(batch_of([100.0, 101.0]))
    assert [held for *_, held in watcher.seen] == [0, 0]
    assert engine.books.positions["buyer", "ES"].quantity == 1


@examples(30)
@given(
    prices=st.lists(st.integers(80, 120).map(float), min_size=1, max_size=30),
    cuts=st.sets(st.integers(1, 59)),
    symbols=st.sampled_from([("ES",), ("ES", "NQ")]),
)
def test_digest_does_not_depend_on_how_the_stream_is_cut(prices, cuts, symbols):
    """One event at a time and all at once give the same decisions, orders and fills."""
    whole, _ = engine_of(instance("a", Scripted(flip), symbols), instance("b", Scripted(flip), symbols))
    parts, _ = engine_of(instance("a", Scripted(flip), symbols), instance("b", Scripted(flip), symbols))
    whole.step(batch_of(prices, symbols))
    for part in cut(batch_of(prices, symbols), cuts):
        parts.step(part)
    assert (whole.digest, whole.account()) == (parts.digest, parts.account())


def test_digest_leaves_out_account_and_generation():
    """The digest is the same for the same input on any run."""
    first, _ = engine_of(instance("buyer", Scripted(flip)))
    second, _ = engine_of(instance("buyer", Scripted(flip)))
    second._label = "other-9"
    for engine in (first, second):
        engine.step(batch_of([100.0, 101.0]))
    assert first.digest == second.digest


def test_decision_is_recorded_with_signal_verdicts_and_generation():
    """Everything that explains a decision is written down with it."""
    engine, audit = engine_of(instance("buyer", Scripted(flip)))
    engine.step(batch_of([100.0]))
    audit.commit()
    (row,) = audit.decisions("test-1")
    assert (row["generation"], row["signal"]["ema12"], row["rationale"]) == (7, 1.0, "flat")
    assert {verdict["code"] for verdict in row["verdicts"]} >= {"trading-enabled", "kill-switch", "price-fresh"}


def test_denied_decision_sends_no_order():
    """A closed gate leaves a decision on record and the broker alone."""
    engine, audit = engine_of(instance("buyer", Scripted(flip)), gates=Gates())
    engine.step(batch_of([100.0, 101.0]))
    audit.commit()
    assert (engine.totals.denied, engine.totals.orders, audit.orders("test-1")) == (2, 0, [])
    assert engine.totals.denials["trading-enabled"] == 2


def test_known_decision_is_not_made_twice():
    """The same signal after a restart gives the same hash, and no second order."""
    engine, audit = engine_of(instance("buyer", Scripted(flip)))
    engine.step(batch_of([100.0]))
    again, _ = engine_of(instance("buyer", Scripted(flip)))
    again._audit = audit
    again.step(batch_of([100.0]))
    assert (again.totals.repeated, again.totals.orders) == (1, 0)


@pytest.mark.parametrize("nonsense", [42, "buy", object()], ids=["number", "text", "object"])
def test_strategy_that_gives_nonsense_is_stopped_by_name(nonsense):
    """An answer that is no decision stops its strategy, and no other."""
    other = Scripted(flip)
    engine, _ = engine_of(instance("bad", Scripted(lambda *_: nonsense)), instance("good", other))
    engine.step(batch_of([100.0, 101.0]))
    assert list(engine.totals.failures) == ["bad"]
    assert len(other.seen) == 2


@pytest.mark.parametrize("field", ["limit_price", "stop_price", "trail_price", "trail_pct"])
def test_decision_with_a_float_for_money_stops_its_strategy(field):
    """A price that is no Decimal never reaches broker or books, and does not stop the others."""
    other = Scripted(flip)
    bad = Scripted(lambda _, context: msgspec.structs.replace(context.buy(1, because="float"), **{field: 1640.25}))
    engine, _ = engine_of(instance("bad", bad), instance("good", other))
    engine.step(batch_of([100.0, 101.0]))
    assert f"whose {field} is 1640.25, not a Decimal" in engine.totals.failures["bad"]
    assert len(other.seen) == 2


@pytest.mark.parametrize("quantity", [0.1, np.float64(0.1), np.float32(0.1), "0.1", Decimal("0.1")])
@pytest.mark.parametrize("propose", ["buy", "target"])
def test_quantity_is_the_decimal_that_its_float_prints_as(propose, quantity):
    """0.1 units are a tenth, and filled at once; the float's binary rest is no part of an order."""
    answers = [lambda context: getattr(context, propose)(quantity, because="a tenth")]
    once = Scripted(lambda _signal, context: answers.pop()(context) if answers else None)
    engine, audit = engine_of(instance("tenth", once), broker=Simulated(Simulated.Params(participation="0.5")))
    engine.step(batch_of([100.0, 101.0, 102.0]))
    audit.commit()
    assert [fill["quantity"] for fill in audit.fills("test-1")] == [Decimal("0.1")]
    assert not engine.totals.failures


@pytest.mark.parametrize("calendars", [{}, {"AC*": "XNYS"}], ids=["without", "with"])
@pytest.mark.parametrize(
    "days",
    [
        ["2024-06-07T04:00", "2024-06-10T04:00"],  # a weekend
        ["2024-07-03T04:00", "2024-07-05T04:00"],  # a half day, and a holiday
        ["2024-11-01T04:00", "2024-11-04T05:00"],  # the clock is set back
        ["2024-03-08T05:00", "2024-03-11T04:00"],  # and forward
    ],
)
def test_order_of_a_daily_bar_fills_at_the_next_sessions_open(days, calendars):
    """Neither a weekend, nor a holiday, nor a change of the clock ends a DAY order before it could fill."""
    starts = [parse_timestamp(f"{day}:00Z") for day in days]
    rows = [
        ("ACME", start, price, price + 1, price - 1, price, 100.0)
        for start, price in zip(starts, (100.0, 110.0), strict=True)
    ]
    simulated = Simulated(Simulated.Params(calendars=calendars))
    engine, audit = engine_of(
        instance("daily", Scripted(flip), symbols=("ACME",), step_ns=24 * 60 * MINUTE), broker=simulated
    )
    engine.step(signal_batch(rows, "1Day"))
    audit.commit()
    assert [(fill["price"], fill["event_ts"]) for fill in audit.fills("test-1")] == [(Decimal(110), starts[1])]


@pytest.mark.parametrize(("params", "usual"), [({}, "day"), ({"time_in_force": "gtc"}, "gtc")])
def test_time_in_force_where_a_strategy_says_none_is_the_brokers(params, usual):
    """The catalog's broker says how long an order stays open; the strategy's own word comes first."""
    plans = iter([{}, {"time_in_force": TimeInForce.IOC}])
    once = Scripted(lambda _signal, context: context.buy(1, because="in", **next(plans)))
    engine, audit = engine_of(instance("buyer", once), broker=Simulated(Simulated.Params(**params)))
    engine.step(batch_of([100.0, 101.0]))
    audit.commit()
    assert [order["time_in_force"] for order in audit.orders("test-1")] == [usual, "ioc"]


def test_quantity_of_more_than_nine_decimals_is_rounded_down_to_them():
    """A sum of floats that is no tenth any more is sent as one, as the venue takes it."""
    engine, audit = engine_of(instance("sum", Scripted(lambda _signal, context: context.buy(0.1 + 0.2, because="sum"))))
    engine.step(batch_of([100.0, 101.0]))
    audit.commit()
    assert {row["quantity"] for row in audit.orders("test-1")} == {Decimal("0.3")}
    assert not engine.totals.denials


def test_decision_on_another_symbol_stops_its_strategy():
    """A strategy cannot trade what it was not shown."""

    def stray(_signal, context):
        context.symbol = "NQ"
        return context.buy(1, because="stray")

    engine, _ = engine_of(instance("stray", Scripted(stray)))
    engine.step(batch_of([100.0]))
    assert "stray" in engine.totals.failures


def test_strategy_that_raises_is_stopped_and_others_decide_the_same():
    """A broken strategy leaves the others' decisions as they are without it."""

    def explode(_signal, _context):
        raise ZeroDivisionError("boom")

    alone, _ = engine_of(instance("good", Scripted(flip)))
    beside, _ = engine_of(instance("bad", Scripted(explode)), instance("good", Scripted(flip)))
    for engine in (alone, beside):
        engine.step(batch_of([100.0, 101.0, 99.0]))
    assert beside.totals.failures == {"bad": "ZeroDivisionError: boom"}
    assert alone.digest == beside.digest


class Venue(Simulated):
    """A venue out of our hands: it reports what the test says."""

    capabilities = Simulated.capabilities.__class__(
        order_types=Simulated.capabilities.order_types, times_in_force=Simulated.capabilities.times_in_force
    )

    def __init__(self):
        super().__init__(self.Params())
        self.sent = []
        self.said = []

    def submit(self, intent):
        self.sent.append(intent)

    def updates(self):
        said, self.said = self.said, []
        return said


def report(intent, event, fill_id="", quantity=1, price=100):
    from torghut_core.model.trading import Fill

    fill = None
    if event is OrderEvent.FILL:
        fill = Fill(
            client_order_id=intent.client_order_id, fill_id=fill_id, symbol=intent.symbol, side=intent.side,
            quantity=Decimal(quantity), price=Decimal(price), fee=Decimal(0), event_ts=START,
        )  # fmt: skip
    return Report(client_order_id=intent.client_order_id, event=event, event_ts=START, fill=fill)


def test_order_to_a_venue_is_sent_only_at_dispatch():
    """A crash between writing and sending loses no order that a venue has: the intent is made durable in between."""
    venue = Venue()
    engine, audit = engine_of(instance("buyer", Scripted(flip)), broker=venue)
    engine.step(batch_of([100.0]))
    assert venue.sent == []
    audit.commit()
    engine.gateway.dispatch()
    (order,) = audit.orders("test-1")
    assert [intent.client_order_id for intent in venue.sent] == [order["client_order_id"]]


def test_order_that_may_not_be_sent_is_canceled():
    """What is refused between the intent and the send is canceled with the reason, and its strategy is flat again."""
    venue = Venue()
    engine, audit = engine_of(instance("buyer", Scripted(flip)), broker=venue)
    engine.step(batch_of([100.0]))
    engine.gateway.dispatch(lambda intent: f"no {intent.purpose}")
    audit.commit()
    (order,) = audit.orders("test-1")
    assert (venue.sent, len(engine.books.working), order["state"], order["reason"]) == (
        [],
        0,
        "canceled",
        "not sent: no entry",
    )


def bought(quantity=1):
    """An engine that has sent one order to a venue."""
    venue = Venue()
    engine, audit = engine_of(
        instance("buyer", Scripted(lambda s, c: c.buy(quantity, because="x") if c.is_flat else None)), broker=venue
    )
    engine.step(batch_of([100.0]))
    engine.gateway.dispatch()
    return engine, venue, venue.sent[0], audit


def later(engine, *reports):
    """Let the engine receive reports at the next batch."""
    engine._broker.said.extend(reports)
    batch = batch_of([100.0, 100.0])
    engine.step(with_signals(batch.split(1)[1], ema12=np.nan))


def test_fill_after_a_cancel_still_counts():
    """Venues cross messages: a late fill moves the position, and is not an unknown order's."""
    engine, _, intent, _ = bought()
    later(engine, report(intent, OrderEvent.CANCELED))
    later(engine, report(intent, OrderEvent.FILL, "f1"))
    position = engine.books.positions["buyer", "ES"]
    assert (position.quantity, len(engine.books.working)) == (1, 0)


def test_fill_reported_twice_counts_once():
    """A fill that is reported twice changes the position once."""
    engine, _, intent, audit = bought(quantity=2)
    fill = report(intent, OrderEvent.FILL, "f1")
    later(engine, fill, fill)
    audit.commit()
    assert engine.books.positions["buyer", "ES"].quantity == 1
    assert len(audit.fills("test-1")) == 1


def test_overfill_is_refused_and_counted():
    """A fill of more than the order changes no position; it is counted, for the reconciler to settle."""
    engine, _, intent, _ = bought()
    later(engine, report(intent, OrderEvent.FILL, "f1", quantity=5))
    assert (engine.books.positions["buyer", "ES"].quantity, engine.totals.illegal_reports) == (0, 1)


def test_report_of_an_unknown_order_changes_nothing():
    """A report of a foreign order is logged and changes no order of ours."""
    engine, _, intent, _ = bought()
    import msgspec

    later(engine, msgspec.structs.replace(report(intent, OrderEvent.ACCEPT), client_order_id="tg-foreign"))
    assert len(engine.books.working) == 1


def test_open_order_is_not_flat():
    """A strategy with an open order is not flat, so it is not asked to enter again."""
    engine, venue, intent, _ = bought()
    engine.step(batch_of([100.0]))
    assert (len(venue.sent), intent.side) == (1, Side.BUY)


def test_empty_batch_is_harmless():
    """A clock tick without events trades nothing and breaks nothing."""
    engine, _ = engine_of(instance("buyer", Scripted(flip)))
    engine.step(batch_of([100.0]))
    tick = Batch.of(batch_of([100.0]).symbols, 1, np.array([START + 9 * MINUTE]))
    engine.step(tick)
    assert engine.totals.events == 1


@given(st.integers(0, 6))
def test_what_an_earlier_process_has_traded_is_said_and_not_traded_again(minutes):
    """Rows until then are shown only, and the check says so until the market is there; every later row is traded."""
    strategy = Scripted(flip)
    engine, _ = engine_of(instance("s", strategy))
    traded_to = START + minutes * MINUTE
    engine.traded_to = traded_to
    for batch in cut(batch_of([100] * 6), range(6)):
        before = engine.totals.decisions
        engine.step(batch)
        now = int(batch.now[-1])
        assert engine.market_time == now
        assert (engine.totals.decisions > before) == (now > traded_to)
        gate = engine.gates()["resume"]
        assert (gate is None) == (now >= traded_to)
    assert len(strategy.seen) == 6


def test_stop_does_not_move_the_markets_time():
    """The time of day at which a stop is applied is not one that was traded."""
    engine, _ = engine_of(instance("s", Scripted(idle)), broker=Venue(), gates=Gates(control="halted"))
    engine.step(batch_of([100, 100]))
    reached = engine.market_time
    engine.apply_control("closing time", reached + 86_400 * SECOND)
    assert engine.market_time == reached
