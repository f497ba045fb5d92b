"""Every limit against every trick: real rules, the real engine and the simulated broker, and nothing gets past.

A strategy asks for far more than is allowed, again and again, on a tape that is made to fool whoever measures it. What is
checked are the fills alone: what was bought, and at which price.
"""

from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated
from torghut_risk import (
    BuyingPower,
    Cooldown,
    MarketHours,
    MaxDailyLoss,
    MaxGrossExposure,
    MaxNotional,
    MaxOpenOrders,
    MaxOrdersPerMinute,
    MaxPositionPctEquity,
    PerStrategyNotional,
    PriceBand,
    SymbolAllowlist,
    WashTrade,
)

from support.effort import combined, examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import Limits, OrderType, Side
from torghut_core.ports import Strategy
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND
CAP = Decimal(1000)


class Greedy(Strategy):
    """Asks for 50 units at every row from `first` on, with the same terms."""

    def __init__(self, action=Side.BUY, first=0, quantity=50, **terms):
        super().__init__(self.Params())
        self.action, self.first, self.quantity, self.terms = action, first, quantity, terms
        self.rows = defaultdict(int)

    def on_signal(self, signal, context):
        row = self.rows[signal.symbol]
        self.rows[signal.symbol] += 1
        if row < self.first:
            return None
        ask = context.buy if self.action is Side.BUY else context.sell
        return ask(self.quantity, because="more", **self.terms)


def tape(closes, symbol="ES"):
    """Bars of a minute that open where the market is, at 100 unless (open, close) is given, and close as they say."""
    bars = [close if isinstance(close, tuple) else (100.0, close) for close in closes]
    return [
        (symbol, START + minute * MINUTE, start, max(start, end), min(start, end), end, 1000.0)
        for minute, (start, end) in enumerate(bars)
    ]


CALM = [100.0] * 6
TRICKS = {
    "calm": (tape(CALM * 2), 3),
    "a print far too low": (tape([*CALM, 0.1, *CALM]), 6),
    "two prints far too low": (tape([*CALM, 0.1, 0.1, *CALM]), 6),
    "a print too low, within the band": (tape([*CALM, 60.0, *CALM]), 6),
    "the first print is far too low": (tape([0.1, *CALM]), 0),
    "a print far too high": (tape([*CALM, 1000.0, *CALM]), 3),
    "a print too high, within the band": (tape([*CALM, 140.0, *CALM]), 3),
    "no print is zero": (tape([*CALM, 0.0, *CALM]), 3),
    "the market jumps before the fill": (tape([*CALM, 100.0, *[(130.0, 130.0)] * 6]), 5),
    "the market creeps up": (tape([(100.0 + n, 100.5 + n) for n in range(12)]), 2),
    "a price that divides badly": (tape([(33.333333, 33.333333)] * 9), 2),
}
TERMS = {
    "market": {},
    "limit": {"order_type": OrderType.LIMIT, "limit_price": Decimal(100)},
    "limit above": {"order_type": OrderType.LIMIT, "limit_price": Decimal(120)},
    "stop": {"order_type": OrderType.STOP, "stop_price": Decimal(100)},
    "stop below": {"order_type": OrderType.STOP, "stop_price": Decimal("0.2")},
    "stop_limit": {
        "order_type": OrderType.STOP_LIMIT,
        "stop_price": Decimal("0.2"),
        "limit_price": Decimal(110),
    },
    "trailing": {"order_type": OrderType.TRAILING_STOP, "trail_pct": Decimal(1)},
}
CAPS = {
    "max-notional": {"rules": [MaxNotional(MaxNotional.Params(max_notional_per_trade=CAP))]},
    "max_notional_per_trade": {
        "rules": [MaxNotional(MaxNotional.Params())],
        "limits": Limits(max_notional_per_trade=CAP),
    },
    "max-position-pct-equity": {
        "rules": [MaxPositionPctEquity(MaxPositionPctEquity.Params(max_position_pct_equity="0.01"))]
    },
    "max_position_pct_equity": {
        "rules": [MaxPositionPctEquity(MaxPositionPctEquity.Params())],
        "limits": Limits(max_position_pct_equity=Decimal("0.01")),
    },
    "max-gross-exposure": {"rules": [MaxGrossExposure(MaxGrossExposure.Params(max_gross_exposure=CAP))]},
    "max-gross-exposure, of equity": {
        "rules": [MaxGrossExposure(MaxGrossExposure.Params(max_gross_pct_equity="0.01"))]
    },
    "per-strategy-notional": {"rules": [PerStrategyNotional(PerStrategyNotional.Params(max_strategy_notional=CAP))]},
    "buying-power": {"rules": [BuyingPower(BuyingPower.Params())], "cash": CAP},
}
OF_ONE_ORDER = ("max-notional", "max_notional_per_trade")


