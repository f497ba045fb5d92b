"""The kernel's gates are final, and whatever a plugin says can only tighten."""

import itertools
import json
from decimal import Decimal

import msgspec
import pytest
from torghut_testing import decision, risk_context

from torghut_core.model.trading import OrderType, Outcome, TimeInForce, Verdict
from torghut_core.plugin_host.running_plugin import LOOP, NO_PLUGIN, RECORD
from torghut_core.ports import Broker, Capabilities, RiskRule
from torghut_core.timestamps import DAY, MINUTE, SECOND
from torghut_core.trading.gates import Gates, Inputs
from torghut_core.trading.risk_engine import RiskEngine


class Wholes:
    """What a broker does that takes market orders of whole units for the day."""

    capabilities = Capabilities(
        order_types=frozenset({OrderType.MARKET}), times_in_force=frozenset({TimeInForce.DAY}), fractional=False
    )

    objection = Broker.objection


ABLE = Wholes().objection


class Says(RiskRule):
    """Gives the verdict it was made with, or raises it."""

    def __init__(self, verdict):
        super().__init__(self.Params())
        self.verdict = verdict
        self.asked = []

    def check(self, decision, context):
        self.asked.append(decision.quantity)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def shrink(quantity):
    return Verdict("rule", Outcome.SHRINK, "rule", quantity=quantity)


ALLOW = Verdict("rule", Outcome.ALLOW, "rule")
DENY = Verdict("rule", Outcome.DENY, "rule")


def judge(*said, gates=None, proposed=None, context=None, failures=None, **flags):
    rules = [(f"rule-{number}", Says(verdict)) for number, verdict in enumerate(said)]
    noted = failures if failures is not None else {}
    risk_engine = RiskEngine(
        gates or Gates(trading_enabled=True), ABLE, [], rules, lambda name, error: noted.update({name: error})
    )
    context = context or risk_context()
    proposed = proposed or decision(quantity=10, decided_at=context.now)
    verdicts, quantity, _ = risk_engine.judge(
        proposed, context.price_ts, lambda: context, **{"is_enabled": True, "is_allowed": True} | flags
    )
    return verdicts, quantity, [rule for _, rule in rules]


def denials(verdicts):
    return [verdict.code for verdict in verdicts if verdict.outcome is Outcome.DENY]


def test_decision_passes_open_gates_and_willing_rules_whole():
    """A decision without objections is sent as it was proposed."""
    verdicts, quantity, _ = judge(ALLOW)
    assert (denials(verdicts), quantity) == ([], 10)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("trading-enabled", {"gates": Gates()}),
        ("mode", {"gates": Gates(trading_enabled=True, is_live=True)}),
        ("kill-switch", {"gates": Gates(trading_enabled=True, control="halted", control_reason="ops: fat finger")}),
        ("strategy-enabled", {"is_enabled": False}),
        ("symbol-allowed", {"is_allowed": False}),
        ("broker-capable", {"proposed": decision(order_type=OrderType.LIMIT, limit_price=Decimal(1))}),
        ("broker-capable", {"proposed": decision(time_in_force=TimeInForce.FOK)}),
        ("broker-capable", {"proposed": decision(quantity="0.5")}),
        ("price-fresh", {"context": risk_context(now=301 * SECOND, price_ts=0)}),
        ("quantity-valid", {"proposed": decision(quantity=0)}),
        ("quantity-valid", {"proposed": decision(quantity=-1)}),
        ("quantity-valid", {"proposed": decision(quantity="Infinity")}),
        ("quantity-valid", {"proposed": decision(quantity="NaN")}),
    ],
)
def test_closed_gate_denies_whatever_rules_say(code, change):
    """No rule opens a gate, and the verdict names the gate."""
    verdicts, quantity, _ = judge(ALLOW, **change)
    assert quantity == 0
    assert code in denials(verdicts)


def test_decision_without_a_price_is_denied_and_no_rule_is_asked():
    """Nothing can be measured without a price, so nothing is sent."""
    risk_engine = RiskEngine(Gates(trading_enabled=True), ABLE, [], [("rule", says := Says(ALLOW))], lambda *_: None)
    verdicts, quantity, _ = risk_engine.judge(decision(), None, risk_context, is_enabled=True, is_allowed=True)
    assert (denials(verdicts), quantity, says.asked) == (["price-present"], 0, [])


