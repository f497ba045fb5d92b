"""Send only orders that the account can pay for."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import STEP_HELP, ZERO, highest_price, units, verdict


class BuyingPower(RiskRule):
    """Shrink an order that costs more than the buying power that is left.

    Value: the cost of what the order opens, at the worst price it may get plus `fee_buffer_bps`, quote currency; a short
    that is opened counts like a purchase. Limit: buying power less what open buy orders may cost. What only closes a
    position costs nothing and passes.
    """

    class Params(RiskRule.Params):
        """Parameters of `BuyingPower`."""

        fee_buffer_bps: Decimal = param("10", ge=0, le=10_000, help="kept for fees and slippage, bps of the cost")
        quantity_step: Decimal = param("0.000001", gt=0, help=STEP_HELP)

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow what the account can pay for; see the class."""
        closing = context.closable(decision.action)
        buffer = 1 + self.params.fee_buffer_bps / 10_000
        unit_cost = context.worst_price(decision) * buffer
        cost = max(ZERO, decision.quantity - closing) * unit_cost
        limit = context.account.buying_power - context.reserved_cash
        allowed = closing + units(limit, unit_cost, self.params.quantity_step)
        highest = highest_price(limit / buffer, min(allowed, decision.quantity) - closing)
        return verdict(
            "buying-power", decision, context, allowed=allowed, value=cost, limit=limit, highest_price=highest
        )