def run(batches, *strategies, rules=(), limits=None, cash=100_000, allow_shorts=False, **broker):
    """Trade the batches; return the engine, and the fills with the strategy and the order of each."""
    instances = [
        instance(f"greedy-{number}", strategy, symbols=("ES", "NQ"), limits=limits or Limits())
        for number, strategy in enumerate(strategies)
    ]
    simulated = Simulated(Simulated.Params(cash=cash, **broker))
    named = [(f"rule-{number}", rule) for number, rule in enumerate(rules)]
    audit = MemoryAuditStore()
    engine = Engine(
        generation(*instances, broker=simulated, rules=named),
        "limits",
        audit,
        Gates(trading_enabled=True),
        allow_shorts=allow_shorts,
    )
    for batch in batches:
        engine.step(batch)
    audit.commit()
    orders = {row["client_order_id"]: row for row in audit.rows("executions")}
    fills = [(orders[row["client_order_id"]], row) for row in audit.fills("limits")]
    return engine, fills


def most(fills, cap, side=Side.BUY):
    """The largest notional that fills led to, at the price of each: of one order, of a strategy, or of the account.

    Of a share of equity, what equity has won on the way is taken off; of buying power, what was paid counts.
    """
    held, largest = defaultdict(Decimal), Decimal(0)
    if cap == "buying-power":
        return sum(fill["quantity"] * fill["price"] for _, fill in fills)
    for order, fill in fills:
        key = order["client_order_id"] if cap in OF_ONE_ORDER else ""
        key = order["strategy_id"] if cap == "per-strategy-notional" else key
        held[key] += fill["quantity"] if order["side"] == side else -fill["quantity"]
        won = Decimal("0.998") if "equity" in cap else 1
        largest = max(largest, held[key] * fill["price"] * won)
    return largest


def is_known(trick, terms):
    """Whether the cost can be known: a trailing stop begins at the next price, which in a market that creeps up is higher."""
    return (trick, terms) != ("the market creeps up", "trailing")


@pytest.mark.parametrize(("trick", "cap", "terms"), combined(TRICKS, CAPS, TERMS))
def test_no_trick_buys_more_than_a_cap(cap, trick, terms):
    """Whatever the price is made to look like before an order, what is bought is worth no more than the cap."""
    rows, first = TRICKS[trick]
    _, fills = run([signal_batch(rows)], Greedy(first=first, **TERMS[terms]), **CAPS[cap])
    if cap != "buying-power" or is_known(trick, terms):
        assert most(fills, cap) <= CAP


@pytest.mark.parametrize("cap", CAPS)
def test_a_cap_is_used_up(cap):
    """Of a market without tricks nearly as much is bought as is allowed."""
    rows, first = TRICKS["calm"]
    _, fills = run([signal_batch(rows)], Greedy(first=first), **CAPS[cap])
    assert CAP * Decimal("0.9") < most(fills, cap) <= CAP


@pytest.mark.parametrize("trick", [name for name in TRICKS if name.startswith(("calm", "a p", "two"))])
@pytest.mark.parametrize("cap", CAPS)
def test_no_trick_sells_short_more_than_a_cap(cap, trick):
    """A short position is bounded as a long one is."""
    rows, first = TRICKS[trick]
    greedy = Greedy(Side.SELL, first)
    _, fills = run([signal_batch(rows)], greedy, **CAPS[cap], allow_shorts=True)
    if cap != "buying-power":  # what was sold raises the cash of a simulated account
        assert most(fills, cap, Side.SELL) <= CAP


@pytest.mark.parametrize("broker", [{}, {"participation": "0.005"}, {"latency_ms": 90_000}])
@pytest.mark.parametrize("cap", CAPS)
def test_several_strategies_and_partial_fills_buy_no_more(cap, broker):
    """Orders of one batch, orders on their way and partly filled ones count before they are positions."""
    rows, _ = TRICKS["calm"]
    greedy = [Greedy(first=first) for first in (2, 2, 3)]
    _, fills = run([signal_batch(rows)], *greedy, **CAPS[cap], **broker)
    assert fills
    assert most(fills, cap) <= CAP


