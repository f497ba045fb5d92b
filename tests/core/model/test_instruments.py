"""Orders are rounded to an instrument's ticks and steps, and never towards more risk."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing import decision

from torghut_core import Instrument, OrderType, Position, Side, unrealized_pnl
from torghut_core.model.positions import add_position

FUTURE = Instrument(tick_size=Decimal("0.25"), quantity_step=Decimal(1), multiplier=Decimal(50))

amounts = st.decimals("0.000001", "100000", places=6)
sizes = st.sampled_from(["0.25", "0.01", "1", "5", "0.000001", "0.3"]).map(Decimal)


@pytest.mark.parametrize(("side", "limit", "stop"), [("buy", "100.25", "101.50"), ("sell", "100.50", "101.75")])
def test_a_buy_is_rounded_to_lower_prices_and_a_sale_to_higher_ones(side, limit, stop):
    """It pays no more and gets no less; the quantity, and the distance of a trailing stop, are rounded down."""
    proposed = decision(
        side, "2.9", limit_price=Decimal("100.30"), stop_price=Decimal("101.60"), trail_price=Decimal("1.1")
    )
    rounded = FUTURE.rounded(proposed)
    assert (rounded.quantity, rounded.limit_price, rounded.stop_price, rounded.trail_price) == (
        Decimal(2),
        Decimal(limit),
        Decimal(stop),
        Decimal(1),
    )
    assert proposed.quantity == Decimal("2.9")


@given(side=st.sampled_from(Side), quantity=amounts, price=amounts, tick=sizes, step=sizes)
def test_rounded_orders_are_whole_and_risk_no_more(side, quantity, price, tick, step):
    """Each amount moves by less than a tick or step, and to the safe side; what is less than one stays."""
    instrument = Instrument(tick_size=tick, quantity_step=step)
    proposed = decision(side, quantity, order_type=OrderType.STOP_LIMIT, limit_price=price, stop_price=price)
    rounded = instrument.rounded(proposed)
    assert rounded.limit_price == rounded.stop_price
    assert rounded.quantity == quantity < step or (
        rounded.quantity % step == 0 and 0 <= quantity - rounded.quantity < step
    )
    moved = price - rounded.limit_price if side is Side.BUY else rounded.limit_price - price
    assert (moved == 0 and price < tick) or (rounded.limit_price % tick == 0 and 0 <= moved < tick)
    assert instrument.rounded(rounded) is rounded


def test_terms_of_which_nothing_is_known_round_nothing():
    """The decision is the same object: it costs nothing."""
    proposed = decision("buy", "0.123456789", limit_price=Decimal("1.23456789"))
    assert Instrument().rounded(proposed) is proposed
    assert Instrument().smallest_order == 0


def test_prices_below_zero_are_rounded_to_the_safe_side_too():
    """A buy pays no more, a sale gets no less."""
    price = Decimal("-37.63")
    assert FUTURE.rounded(decision("buy", 1, limit_price=price)).limit_price == Decimal("-37.75")
    assert FUTURE.rounded(decision("sell", 1, limit_price=price)).limit_price == Decimal("-37.50")


def test_profit_of_a_position_counts_the_multiplier():
    """Four points of an E-mini are 200 dollars."""
    held = Position(Decimal(1), Decimal(1640))
    assert unrealized_pnl(held, Decimal(1644), FUTURE.multiplier) == 200
    closed = add_position(held, Position(Decimal(-1), Decimal(1644)), FUTURE.multiplier)
    assert (closed.quantity, closed.realized_pnl) == (0, 200)