@pytest.mark.parametrize("switches", list(itertools.product(("paper", "live"), (False, True), ("", "PA1"))))
def test_real_money_needs_all_three_switches(switches):
    """TRADING_MODE, TRADING_LIVE_ENABLED and TRADING_LIVE_ACCOUNT: with any one missing no order is sent for real money."""
    mode, live_enabled, live_account = switches
    gates = Gates(trading_enabled=True, is_live=True, mode=mode, live_enabled=live_enabled, live_account=live_account)
    verdicts, quantity, _ = judge(gates=gates)
    assert quantity == (10 if switches == ("live", True, "PA1") else 0)
    assert denials(verdicts) == ([] if quantity else ["mode"])


RESTRICTED = [
    ({"control": "pause_entries", "control_reason": "jane: news"}, "pause-entries"),
    ({"control": "reduce_only", "control_reason": "jane: news"}, "reduce-only"),
    ({"restriction": "reduce_only"}, "reduce-only"),
    ({"unrecorded": "connection refused"}, "unrecorded"),
    ({"unready": "backfill: 12 s are missing"}, "not-ready"),
    ({"unreconciled": {"BTC/USD": "5 here, 4 there"}}, "unreconciled"),
]


@pytest.mark.parametrize(("gates", "code"), RESTRICTED)
def test_restriction_stops_entries_and_lets_exits_pass(gates, code):
    """Whatever restricts trading, what reduces a position is still sent, and what opens one is not."""
    gates = Gates(trading_enabled=True, **gates)
    held = risk_context(position=10)
    verdicts, quantity, _ = judge(gates=gates, proposed=decision("sell", 10, decided_at=held.now), context=held)
    assert (denials(verdicts), quantity) == ([], 10)
    verdicts, quantity, _ = judge(gates=gates, proposed=decision("sell", 11, decided_at=held.now), context=held)
    assert ([each.code for each in verdicts if each.outcome is Outcome.SHRINK], quantity) == ([code], 10)
    verdicts, quantity, _ = judge(gates=gates, proposed=decision("buy", 1, decided_at=held.now), context=held)
    assert (denials(verdicts), quantity) == ([code], 0)


def test_difference_in_one_symbol_stops_no_other():
    """Only the symbol whose books differ waits."""
    gates = Gates(trading_enabled=True, unreconciled={"ETH/USD": "5 here, 4 there"})
    verdicts, quantity, _ = judge(gates=gates)
    assert (denials(verdicts), quantity) == ([], 10)


def test_catalog_that_halts_stops_exits_too():
    """`on_invalid: halt` means all of it."""
    held = risk_context(position=10)
    gates = Gates(trading_enabled=True, restriction="halt")
    verdicts, quantity, _ = judge(gates=gates, proposed=decision("sell", 10, decided_at=held.now), context=held)
    assert (denials(verdicts), quantity) == (["halted"], 0)


def test_broker_that_cannot_answer_gets_no_order():
    """A broker plugin that raises when it is asked what it takes is no permission, and is named."""
    failures = {}
    risk_engine = RiskEngine(
        Gates(trading_enabled=True), lambda _: 1 / 0, [], [], lambda name, error: failures.update({name: error})
    )
    verdicts, quantity, _ = risk_engine.judge(
        decision(), decision().decided_at, risk_context, is_enabled=True, is_allowed=True
    )
    assert (denials(verdicts), quantity, list(failures)) == (["broker-capable"], 0, ["broker"])