@pytest.mark.parametrize("cap", CAPS)
def test_resting_order_the_other_way_makes_no_room(cap):
    """An exit that may never be filled frees nothing."""
    exit_far_away = {"order_type": OrderType.LIMIT, "limit_price": Decimal(500)}
    rows, _ = TRICKS["calm"]
    greedy = [Greedy(first=1), Greedy(Side.SELL, 2, quantity=5, **exit_far_away)]
    _, fills = run([signal_batch(rows)], *greedy, **CAPS[cap], allow_shorts=True)
    assert most(fills, cap) <= CAP


@pytest.mark.parametrize(("bid", "ask"), [(0.01, 199_999.0), (99.99, 100.01), (np.nan, 100.0), (0.0, 0.0)])
@pytest.mark.parametrize("cap", CAPS)
def test_quote_says_what_a_first_print_is_worth(cap, bid, ask):
    """A stub quote changes nothing; one that is tight stops an entry at a print far from it."""
    batch = signal_batch(tape([0.1, *CALM]))
    batch.signals.imbalance_bid_px[:] = bid
    batch.signals.imbalance_ask_px[:] = ask
    engine, fills = run([batch], Greedy(), **CAPS[cap])
    assert most(fills, cap) <= CAP
    if bid == 99.99:
        assert engine.totals.denials["price-sane"] >= 1


def test_jump_is_traded_when_it_is_confirmed():
    """Three further prints at the new price, and it is the price; exits never wait for that."""
    rows = tape([*CALM, *[(300.0, 300.0)] * 6])
    engine, fills = run([signal_batch(rows)], Greedy(first=6, quantity=1))
    assert engine.totals.denials == {"price-sane": 3}
    assert [fill["price"] for _, fill in fills] == [300, 300]
    leaves = run([signal_batch(rows)], Greedy(first=5, quantity=1), Greedy(Side.SELL, 6, quantity=1))
    assert leaves[0].totals.denials["price-sane"] == 3 + 3  # the second strategy holds nothing: its sales are no exits


def test_exit_at_a_bad_print_passes():
    """What only closes a position is never held back, nor bounded in its price."""

    class InAndOut(Strategy):
        def on_signal(self, signal, context):
            return context.close(because="out") if context.is_long else context.buy(1, because="in")

    _, fills = run([signal_batch(tape([100.0, 100.0, 100.0, 0.1, 100.0]))], InAndOut(InAndOut.Params()))
    assert [(order["side"], order["purpose"]) for order, _ in fills][:4] == [("buy", "entry"), ("sell", "exit")] * 2


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("trick", TRICKS)
def test_account_never_spends_what_it_has_not(trick, terms):
    """Without any rule in the catalog, the cash that is there is all that is spent, up to the collar."""
    rows, first = TRICKS[trick]
    engine, _ = run([signal_batch(rows)], Greedy(first=first, **TERMS[terms]), cash=1000)
    assert engine.account().cash >= 0 or not is_known(trick, terms)


@pytest.mark.parametrize("broker", [{}, {"participation": "0.005"}, {"latency_ms": 90_000}])
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("trick", ["calm", "a print far too low", "a print far too high"])
def test_no_position_is_short_where_shorts_are_forbidden(trick, terms, broker):
    """``TRADING_ALLOW_SHORTS=false`` holds with no rule at all: for every order type, beside others, and in parts."""
    rows, first = TRICKS[trick]
    strategies = [Greedy(quantity=3), Greedy(Side.SELL, first, **TERMS[terms]), Greedy(Side.SELL, 1, **TERMS[terms])]
    both_ways = Greedy(quantity=2)
    both_ways.on_signal = lambda signal, context: (
        context.sell(7, because="out", **TERMS[terms]) if context.position.quantity else context.buy(2, because="in")
    )
    _, fills = run([signal_batch(rows)], *strategies, both_ways, **broker)
    held = defaultdict(Decimal)
    for order, fill in fills:
        change = fill["quantity"] if order["side"] == "buy" else -fill["quantity"]
        for key in ("", order["strategy_id"]):
            held[key] += change
            assert held[key] >= 0


def test_sale_of_more_than_is_held_sells_what_is_held():
    """What is an exit of it passes."""
    _, fills = run([signal_batch(tape(CALM))], Reverses())
    assert [(order["side"], fill["quantity"]) for order, fill in fills][:2] == [("buy", 3), ("sell", 3)]


