"""From a decision to what may be sent of it: the kernel's gates, then the rules, then the gates' last look.

Gates are built in and final: no plugin can open one. Rules and advisors are plugins, and can only tighten. All of
them are asked, also after a denial, and every verdict is kept, so that an operator sees each reason at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from types import CodeType
from typing import Any, Literal

import msgspec

from torghut_core.model.trading import ZERO, Decision, Outcome, Verdict
from torghut_core.ports import Advisor, Capabilities, RiskContext, RiskRule
from torghut_core.timestamps import SECOND
from torghut_core.watchdog import FROM_PLUGINS

KERNEL = "kernel"
"""The `rule` of a gate's verdict."""


class Gates(msgspec.Struct, kw_only=True):
    """What has to be true for any order to leave. Changed by an operator, never by a plugin.

    Attributes
    ----------
    trading_enabled : ``TRADING_ENABLED``, or a simulated broker.
    mode, live_enabled : ``TRADING_MODE`` and ``TRADING_LIVE_ENABLED``; live needs both.
    killed : the kill switch; the reason that the operator gave, or "" while it is off.
    restriction : "", `reduce_only` (a decision may only make a position smaller) or `halt`; because the catalog is wrong
        and says so in `on_invalid`.
    price_max_age_ns : how old the price of a decision may be, nanoseconds (``TRADING_PRICE_LOOKBACK_MINUTES``).
    """

    trading_enabled: bool = False
    mode: str = "paper"
    live_enabled: bool = False
    killed: str = ""
    restriction: Literal["", "reduce_only", "halt"] = ""
    price_max_age_ns: int = 300 * SECOND


@lru_cache(maxsize=4096)  # most decisions pass the same gates in the same way
def _gate(code: str, is_open: bool, value: str = "", limit: str = "") -> Verdict:
    return Verdict(KERNEL, Outcome.ALLOW if is_open else Outcome.DENY, code, value, limit)


class Desk:
    """Asks gates, advisors and rules about decisions.

    Parameters
    ----------
    gates : the kernel's switches; looked at anew for each decision.
    capabilities : what the broker can do.
    advisors, rules : (name in the catalog, plugin), in the order in which they are asked.
    on_failure : told (name, error) when a plugin raised; its verdict is then a denial.
    """

    def __init__(
        self,
        gates: Gates,
        capabilities: Capabilities,
        advisors: Sequence[tuple[str, Advisor]],
        rules: Sequence[tuple[str, RiskRule]],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._gates = gates
        self._capabilities = capabilities
        self._plugins = [(name, advisor.review) for name, advisor in advisors]
        self._plugins += [(name, rule.check) for name, rule in rules]
        self._on_failure = on_failure

    @property
    def callers(self) -> dict[CodeType, Callable[[Mapping[str, Any]], str]]:
        """The functions that ask plugins, and how to find the plugin's name in their local variables."""
        return {self._ask.__code__: lambda local: str(local["name"])}

    def judge(
        self,
        decision: Decision,
        price_ts: int | None,
        context: Callable[[], RiskContext],
        *,
        is_enabled: bool,
        is_allowed: bool,
    ) -> tuple[list[Verdict], Decimal]:
        """All verdicts on a decision, and the quantity that may be sent (zero: denied).

        Parameters
        ----------
        decision : as the strategy proposed it.
        price_ts : when its price was known, ns; None when no price is known, and then no plugin is asked.
        context : gives the account and the market; called when there is a plugin to ask.
        is_enabled, is_allowed : whether the strategy is enabled, and whether the symbol is one of its own.
        """
        is_valid = decision.quantity.is_finite() and decision.quantity > 0
        verdicts = self._gates_on(decision, price_ts, is_enabled, is_allowed, is_valid)
        if self._gates.restriction:
            verdicts.append(self._restriction(decision, context))
        if price_ts is None or not is_valid:
            return verdicts, ZERO
        is_denied = Outcome.DENY in [verdict.outcome for verdict in verdicts]
        if not self._plugins:
            return verdicts, ZERO if is_denied else decision.quantity
        shown = context()
        left = decision
        for name, check in self._plugins:
            verdict = self._ask(name, check, left, shown)
            verdicts.append(verdict)
            if verdict.outcome is Outcome.DENY:
                is_denied = True
            elif verdict.outcome is Outcome.SHRINK and verdict.quantity is not None:
                left = msgspec.structs.replace(left, quantity=verdict.quantity)
        return verdicts, ZERO if is_denied else left.quantity

    def _gates_on(
        self, decision: Decision, price_ts: int | None, is_enabled: bool, is_allowed: bool, is_valid: bool
    ) -> list[Verdict]:
        gates = self._gates
        able = self._capabilities
        is_live = gates.mode == "live"
        is_mode_open = able.simulated or not is_live or gates.live_enabled
        is_capable = (
            decision.order_type in able.order_types
            and decision.time_in_force in able.times_in_force
            and (able.fractional or decision.quantity == decision.quantity.to_integral_value())
        )
        verdicts = [
            _gate("trading-enabled", gates.trading_enabled, "", "" if gates.trading_enabled else "true"),
            _gate("mode", True) if is_mode_open else _gate("mode", False, gates.mode, "paper"),
            _gate("kill-switch", not gates.killed, gates.killed),
            _gate("strategy-enabled", is_enabled),
            _gate("symbol-allowed", is_allowed, decision.symbol),
            _gate("broker-capable", True)
            if is_capable
            else _gate("broker-capable", False, f"{decision.order_type} {decision.time_in_force}"),
            _gate("price-present", price_ts is not None),
        ]
        if price_ts is not None:
            age, limit = decision.decided_at - price_ts, gates.price_max_age_ns
            verdicts.append(_gate("price-fresh", age <= limit, f"{age // SECOND} s", f"{limit // SECOND} s"))
        verdicts.append(_gate("quantity-valid", is_valid, str(decision.quantity), "> 0"))
        return verdicts

    def _restriction(self, decision: Decision, context: Callable[[], RiskContext]) -> Verdict:
        if self._gates.restriction == "halt":
            return _gate("halted", False)
        closable = context().closable(decision.action)
        return _gate("reduce-only", decision.quantity <= closable, str(decision.quantity), str(closable))

    def _ask(
        self, name: str, check: Callable[[Decision, RiskContext], Verdict], decision: Decision, context: RiskContext
    ) -> Verdict:
        try:
            verdict = check(decision, context)
            if verdict.outcome is not Outcome.SHRINK:
                return verdict
            quantity = verdict.quantity
            if quantity is not None and quantity.is_finite() and ZERO < quantity <= decision.quantity:
                return verdict
        except FROM_PLUGINS as error:  # a plugin may raise anything; a rule that cannot answer denies
            self._on_failure(name, error)
            return Verdict(name, Outcome.DENY, "rule-failed", f"{type(error).__name__}: {error}")
        # The last look: what is no smaller positive quantity is no shrink, whatever the rule calls it.
        return Verdict(name, Outcome.DENY, "not-a-shrink", str(quantity), str(decision.quantity))
