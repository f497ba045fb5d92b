"""How many units a strategy proposes: by the account, by what a move may cost, by the weights of a portfolio."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.errors import InputError
from torghut_core.model.instruments import Instrument
from torghut_core.model.trading import Account, Position, Side
from torghut_core.ports import AccountView, LiveContext, LivePortfolio

ACCOUNT = Account(cash=Decimal(40_000), equity=Decimal(100_000), buying_power=Decimal(40_000))
FUTURE = Instrument(quantity_step=Decimal(1), multiplier=Decimal(50), margin=Decimal("0.1"))
PAIR = Instrument(quantity_step=Decimal("0.0001"), min_quantity=Decimal("0.001"))


class View(AccountView):
    def account(self):
        return ACCOUNT


def context(price=100.0, instrument=PAIR, held="0", symbol="BTC/USD"):
    made = LiveContext("one", symbol, "paper", View(), instrument=instrument)
    made.show(0, 60, price)
    made.hold(Position(Decimal(held), Decimal(90)))
    return made


def test_sizes_are_parts_of_the_account_in_whole_steps():
    """Of equity, of buying power (with the margin), of what a stop or a usual move would cost."""
    pair, future = context(price=333.0), context(price=1600.0, instrument=FUTURE)
    assert pair.size_by_equity(10) == Decimal("30.03")
    assert pair.size_by_buying_power(50) == Decimal("60.06")
    assert pair.size_by_risk(323.0, pct=0.5) == 50
    assert pair.size_by_risk(343.0, pct="0.5") == 50, "of a short, too"
    assert pair.size_by_volatility(Decimal("2.5"), pct=1) == 400
    assert future.size_by_equity(100) == 1
    assert future.size_by_buying_power(100) == 5
    assert future.size_by_risk(1595.0, pct=1) == 4


@pytest.mark.parametrize("price", [float("nan"), 0.0, -5.0, float("inf")])
def test_where_no_size_can_be_known_it_is_zero(price):
    """And a target that needs the price is not proposed; one of nothing is."""
    unknown = context(price=price, held="2")
    assert unknown.size_by_equity(10) == unknown.size_by_buying_power(10) == 0
    assert unknown.size_by_volatility(0, pct=1) == unknown.size_by_volatility(float("nan"), pct=1) == 0
    assert unknown.target_pct(10, because="half in") is None
    assert unknown.target_pct(0, because="out").quantity == 2
    assert unknown.target_notional(-1000, because="turn round") is None
    assert context(price=100.0).size_by_risk(100.0, pct=1) == 0


@given(
    pct=st.decimals(-200, 200, places=2),
    price=st.floats(0.01, 100_000).map(lambda value: round(value, 2)),
    held=st.integers(-50, 50),
    instrument=st.sampled_from([PAIR, FUTURE]),
)
def test_a_target_in_percent_is_held_to_the_step(pct, price, held, instrument):
    """What is held after it is at most that part of the equity, by less than a step; nothing is proposed where it is there."""
    view = context(price, instrument, held=str(held))
    decision = view.target_pct(pct, because="so much")
    change = 0 if decision is None else decision.quantity * (1 if decision.action is Side.BUY else -1)
    wanted = ACCOUNT.equity * pct / 100
    unit = Decimal(str(price)) * instrument.multiplier
    after = held + change
    assert abs(wanted) - abs(after * unit) < unit * max(instrument.smallest_order, instrument.quantity_step)
    if decision is not None:
        assert abs(after * unit) <= abs(wanted)
        assert after * wanted >= 0


def test_weights_are_of_the_whole_entry_and_reduce_first():
    """A symbol without a weight is closed; sales that free money come before purchases, and what is there is left alone."""
    views = {
        "AAA": context(100.0, symbol="AAA"),
        "BBB": context(50.0, held="600", symbol="BBB"),
        "CCC": context(20.0, held="-100", symbol="CCC"),
        "DDD": context(10.0, held="1000", symbol="DDD"),
    }
    portfolio = LivePortfolio("one", views, View())
    decisions = portfolio.target_weights({"AAA": 0.5, "BBB": 0.1, "DDD": "0.1"}, because="month end")
    assert [(each.symbol, each.action, each.quantity) for each in decisions] == [
        ("BBB", "sell", 400),
        ("CCC", "buy", 100),
        ("AAA", "buy", 500),
    ]
    with pytest.raises(InputError, match="weight of 'EEE': no symbol of one"):
        portfolio.target_weights({"EEE": 1}, because="a typing error")


def test_prices_of_an_order_are_the_decimals_that_they_print_as():
    """Of floats as of text: 0.1 is a tenth, and not the binary number next to it."""
    view = context()
    decision = view.buy(0.1, because="cheap", order_type="stop_limit", stop_price=0.3, limit_price="0.30")
    assert (decision.quantity, decision.stop_price, str(decision.limit_price)) == (
        Decimal("0.1"),
        Decimal("0.3"),
        "0.30",
    )
    trailing = view.sell(1, because="follow", order_type="trailing_stop", trail_pct=2, limit_price=None)
    assert (trailing.trail_pct, trailing.limit_price) == (Decimal(2), None)
