"""Limit the position of the account in one symbol."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from torghut_core import Decision, Limits, RiskContext, RiskRule, RuleTerms, Side, Verdict, param
from torghut_risk.sizing import STEP_HELP, ZERO, highest_price, step_of, tighter, units, verdict


class MaxPositionPctEquity(RiskRule):
    """Shrink an order after which the account's position in the symbol would be too large a share of equity.

    Value: the notional of the position after the order, quote currency, positive in the order's direction; open orders on
    the same side count as filled, those on the other side and stops and take-profits that only reduce a position do not.
    Limit: the lower of this rule's and the strategy's own `max_position_pct_equity`, times equity, quote currency. What only
    closes a position passes.
    """

    limit: ClassVar[str] = "max_position_pct_equity"

    class Params(RiskRule.Params):
        """Parameters of `MaxPositionPctEquity`."""

        max_position_pct_equity: Decimal | None = param(
            None, gt=0, le=1, help="position as a share of equity, 0 to 1; null leaves the strategy's own limit"
        )
        quantity_step: Decimal = param("0.000001", gt=0, help=STEP_HELP)

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow up to the limit; see the class."""
        sign = 1 if decision.action is Side.BUY else -1
        same_side = (
            order.quantity for order in context.orders if order.side is decision.action and not order.is_protection
        )
        taken = context.position * sign + sum(same_side, ZERO)
        cost = context.worst_cost(decision)
        after = (taken + decision.quantity) * cost
        share = tighter(self.params.max_position_pct_equity, context.limits.max_position_pct_equity)
        limit = None if share is None else share * context.account.equity
        allowed = (
            decision.quantity
            if limit is None
            else units(limit, cost, step_of(context, self.params.quantity_step), taken)
        )
        held = (taken + min(allowed, decision.quantity)) * context.instrument.multiplier
        highest = None if limit is None else highest_price(limit, held)
        return verdict(
            "max-position-pct-equity",
            decision,
            context,
            allowed=allowed,
            value=after,
            limit=limit,
            highest_price=highest,
        )

    def terms(self, limits: Limits) -> RuleTerms:
        """See `RiskRule.terms`."""
        share = tighter(self.params.max_position_pct_equity, limits.max_position_pct_equity)
        return RuleTerms(kind="position-share", limit=share, step=self.params.quantity_step)
