"""Send only orders that the account can pay for."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, Limits, RiskContext, RiskRule, RuleTerms, Verdict, param
from torghut_risk.sizing import STEP_HELP, ZERO, highest_price, step_of, units, verdict


class BuyingPower(RiskRule):
    """Shrink an order that costs more than the buying power that is left.

    Value: the margin of what the order opens (all of its notional but for instruments with a `margin`), at the worst price it
    may get plus `fee_buffer_bps`, quote currency; a short that is opened counts like a purchase. Limit: buying power less what open buy orders may cost. What only closes a
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
        unit_cost = context.worst_cost(decision) * context.instrument.margin * buffer
        cost = max(ZERO, decision.quantity - closing) * unit_cost
        limit = context.account.buying_power - context.reserved_cash
        allowed = closing + units(limit, unit_cost, step_of(context, self.params.quantity_step))
        opened = min(allowed, decision.quantity) - closing
        highest = highest_price(limit / buffer, context.instrument.notional(opened, context.instrument.margin))
        return verdict(
            "buying-power", decision, context, allowed=allowed, value=cost, limit=limit, highest_price=highest
        )

    def terms(self, limits: Limits) -> RuleTerms:
        """See `RiskRule.terms`."""
        del limits
        return RuleTerms(kind="buying-power", limit=self.params.fee_buffer_bps / 10_000, step=self.params.quantity_step)
