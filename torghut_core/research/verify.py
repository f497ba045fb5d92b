"""Computes the verdicts on a recorded decision again, from its recorded inputs: they must be the same on any machine."""

from __future__ import annotations

from decimal import Decimal
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import msgspec

from torghut_core.audit import Records, Row, find_decision
from torghut_core.catalog import Catalog, Use
from torghut_core.errors import NotFoundError, reason_of
from torghut_core.generation import risk_rules, rules_for
from torghut_core.model.trading import LIMITS, Bracket, Decision, OrderType, Side, TimeInForce, Verdict
from torghut_core.ports import Advisor, RiskContext
from torghut_core.trading.gates import KERNEL, Inputs
from torghut_core.trading.risk_engine import RiskEngine

if TYPE_CHECKING:
    from torghut_core.plugin_host import PluginHost


class Verification(msgspec.Struct):
    """The result: whether the verdicts are the same, the `differences`, and `notes` on their causes, such as newer code."""

    is_same: bool
    differences: list[str]
    notes: list[str]


class _Recorded(Advisor):
    """An advisor that repeats its recorded verdict: its model is not asked twice."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(None)
        self._verdict = verdict

    def review(self, decision: Decision, context: RiskContext) -> Verdict:  # noqa: ARG002 - the verdict is known
        return self._verdict


def verify_decision(audit: Records, text: str, host: PluginHost) -> Verification:
    """Judge a recorded decision again by gates and rules, and compare the verdicts with the recorded ones.

    Parameters
    ----------
    text : as `find_decision` takes it.
    host : the plugins with the rules; rules whose code has changed since are noted.

    Raises
    ------
    NotFoundError : no such decision, or its inputs were not recorded.
    CatalogError : a rule that judged it cannot be made any more.
    """
    found = find_decision(audit, text)
    if found["decision"] is None:
        raise NotFoundError(f"{text}: no decision led to this order, so there is nothing to judge again")
    row = audit.rows("trade_decisions", id=int(found["decision"]["id"]))[0]
    inputs = None if row["inputs"] is None else msgspec.convert(row["inputs"], Inputs)
    generations = [] if inputs is None else audit.rows("catalog_generations", number=inputs.generation)
    if inputs is None or not generations:
        raise NotFoundError(f"{text}: the inputs of this decision were not recorded (an older version decided it)")
    content = generations[0]["content"]
    catalog = Catalog.from_record(content)
    recorded = [msgspec.convert(verdict, Verdict, strict=False) for verdict in row["verdicts"]]
    gates = sum(1 for _ in takewhile(lambda verdict: verdict.rule == KERNEL, recorded))
    advisors = [
        (entry.use, _Recorded(verdict)) for entry, verdict in zip(catalog.advisors, recorded[gates:], strict=False)
    ]
    notes: list[str] = []
    risk_engine = RiskEngine(
        inputs.gates,
        lambda _decision: "",
        advisors,
        risk_rules(_with_recorded_rules(catalog, content, host), host),
        lambda name, error: notes.append(f"{name} raised {reason_of(error)}"),
    )
    proposed = _decision(row)
    again, _ = risk_engine.evaluate(inputs.context.instrument.rounded(proposed) if inputs.context else proposed, inputs)
    differences = [
        f"{then.rule}: recorded {_text(then)}, now {_text(now)}"
        for then, now in zip(recorded, again, strict=False)
        if then != now
    ]
    if len(recorded) != len(again):
        differences.append(f"recorded {len(recorded)} verdicts, now {len(again)}")
    notes += _changes(content.get("plugins", []), host)
    return Verification(not differences, differences, notes)


def _decision(row: Row) -> Decision:
    params = row["params"]
    prices: dict[str, Any] = {
        name: Decimal(params[name])
        for name in ("limit_price", "stop_price", "trail_price", "trail_pct")
        if name in params
    }
    protection = {name: Decimal(params[name]) for name in Bracket.__struct_fields__ if name in params}
    return Decision(
        account=row["account"],
        strategy_id=row["strategy_id"],
        symbol=row["symbol"],
        event_ts=row["event_ts"],
        decided_at=row["decided_at"],
        action=Side(row["action"]),
        quantity=Decimal(params["quantity"]),
        because=row["rationale"],
        order_type=OrderType(params["order_type"]),
        time_in_force=TimeInForce(params["time_in_force"]),
        price=row["price"],
        decision_hash=row["decision_hash"],
        generation=row["generation"],
        bracket=Bracket(**protection) if protection else None,
        replaces=params.get("replaces", ""),
        **prices,
    )


def _with_recorded_rules(catalog: Catalog, content: Row, host: PluginHost) -> Catalog:
    """The catalog that also lists the rules that limits had added, whatever limits this machine's settings state."""
    listed = {entry.use for entry in catalog.risk}
    used = [plugin["name"] for plugin in content.get("plugins", []) if plugin["kind"] == "risk rule"]
    order = [name for limit in LIMITS for name in rules_for(limit, host)]
    added = sorted(set(used) - listed, key=lambda name: (order.index(name) if name in order else len(order), name))
    return catalog.with_(risk=(*catalog.risk, *(Use(use=name) for name in added)))


def _changes(plugins: list[Row], host: PluginHost) -> list[str]:
    """Rules whose code has changed since the decision."""
    now = {(plugin.kind, plugin.name): plugin.code_digest for plugin in host.plugins()}
    return [
        f"the code of risk rule {then['name']} has changed: recorded {then['code_digest'][:12]},"
        f" now {now.get(('risk rule', then['name']), 'not installed')[:12]}"
        for then in plugins
        if then["kind"] == "risk rule" and now.get(("risk rule", then["name"])) != then["code_digest"]
    ]


def _text(verdict: Verdict) -> str:
    quantity = "" if verdict.quantity is None else f" to {verdict.quantity}"
    measured = f" ({verdict.value} against {verdict.limit})" if verdict.value or verdict.limit else ""
    return f"{verdict.code}: {verdict.outcome}{quantity}{measured}"
