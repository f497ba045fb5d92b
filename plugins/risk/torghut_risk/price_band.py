"""Catch a price that is probably a mistake."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, RiskContext, RiskRule, Verdict, param
from torghut_risk.sizing import entry_verdict


class PriceBand(RiskRule):
    """Deny an entry that names a price too far from the last one, above or below.

    Value: distance of the limit price or the stop price from the last price, whichever is farther, quote currency per
    unit; none for an order that names neither. Limit: `max_distance_pct` times the last price, quote currency per unit.
    What closes a position passes.
    """

    class Params(RiskRule.Params):
        """Parameters of `PriceBand`."""

        max_distance_pct: Decimal = param(gt=0, le=1, help="farthest named price, as a share of the last price, 0 to 1")

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow prices within the band; see the class."""
        named = (price for price in (decision.limit_price, decision.stop_price) if price is not None)
        distance = max((abs(price - context.price) for price in named), default=None)
        limit = self.params.max_distance_pct * abs(context.price)
        is_within = distance is None or distance <= limit
        return entry_verdict("price-band", decision, context, may_enter=is_within, value=distance, limit=limit)
