"""From a decision to the quantity that may be sent: the kernel's gates, then advisors and rules, then the kernel's last check.

Gates are built in and final: no plugin can open one. Advisors and rules are plugins, and can only tighten. All of
them are asked, also after a denial, and every verdict is kept, so that an operator sees each reason at once. The order is
fixed, and documented in ``docs/risk.md``.

A verdict depends on the decision, on `Inputs` and on the code of the rules, and on nothing else. `Inputs` is recorded
with the decision, so that the verdicts can be found again on any machine: `torghut explain ID --verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import product
from types import CodeType, NoneType
from typing import ClassVar

import msgspec
from msgspec.structs import astuple

from torghut_core.boundary import bound_method, from_plugins
from torghut_core.errors import reason_of
from torghut_core.model.trading import ZERO, Decision, Outcome, Verdict
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.ports import Advisor, RiskContext, RiskRule
from torghut_core.trading.gates import (
    KERNEL,
    Gates,
    Inputs,
    gate_verdicts,
    has_valid_quantity,
    last_verdicts,
    minimum_verdict,
)

_DENY, _SHRINK = Outcome.DENY, Outcome.SHRINK  # a member of an enum, reached through its class, is slow
_AMOUNT = (Decimal, NoneType)
_SOUND = frozenset(product((str,), (Outcome,), (str,), (str,), (str,), _AMOUNT, _AMOUNT))
"""Types of the fields of a `Verdict`."""


class RiskEngine:
    """Asks gates, advisors and rules about decisions.

    Parameters
    ----------
    gates : the kernel's gates; read anew for each decision.
    objection : what the broker cannot do, see `Broker.objection`.
    advisors, rules : (name in the catalog, plugin), in the order in which they are asked.
    on_failure : called with (name, error) when a plugin raised; its verdict is then a denial.
    generation : number of the one that advisors and rules are of.
    """

    def __init__(
        self,
        gates: Gates,
        objection: Callable[[Decision], str],
        advisors: Sequence[tuple[str, Advisor]],
        rules: Sequence[tuple[str, RiskRule]],
        on_failure: Callable[[str, BaseException], None],
        *,
        generation: int = 0,
    ) -> None:
        self._generation = generation
        self._gates = gates
        self._last_gates = msgspec.structs.replace(gates)
        self._objection = objection
        self._plugins = [(name, label("advisor", name), bound_method(advisor, "review")) for name, advisor in advisors]
        self._plugins += [(name, label("rule", name), bound_method(rule, "check")) for name, rule in rules]
        self._on_failure = on_failure

    def judge(
        self,
        decision: Decision,
        price_ts: int | None,
        context: Callable[[], RiskContext],
        *,
        is_enabled: bool,
        is_allowed: bool,
    ) -> tuple[list[Verdict], Decimal, Inputs]:
        """All verdicts on a decision, the quantity that may be sent (zero: denied), and what they depend on.

        `context` gives the account and the market; it is called where there is a price. The others are as in `Inputs`.
        """
        name = "broker"  # the watchdog reads this local, see `CALLERS`
        gates = self._last_gates
        if gates != self._gates:
            gates = self._last_gates = msgspec.structs.replace(self._gates)
        try:
            objection = self._objection(decision)
        except from_plugins() as error:  # a plugin may raise anything; a broker that cannot answer gets no order
            self._on_failure(name, error)
            objection = reason_of(error)
        inputs = Inputs(
            gates=gates,
            is_enabled=is_enabled,
            is_allowed=is_allowed,
            objection=objection,
            price_ts=price_ts,
            generation=self._generation,
            is_close=decision.is_close,
            context=context() if price_ts is not None and has_valid_quantity(decision) else None,
        )
        verdicts, quantity = self.evaluate(decision, inputs)
        return verdicts, quantity, inputs

    def evaluate(self, decision: Decision, inputs: Inputs) -> tuple[list[Verdict], Decimal]:
        """All verdicts on a decision, and the quantity that may be sent: the same for the same inputs, at any time."""
        is_valid = has_valid_quantity(decision)
        verdicts = gate_verdicts(decision, inputs, is_valid)
        context = inputs.context
        if inputs.price_ts is None or not is_valid:
            return verdicts, ZERO
        is_denied = _DENY in [verdict.outcome for verdict in verdicts]
        remaining = decision
        held = [verdict.quantity for verdict in verdicts if verdict.quantity is not None]
        if held:
            remaining = _cut_to(decision, min(held), context)
        if context is None:
            return verdicts, ZERO if is_denied else remaining.quantity
        for name, running, check in self._plugins:
            verdict = self._verdict_of(name, running, check, remaining, context)
            verdicts.append(verdict)
            if verdict.outcome is _DENY:
                is_denied = True
            elif verdict.outcome is _SHRINK and verdict.quantity is not None:
                remaining = _cut_to(remaining, verdict.quantity, context)
        if is_denied:
            return verdicts, ZERO
        quantity = remaining.quantity
        for verdict in last_verdicts(remaining, context):
            verdicts.append(verdict)
            quantity = ZERO if verdict.quantity is None else min(quantity, verdict.quantity)
        if quantity and quantity != decision.quantity:
            remaining = _cut_to(remaining, quantity, context)
            too_small = minimum_verdict(remaining, context)
            if too_small is not None:
                return [*verdicts, too_small], ZERO
            quantity = remaining.quantity
        return verdicts, quantity

    def _verdict_of(
        self,
        name: str,  # the watchdog reads this local, see `CALLERS`
        running: bytes,
        check: Callable[[Decision, RiskContext], Verdict],
        decision: Decision,
        context: RiskContext,
    ) -> Verdict:
        """Ask one plugin. One that raises denies, and so does one that answers with no smaller quantity as a shrink."""
        before = RECORD.memory[LOOP]
        RECORD.memory[LOOP] = running
        try:
            verdict = check(decision, context)
            if type(verdict) is not Verdict or tuple(map(type, astuple(verdict))) not in _SOUND:
                raise TypeError("it did not give a sound Verdict")
            if verdict.highest_price is not None and not verdict.highest_price.is_finite():
                raise ValueError(f"it gave {verdict.highest_price} as the highest price")
            if verdict.rule == KERNEL:  # the gates' own name
                verdict = msgspec.structs.replace(verdict, rule=name)
            if verdict.outcome is not _SHRINK:
                return verdict
            quantity = verdict.quantity
            if quantity is not None and quantity.is_finite() and ZERO < quantity <= decision.quantity:
                return verdict
        except from_plugins() as error:  # a plugin may raise anything; a rule that cannot answer denies
            self._on_failure(name, error)
            return Verdict(name, Outcome.DENY, "rule-failed", reason_of(error))
        finally:
            RECORD.memory[LOOP] = before
        return Verdict(name, Outcome.DENY, "not-a-shrink", str(quantity), str(decision.quantity))

    CALLERS: ClassVar[dict[CodeType, str]] = {_verdict_of.__code__: "name", judge.__code__: "name"}
    """The functions here that call plugins, each with the local variable that names the plugin; see `Watchdog`."""


def _cut_to(decision: Decision, quantity: Decimal, context: RiskContext | None) -> Decision:
    """The decision with a smaller quantity, in whole steps; less than a step stays, to be denied."""
    whole = quantity if context is None else context.instrument.whole(quantity) or quantity
    return msgspec.structs.replace(decision, quantity=whole)
