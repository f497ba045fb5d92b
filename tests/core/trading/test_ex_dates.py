"""Corporate actions take effect when their ex date begins at the exchange."""

from datetime import date
from decimal import Decimal

from torghut_core import CorporateAction, parse_timestamp
from torghut_core.model.instruments import Instrument
from torghut_core.trading.ex_dates import dated

DAY = date(2014, 6, 9)


def split(symbol="AAPL", day=DAY, new=7):
    return CorporateAction(symbol=symbol, ex_date=day, new=Decimal(new))


def dividend(symbol="AAPL", day=DAY, amount="3.29"):
    return CorporateAction(symbol=symbol, ex_date=day, dividend=Decimal(amount))


def test_the_day_begins_at_midnight_in_the_zone_of_the_calendar():
    zones = {
        "AAPL": ("XNYS", "2014-06-09T04:00:00Z"),
        "VOD": ("XLON", "2014-06-08T23:00:00Z"),
        "ABC": ("24/7", "2014-06-09T04:00:00Z"),  # no exchange is known: as in New York
    }
    found = dated(map(split, zones), {symbol: Instrument(calendar=name) for symbol, (name, _) in zones.items()})
    assert {action.symbol: at for at, action in found} == {
        symbol: parse_timestamp(at) for symbol, (_, at) in zones.items()
    }


def test_dividends_come_before_splits_of_the_same_day():
    actions = [split(), dividend()]
    found = dated(actions, {"AAPL": Instrument(calendar="XNYS")})
    assert [action for _, action in found] == actions[::-1]


def test_of_adjusted_prices_splits_are_left_out_and_earlier_dividends_are_divided():
    actions = [split(), split(day=date(2020, 8, 31), new=4), dividend(), dividend(day=date(2014, 8, 7), amount="0.47")]
    found = dated(actions, {"AAPL": Instrument(calendar="XNYS", adjusted=True)})
    assert [action.dividend for _, action in found] == [Decimal("0.1175"), Decimal("0.1175")]
