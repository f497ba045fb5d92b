"""Positions: hand-computed folds, and the laws that any fills obey."""

import itertools
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core import Position, apply_fill, unrealized_pnl
from torghut_core.model.trading import Fill, Side

quantities = st.decimals("0.00000001", "1000", places=8)
prices = st.decimals("0.01", "100000", places=2)
fees = st.decimals("0", "10", places=4)
trades = st.lists(st.tuples(st.sampled_from(Side), quantities, prices, fees), max_size=30)


def fill(side, quantity, price, fee="0"):
    return Fill(
        client_order_id="tg-1",
        fill_id="1",
        symbol="ES",
        side=Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        event_ts=0,
    )


def fold(rows):
    position = Position()
    for row in rows:
        position = apply_fill(position, fill(*row))
    return position


def signed(side, quantity):
    return quantity if side is Side.BUY else -quantity


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([("buy", "2", "1640.25")], ("2", "1640.25", "0"), id="open long"),
        pytest.param([("sell", "2", "1640.25")], ("-2", "1640.25", "0"), id="open short"),
        pytest.param([("buy", "1", "1640.25"), ("buy", "3", "1641.25")], ("4", "1641.00", "0"), id="add long"),
        pytest.param([("sell", "1", "1640.25"), ("sell", "1", "1639.75")], ("-2", "1640.00", "0"), id="add short"),
        pytest.param([("buy", "4", "1640"), ("sell", "1", "1642")], ("3", "1640", "2"), id="reduce long"),
        pytest.param([("sell", "4", "1640"), ("buy", "1", "1642")], ("-3", "1640", "-2"), id="reduce short"),
        pytest.param([("buy", "4", "1640"), ("sell", "4", "1639.5")], ("0", "0", "-2.0"), id="close long"),
        pytest.param([("sell", "4", "1640"), ("buy", "4", "1639.5")], ("0", "0", "2.0"), id="close short"),
        pytest.param([("buy", "4", "1640"), ("sell", "6", "1641")], ("-2", "1641", "4"), id="flip to short"),
        pytest.param([("sell", "4", "1640"), ("buy", "6", "1641")], ("2", "1641", "-4"), id="flip to long"),
        pytest.param(
            [("buy", "1", "10"), ("sell", "1", "12"), ("sell", "2", "20"), ("buy", "2", "15")],
            ("0", "0", "12"),
            id="round trip long, then short",
        ),
    ],
)
def test_fold_by_hand(rows, expected):
    """Opening, adding, reducing, closing and flipping give the quantity, average price and profit computed by hand."""
    position = fold(rows)
    assert (position.quantity, position.average_price, position.realized_pnl) == tuple(map(Decimal, expected))


def test_fees_are_kept_beside_the_profit():
    """Fees add up and leave realized_pnl alone."""
    position = fold([("buy", "1", "100", "0.25"), ("sell", "1", "101", "0.26")])
    assert (position.realized_pnl, position.fees) == (1, Decimal("0.51"))


def test_position_folded_from_is_not_changed():
    """The fold is pure: the position before is as it was."""
    before = fold([("buy", "1", "100")])
    apply_fill(before, fill("sell", "1", "101"))
    assert before == Position(Decimal(1), Decimal(100))


@pytest.mark.parametrize(("quantity", "expected"), [("3", "1.5"), ("-3", "-1.5"), ("0", "0")])
def test_unrealized_pnl_follows_the_sign(quantity, expected):
    """A rise is good for a long, bad for a short, and nothing to who holds nothing."""
    assert unrealized_pnl(Position(Decimal(quantity), Decimal("1640.25")), Decimal("1640.75")) == Decimal(expected)


@given(trades)
def test_quantity_is_the_sum_of_signed_fills(rows):
    """Nothing is bought or sold by folding, and a flat position has no average price."""
    position = fold(rows)
    assert position.quantity == sum((signed(side, quantity) for side, quantity, _, _ in rows), Decimal(0))
    assert position.fees == sum((fee for _, _, _, fee in rows), Decimal(0))
    assert bool(position.average_price) == bool(position.quantity)


@given(trades, prices)
def test_profit_is_the_cash_flow(rows, last):
    """Realized and unrealized profit together are what was received less what was paid, the rest at the last price."""
    position = fold(rows)
    turnover = sum((quantity * price for _, quantity, price, _ in rows), Decimal(1))
    cash = sum((-signed(side, quantity) * price for side, quantity, price, _ in rows), Decimal(0))
    profit = position.realized_pnl + unrealized_pnl(position, last)
    assert abs(profit - (cash + position.quantity * last)) <= turnover * Decimal("1e-20")


@given(trades, st.sampled_from(Side), st.lists(quantities, min_size=1, max_size=6), prices)
def test_splitting_a_fill_changes_nothing(rows, side, parts, price):
    """A fill at one price gives the same position in one part or in many, whatever was held before."""
    before = fold(rows)
    whole = apply_fill(before, fill(side, sum(parts), price))
    split = before
    for part in parts:
        split = apply_fill(split, fill(side, part, price))
    scale = sum((quantity * at for _, quantity, at, _ in rows), sum(parts) * price)
    assert split.quantity == whole.quantity
    assert abs(split.average_price - whole.average_price) * (abs(whole.quantity) or 1) <= scale * Decimal("1e-20")
    assert abs(split.realized_pnl - whole.realized_pnl) <= scale * Decimal("1e-20")


@given(trades)
def test_sides_mirror_each_other(rows):
    """With every side turned round, quantity and profit change their sign and nothing else changes."""
    turned = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
    there, back = fold(rows), fold([(turned[side], *rest) for side, *rest in rows])
    assert (back.quantity, back.average_price) == (-there.quantity, there.average_price)
    assert back.realized_pnl == -there.realized_pnl


def test_twenty_thousand_round_trips_are_exact():
    """After 20,000 round trips, each entered in two unequal parts, profit is right far below the cent."""
    position, exact = Position(), Fraction(0)
    walk = itertools.cycle([7, -3, 11, -13, 2, -5])
    price = 25_741_02
    for trip in range(20_000):
        for side, quantity in (("buy", "0.1"), ("buy", "0.2"), ("sell", "0.3")):
            price += next(walk) + trip % 3 - 1
            at = Decimal(price).scaleb(-2)
            position = apply_fill(position, fill(side, quantity, at))
            exact += Fraction(quantity) * Fraction(at) * (1 if side == "sell" else -1)
    assert position.quantity == 0
    assert abs(Fraction(position.realized_pnl) - exact) < Fraction(1, 10**15)
