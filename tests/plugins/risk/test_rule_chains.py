"""Laws of any rules together: they only tighten, and what was written down is enough to find their verdicts again."""

import json
from decimal import Decimal

import msgspec
import pytest
import torghut_risk
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing import decision, decisions, registered, risk_context, risk_contexts

from torghut_core import Decision, Outcome, RiskContext, Verdict
from torghut_core.trading.gates import Gates
from torghut_core.trading.risk_engine import RiskEngine

RULES = registered(torghut_risk, "register_risk_rules")
OPEN = Gates(trading_enabled=True, price_max_age_ns=2**62, price_band=Decimal(10**9))
LAST = ("no-shorts", "buying-power")
"""What the kernel says behind the rules."""

FEW = st.decimals("0.1", 30, places=1)
MONEY = st.decimals("0.01", 10_000_000, places=2) | FEW.map(lambda units: units * 100)
SHARES = st.decimals("0.001", 1, places=3)
COUNTS = st.integers(1, 1000)
SECONDS = st.integers(0, 7200)
SOME = {"quantity_step": st.sampled_from(["0.000001", "0.01", "0.5", "1", "7"])}
CALENDARS = st.sampled_from(["XNYS", "24/7"])
PARAMS = {
    "buying-power": {"fee_buffer_bps": st.decimals(0, 10_000, places=1), **SOME},
    "cooldown": {"cooldown_seconds": SECONDS},
    "market-hours": {
        "calendar": CALENDARS,
        "calendars": st.dictionaries(st.sampled_from(["BTC/USD", "*"]), CALENDARS),
        "open_grace_seconds": SECONDS,
        "close_grace_seconds": SECONDS,
    },
    "max-daily-loss": {"max_daily_loss": MONEY, "max_daily_loss_pct": st.none() | SHARES},
    "max-gross-exposure": {"max_gross_exposure": MONEY, "max_gross_pct_equity": st.none() | SHARES, **SOME},
    "max-notional": {"max_notional_per_trade": st.none() | MONEY, **SOME},
    "max-open-orders": {"max_open_orders": COUNTS},
    "max-orders-per-minute": {"max_orders_per_minute": COUNTS},
    "max-position-pct-equity": {"max_position_pct_equity": st.none() | SHARES, **SOME},
    "no-shorts": {},
    "per-strategy-notional": {"max_strategy_notional": MONEY, **SOME},
    "price-band": {"max_distance_pct": SHARES},
    "stale-price": {"max_age_ms": st.integers(1, 7_200_000)},
    "symbol-allowlist": {"symbols": st.sampled_from([["BTC/USD"], ["ES"]])},
    "wash-trade": {},
}
"""What each parameter of each rule may be."""

ENTRY = st.sampled_from(sorted(PARAMS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(PARAMS[name]))
)
CATALOG = st.lists(ENTRY, max_size=6)


@st.composite
def cases(draw):
    """A decision and a context of any size, or of sizes that meet the limits closely."""
    proposed, context = draw(decisions()), draw(risk_contexts())
    if draw(st.booleans()):
        return proposed, context
    units = st.just(0) | FEW
    held, funds, price = draw(units) - draw(units), draw(FEW) * 100, Decimal(100)
    close = risk_context(
        price,
        held,
        strategy_position=draw(st.just(held) | units),
        orders=[msgspec.structs.replace(order, quantity=draw(FEW)) for order in context.orders],
        equity=funds,
        day_start_equity=funds + draw(units),
        limits=context.limits,
        allow_shorts=context.allow_shorts,
        last_order_at=context.last_order_at,
        now=context.now,
        price_ts=context.price_ts,
    )
    return decision(proposed.action, draw(FEW)), close


def judge(catalog, proposed, context):
    """Verdicts of fresh rules, and the quantity that they allow, as the kernel asks them."""

    def fail(name, error):
        raise AssertionError(f"{name} raised") from error

    rules = [(name, RULES[name](RULES[name].Params(**params))) for name, params in catalog]
    risk_engine = RiskEngine(OPEN, lambda _: "", [], rules, fail)
    verdicts, quantity, *_ = risk_engine.judge(
        proposed, context.price_ts, lambda: context, is_enabled=True, is_allowed=True
    )
    return [verdict for verdict in verdicts if verdict.rule != "kernel" or verdict.code in LAST], quantity


def written_down(value, cls):
    return msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(value))), cls)


def test_every_rule_and_every_parameter_is_tried():
    """A new rule, or a new parameter, takes part in the laws."""
    assert {name: set(params) for name, params in PARAMS.items()} == {
        name: set(rule.Params.model_fields) for name, rule in RULES.items()
    }


@given(catalog=CATALOG, case=cases())
def test_quantity_never_grows_along_the_chain(catalog, case):
    """Each rule is asked, and leaves at most what it was given; what is sent is what the last one left, or nothing."""
    proposed, context = case
    verdicts, quantity = judge(catalog, proposed, context)
    assert [verdict.rule for verdict in verdicts if verdict.rule != "kernel"] == [name for name, _ in catalog]
    left = proposed.quantity
    for verdict in verdicts:
        if verdict.outcome is Outcome.SHRINK:
            assert 0 < verdict.quantity < left
            left = verdict.quantity
    is_denied = Outcome.DENY in [verdict.outcome for verdict in verdicts]
    assert quantity == (0 if is_denied else left)


@given(catalog=CATALOG, case=cases())
def test_same_inputs_give_the_same_verdicts(catalog, case):
    """New instances, asked the same, say the same: nothing but parameters, decision and context decides."""
    proposed, context = case
    assert judge(catalog, proposed, context) == judge(catalog, proposed, context)


@given(catalog=CATALOG, case=cases(), added=ENTRY, place=st.integers(0, 6))
def test_another_rule_never_raises_what_is_allowed(catalog, case, added, place):
    """Wherever a rule is put in, no more is sent than without it."""
    proposed, context = case
    with_it = [*catalog[:place], added, *catalog[place:]]
    assert judge(with_it, proposed, context)[1] <= judge(catalog, proposed, context)[1]


@given(catalog=st.lists(ENTRY, min_size=1, max_size=6), case=cases(), data=st.data())
def test_order_of_rules_changes_no_more_than_who_speaks(catalog, case, data):
    """In any order the same rules let the same quantity through."""
    proposed, context = case
    shuffled = data.draw(st.permutations(catalog))
    assert judge(shuffled, proposed, context)[1] == judge(catalog, proposed, context)[1]


@pytest.mark.parametrize("name", PARAMS)
@given(data=st.data(), case=cases())
def test_larger_order_is_never_left_with_less(name, data, case):
    """What a rule lets through of an order does not fall when the order grows."""
    proposed, context = case
    entry = (name, data.draw(st.fixed_dictionaries(PARAMS[name])))
    more = data.draw(FEW | st.decimals("0.000001", 100, places=6))
    larger = msgspec.structs.replace(proposed, quantity=proposed.quantity + more)
    assert judge([entry], proposed, context)[1] <= judge([entry], larger, context)[1]


@given(catalog=CATALOG, case=cases())
def test_what_was_written_down_gives_the_verdicts_again(catalog, case):
    """Decision, context and verdicts come back from JSON as they were, and lead to the same verdicts."""
    proposed, context = case
    verdicts, quantity = judge(catalog, proposed, context)
    assert [written_down(verdict, Verdict) for verdict in verdicts] == verdicts
    assert written_down(context, RiskContext) == context
    assert judge(catalog, written_down(proposed, Decision), written_down(context, RiskContext)) == (verdicts, quantity)
