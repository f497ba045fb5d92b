"""A trading loop small enough to read, for strategies on their own."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from torghut_core import Context, Decision, Position, Side, Signal, Strategy, money
from torghut_testing.builders import context

ZERO = Decimal(0)


class Row(NamedTuple):
    """What the loop shows a strategy: a signal, and the close of its bar in quote currency per unit."""

    signal: Signal
    price: float


class Rehearsal:
    """Shows rows to a strategy and fills what it proposes.

    Every decision is filled, whole, at the next row's price of its symbol, whatever its order type; there are no
    rules and no fees, and the account stays as it is. `strategy` may be replaced between rows.

    Examples
    --------
    >>> from torghut_testing import signal
    >>> class Once(Strategy):
    ...     def on_signal(self, signal, context):
    ...         return context.buy(1, because="first row") if context.is_flat else None
    >>> rehearsal = Rehearsal(Once(Once.Params()))
    >>> [decision.quantity for decision in rehearsal.run(Row(signal(), price) for price in (100.0, 101.0, 102.0))]
    [Decimal('1')]
    >>> rehearsal.context("BTC/USD").position.average_price
    Decimal('101.0')
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._contexts: dict[str, Context] = {}

    def context(self, symbol: str) -> Context:
        """What the strategy saw last of a symbol; changes with the next row."""
        if symbol not in self._contexts:
            self._contexts[symbol] = context(symbol=symbol)
        return self._contexts[symbol]

    def show(self, row: Row) -> Decision | None:
        """Fill what is working in the row's symbol, show the row, and give what the strategy proposes."""
        signal, price = row
        seen = self.context(signal.symbol)
        if seen.working:
            seen.position = _filled(seen.position, seen.working, money(price))
            seen.working = ZERO
        seen.event_ts = signal.event_ts
        seen.now = signal.event_ts + 1_000_000_000
        seen.price = price
        proposed = self.strategy.on_signal(signal, seen)
        if proposed is not None:
            seen.working += proposed.quantity if proposed.action is Side.BUY else -proposed.quantity
        return proposed

    def run(self, rows: Iterable[Row]) -> list[Decision]:
        """Show rows, one after the other; give all decisions."""
        return [proposed for row in rows if (proposed := self.show(row)) is not None]


def _filled(position: Position, change: Decimal, price: Decimal) -> Position:
    """The position after `change` signed units at `price`."""
    held = position.quantity
    quantity = held + change
    if held * change >= 0:
        average = (held * position.average_price + change * price) / quantity
        return Position(quantity, average, position.realized_pnl)
    closed = min(abs(held), abs(change)) * (1 if held > 0 else -1)
    realized = position.realized_pnl + closed * (price - position.average_price)
    if not quantity:
        return Position(realized_pnl=realized)
    return Position(quantity, position.average_price if quantity * held > 0 else price, realized)
