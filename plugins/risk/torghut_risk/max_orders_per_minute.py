"""Limit the rate of orders."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class MaxOrdersPerMinute(RiskRule):
    """Deny an entry after too many orders of the account in the last 60 s.

    Value: orders sent for the account within the last 60 s, entries and exits of all strategies. Limit:
    `max_orders_per_minute`, including this one. Exits pass, and count.
    """

    class Params(RiskRule.Params):
        """Parameters of `MaxOrdersPerMinute`."""

        max_orders_per_minute: int = param(gt=0, help="orders of the account within 60 s")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow while there were fewer; see the class."""
        sent, limit = context.orders_last_minute, self.params.max_orders_per_minute
        return entry_verdict(
            "max-orders-per-minute",
            decision,
            context,
            may_enter=sent < limit,
            value=Decimal(sent),
            limit=Decimal(limit),
        )
