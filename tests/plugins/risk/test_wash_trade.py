"""Trades with oneself."""

from decimal import Decimal

import pytest
from torghut_risk import WashTrade
from torghut_testing import decision, risk_context

from torghut_core import OpenOrder, OrderType, Outcome, Side, Verdict

NOT_LIMITS = [OrderType.MARKET, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP]


def prices(order_type, price="50"):
    """Prices that an order of this type names; all far from the market."""
    has_limit = order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    has_stop = order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
    return {
        "order_type": order_type,
        "limit_price": Decimal(price) if has_limit else None,
        "stop_price": Decimal(price) if has_stop else None,
    }


def working(side, order_type=OrderType.LIMIT, price="50", strategy="another-strategy"):
    return OpenOrder(strategy_id=strategy, side=Side(side), quantity=Decimal(1), **prices(order_type, price))


def check(action, order_type, price, *orders, position=0):
    proposed = decision(action, 1, **prices(order_type, price))
    return WashTrade(WashTrade.Params()).check(proposed, risk_context(position=position, orders=orders))


def test_order_alone_in_its_symbol_passes():
    """There is no order to trade against; the verdict has the price that the order may trade at."""
    assert check("buy", OrderType.MARKET, None) == Verdict("wash-trade", Outcome.ALLOW, "wash-trade", "market", "")
    assert check("buy", OrderType.LIMIT, "99") == Verdict("wash-trade", Outcome.ALLOW, "wash-trade", "99", "")


def test_orders_on_the_same_side_pass():
    """Two buys never trade with each other."""
    assert check("buy", OrderType.MARKET, None, working("buy"), working("buy", OrderType.MARKET)).limit == ""


@pytest.mark.parametrize(
    ("action", "price", "other", "outcome"),
    [
        ("buy", "99.99", "100", Outcome.ALLOW),
        ("buy", "100", "100", Outcome.DENY),
        ("buy", "100.01", "100", Outcome.DENY),
        ("sell", "100.01", "100", Outcome.ALLOW),
        ("sell", "100", "100", Outcome.DENY),
        ("sell", "99.99", "100", Outcome.DENY),
    ],
)
def test_limit_orders_meet_where_their_prices_do(action, price, other, outcome):
    """A buy below a sell is no trade; at the same price, or crossed, it is one."""
    side = "sell" if action == "buy" else "buy"
    verdict = check(action, OrderType.LIMIT, price, working(side, price=other))
    assert verdict == Verdict("wash-trade", outcome, "wash-trade", price, other)


@pytest.mark.parametrize("order_type", NOT_LIMITS)
def test_order_without_a_firm_price_meets_everything(order_type):
    """A market order, or a stop that may become one, is denied beside the farthest limit order."""
    verdict = check("sell", order_type, "150", working("buy", price="1"))
    assert (verdict.outcome, verdict.value, verdict.limit) == (Outcome.DENY, "market", "1")


@pytest.mark.parametrize("order_type", NOT_LIMITS)
def test_everything_meets_a_working_order_without_a_firm_price(order_type):
    """The farthest limit order is denied beside a market order or a stop."""
    verdict = check("buy", OrderType.LIMIT, "1", working("sell"), working("sell", order_type, "150"))
    assert (verdict.outcome, verdict.limit) == (Outcome.DENY, "market")


def test_nearest_order_counts():
    """Of several orders on the other side the verdict has the one that would trade first."""
    sells = [working("sell", price=price) for price in ("120", "110", "130")]
    buys = [working("buy", price=price) for price in ("80", "90", "70")]
    assert check("buy", OrderType.LIMIT, "115", *sells, *buys).limit == "110"
    assert check("sell", OrderType.LIMIT, "85", *sells, *buys).limit == "90"


def test_own_orders_count_like_those_of_others():
    """A venue knows accounts, not strategies."""
    assert check("sell", OrderType.MARKET, None, working("buy", strategy="strategy-under-test")).outcome is Outcome.DENY


def test_exit_is_denied_too():
    """The venue would refuse it: the working order has to be canceled first."""
    verdict = check("sell", OrderType.MARKET, None, working("buy"), position=1)
    assert (verdict.outcome, verdict.quantity) == (Outcome.DENY, None)
