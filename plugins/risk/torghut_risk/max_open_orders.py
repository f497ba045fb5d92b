"""Keep the number of working orders within what an operator can watch."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class MaxOpenOrders(RiskRule):
    """Deny an entry while too many orders of the account work already.

    Value: working orders of the account, all symbols. Limit: `max_open_orders`, with this one. Exits pass, and count
    while they work.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxOpenOrders`."""

        max_open_orders: int = param(gt=0, help="working orders of the account, all symbols")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow while fewer work; see the class."""
        working, limit = context.open_orders, self.params.max_open_orders
        return entry_verdict(
            "max-open-orders",
            decision,
            context,
            may_enter=working < limit,
            value=Decimal(working),
            limit=Decimal(limit),
        )