@pytest.mark.parametrize("gates", [{}, *(gates for gates, _ in RESTRICTED)])
def test_verdicts_are_found_again_from_what_is_written_down(gates):
    """Inputs survive JSON, and the same inputs give the same verdicts from another risk engine."""
    shown = risk_context(position=3, working=-1)
    rules = [("rule", Says(shrink(Decimal(2))))]
    risk_engine = RiskEngine(Gates(trading_enabled=True, **gates), ABLE, [], rules, lambda *_: None)
    proposed = decision("sell", 3, decided_at=shown.now)
    verdicts, quantity, inputs = risk_engine.judge(
        proposed, shown.price_ts, lambda: shown, is_enabled=True, is_allowed=True
    )
    again = msgspec.convert(json.loads(msgspec.json.encode(inputs)), Inputs)
    other = RiskEngine(Gates(), lambda _: "nothing at all", [], rules, lambda *_: None)
    assert other.evaluate(proposed, again) == (verdicts, quantity)


def test_every_rule_is_asked_after_a_denial():
    """An operator sees every reason at once, not only the first."""
    verdicts, quantity, rules = judge(DENY, DENY, ALLOW, gates=Gates())
    assert denials(verdicts) == ["trading-enabled", "rule", "rule"]
    assert (quantity, [rule.asked for rule in rules]) == (0, [[10], [10], [10]])


def test_shrink_is_what_the_next_rule_sees():
    """Rules tighten one after the other."""
    _, quantity, rules = judge(shrink(Decimal(6)), shrink(Decimal(2)))
    assert (quantity, [rule.asked for rule in rules]) == (2, [[10], [6]])


@pytest.mark.parametrize("quantity", [Decimal(11), Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("Infinity"), None])
def test_shrink_to_no_smaller_quantity_denies(quantity):
    """A rule cannot enlarge a decision by calling it a shrink, nor pass one on with a senseless quantity."""
    verdicts, left, _ = judge(shrink(quantity))
    assert (denials(verdicts), left) == (["not-a-shrink"], 0)


@pytest.mark.parametrize("said", [RuntimeError("no"), None, "allow"])
def test_rule_that_raises_or_babbles_denies_and_is_named(said):
    """A rule that cannot answer is no permission."""
    failures = {}
    verdicts, quantity, _ = judge(ALLOW, said, failures=failures)
    assert (denials(verdicts), quantity, list(failures)) == (["rule-failed"], 0, ["rule-1"])
    assert RECORD.memory[LOOP] == NO_PLUGIN, "it does not run any more"


def test_advisor_and_rule_are_recorded_while_they_run():
    """So that the next start names the one at which the process died."""
    seen = []

    class Sees(Says):
        def check(self, decision, context):
            seen.append(bytes(RECORD.memory[LOOP]).rstrip(b"\0"))
            return ALLOW

        review = check

    gates = Gates(trading_enabled=True)
    risk_engine = RiskEngine(gates, ABLE, [("doubt", Sees(ALLOW))], [("cap", Sees(ALLOW))], lambda *_: None)
    proposed = decision()
    risk_engine.judge(proposed, proposed.decided_at, risk_context, is_enabled=True, is_allowed=True)
    assert seen == [b"advisor doubt", b"rule cap"]


def test_inputs_are_those_of_the_moment():
    """A gate that is turned later changes nothing of what was judged before."""
    gates = Gates(trading_enabled=True)
    risk_engine = RiskEngine(gates, ABLE, [], [], lambda *_: None)
    proposed = decision()
    verdicts, _, inputs = risk_engine.judge(
        proposed, proposed.decided_at, risk_context, is_enabled=True, is_allowed=True
    )
    gates.control = "halted"
    assert inputs.gates.control == "running"
    assert risk_engine.evaluate(proposed, inputs)[0] == verdicts


def test_no_rule_speaks_as_the_kernel():
    """A plugin that calls itself the kernel in its verdict is written down under its own name."""
    verdicts, _, _ = judge(Verdict("kernel", Outcome.ALLOW, "all-well"))
    assert verdicts[-1].rule == "rule-0"


@pytest.mark.parametrize(("bar_ns", "denied"), [(0, ["price-sane"]), (MINUTE, ["price-sane"]), (DAY, [])])
def test_close_of_a_day_may_be_far_from_the_days_before(bar_ns, denied):
    """A price that has doubled since the last minute is denied; one that has since the last day is not."""
    context = msgspec.structs.replace(risk_context(200, recent_price=100), bar_ns=bar_ns)
    verdicts, _, _ = judge(context=context)
    assert denials(verdicts) == denied
