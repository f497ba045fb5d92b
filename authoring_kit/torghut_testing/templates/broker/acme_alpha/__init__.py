"""A venue that fills every order at the next price it can have: the smallest simulated broker."""

from collections.abc import Sequence
from decimal import Decimal

from torghut_core import (
    Account,
    Batch,
    Broker,
    Capabilities,
    Fill,
    Instrument,
    Intent,
    Order,
    OrderEvent,
    OrderType,
    Position,
    Register,
    Report,
    Side,
    TimeInForce,
    apply_fill,
    apply_report,
    hookimpl,
    is_done,
    money,
    param,
)


class AcmeAlpha(Broker):
    """Orders are filled whole, at the first trade after them that their limit allows, for a fee on each unit."""

    capabilities = Capabilities(
        frozenset({OrderType.MARKET, OrderType.LIMIT}),
        frozenset({TimeInForce.DAY, TimeInForce.GTC}),
        replace=False,
        simulated=True,
    )

    class Params(Broker.Params):
        """Parameters of `AcmeAlpha`."""

        cash: Decimal = param("100000", gt=0, help="money at the beginning, USD")
        fee: Decimal = param("2", ge=0, help="fee of a unit, USD")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._cash = params.cash
        self._known: set[str] = set()
        self._open: dict[str, Order] = {}
        self._positions: dict[str, Position] = {}
        self._prices: dict[str, Decimal] = {}
        self._multipliers: dict[str, Decimal] = {}
        self._updates: list[Report] = []
        self._now = 0

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """Note what a point is worth."""
        self._multipliers[symbol] = stated.multiplier
        return stated

    def submit(self, intent: Intent) -> None:
        """Take an order, once."""
        if intent.client_order_id not in self._known:
            self._known.add(intent.client_order_id)
            self._open[intent.client_order_id] = Order(intent=intent)
            self._report(intent.client_order_id, OrderEvent.ACCEPT)

    def cancel(self, client_order_id: str) -> None:
        """Cancel an open order."""
        if client_order_id in self._open:
            self._report(client_order_id, OrderEvent.CANCELED)

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Never called: `capabilities` say so."""
        raise NotImplementedError

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """Fill what each trade allows."""
        trades = batch.trades
        rows = ((trades.at >= first) & (trades.at < stop)).nonzero()[0].tolist()
        if not self._open:  # then the last price of each symbol is enough
            rows = sorted(dict(zip(trades.symbol[rows].tolist(), rows, strict=True)).values())
        for row in rows:
            symbol, price = batch.symbols.names[trades.symbol[row]], money(trades.price[row])
            self._now, self._prices[symbol] = int(trades.event_ts[row]), price
            for order in self.orders():
                if order.intent.symbol == symbol and _allows(order.intent, price):
                    self._fill(order.intent, price)

    def account(self) -> Account:
        """Cash, and what is held at the last prices."""
        held = sum((self._worth(symbol, of.quantity) for symbol, of in self._positions.items()), Decimal(0))
        return Account(cash=self._cash, equity=self._cash + held, buying_power=max(self._cash, Decimal(0)))

    def positions(self) -> dict[str, Position]:
        """What is held."""
        return dict(self._positions)

    def orders(self) -> Sequence[Order]:
        """Open orders."""
        return list(self._open.values())

    def updates(self) -> Sequence[Report]:
        """Reports since the last call."""
        updates, self._updates = self._updates, []
        return updates

    def _worth(self, symbol: str, quantity: Decimal) -> Decimal:
        return quantity * self._prices[symbol] * self._multipliers.get(symbol, Decimal(1))

    def _fill(self, intent: Intent, price: Decimal) -> None:
        fee = self.params.fee * intent.quantity
        fill = Fill(
            client_order_id=intent.client_order_id,
            fill_id="1",
            symbol=intent.symbol,
            side=intent.side,
            quantity=intent.quantity,
            price=price,
            fee=fee,
            event_ts=self._now,
        )
        before, multiplier = (
            self._positions.get(intent.symbol, Position()),
            self._multipliers.get(intent.symbol, Decimal(1)),
        )
        self._positions[intent.symbol] = apply_fill(before, fill, multiplier)
        sign = 1 if intent.side is Side.BUY else -1
        self._cash -= sign * self._worth(intent.symbol, intent.quantity) + fee
        self._report(intent.client_order_id, OrderEvent.FILL, fill)

    def _report(self, client_order_id: str, event: OrderEvent, fill: Fill | None = None) -> None:
        report = Report(client_order_id=client_order_id, event=event, event_ts=self._now, fill=fill)
        order = self._open[client_order_id]
        apply_report(order, report)
        if is_done(order.state):
            del self._open[client_order_id]
        self._updates.append(report)


def _allows(intent: Intent, price: Decimal) -> bool:
    """Whether an order may be filled at a price."""
    if intent.side is Side.SELL:
        return intent.limit_price is None or price >= intent.limit_price
    bounds = [bound for bound in (intent.limit_price, intent.highest_price) if bound is not None]
    return all(price <= bound for bound in bounds)


@hookimpl
def register_brokers(register: Register[Broker]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-alpha", AcmeAlpha)
