"""Limit the notional of one order."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from torghut_core import Decision, Limits, RiskContext, RiskRule, RuleTerms, Verdict, param
from torghut_risk.sizing import STEP_HELP, highest_price, step_of, tighter, units, verdict


class MaxNotional(RiskRule):
    """Shrink an order whose notional is above a limit.

    Value: the order's notional, quantity x the worst price it may get x multiplier, quote currency. Limit: the lower of this rule's and the
    strategy's own `max_notional_per_trade`, quote currency. What only closes a position passes.
    """

    limit: ClassVar[str] = "max_notional_per_trade"

    class Params(RiskRule.Params):
        """Parameters of `MaxNotional`."""

        max_notional_per_trade: Decimal | None = param(
            None, gt=0, help="notional of one order, quote currency; null leaves the strategy's own limit"
        )
        quantity_step: Decimal = param("0.000001", gt=0, help=STEP_HELP)

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow up to the limit; see the class."""
        cost = context.worst_cost(decision)
        notional = decision.quantity * cost
        limit = tighter(self.params.max_notional_per_trade, context.limits.max_notional_per_trade)
        allowed = (
            decision.quantity if limit is None else units(limit, cost, step_of(context, self.params.quantity_step))
        )
        sent = min(allowed, decision.quantity) * context.instrument.multiplier
        highest = None if limit is None else highest_price(limit, sent)
        return verdict(
            "max-notional", decision, context, allowed=allowed, value=notional, limit=limit, highest_price=highest
        )

    def terms(self, limits: Limits) -> RuleTerms:
        """See `RiskRule.terms`."""
        limit = tighter(self.params.max_notional_per_trade, limits.max_notional_per_trade)
        return RuleTerms(kind="notional", limit=limit, step=self.params.quantity_step)
