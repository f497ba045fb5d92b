"""The hours in which a venue trades. Opens and closes are those that nyse.com and hkex.com.hk publish."""

import pydantic
import pytest
from torghut_risk import MarketHours
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict, format_timestamp, parse_timestamp


def check(now, symbol="SPY", action="buy", position=0, **params):
    context = risk_context(position=position, now=now if isinstance(now, int) else parse_timestamp(now))
    return MarketHours(MarketHours.Params(**params)).check(decision(action, 1, symbol=symbol), context)


def is_open(*arguments, **options):
    return check(*arguments, **options).outcome is Outcome.ALLOW


def test_verdict_tells_the_time_and_the_session():
    """Value and limit say why, in one unit."""
    assert check("2026-01-05T15:00:00Z") == Verdict(
        "market-hours",
        Outcome.ALLOW,
        "market-hours",
        "2026-01-05T15:00:00Z",
        "XNYS 2026-01-05T14:30:00Z/2026-01-05T21:00:00Z",
    )


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2026-01-05", "14:30:00", "21:00:00"),
        ("2026-03-06", "14:30:00", "21:00:00"),
        ("2026-03-09", "13:30:00", "20:00:00"),
        ("2026-10-30", "13:30:00", "20:00:00"),
        ("2026-11-02", "14:30:00", "21:00:00"),
        ("2026-11-27", "14:30:00", "18:00:00"),
        ("2026-12-24", "14:30:00", "18:00:00"),
        ("2027-07-02", "13:30:00", "20:00:00"),
    ],
)
def test_session_is_open_from_its_open_to_before_its_close(day, opens, closes):
    """To the nanosecond, on both sides of both changes of the clock, on half days, and in another year."""
    first, end = parse_timestamp(f"{day}T{opens}Z"), parse_timestamp(f"{day}T{closes}Z")
    assert [is_open(now) for now in (first - 1, first, end - 1, end)] == [False, True, True, False]


@pytest.mark.parametrize("day", ["2026-01-01", "2026-01-19", "2026-04-03", "2026-07-03", "2026-01-10", "2026-01-11"])
def test_holiday_and_weekend_are_closed(day):
    """New Year, Martin Luther King's, Good Friday, Independence Day (observed), a Saturday, a Sunday."""
    assert not is_open(f"{day}T16:00:00Z")


def test_denial_tells_the_next_session():
    """The limit shows the next session, over New Year's night too."""
    assert check("2026-12-31T21:00:00Z").limit == "XNYS 2027-01-04T14:30:00Z/2027-01-04T21:00:00Z"
    assert check("2026-01-01T00:00:00Z").limit == "XNYS 2026-01-02T14:30:00Z/2026-01-02T21:00:00Z"


def test_pair_trades_round_the_clock():
    """A slash makes a pair, on a Sunday night as well; it needs no calendar."""
    verdict = check("2026-01-11T03:00:00Z", "BTC/USD", open_grace_seconds=86_400)
    assert (verdict.outcome, verdict.limit) == (Outcome.ALLOW, "24/7")


def test_grace_keeps_away_from_the_ends():
    """The first minute and the last half hour are left out, and the limit says so."""
    graces = {"open_grace_seconds": 60, "close_grace_seconds": 1800}
    first, end = parse_timestamp("2026-01-05T14:31:00Z"), parse_timestamp("2026-01-05T20:30:00Z")
    opens = [is_open(now, **graces) for now in (first - 1, first, end - 1, end)]
    assert opens == [False, True, True, False]
    assert check(first, **graces).limit == f"XNYS {format_timestamp(first)}/{format_timestamp(end)}"


def test_session_shorter_than_its_graces_is_left_out():
    """Six hours off leave half an hour of a day and nothing of a half day: the limit names the next session."""
    verdict = check("2026-11-27T16:00:00Z", open_grace_seconds=6 * 3600)
    assert verdict.limit == "XNYS 2026-11-30T20:30:00Z/2026-11-30T21:00:00Z"


def test_calendar_of_a_symbol_comes_before_the_others():
    """Hong Kong opens when New York is closed; the first pattern that fits counts, for a pair too."""
    calendars = {"*.HK": "XHKG", "*": "24/7", "0005.HK": "XNYS"}
    assert is_open("2026-01-05T02:00:00Z", "0005.HK", calendars=calendars)
    assert not is_open("2026-01-05T15:00:00Z", "0005.HK", calendars=calendars)
    assert is_open("2026-01-11T02:00:00Z", "ES", calendars=calendars)
    assert not is_open("2026-01-11T02:00:00Z", "BTC/USD", calendars={"BTC/*": "XNYS"})


def test_pause_at_noon_is_closed():
    """Hong Kong rests from 12:00 to 13:00 its time, which is 04:00 to 05:00 UTC."""
    pause, resume = parse_timestamp("2026-01-05T04:00:00Z"), parse_timestamp("2026-01-05T05:00:00Z")
    hours = [is_open(now, calendar="XHKG") for now in (pause - 1, pause, resume - 1, resume)]
    assert hours == [True, False, False, True]


def test_sessions_without_a_gap_are_one():
    """Where one session goes over into the next there is no open to keep away from."""
    assert is_open("2026-01-06T00:00:01Z", calendar="24/5", open_grace_seconds=60)
    assert not is_open("2026-01-05T00:00:01Z", calendar="24/5", open_grace_seconds=60)


def test_years_that_a_calendar_does_not_know_are_closed():
    """Hours that would have to be guessed are none."""
    verdict = check("2055-01-05T03:00:00Z", calendar="XHKG")
    assert (verdict.outcome, verdict.limit) == (Outcome.DENY, "XHKG")


def test_exit_passes_at_night():
    """Whether the venue takes it is the venue's word."""
    assert is_open("2026-01-11T03:00:00Z", action="sell", position=1)


@pytest.mark.parametrize("params", [{"calendar": "XNYSE"}, {"calendars": {"ES": "XNYSE"}}])
def test_calendar_that_does_not_exist_is_refused(params):
    """A misspelt calendar is an error that names the nearest one, before anything trades."""
    with pytest.raises(pydantic.ValidationError, match=r"'XNYSE' is no calendar of exchange_calendars .*'XNYS'"):
        MarketHours.Params(**params)
