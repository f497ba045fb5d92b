"""A trading loop small enough to read, for strategies on their own."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from torghut_core import Context, Decision, Fill, LiveContext, Side, Signal, Strategy, apply_fill, money
from torghut_testing.builders import context

ZERO = Decimal(0)


class Row(NamedTuple):
    """What the loop shows a strategy: a signal, and the close of its bar in quote currency per unit."""

    signal: Signal
    price: float


class Rehearsal:
    """Shows rows to a strategy and fills what it proposes.

    Every decision is filled whole, at the next row's price of its symbol, whatever its order type; there are no
    rules and no fees, and the account never changes. `strategy` may be replaced between rows.

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
        self._contexts: dict[str, LiveContext] = {}
        self._working: dict[str, Decision] = {}

    def context(self, symbol: str) -> Context:
        """The context that the strategy saw last for a symbol; changes with the next row."""
        if symbol not in self._contexts:
            self._contexts[symbol] = context(symbol=symbol)._live  # noqa: SLF001 - the kit stands in for the kernel
        return self._contexts[symbol]

    def show(self, row: Row) -> Decision | None:
        """Fill the open order of the row's symbol, show the row, and return what the strategy proposes."""
        signal, price = row
        self.context(signal.symbol)
        seen = self._contexts[signal.symbol]
        order = self._working.pop(signal.symbol, None)
        if order is not None:
            seen.hold(apply_fill(seen.position, _fill(order, row)))
            seen.buying = seen.selling = ZERO
        seen.show(signal.event_ts, signal.bars.end.item(signal.row), price)
        proposed: Any = self.strategy.on_signal(signal, seen.read_only)
        if proposed is not None:
            self._working[signal.symbol] = proposed
            if proposed.action is Side.BUY:
                seen.buying = proposed.quantity
            else:
                seen.selling = proposed.quantity
        return proposed  # type: ignore[no-any-return]

    def run(self, rows: Iterable[Row]) -> list[Decision]:
        """Show rows one after the other, and return all decisions."""
        return [proposed for row in rows if (proposed := self.show(row)) is not None]


def _fill(order: Decision, row: Row) -> Fill:
    return Fill(
        client_order_id="",
        fill_id="",
        symbol=order.symbol,
        side=order.action,
        quantity=order.quantity,
        price=money(row.price),
        fee=ZERO,
        event_ts=row.signal.event_ts,
    )
