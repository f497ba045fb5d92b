"""Sell only what is held."""

from __future__ import annotations

from torghut_core import Decision, Limits, RiskContext, RiskRule, RuleTerms, Side, Verdict
from torghut_risk.sizing import ZERO, verdict


class NoShorts(RiskRule):
    """Shrink a sale to what the strategy and the account hold and have no open sell orders for.

    Value: units that the order sells, 0 for a buy. Limit: units that may be sold; none where ``TRADING_ALLOW_SHORTS``
    is true, which turns this rule off.
    """

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow up to what is held; see the class."""
        is_sale = decision.action is Side.SELL
        may_sell_short = context.allow_shorts
        return verdict(
            "no-shorts",
            decision,
            context,
            allowed=ZERO if is_sale and not may_sell_short else decision.quantity,
            value=decision.quantity if is_sale else ZERO,
            limit=None if may_sell_short else context.closable(Side.SELL),
        )

    def terms(self, limits: Limits) -> RuleTerms:
        """See `RiskRule.terms`."""
        del limits
        return RuleTerms(kind="no-shorts")
