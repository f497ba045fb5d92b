"""Alpaca's splits and dividends become a tape that a replay reads."""

import asyncio
from datetime import date
from decimal import Decimal

import pytest
from pydantic import SecretStr
from torghut_sources.alpaca import corporate_actions
from torghut_sources.alpaca.history import History
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.tape.corporate_actions import read_actions
from torghut_testing.alpaca_data import FakeMarketData, RestFault

from torghut_core import CorporateAction, InputError, Unanswered
from torghut_core.runtime.backfill import run_backfill

SPLIT = CorporateAction(symbol="AAPL", ex_date=date(2014, 6, 9), new=Decimal(7), payable_date=date(2014, 6, 6))
REVERSE = CorporateAction(symbol="AIG", ex_date=date(2009, 7, 1), old=Decimal(20))
DIVIDEND = CorporateAction(
    symbol="AAPL", ex_date=date(2014, 5, 8), dividend=Decimal("3.29"), payable_date=date(2014, 5, 15)
)


@pytest.fixture
def market():
    """A market with a split, a reverse split, and dividends, one of which is from before."""
    with FakeMarketData() as market:
        add = market.actions.add
        add(
            "forward_split",
            {"symbol": "AAPL", "new_rate": 7, "old_rate": 1, "ex_date": "2014-06-09", "payable_date": "2014-06-06"},
        )
        add("reverse_split", {"symbol": "AIG", "new_rate": 1, "old_rate": 20, "ex_date": "2009-07-01"})
        for ex_date, paid, rate in (("2014-05-08", "2014-05-15", 3.29), ("2008-12-30", "2009-01-30", 0.1)):
            dividend = {"symbol": "AAPL", "rate": rate, "special": False, "foreign": False, "ex_date": ex_date}
            add("cash_dividend", {**dividend, "payable_date": paid, "process_date": paid})
        add("cash_dividend", {"symbol": "MSFT", "rate": 0.28, "ex_date": "2014-05-13"})
        yield market


@pytest.fixture
def fetched(market, tmp_path, monkeypatch):
    """Fetches the actions of two symbols into a tape, and reads it."""
    monkeypatch.setenv("ALPACA_BASE_URL", market.rest_url)
    monkeypatch.setenv("ALPACA_KEY_ID", market.key)
    monkeypatch.setenv("ALPACA_SECRET_KEY", market.secret)
    monkeypatch.setenv("RECONNECT_BASE_MS", "1")

    def fetched(start="2009-01-01", end="2014-06-10", symbols=("AAPL", "AIG")):
        tape = tmp_path / "actions.csv"
        done = run_backfill(symbols, start, end, out=None, actions=tape, state=tmp_path / "state", source="alpaca")
        return done["events"], read_actions(tape)

    return fetched


def test_the_tape_has_what_the_venue_has_by_ex_date(fetched):
    """A dividend counts by its ex date, though the venue selects by the day on which it is paid."""
    assert fetched() == ({"split": 2, "cash_dividend": 1}, [REVERSE, DIVIDEND, SPLIT])
    assert fetched("2014-05-08", "2014-05-09") == ({"cash_dividend": 1}, [DIVIDEND])


def test_all_pages_are_read(market, fetched, monkeypatch):
    """A page of one action each."""
    monkeypatch.setattr(corporate_actions, "LARGEST_PAGE", 1)
    assert fetched()[1] == [REVERSE, DIVIDEND, SPLIT]
    assert len(market.requests) == 4


def test_a_request_that_fails_is_made_again(market, fetched):
    """A server's error is no shorter tape."""
    market.rest_faults.add(RestFault.server_error(500))
    assert fetched()[1] == [REVERSE, DIVIDEND, SPLIT]


def test_crypto_has_none(fetched, monkeypatch):
    """The error says what to set."""
    monkeypatch.setenv("ALPACA_MARKET_TYPE", "crypto")
    with pytest.raises(InputError, match="ALPACA_MARKET_TYPE=equity"):
        fetched(symbols=["BTC/USD"])


def test_an_answer_of_another_form_is_an_error():
    """It shows what came."""
    with pytest.raises(Unanswered, match=r"no page of corporate actions.*splits"):
        corporate_actions.read_actions(b'{"splits": []}')


def test_keys_are_asked_for(market):
    """The venue's refusal of the keys is the error."""
    history = History(
        AlpacaSettings(alpaca_base_url=market.rest_url), SecretStr("no"), SecretStr("no"), complain=lambda _: None
    )

    async def ask():
        try:
            await history.actions(["AAPL"], date(2014, 1, 1), date(2015, 1, 1))
        finally:
            await history.aclose()

    with pytest.raises(InputError, match="403"):
        asyncio.run(ask())
