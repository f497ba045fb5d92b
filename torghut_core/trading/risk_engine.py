"""From a decision to what may be sent of it: the kernel's gates, then advisors and rules, and the gates' last look.

Gates are built in and final: no plugin can open one. Advisors and rules are plugins, and can only tighten. All of
them are asked, also after a denial, and every verdict is kept, so that an operator sees each reason at once. The order is
fixed, and told in ``docs/risk.md``.

What is said depends on the decision, on `Inputs` and on the code of the rules, and on nothing else. `Inputs` is written
down with the decision, so that the verdicts can be found again on any machine: `torghut explain ID --verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from types import CodeType
from typing import Any, Literal

import msgspec

from torghut_core.errors import reason_of
from torghut_core.model.trading import ZERO, ControlState, Decision, Outcome, Verdict
from torghut_core.plugin_host.watchdog import FROM_PLUGINS
from torghut_core.ports import Advisor, RiskContext, RiskRule
from torghut_core.timestamps import SECOND

KERNEL = "kernel"
"""The `rule` of a gate's verdict."""


class Gates(msgspec.Struct, kw_only=True, gc=False):
    """What has to be true for any order to leave. Changed by an operator or the kernel, never by a plugin.

    Attributes
    ----------
    trading_enabled : ``TRADING_ENABLED``, or a replay.
    is_live : orders go to real money; needs `mode` live, `live_enabled` and `live_account`, the three switches.
    mode, live_enabled, live_account : ``TRADING_MODE``, ``TRADING_LIVE_ENABLED`` and ``TRADING_LIVE_ACCOUNT``.
    control, control_reason : the operator's control, see `controls`.
    restriction : "", `reduce_only` (a decision may only make a position smaller) or `halt`; because the catalog is wrong
        and says so in `on_invalid`.
    unrecorded : why nothing can be written down now, "" while it can: then entries wait.
    unready : why the market data cannot be traded on now, "" while it can: then entries wait.
    unreconciled : by symbol, how our books and the venue's differ: then entries in it wait. Replaced, never changed.
    price_max_age_ns : how old the price of a decision may be, nanoseconds (``TRADING_PRICE_LOOKBACK_MINUTES``).
    """

    trading_enabled: bool = False
    is_live: bool = False
    mode: str = "paper"
    live_enabled: bool = False
    live_account: str = ""
    control: ControlState = "running"
    control_reason: str = ""
    restriction: Literal["", "reduce_only", "halt"] = ""
    unrecorded: str = ""
    unready: str = ""
    unreconciled: Mapping[str, str] = {}
    price_max_age_ns: int = 300 * SECOND

    @property
    def has_switches(self) -> bool:
        """Whether all three switches of live trading are set."""
        return self.mode == "live" and self.live_enabled and bool(self.live_account)

    def entries_only(self, symbol: str) -> list[tuple[str, str]]:
        """What denies entries in a symbol and lets exits pass: codes, each with its reason."""
        if self.control not in _EXITS and not (
            self.restriction or self.unrecorded or self.unready or self.unreconciled
        ):
            return _NOTHING
        found = [(_EXITS[self.control], self.control_reason)] if self.control in _EXITS else []
        if self.restriction == "reduce_only":
            found.append(("reduce-only", "the catalog is wrong (on_invalid)"))
        if self.unrecorded:
            found.append(("unrecorded", self.unrecorded))
        if self.unready:
            found.append(("not-ready", self.unready))
        if symbol in self.unreconciled:
            found.append(("unreconciled", self.unreconciled[symbol]))
        return found


_NOTHING: list[tuple[str, str]] = []
_EXITS = {"pause_entries": "pause-entries", "reduce_only": "reduce-only"}


