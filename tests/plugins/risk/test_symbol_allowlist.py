"""The symbols in which positions may be opened."""

import pydantic
import pytest
from torghut_risk import SymbolAllowlist
from torghut_testing import decision, risk_context

from torghut_core import Outcome, Verdict


def check(proposed, position=0):
    return SymbolAllowlist(SymbolAllowlist.Params(symbols=["ES", "BTC/USD"])).check(
        proposed, risk_context(position=position)
    )


def test_listed_symbol_passes():
    """The verdict has the list in order, whatever the catalog's was."""
    assert check(decision(symbol="ES")) == Verdict(
        "symbol-allowlist", Outcome.ALLOW, "symbol-allowlist", "ES", "BTC/USD,ES"
    )


@pytest.mark.parametrize("symbol", ["ESX", "E", "USD", "BTC/USD,ES"])
def test_other_symbol_is_denied(symbol):
    """Names are compared whole."""
    assert check(decision(symbol=symbol)).outcome is Outcome.DENY


def test_position_in_a_symbol_taken_off_the_list_can_be_closed():
    """A position in a symbol that is not listed can be closed."""
    assert check(decision("sell", 1, symbol="SPY"), position=1).outcome is Outcome.ALLOW


@pytest.mark.parametrize("symbols", [[], ["btc/usd"], ["BTC USD"], ["ES\n"]])
def test_list_that_is_none_is_refused(symbols):
    """An empty list, or what cannot be a symbol, is a mistake in the catalog."""
    with pytest.raises(pydantic.ValidationError):
        SymbolAllowlist.Params(symbols=symbols)
