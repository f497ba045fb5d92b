"""How much an account may hold on its equity, and when the venue closes positions. docs/costs.md has the rules for readers.

The initial margin of a position is the share of its notional that it takes of the buying power, the maintenance margin the share
that equity has to cover for as long as it is held::

    buying power = equity - sum of  notional * initial
    requirement  =          sum of  notional * maintenance

The initial margin is the symbol's own `margin` where it has one, else 1 / times. The maintenance margin is `maintenance_pct`, and no
more than the initial margin. When equity is below the requirement the venue closes whole positions, the largest first, until what
is left is covered.

**Preset** `alpaca`: Regulation T, 50 % to open a position and so twice the equity, and 30 % to keep one in shares; crypto is paid in
full (https://docs.alpaca.markets/docs/margin-and-short-selling, read 2026-11-30 in an older state). Not in it: the higher requirement
of shares below 2.50 USD, of shorts below 16.67 USD and of leveraged funds, four times the equity within a day, and no margin at all
below 2,000 USD.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BeforeValidator, model_validator

from torghut_brokers.costs import alpaca_or, check_patterns
from torghut_core import Params, first_match, param

ZERO, ONE = Decimal(0), Decimal(1)
INFINITY = float("inf")
TOLERANCE = 1e-9
"""Share of what is held by which floats may be wrong, with room to spare."""


class Leverage(Params):
    """Margins of a symbol; the rules are at the top of this module."""

    times: Decimal = param("1", ge=1, help="notional for each unit of equity: the initial margin is 1 / times")
    maintenance_pct: Decimal | None = param(
        None, gt=0, le=100, help="equity to keep a position, percent of its notional; none: the initial margin"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.maintenance_pct is not None and self.maintenance_pct * self.times > 100:
            raise ValueError("maintenance_pct has to be at most the initial margin, 100 / times")
        return self


ALPACA = {"*/*": Leverage(), "*": Leverage(times=Decimal(2), maintenance_pct=Decimal(30))}


def _spelled_out(given: Any) -> Any:
    return check_patterns(alpaca_or(given, ALPACA, '{"*": {times: 2}}'), Leverage)


LeverageByPattern: TypeAlias = Annotated[
    dict[str, Leverage],
    BeforeValidator(_spelled_out, json_schema_input_type=Literal["alpaca"] | dict[str, Leverage]),
]
"""Type of a parameter: by symbol pattern, first match counts; or a preset."""


class Rates(NamedTuple):
    """Initial and maintenance margin, shares of the notional."""

    initial: Decimal
    maintenance: Decimal


class Margin(dict[str, Rates]):
    """The margins of each symbol, found once; and what follows from them for positions.

    `worths` are signed market values by symbol, without flat ones; `leaving` symbols in which the venue is closing the position: it
    needs no margin any more.
    """

    def __init__(self, by_pattern: Mapping[str, Leverage], margins: Mapping[str, Decimal]) -> None:
        super().__init__()
        self._by_pattern = by_pattern
        self._margins = margins

    def __missing__(self, symbol: str) -> Rates:
        """Find what a symbol has."""
        found = first_match(symbol, self._by_pattern) or Leverage()
        own = self._margins[symbol]
        initial = own if own != ONE else ONE / found.times
        kept = initial if found.maintenance_pct is None else min(initial, found.maintenance_pct / 100)
        self[symbol] = Rates(initial, kept)
        return self[symbol]

    def _needs(self, worths: Mapping[str, Decimal], leaving: Collection[str]) -> dict[str, Decimal]:
        """Return what equity has to cover for each position that is not leaving."""
        return {each: abs(worths[each]) * self[each].maintenance for each in sorted(worths) if each not in leaving}

    def shortfall(
        self, cash: Decimal, worths: Mapping[str, Decimal], leaving: Collection[str]
    ) -> tuple[list[str], str]:
        """Return the positions that the venue closes, none while equity covers the requirement; and why."""
        equity, needs = sum((worths[each] for each in sorted(worths)), cash), self._needs(worths, leaving)
        required = sum(needs.values(), ZERO)
        reason = f"equity {equity:.2f} is below the maintenance margin {required:.2f}"
        closed: list[str] = []
        for symbol in sorted(needs, key=lambda each: (-abs(worths[each]), each)):
            if equity >= required:
                break
            closed.append(symbol)
            required -= needs[symbol]
        return closed, reason

    def bounds(
        self,
        cash: Decimal,
        worths: Mapping[str, Decimal],
        prices: Mapping[str, Decimal],
        leaving: Collection[str],
    ) -> dict[str, tuple[float, float]]:
        """Return by symbol up to which price, and from which on, the requirement has to be looked at again.

        Each position may lose an equal part of what equity is above the requirement, so that no price within these takes it all.
        """
        needs = self._needs(worths, leaving)
        held = float(sum(map(abs, worths.values()), ZERO))
        left = float(sum(worths.values(), cash) - sum(needs.values(), ZERO)) - TOLERANCE * held
        found = {}
        for symbol, worth in worths.items():
            at_risk = abs(float(worth - needs.get(symbol, ZERO)))
            move = left / len(worths) / at_risk if at_risk else INFINITY
            price = float(prices[symbol])
            found[symbol] = (price * (1 - move), INFINITY) if worth > 0 else (-INFINITY, price * (1 + move))
        return found