class Inputs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that the verdicts on a decision depend on, besides the decision and the rules' code.

    `is_enabled`, `is_allowed`: whether the strategy is enabled, and whether the symbol is one of its own. `objection`:
    why the broker would not take the order (`Broker.objection`). `price_ts`: when its price was known, ns; None when no
    price is known, and then no plugin is asked. `context` is None where nobody needed it. `generation`: whose advisors
    and rules were asked.
    """

    gates: Gates
    is_enabled: bool
    is_allowed: bool
    objection: str
    price_ts: int | None
    context: RiskContext | None = None
    generation: int = 0


@lru_cache(maxsize=4096)  # most decisions pass the same gates in the same way
def _gate(code: str, is_open: bool, value: str = "", limit: str = "") -> Verdict:
    return Verdict(KERNEL, Outcome.ALLOW if is_open else Outcome.DENY, code, value, limit)


class RiskEngine:
    """Asks gates, advisors and rules about decisions.

    Parameters
    ----------
    gates : the kernel's switches; looked at anew for each decision.
    objection : what the broker cannot do, see `Broker.objection`.
    advisors, rules : (name in the catalog, plugin), in the order in which they are asked.
    on_failure : told (name, error) when a plugin raised; its verdict is then a denial.
    needs_context : look at the account for each decision, also where there is no plugin to ask.
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
        needs_context: bool = False,
        generation: int = 0,
    ) -> None:
        self._generation = generation
        self._gates = gates
        self._gates_then = msgspec.structs.replace(gates)
        self._objection = objection
        self._plugins = [(name, advisor.review) for name, advisor in advisors]
        self._plugins += [(name, rule.check) for name, rule in rules]
        self._on_failure = on_failure
        self._needs_context = needs_context or bool(self._plugins)

    @property
    def callers(self) -> dict[CodeType, Callable[[Mapping[str, Any]], str]]:
        """The functions that ask plugins, and how to find the plugin's name in their local variables."""
        return {
            self._ask.__code__: lambda local: str(local["name"]),
            self.judge.__code__: lambda _local: "broker",
        }

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

        `context` gives the account and the market; it is called when somebody needs to look at it. The others are as in
        `Inputs`.
        """
        gates = self._gates_then
        if gates != self._gates:
            gates = self._gates_then = msgspec.structs.replace(self._gates)
        needs_context = self._needs_context or bool(gates.entries_only(decision.symbol))
        try:
            objection = self._objection(decision)
        except FROM_PLUGINS as error:  # a plugin may raise anything; a broker that cannot answer gets no order
            self._on_failure("broker", error)
            objection = reason_of(error)
        inputs = Inputs(
            gates=gates,
            is_enabled=is_enabled,
            is_allowed=is_allowed,
            objection=objection,
            price_ts=price_ts,
            generation=self._generation,
            context=context() if needs_context and price_ts is not None and _is_valid(decision) else None,
        )
        verdicts, quantity = self.weigh(decision, inputs)
        return verdicts, quantity, inputs

    def weigh(self, decision: Decision, inputs: Inputs) -> tuple[list[Verdict], Decimal]:
        """All verdicts on a decision, and the quantity that may be sent: the same for the same inputs, at any time."""
        is_valid = _is_valid(decision)
        verdicts = _gates_on(decision, inputs, is_valid)
        shown = inputs.context
        if inputs.price_ts is None or not is_valid:
            return verdicts, ZERO
        is_denied = Outcome.DENY in [verdict.outcome for verdict in verdicts]
        if shown is None:
            return verdicts, ZERO if is_denied else decision.quantity
        left = decision
        for name, check in self._plugins:
            verdict = self._ask(name, check, left, shown)
            verdicts.append(verdict)
            if verdict.outcome is Outcome.DENY:
                is_denied = True
            elif verdict.outcome is Outcome.SHRINK and verdict.quantity is not None:
                left = msgspec.structs.replace(left, quantity=verdict.quantity)
        return verdicts, ZERO if is_denied else left.quantity

    def _ask(
        self, name: str, check: Callable[[Decision, RiskContext], Verdict], decision: Decision, context: RiskContext
    ) -> Verdict:
        try:
            verdict = check(decision, context)
            if verdict.rule == KERNEL:  # the gates' own name
                verdict = msgspec.structs.replace(verdict, rule=name)
            if verdict.outcome is not Outcome.SHRINK:
                return verdict
            quantity = verdict.quantity
            if quantity is not None and quantity.is_finite() and ZERO < quantity <= decision.quantity:
                return verdict
        except FROM_PLUGINS as error:  # a plugin may raise anything; a rule that cannot answer denies
            self._on_failure(name, error)
            return Verdict(name, Outcome.DENY, "rule-failed", reason_of(error))
        # The last look: what is no smaller positive quantity is no shrink, whatever the rule calls it.
        return Verdict(name, Outcome.DENY, "not-a-shrink", str(quantity), str(decision.quantity))


def _is_valid(decision: Decision) -> bool:
    return decision.quantity.is_finite() and decision.quantity > 0


def _gates_on(decision: Decision, inputs: Inputs, is_valid: bool) -> list[Verdict]:
    """The gates' verdicts: what an operator switches, what the order is, then what only exits pass."""
    gates, price_ts = inputs.gates, inputs.price_ts
    verdicts = [
        _gate("trading-enabled", gates.trading_enabled, "", "" if gates.trading_enabled else "true"),
        _gate("mode", True, "paper") if not gates.is_live else _gate("mode", gates.has_switches, "live"),
        _gate("kill-switch", True) if gates.control != "halted" else _gate("kill-switch", False, gates.control_reason),
        _gate("strategy-enabled", inputs.is_enabled),
        _gate("symbol-allowed", inputs.is_allowed, decision.symbol),
        _gate("broker-capable", not inputs.objection, inputs.objection),
        _gate("price-present", price_ts is not None),
    ]
    if price_ts is not None:
        age, limit = decision.decided_at - price_ts, gates.price_max_age_ns
        verdicts.append(_gate("price-fresh", age <= limit, f"{age // SECOND} s", f"{limit // SECOND} s"))
    verdicts.append(_gate("quantity-valid", is_valid, str(decision.quantity), "> 0"))
    if gates.restriction == "halt":
        verdicts.append(_gate("halted", False))
    closed = gates.entries_only(decision.symbol)
    if closed:
        closable = ZERO if inputs.context is None else inputs.context.closable(decision.action)
        is_exit = decision.quantity <= closable
        verdicts += [_gate(code, is_exit, reason, "" if is_exit else f"exits: {closable}") for code, reason in closed]
    return verdicts
