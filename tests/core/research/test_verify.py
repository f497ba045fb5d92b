"""`torghut explain --verify`: the verdicts on a decision are computed again, or the difference is shown."""

from contextlib import closing
from decimal import Decimal

import msgspec
import pytest
from torghut_testing import decision, risk_context

from torghut_core import (
    Advisor,
    Capabilities,
    Instrument,
    Limits,
    OrderType,
    Outcome,
    RiskRule,
    TimeInForce,
    Verdict,
    param,
)
from torghut_core.audit import SqlAuditStore, find_decision
from torghut_core.catalog import load
from torghut_core.errors import CatalogError, NotFoundError
from torghut_core.generation import build
from torghut_core.model.trading import decision_hash
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Broker
from torghut_core.research.verify import verify_decision
from torghut_core.trading.gates import Gates
from torghut_core.trading.risk_engine import RiskEngine

CATALOG = """
version: 1
pipelines: {trading: {source: {use: replay}, broker: {use: simulated}}}
risk:
  - {use: at-most, params: {units: 5}}
advisors:
  - {use: adviser}
strategies:
  - {name: one, use: macd-rsi, base_timeframe: 1Min, symbols: [BTC/USD]}
"""


class Adviser(Advisor):
    """Gives another verdict each time it is asked."""

    asked = 0

    def review(self, decision, context):
        Adviser.asked += 1
        return Verdict(
            "adviser", Outcome.SHRINK, "advice", str(Adviser.asked), "", Decimal(f"{7 - Adviser.asked % 2}.50")
        )


def at_most(less=0):
    """A rule that shrinks to its limit, less an amount that stands for a change of its code."""

    class AtMost(RiskRule):
        class Params(RiskRule.Params):
            units: Decimal = param("5", gt=0, help="most units of an order")

        def check(self, decision, context):
            units = self.params.units - less
            outcome = Outcome.SHRINK if decision.quantity > units else Outcome.ALLOW
            return Verdict("at-most", outcome, "at-most", str(decision.quantity), str(units), units)

    return AtMost


class Able:
    capabilities = Capabilities(frozenset(OrderType), frozenset(TimeInForce))


@pytest.fixture
def host(plugin_module, fake_classes):
    """A function that makes a host in which `at-most` is this class; by default the one that judged the decision."""

    def make(rule=None):
        hooks = {
            **fake_classes,
            "register_risk_rules": {**fake_classes["register_risk_rules"], "at-most": rule or at_most()},
            "register_advisors": {"adviser": Adviser},
        }
        return PluginHost([("fakes", plugin_module("fakes", hooks))])

    return make


@pytest.fixture
def audit(tmp_path):
    with closing(SqlAuditStore(tmp_path / "audit.db")) as store:
        yield store


@pytest.fixture
def decide(audit, host):
    """A function that judges and records a decision; returns its hash."""

    def make(gates=None, context=None, catalog=CATALOG, defaults=None, price=True, inputs=True, digest="", **fields):
        generation = build(load({"catalog.yaml": catalog}), host(), defaults=defaults or Limits())
        record = generation.to_record()
        for plugin in record["plugins"]:
            plugin["code_digest"] = digest or plugin["code_digest"]
        number = audit.record_generation(record, "test", "started")
        context = context or risk_context()
        proposed = decision(**{"quantity": "7.50", "generation": number, "strategy_id": "one"} | fields)
        key = decision_hash("test", "one", proposed.symbol, proposed.event_ts, proposed.action, proposed.params)
        risk_engine = RiskEngine(
            gates or Gates(trading_enabled=True),
            lambda asked: Broker.objection(Able(), asked),
            generation.advisors,
            generation.rules,
            lambda *_: None,
            generation=number,
        )
        proposed = msgspec.structs.replace(proposed, decision_hash=key)
        given, _, judged_by = risk_engine.judge(
            context.instrument.rounded(proposed),
            context.price_ts if price else None,
            lambda: context,
            is_enabled=True,
            is_allowed=True,
        )
        audit.record_decision(proposed, {}, given, None, judged_by if inputs else None)
        audit.commit()
        return key

    return make


def verdicts(audit, key):
    return [verdict["code"] for verdict in find_decision(audit, key)["verdicts"]]


def test_a_decision_that_was_rounded_is_rounded_again(audit, host, decide):
    """The terms of its instrument are recorded with the inputs: 7.50 was judged as 6."""
    key = decide(context=risk_context(instrument=Instrument(quantity_step=Decimal(3), multiplier=Decimal(50))))
    recorded = find_decision(audit, key)
    assert recorded["inputs"]["context"]["instrument"] == {"quantity_step": "3", "multiplier": "50"}
    assert [verdict["value"] for verdict in recorded["verdicts"] if verdict["code"] == "quantity-valid"] == ["6"]
    assert verify_decision(audit, key, host()).is_same


def test_same_code_gives_the_same_verdicts(audit, host, decide):
    """Read back from the database, the inputs lead to the recorded verdicts, to the last digit."""
    key = decide()
    assert find_decision(audit, key)["verdicts"][-1]["quantity"] == "5"
    for name in (key, key[:12]):
        found = verify_decision(audit, name, host())
        assert (found.is_same, found.differences, found.notes) == (True, [], [])


