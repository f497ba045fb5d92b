"""Keep a strategy from trading too often."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from torghut_core import SECOND, Decision, Limits, RiskContext, RiskRule, RuleTerms, Verdict, param
from torghut_risk.sizing import entry_verdict


class Cooldown(RiskRule):
    """Deny an entry too soon after the strategy's last order in the symbol, entry or exit.

    Value: seconds since that order, none before the first. Limit: the larger of this rule's and the strategy's own
    `cooldown_seconds`. Exits never wait: a delayed exit would keep money at risk.
    """

    limit: ClassVar[str] = "cooldown_seconds"

    class Params(RiskRule.Params):
        """Parameters of `Cooldown`."""

        cooldown_seconds: int = param(0, ge=0, help="pause after an order before the next entry, seconds")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow after the pause; see the class."""
        pause = Decimal(max(self.params.cooldown_seconds, context.limits.cooldown_seconds))
        passed = None if context.last_order_at is None else Decimal(context.now - context.last_order_at) / SECOND
        is_over = passed is None or passed >= pause
        return entry_verdict("cooldown", decision, context, may_enter=is_over, value=passed, limit=pause)

    def terms(self, limits: Limits) -> RuleTerms:
        """See `RiskRule.terms`."""
        return RuleTerms(kind="pause", limit=Decimal(max(self.params.cooldown_seconds, limits.cooldown_seconds)))
