"""How much an exit may close, which protection is larger than what it protects, and when the market reaches a take-profit.

Only what is so, of what is in the `Books`: the `Gateway` asks, and acts on it. `brackets` knows which orders are a pair.
"""

from __future__ import annotations

from collections.abc import Container
from decimal import Decimal

from torghut_core.model.market import Batch
from torghut_core.model.trading import ZERO, Intent, OrderState, Purpose, Side
from torghut_core.ports import LiveContext
from torghut_core.trading.books import Books
from torghut_core.trading.working_order import WorkingOrder

# A member of an enum, reached through its class, is slow in Python 3.11.
_BUY, _SELL, _FLATTEN, _PENDING_CANCEL = Side.BUY, Side.SELL, Purpose.FLATTEN, OrderState.PENDING_CANCEL


def closable(books: Books, exit_: WorkingOrder, waiting: Container[str]) -> Decimal:
    """How many units of what is held an exit may close beside those that are on their way; negative where these are too many.

    Parameters
    ----------
    waiting : ids of orders that will not leave before it, such as the second leg of a reversal.
    """
    intent, context = exit_.order.intent, exit_.context
    sign = -1 if intent.side is _BUY else 1
    own, account = context.position.quantity * sign, books.net_at_venue(intent.symbol) * sign
    protected: dict[LiveContext, Decimal] = {}
    for other in books.orders_in(intent.symbol):
        order, view = other.order, other.context
        if other is exit_ or order.intent.side is not intent.side or order.intent.client_order_id in waiting:
            continue
        if not order.intent.is_protection:
            account -= order.remaining
            own -= order.remaining if view is context else ZERO
        elif view is not context:  # its own is canceled first
            protected[view] = protected.get(view, ZERO) + order.remaining
    for view, units in protected.items():  # of a stop and a take-profit one ends the other
        account -= min(units, view.position.quantity.copy_abs())
    return account if intent.purpose is _FLATTEN else min(own, account)


def too_large(books: Books, context: LiveContext) -> list[tuple[WorkingOrder, Decimal]]:
    """The protection of a view that is larger than what it protects, each with the units that may remain of it."""
    orders, held = books.orders_of(context), context.position.quantity
    exits = _SELL if held > 0 else _BUY
    intents = [(working, working.order.intent) for working in orders]
    leaving = [each.order.remaining for each, intent in intents if intent.is_exit and not intent.is_protection]
    rest = max(ZERO, abs(held) - sum(leaving, ZERO))
    of_pairs = books.brackets.allot(context, orders, exits, rest)
    found = []
    for working, intent in intents:
        if not intent.is_protection or working.order.state is _PENDING_CANCEL:
            continue
        of_own = rest if intent.side is exits else ZERO
        left = of_pairs.get(intent.pair, ZERO) if intent.parent else of_own
        if working.order.remaining > left:
            found.append((working, left))
    return found


def reaches(batch: Batch, profit: Intent) -> bool:
    """Whether an event of a batch that began after a take-profit was decided reaches its price."""
    number, price, since = batch.symbols.find(profit.symbol), profit.limit_price, profit.decided_at
    if number is None or price is None:
        return False
    trades, quotes, bars = batch.counting_trades, batch.counting_quotes, batch.bars
    is_sale = profit.side is _SELL
    prices = (
        (trades, trades.price),
        (quotes, quotes.bid_price if is_sale else quotes.ask_price),
        (bars, bars.high if is_sale else bars.low),
    )
    for table, seen in prices:
        of_symbol = seen[(table.symbol == number) & (table.event_ts >= since)]
        reached = of_symbol >= float(price) if is_sale else (of_symbol <= float(price)) & (of_symbol > 0)
        if reached.any():
            return True
    return False
