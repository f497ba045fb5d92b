"""What the terms of an instrument do on the way from a decision to an order, and in every sum of money."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated
from torghut_risk.buying_power import BuyingPower
from torghut_risk.max_daily_loss import MaxDailyLoss
from torghut_risk.max_gross_exposure import MaxGrossExposure
from torghut_risk.max_notional import MaxNotional
from torghut_risk.max_position_pct_equity import MaxPositionPctEquity
from torghut_risk.per_strategy_notional import PerStrategyNotional

from support.effort import examples
from support.generations import generation, instance, signal_batch
from torghut_core.audit import MemoryAuditStore, find_decision
from torghut_core.catalog import InstrumentEntry
from torghut_core.cli.render import print_explanation
from torghut_core.generation.instruments import Instruments
from torghut_core.model.trading import OrderType, Outcome, Position, Verdict
from torghut_core.ports import Observer, RiskRule, Strategy
from torghut_core.research.performance.curve import account_curve
from torghut_core.research.performance.trips import round_trips
from torghut_core.timestamps import SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

MINUTE = 60 * SECOND
START = 1_767_571_200 * SECOND


class Scripted(Strategy):
    """Does at each row what `plan` says: a function of (number of the row, context)."""

    columns = ("ema12",)

    def __init__(self, plan):
        super().__init__(self.Params())
        self.plan = plan
        self.rows = 0

    def on_signal(self, signal, context):
        self.rows += 1
        return self.plan(self.rows - 1, context)


class Highest(Observer):
    """Keeps up to where each order may be filled."""

    def __init__(self, params):
        super().__init__(params)
        self.prices = []

    def on_decision(self, decision, verdicts, intent):
        if intent is not None:
            self.prices.append(intent.highest_price)


def replayed(plan, prices, rules=(), allow_shorts=True, cash="100000", fee_bps="3", minutes=None, **terms):
    """The engine and the audit after minutes with these prices, of an ES with these terms."""
    entry = InstrumentEntry(calendar="24/7", **terms)
    broker = Simulated(
        Simulated.Params(
            cash=cash, fees={"*": {"bps": fee_bps}}, multipliers={"ES": entry.multiplier}, margins={"ES": entry.margin}
        )
    )
    made = replace(
        generation(instance("one", Scripted(plan)), broker=broker, rules=rules), instruments=Instruments({"ES": entry})
    )
    audit, highest = MemoryAuditStore(), Highest(None)
    made = replace(made, observers=(("highest", highest),))
    engine = Engine(made, "test-1", audit, Gates(trading_enabled=True), allow_shorts=allow_shorts)
    rows = [
        ("ES", START + at * MINUTE, price, price + 1, price - 1, price, 100.0)
        for at, price in zip(minutes or range(len(prices)), prices, strict=True)
    ]
    engine.step(signal_batch(rows))
    audit.commit()
    engine.highest = highest.prices
    return engine, audit


def once(**order):
    """A plan that buys at the first row."""
    quantity = order.pop("quantity", "2.7")
    return lambda row, context: context.buy(quantity, because="go", **order) if not row else None


def codes(audit):
    (row,) = audit.decisions("test-1")
    return [verdict["code"] for verdict in row["verdicts"] if verdict["outcome"] == "deny"]


# -- rounding -----------------------------------------------------------------------------------------------------------


def test_the_decision_keeps_what_was_proposed_and_the_order_has_what_was_rounded():
    """`explain` shows both."""
    plan = once(order_type=OrderType.LIMIT, limit_price=Decimal("99.9"))
    _, audit = replayed(plan, [100.0, 101.0], quantity_step="1", tick_size="0.25")
    (row,) = audit.decisions("test-1")
    found = find_decision(audit, row["decision_hash"])
    assert (found["decision"]["params"]["quantity"], found["decision"]["params"]["limit_price"]) == ("2.7", "99.9")
    assert (Decimal(found["execution"]["quantity"]), Decimal(found["execution"]["limit_price"])) == (
        2,
        Decimal("99.75"),
    )


def test_rounding_is_no_shrinking_by_risk():
    """The summary counts as shrunk what a rule or gate has cut."""
    engine, _ = replayed(once(), [100.0, 101.0], quantity_step="1")
    assert (engine.totals.orders, engine.totals.strategies["one"].shrunk) == (1, 0)


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"quantity_step": "3"}, "min-quantity"),
        ({"min_quantity": "3"}, "min-quantity"),
        ({"min_notional": "300"}, "min-notional"),
        ({"min_notional": "300", "multiplier": "2"}, None),
    ],
)
def test_an_order_that_is_too_small_for_its_instrument_is_denied(terms, code):
    """With a code of its own, after rounding."""
    engine, audit = replayed(once(), [100.0, 101.0], **terms)
    assert codes(audit) == ([code] if code else [])
    assert engine.totals.orders == (code is None)


class Leaves(RiskRule):
    """Shrinks every order to a quantity."""

    class Params(RiskRule.Params):
        quantity: Decimal

    def check(self, decision, context):
        return Verdict("leaves", Outcome.SHRINK, "leaves", quantity=self.params.quantity)


@pytest.mark.parametrize(("left", "held"), [("6.5", 6), ("4.5", 4), ("1.5", 0)])
def test_what_a_rule_leaves_is_cut_to_whole_steps_and_may_be_too_small(left, held):
    """A rule need not know the steps of the instrument; what is left below one is denied."""
    rules = [("leaves", Leaves(Leaves.Params(quantity=left)))]
    engine, audit = replayed(once(quantity="9"), [100.0, 100.0], rules, quantity_step="2", cash="100000")
    assert engine.books.context("one", "ES").position.quantity == held
    assert codes(audit) == ([] if held else ["min-quantity"])


def test_an_exit_may_be_worth_less_than_the_least_notional():
    """A limit locks nobody in: what was bought for 300 is sold for 100."""

    def plan(row, context):
        return context.buy(3, because="in") if not row else context.close(because="out")

    engine, _ = replayed(plan, [100.0, 100.0, 33.0, 33.0], min_notional="250")
    assert engine.books.context("one", "ES").position.quantity == 0


def test_units_below_a_step_are_dust():
    """They stay in the books, and the strategy is flat."""
    engine, _ = replayed(once(quantity="3"), [100.0, 100.0], quantity_step="2")
    context = engine.books.context("one", "ES")
    engine.books.adjust("one", "ES", Decimal("-0.5"), "fee")
    assert (context.position.quantity, context.is_flat) == (Decimal("1.5"), True)
    assert context.close("all of it") is context.target(0, "all of it") is None


def test_what_is_left_of_a_step_after_an_exit_is_dust():
    """The exit is cut to whole steps."""

    def plan(row, context):
        return context.buy(4, because="in") if not row else context.close(because="out")

    engine, _ = replayed(plan, [100.0], quantity_step="2")
    assert engine.books.context("one", "ES").position.quantity == 0


def test_an_order_through_zero_has_no_leg_that_is_too_small():
    """What would be opened is below the minimum: it only closes."""

    def plan(row, context):
        return (context.buy(5, because="in"), context.sell(7, because="through"))[row] if row < 2 else None

    engine, _ = replayed(plan, [100.0, 100.0, 100.0, 100.0], min_quantity="5")
    assert engine.books.context("one", "ES").position.quantity == 0
    assert engine.totals.orders == 2


def test_explain_prints_what_was_proposed_and_what_was_sent(capsys):
    """Quantities and prices of both, for a person to compare."""
    plan = once(order_type=OrderType.LIMIT, limit_price=Decimal("99.9"))
    _, audit = replayed(plan, [100.0, 101.0], quantity_step="1", tick_size="0.25")
    (row,) = audit.decisions("test-1")
    print_explanation(find_decision(audit, row["decision_hash"]))
    printed = capsys.readouterr().out
    assert "proposed to buy 2.7 ES limit price 99.9 at" in printed
    assert "buy 2 limit limit price 99.75 day" in printed


def test_the_highest_price_of_an_order_is_a_whole_tick():
    """A venue takes it as a limit price."""
    rules = [("max-notional", MaxNotional(MaxNotional.Params(max_notional_per_trade="1001")))]
    engine, _ = replayed(once(quantity="9"), [100.0], rules, quantity_step="1", tick_size="0.25")
    assert engine.highest == [111]


@pytest.mark.parametrize(("adjusted", "jumps"), [(False, 1), (True, 0)])
def test_a_jump_of_adjusted_prices_is_no_split(adjusted, jumps):
    """It gives no warning, for a split would not be seen in them."""
    engine, _ = replayed(lambda *_: None, [100.0, 100.0, 50.0], minutes=[0, 1, 24 * 60], adjusted=adjusted)
    assert len(engine.totals.jumps) == jumps


# -- money --------------------------------------------------------------------------------------------------------------

prices = st.lists(st.integers(-8, 8), min_size=6, max_size=25).map(
    lambda moves: [1000.0 + 5 * sum(moves[: number + 1]) for number in range(len(moves))]
)
orders = st.lists(
    st.none()
    | st.tuples(
        st.sampled_from(["buy", "sell", "close", "target"]),
        st.integers(1, 40),
        st.sampled_from([OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.TRAILING_STOP]),
        st.integers(-3, 3),
    ),
    min_size=25,
    max_size=25,
)


def scripted(script, units):
    """The plan that follows a script whose quantities are in `units`."""

    def plan(row, context):
        if script[row] is None:
            return None
        what, quantity, order_type, offset = script[row]
        if what == "close":
            return context.close(because="script")
        if what == "target":
            return context.target((quantity - 20) * units, because="script")
        price, terms = Decimal(context.price) + 5 * offset, {}
        if order_type is OrderType.LIMIT:
            terms["limit_price"] = price
        elif order_type is OrderType.STOP:
            terms["stop_price"] = price
        elif order_type is OrderType.TRAILING_STOP:
            terms["trail_price"] = Decimal(5 * (abs(offset) + 1))
        return getattr(context, what)(quantity * units, because="script", order_type=order_type, **terms)

    return plan


def rules_of(step):
    money = {"quantity_step": step}
    return [
        ("max-notional", MaxNotional(MaxNotional.Params(max_notional_per_trade="1500000", **money))),
        ("position", MaxPositionPctEquity(MaxPositionPctEquity.Params(max_position_pct_equity="0.9", **money))),
        ("gross", MaxGrossExposure(MaxGrossExposure.Params(max_gross_pct_equity="0.95", **money))),
        ("own", PerStrategyNotional(PerStrategyNotional.Params(max_strategy_notional="1800000", **money))),
        ("loss", MaxDailyLoss(MaxDailyLoss.Params(max_daily_loss="60000"))),
        ("power", BuyingPower(BuyingPower.Params(**money))),
    ]


def books(engine, audit, units, multiplier):
    """All that a replay has come to, quantities in `units`; what is divided is rounded."""

    def amount(text):
        return round(Decimal(text), 12)

    decisions = [
        [
            (verdict["rule"], verdict["outcome"], amount(verdict["value"] or 0), amount(verdict["limit"] or 0))
            for verdict in row["verdicts"]
            if verdict["rule"] != "kernel" or verdict["code"] == "buying-power"
        ]
        for row in audit.decisions("test-1")
    ]
    fills = [
        (amount(row["quantity"] / units), amount(row["price"]), amount(row["fee"])) for row in audit.fills("test-1")
    ]
    account = engine.account()
    held = engine.books.context("one", "ES").position
    money = (account.cash, account.equity, account.buying_power, engine.books.reserved, *engine.books.exposures("one"))
    own = (held.quantity / units, held.average_price, held.realized_pnl, held.fees)
    at_broker = engine.generation.broker.positions().get("ES", Position()).realized_pnl
    low = (engine.gateway.day_start_equity, engine.gateway.day_low_equity)
    trips = [trip.profit for trip in round_trips(audit.fills("test-1"), {"ES": multiplier})]
    curve = account_curve(2e6, {}, audit.fills("test-1"), {"ES": multiplier}).equity
    return (
        decisions,
        fills,
        [amount(each) for each in (*money, *own, at_broker, *low, *trips)],
        engine.highest,
        curve.round(6).tolist(),
    )


@examples(500, quick=60)
@given(
    prices=prices,
    script=orders,
    multiplier=st.sampled_from(["50", "2", "0.1", "1000"]).map(Decimal),
    margin=st.sampled_from(["1", "0.1"]),
    cash=st.sampled_from(["400000", "2000000"]),
    has_rules=st.booleans(),
)
def test_a_multiplier_is_as_many_units(prices, script, multiplier, margin, cash, has_rules):
    """Some units with a multiplier have the money of so many times these units without one.

    Cash, equity, buying power, exposures, profit, fees and what every rule measured are the same through a whole replay.
    """
    one, terms = Decimal(1), {"cash": cash, "margin": margin}
    scale = 1000 / multiplier  # so that the money is the same for every multiplier
    with_multiplier = replayed(
        scripted(script, scale),
        prices,
        rules_of(scale)[: 6 * has_rules],
        multiplier=multiplier,
        quantity_step=scale,
        **terms,
    )
    without = replayed(
        scripted(script, scale * multiplier),
        prices,
        rules_of(scale * multiplier)[: 6 * has_rules],
        multiplier=one,
        quantity_step=scale * multiplier,
        **terms,
    )
    assert books(*with_multiplier, scale, multiplier) == books(*without, scale * multiplier, one)


def test_an_e_mini_is_fifty_dollars_a_point():
    """Cash, equity, exposure and profit count the multiplier; a margin of 5 % leaves the rest as buying power."""

    def plan(row, context):
        return context.buy(2, because="in") if not row else context.close(because="out") if row == 2 else None

    engine, _ = replayed(plan, [1000.0, 1000.0], fee_bps="0", multiplier="50", margin="0.05")
    account = engine.account()
    assert (account.cash, account.equity, account.buying_power) == (0, 100_000, 95_000)
    assert engine.books.exposures("one") == (100_000, 100_000, 100_000)
    engine, _ = replayed(plan, [1000.0, 1000.0, 1000.0, 1010.0], fee_bps="0", multiplier="50", margin="0.05")
    assert engine.account().cash == 101_000
    assert engine.books.context("one", "ES").position.realized_pnl == 1000


def test_a_short_position_takes_its_margin_of_the_buying_power():
    """What it was sold for is no money to buy with."""
    engine, _ = replayed(
        lambda row, context: context.sell(1, because="down") if not row else None,
        [1000.0, 1000.0],
        fee_bps="0",
        multiplier="50",
        margin="0.1",
    )
    account = engine.account()
    assert (account.cash, account.equity, account.buying_power) == (150_000, 100_000, 95_000)
