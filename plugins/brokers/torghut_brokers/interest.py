"""What borrowed money and borrowed units cost a simulated account. docs/costs.md has the rules for readers.

A calendar day is one of UTC. At its end, and so for each night of a weekend, the account pays for what it owes then::

    money  = -cash, where that is above zero,      * loan_pct   / 100 / 360
    units  = market value of each short position   * borrow_pct / 100 / 360

each rounded up to a millionth. A year has 360 days and a day is a calendar day: actual/360. What a short sale has brought in is
cash. A symbol with a `margin` of its own is a contract: nothing is borrowed for it, and what it has gained or lost is cash.

**Preset** `alpaca`: formulas, 360 days and three days for a Friday by https://alpaca.markets/support/determine-margin-account and
https://alpaca.markets/support/short-selling-fees, read 2026-11-30. Their loan rate, 3.75 %, is years old; that here, 6.25 %, is
known at second hand. The rate of easy-to-borrow shares, 0.20 %, is of Alpaca's older documentation of margin and short selling.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator

from torghut_brokers.costs import alpaca_or
from torghut_brokers.events import NEVER
from torghut_core import DAY, Charge, Params, first_match, param

ZERO, ONE = Decimal(0), Decimal(1)
PERCENT_DAYS = Decimal(36_000)
"""Percent times the days of a year."""
SMALLEST = Decimal("0.000001")


class Interest(Params):
    """Rates of a year; the formulas are at the top of this module."""

    loan_pct: Decimal = param("0", ge=0, help="for negative cash, percent a year")
    borrow_pct: dict[str, Decimal] = param(
        {},
        help="for the market value of a short position, percent a year, by symbol pattern, first match counts; else 0",
    )


ALPACA = Interest(loan_pct=Decimal("6.25"), borrow_pct={"*": Decimal("0.2")})


def _spelled_out(given: Any) -> Any:
    return alpaca_or(given, ALPACA, "{loan_pct: 6, borrow_pct: {'*': 1}}")


InterestRates: TypeAlias = Annotated[
    Interest, BeforeValidator(_spelled_out, json_schema_input_type=Literal["alpaca"] | Interest)
]
"""Type of a parameter: rates, or a preset."""


class Accrual:
    """The interest of an account, day by day.

    Parameters
    ----------
    rates : of a year.
    margins : of symbols, 1 where all of a position is paid.
    due : see below.

    Attributes
    ----------
    due : the end of the day that is charged next, ns; NEVER before the first event.
    """

    def __init__(self, rates: Interest, margins: Mapping[str, Decimal], due: int = NEVER) -> None:
        self.due = due
        self._rates = rates
        self._margins = margins

    def begin(self, now: int) -> None:
        """Begin with the day of the first event, ns."""
        self.due = now // DAY * DAY + DAY

    def charge(self, cash: Decimal, worths: Mapping[str, Decimal]) -> list[Charge]:
        """Return what the day costs that is due, and go on to the next.

        Parameters
        ----------
        cash : at its end.
        worths : signed market value of the positions then, by symbol.
        """
        at, self.due = self.due, self.due + DAY
        owed = -sum((worth for symbol, worth in worths.items() if self._margins[symbol] != ONE), cash)
        amounts = {"": owed * self._rates.loan_pct}
        for symbol in sorted(worths):
            if self._margins[symbol] == ONE:
                amounts[symbol] = -worths[symbol] * (first_match(symbol, self._rates.borrow_pct) or ZERO)
        return [
            Charge(event_ts=at, amount=(amount / PERCENT_DAYS).quantize(SMALLEST, ROUND_CEILING), symbol=symbol)
            for symbol, amount in amounts.items()
            if amount > 0
        ]