class Reverses(Strategy):
    """Buys three when flat, and sells five when long."""

    def __init__(self):
        super().__init__(self.Params())

    def on_signal(self, signal, context):
        return context.sell(5, because="turn") if context.is_long else context.buy(3, because="in")


RESTING = {"order_type": OrderType.LIMIT, "limit_price": Decimal(50)}


def decided(fills):
    return sorted({order["client_order_id"]: order["decided_at"] for order, _ in fills}.values())


def test_limits_that_are_no_amounts_hold_too():
    """Cooldown, numbers of orders, hours, symbols, bands and the day's loss, each asked at every row."""
    calm = [signal_batch(tape(CALM * 2))]
    _, fills = run(calm, Greedy(quantity=1), rules=[Cooldown(Cooldown.Params(cooldown_seconds=150))])
    assert [late - early for early, late in zip(decided(fills), decided(fills)[1:], strict=False)] == [3 * MINUTE] * 3
    _, fills = run(calm, Greedy(quantity=1), rules=[Cooldown(Cooldown.Params())], limits=Limits(cooldown_seconds=150))
    assert len(fills) == 4
    engine, _ = run(calm, *[Greedy(**RESTING)] * 3, rules=[MaxOpenOrders(MaxOpenOrders.Params(max_open_orders=2))])
    assert len(engine.books.working) == 2
    two = [Greedy(quantity=1)] * 2
    params = MaxOrdersPerMinute.Params(max_orders_per_minute=1)
    _, fills = run(calm, *two, rules=[MaxOrdersPerMinute(params)])
    assert len(set(decided(fills))) == len(decided(fills))
    for rule in (
        MarketHours(MarketHours.Params()),  # the tape is of the night
        SymbolAllowlist(SymbolAllowlist.Params(symbols=["NQ"])),
    ):
        assert run(calm, Greedy(quantity=1), rules=[rule])[1] == []
    far = {"order_type": OrderType.LIMIT, "limit_price": Decimal(130)}
    assert run(calm, Greedy(**far), rules=[PriceBand(PriceBand.Params(max_distance_pct="0.2"))])[1] == []
    resting = Greedy(Side.BUY, **RESTING)
    engine, _ = run(calm, resting, Greedy(Side.SELL, 2), rules=[WashTrade(WashTrade.Params())], allow_shorts=True)
    assert {working.order.intent.side for working in engine.books.working.values()} == {Side.BUY}


def test_days_loss_is_not_hidden_by_a_bad_print():
    """A print that is too high does not win back what was lost."""
    rule = MaxDailyLoss(MaxDailyLoss.Params(max_daily_loss=500))
    fall = [100.0, 100.0, *[(90.0, 90.0)] * 3, (90.0, 130.0), *[(90.0, 90.0)] * 3]
    _, fills = run([signal_batch(tape(fall))], Greedy(quantity=60), rules=[rule])
    assert len({order["client_order_id"] for order, _ in fills}) <= 2


def test_verdicts_say_why():
    """The kernel's own verdicts are recorded with what was measured."""
    engine, _ = run([signal_batch(tape(CALM))], Greedy(Side.SELL), cash=1000)
    assert engine.totals.denials == {"no-shorts": 6}


@given(
    cap=st.sampled_from(sorted(CAPS)),
    terms=st.sampled_from(sorted(TERMS)),
    prices=st.lists(
        st.sampled_from([0.01, 0.1, 20.0, 60.0, 99.0, 100.0, 101.0, 140.0, 1000.0]), min_size=4, max_size=14
    ),
    cut=st.integers(1, 12),
)
@examples(40)
def test_any_tape_buys_no_more_than_a_cap(cap, terms, prices, cut):
    """Bars that open and close anywhere, cut into batches anywhere: no fill is past its cap, and cuts change nothing."""
    rows = tape(list(zip(prices, [*prices[1:], 100.0], strict=True)))
    whole = signal_batch(rows)
    engine, fills = run([whole], Greedy(**TERMS[terms]), **CAPS[cap])
    first, rest = whole.split(min(cut, len(whole) - 1))
    again, _ = run([with_signals(first), with_signals(rest)], Greedy(**TERMS[terms]), **CAPS[cap])
    assert again.digest == engine.digest
    if "equity" not in cap:  # what a share of equity is, changes with what was won on the way
        assert all(fill["quantity"] * fill["price"] <= CAP for _, fill in fills)
