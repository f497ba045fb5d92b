"""The kernel's gates are final, and whatever a plugin says can only tighten."""

from decimal import Decimal

import pytest
from torghut_testing import decision, risk_context

from torghut_core.model.trading import OrderType, Outcome, TimeInForce, Verdict
from torghut_core.ports import Capabilities, RiskRule
from torghut_core.risk import Desk, Gates
from torghut_core.timestamps import SECOND

ABLE = Capabilities(
    order_types=frozenset({OrderType.MARKET}), times_in_force=frozenset({TimeInForce.DAY}), fractional=False
)


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
    desk = Desk(gates or Gates(trading_enabled=True), ABLE, [], rules, lambda name, error: noted.update({name: error}))
    context = context or risk_context()
    proposed = proposed or decision(quantity=10, decided_at=context.now)
    verdicts, quantity = desk.judge(
        proposed, context.price_ts, lambda: context, **{"is_enabled": True, "is_allowed": True} | flags
    )
    return verdicts, quantity, [rule for _, rule in rules]


def denials(verdicts):
    return [verdict.code for verdict in verdicts if verdict.outcome is Outcome.DENY]


def test_decision_passes_open_gates_and_willing_rules_whole():
    """What nobody objects to is sent as it was proposed."""
    verdicts, quantity, _ = judge(ALLOW)
    assert (denials(verdicts), quantity) == ([], 10)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("trading-enabled", {"gates": Gates()}),
        ("mode", {"gates": Gates(trading_enabled=True, mode="live")}),
        ("kill-switch", {"gates": Gates(trading_enabled=True, killed="ops: fat finger")}),
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
    desk = Desk(Gates(trading_enabled=True), ABLE, [], [("rule", says := Says(ALLOW))], lambda *_: None)
    verdicts, quantity = desk.judge(decision(), None, risk_context, is_enabled=True, is_allowed=True)
    assert (denials(verdicts), quantity, says.asked) == (["price-present"], 0, [])


def test_live_mode_with_both_keys_opens_the_gate():
    """Live trading needs TRADING_MODE=live and TRADING_LIVE_ENABLED=true, and nothing else here."""
    _, quantity, _ = judge(gates=Gates(trading_enabled=True, mode="live", live_enabled=True))
    assert quantity == 10


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
