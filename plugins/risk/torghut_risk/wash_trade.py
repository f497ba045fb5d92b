"""Never trade with oneself."""

from __future__ import annotations

from decimal import Decimal

from torghut_core import Decision, OpenOrder, OrderType, Outcome, RiskContext, RiskRule, Side, Verdict
from torghut_risk.sizing import plain

ANY_PRICE = "market"


class WashTrade(RiskRule):
    """Deny an order that could trade against a working order of the account on the other side of its symbol.

    Value: the limit price of the order, or `market` where it may trade at any. Limit: the price of the nearest working
    order on the other side, the same way; none where there is none. Two limit orders are in each other's way when their
    prices meet; an order of any other type, on either side, is in the way of everything, for a stop may become a market
    order at any time. The working orders of all strategies count, the decision's own too.

    Exits are denied as well: a venue would refuse them, and a trade with oneself may be unlawful whatever it is for. The
    way out is to cancel the working order first.
    """

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow what cannot meet an order of our own; see the class."""
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
    """The worst price at which an order may trade; None where that is any."""
    return order.limit_price if order.order_type is OrderType.LIMIT else None


def _meet(action: Side, price: Decimal | None, other: Decimal | None) -> bool:
    if price is None or other is None:
        return True
    return price >= other if action is Side.BUY else price <= other
