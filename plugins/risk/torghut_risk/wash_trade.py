"""Never trade against an own order."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, OpenOrder, OrderType, Outcome, RiskContext, RiskRule, Side, Verdict
from torghut_risk.sizing import plain

ANY_PRICE = "market"


class WashTrade(RiskRule):
    """Deny an order that could trade against an open order of the account on the other side of its symbol.

    Value: the limit price of the order, or `market` where it may trade at any price. Limit: the price of the nearest open
    order on the other side, or `market`; none where there is none. Two limit orders conflict when their prices meet; an
    order of any other type, on either side, conflicts with all, because a stop may become a market order at any time. The
    open orders of all strategies count, including the decision's own strategy.

    Exits are denied as well: a venue would refuse them, and a trade with oneself may be unlawful whatever its purpose.
    Cancel the open order first.
    """

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow what cannot trade against an own order; see the class."""
        price = _limit(decision)
        others = [_limit(order) for order in context.orders if order.side is not decision.action]
        prices = [other for other in others if other is not None]
        nearest: Decimal | None = None
        if len(prices) == len(others) and prices:
            nearest = min(prices) if decision.action is Side.BUY else max(prices)
        shown = (plain(nearest) or ANY_PRICE) if others else ""
        outcome = Outcome.DENY if others and _meet(decision.action, price, nearest) else Outcome.ALLOW
        return Verdict("wash-trade", outcome, "wash-trade", plain(price) or ANY_PRICE, shown)


def _limit(order: Decision | OpenOrder) -> Decimal | None:
    """Return the worst price at which an order may trade; None where that is any."""
    return order.limit_price if order.order_type is OrderType.LIMIT else None


def _meet(action: Side, price: Decimal | None, other: Decimal | None) -> bool:
    if price is None or other is None:
        return True
    return price >= other if action is Side.BUY else price <= other