SITUATIONS = {
    "not enabled": {"gates": Gates()},
    "halted": {"gates": Gates(trading_enabled=True, control="halted", control_reason="halted: fat finger (jane)")},
    "halted by the catalog": {"gates": Gates(trading_enabled=True, restriction="halt")},
    "entries paused": {"gates": Gates(trading_enabled=True, control="pause_entries", control_reason="news (jane)")},
    "an exit while entries pause": {
        "gates": Gates(trading_enabled=True, control="pause_entries", control_reason="news (jane)"),
        "context": risk_context(position=10),
        "action": "sell",
    },
    "nothing can be written": {"gates": Gates(trading_enabled=True, unrecorded="connection refused")},
    "market data is not ready": {"gates": Gates(trading_enabled=True, unready="backfill: 12 s are missing")},
    "books differ": {"gates": Gates(trading_enabled=True, unreconciled={"BTC/USD": "5 here, 4 there"})},
    "live without the switches": {"gates": Gates(trading_enabled=True, is_live=True, mode="live")},
    "no price": {"price": False},
    "old price": {"context": risk_context(price_ts=0)},
    "no quantity": {"quantity": "0"},
    "limit order": {"order_type": OrderType.LIMIT, "limit_price": Decimal("99.50")},
    "odd text": {"because": 'null "1" \u2028 größer'},
    "busy account": {
        "context": risk_context(position=3, working=-1, account_working=2, limits=Limits(Decimal("1e3"), None, 60))
    },
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_verdicts_are_found_again_in_every_situation(audit, host, decide, situation):
    """What was denied or restricted when the decision was made is so again, whatever holds now."""
    found = verify_decision(audit, decide(**SITUATIONS[situation]), host())
    assert (found.is_same, found.differences, found.notes) == (True, [], [])


def test_recorded_gates_denied(audit, decide):
    """The situations above are what they are called: in each of these a gate denies."""
    for situation, code in [
        ("halted", "kill-switch"),
        ("entries paused", "pause-entries"),
        ("books differ", "unreconciled"),
    ]:
        key = decide(**SITUATIONS[situation], event_ts=len(situation))
        denied = [each["code"] for each in find_decision(audit, key)["verdicts"] if each["outcome"] == "deny"]
        assert denied == [code]


def test_advisor_is_not_asked_again(audit, host, decide):
    """An advisor's model may answer differently each time, so its recorded verdict counts, and the rules' after it."""
    key, asked = decide(), Adviser.asked
    recorded = find_decision(audit, key)["verdicts"]
    assert [verdict["code"] for verdict in recorded][-2:] == ["advice", "at-most"]
    assert recorded[-1]["value"] == recorded[-2]["quantity"]  # the rule saw what the advisor left
    assert verify_decision(audit, key, host()).is_same
    assert Adviser.asked == asked


def test_edited_rule_is_a_difference(audit, host, decide):
    """A rule that gives another verdict now is named, with both verdicts."""
    key = decide()
    quantity = find_decision(audit, key)["verdicts"][-1]["value"]
    found = verify_decision(audit, key, host(at_most(less=1)))
    assert not found.is_same
    assert found.differences == [
        f"at-most: recorded at-most: shrink to 5 ({quantity} against 5), now at-most: shrink to 4 ({quantity} against 4)"
    ]


def test_rule_that_fails_now_is_a_difference_with_its_error(audit, host, decide):
    """Code that raises now had denied nothing: both are shown, with the error."""
    broken = at_most()
    broken.check = lambda *_: {}["gone"]
    found = verify_decision(audit, decide(), host(broken))
    assert not found.is_same
    assert "rule-failed: deny" in found.differences[0]
    assert found.notes == ["at-most raised KeyError: 'gone'"]


def test_newer_code_is_noted_also_where_verdicts_are_the_same(audit, host, decide):
    """A note says that other code than the recorded one gave the verdicts."""
    found = verify_decision(audit, decide(digest="0" * 64), host())
    assert found.is_same
    assert [note for note in found.notes if "risk rule at-most has changed: recorded 000000000000" in note]


def test_rule_that_is_gone_is_an_error_that_names_it(audit, decide, fakes):
    """Without the rule its verdict cannot be computed."""
    with pytest.raises(CatalogError, match="at-most"):
        verify_decision(audit, decide(), fakes)


def test_defaults_of_the_machine_do_not_matter(audit, host, decide):
    """Default limits are those recorded with the decision, not this machine's."""
    key = decide(defaults=Limits(Decimal(100), None, 60))
    assert verdicts(audit, key)[-3:] == ["at-most", "allow", "allow"]
    assert verify_decision(audit, key, host()).is_same
    other = decide(event_ts=1)
    assert verdicts(audit, other)[-1] == "at-most"
    assert verify_decision(audit, other, host()).is_same


def test_decision_of_an_older_version_is_a_clear_error(audit, host, decide):
    """Its inputs were not recorded, and no verdict is made up."""
    with pytest.raises(NotFoundError, match="the inputs of this decision were not recorded"):
        verify_decision(audit, decide(inputs=False), host())


def test_decision_that_there_is_not(audit, host):
    """An unknown hash is an error that names it."""
    with pytest.raises(NotFoundError, match="no decision matches 'abc'"):
        verify_decision(audit, "abc", host())
