"""Limit the number of open orders to what an operator can watch."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class MaxOpenOrders(RiskRule):
    """Deny an entry while the account has too many open orders.

    Value: open orders of the account, all symbols. Limit: `max_open_orders`, including this one. Exits pass, and count
    while they are open.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxOpenOrders`."""

        max_open_orders: int = param(gt=0, help="open orders of the account, all symbols")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow while fewer are open; see the class."""
        count, limit = context.open_orders, self.params.max_open_orders
        return entry_verdict(
            "max-open-orders",
            decision,
            context,
            may_enter=count < limit,
            value=Decimal(count),
            limit=Decimal(limit),
        )
