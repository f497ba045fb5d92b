"""Strategies: signals in, decisions out; and the read-only contexts that a strategy gets with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import KERNEL_DECIMAL
from torghut_core.errors import InputError
from torghut_core.features.values import Feature, Optional
from torghut_core.model.instruments import ANY_TERMS, Instrument
from torghut_core.model.market import FloatArray, History, IntArray, Quote, Signal, Slice, Trade
from torghut_core.model.timers import Every, Timer
from torghut_core.model.trading import (
    ZERO,
    Account,
    Bracket,
    Cancel,
    Decision,
    Fill,
    Order,
    OrderState,
    OrderType,
    Position,
    Side,
    TimeInForce,
    money,
)
from torghut_core.ports.plugin import Plugin

_DAY, _BUY, _SELL = TimeInForce.DAY, Side.BUY, Side.SELL
ONE, HUNDRED = Decimal(1), Decimal(100)
_all_terms = attrgetter("order_type", "limit_price", "stop_price", "trail_price", "trail_pct", "time_in_force")
_PENDING_CANCEL = OrderState.PENDING_CANCEL


Number: TypeAlias = Decimal | float | str
"""An amount, a quantity or a price; of a float the decimal that it prints as."""

Answer: TypeAlias = "Decision | Cancel | Sequence[Decision | Cancel | None] | None"
"""What a handler may return: nothing, a decision, a cancel, or a list of these, of which None is left out."""


class Handler(StrEnum):
    """A method of a strategy that the kernel calls while it trades."""

    ON_SIGNAL = "on_signal"
    ON_SLICE = "on_slice"
    ON_FILL = "on_fill"
    ON_ORDER = "on_order"
    ON_TIMER = "on_timer"
    ON_TRADE = "on_trade"
    ON_QUOTE = "on_quote"
    ON_START = "on_start"
    ON_STOP = "on_stop"


STARTERS = (Handler.ON_SIGNAL, Handler.ON_SLICE, Handler.ON_TIMER, Handler.ON_TRADE, Handler.ON_QUOTE)
"""A strategy has one of these: the others are called for what it has done itself."""


class Columns:
    """Rows as a strategy sees them, as columns: read-only arrays of shape (rows,).

    Attributes
    ----------
    symbol : names.
    event_ts : starts of the bars, ns.

    `open`, `high`, `low`, `close` and `volume` are the bars', and the columns and features that the strategy asks for have
    their own names.

    Examples
    --------
    >>> columns = Columns(["ES", "ES"], np.array([0, 60]), {"close": np.array([99.0, 101.0])})
    >>> len(columns), (columns.close > 100).tolist()
    (2, [False, True])
    """

    __slots__ = ("_values",)

    def __init__(
        self, symbol: Sequence[str] | NDArray[Any], event_ts: IntArray, values: Mapping[str, FloatArray]
    ) -> None:
        given = {"symbol": np.array(symbol, object), "event_ts": event_ts, **values}
        self._values = {name: array.view() for name, array in given.items()}
        for array in self._values.values():
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self._values["symbol"])

    def _first(self, rows: int) -> Columns:
        """The first rows alone: their arrays are copies, which lead to no other row."""
        values = {name: array[:rows].copy() for name, array in self._values.items()}
        return Columns(values.pop("symbol"), values.pop("event_ts"), values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no column {name!r}: there are {', '.join(self._values)}") from None


class Strategy(Plugin):
    """Signals in, decisions out.

    It overrides the handlers that it needs, most often `on_signal` or `on_slice`; one that it does not override is not called.

    `columns` names the columns of ``ta_signals`` that it reads; it gets a row when all of them have a value. An instance
    serves all symbols of its catalog entry, so state is kept per symbol (a dict by `signal.symbol`).
    """

    columns: ClassVar[tuple[str, ...]] = ()

    def features(self) -> Mapping[str, Feature | Optional]:
        """What else it wants computed, by name; see `torghut_core.features`. Asked for once, when a generation is built.

        A row comes when all of these, and the columns, have a value; but for those that are `optional`.
        """
        return {}

    @property
    def warmup(self) -> int:
        """Rows of a symbol that it needs before its decisions count; 0 when it keeps nothing between rows.

        A strategy that a reload adds or changes is first shown so many rows from the signal store.
        """
        return 0

    @property
    def history(self) -> int | Mapping[str, int]:
        """How many bars `context.history` is asked for at most: of its own timeframe, or by timeframe; 0 where it is not used."""
        return 0

    @property
    def timers(self) -> Sequence[Every]:
        """What `on_timer` is called for, made by `every`."""
        return ()

    @classmethod
    def handles(cls, handler: Handler) -> bool:
        """Whether it overrides a handler; `decide` answers for `on_signal`."""
        if handler is Handler.ON_SIGNAL and cls.decide is not Strategy.decide:
            return True
        return getattr(cls, handler) is not getattr(Strategy, handler)

    def on_signal(self, signal: Signal, context: Context) -> Answer:
        """Return decisions on one row (made by `context.buy`, `sell`, `close` or `target`), or None."""

    def decide(self, columns: Columns) -> Any:
        """Return a target for each of many rows at once: the signed units to hold from there on; NaN leaves things as they are.

        For rules that look at nothing but the row. Where a strategy overrides it, it is used, and `on_signal` is not called.
        A row whose target is held already, or is on its way, leads to nothing; a target of 0 closes what is held, as
        `context.close` does; any other one is brought about as by `context.target`. The targets of some rows are the same
        whichever rows they come with.

        Returns
        -------
        Targets, shape (rows,); or a pair of them and the reasons: one text, or one of each row.
        """

    def on_slice(self, slice: Slice, context: PortfolioContext) -> Answer:
        """Return decisions on the rows that became known at one time, or None; called before `on_signal` for each of them."""

    def on_fill(self, fill: Fill, context: Context) -> Answer:
        """Return decisions on a fill of one of its orders, or None."""

    def on_order(self, order: Order, context: Context) -> Answer:
        """Return decisions on what the venue reported of one of its orders, or None; of a fill after `on_fill`."""

    def on_timer(self, timer: Timer, context: PortfolioContext) -> Answer:
        """Return decisions at a moment of `timers`, or None; called at the first event that is known then or later."""

    def on_trade(self, trade: Trade, context: Context) -> Answer:
        """Return decisions on a print that counts for the price, or None."""

    def on_quote(self, quote: Quote, context: Context) -> Answer:
        """Return decisions on a quote with two sane sides, or None."""

    def on_start(self, context: PortfolioContext) -> Answer:
        """Return decisions, or None, before anything else; not called where a state is taken over: of other code, or of the process before."""

    def on_stop(self, context: PortfolioContext) -> None:
        """Finish: a reload takes the strategy out, or the source has ended. What is held follows `on_remove`."""


def _exact(number: Number) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(str(number))


def _of(name: str) -> Any:
    """What the kernel has written, to be read by a strategy."""
    return property(attrgetter(f"_live.{name}"))


def _exact_or_none(number: Number | None) -> Decimal | None:
    return None if number is None else _exact(number)


_TERMS: Mapping[str, Any] = {
    "order_type": OrderType,
    "time_in_force": TimeInForce,
    **dict.fromkeys(("limit_price", "stop_price", "trail_price", "trail_pct"), _exact_or_none),
}
"""What makes a term of an order from what a strategy may give: text, and numbers of any type."""

_BRACKET = Bracket.__struct_fields__


def _bracket(given: Mapping[str, Number | None]) -> Bracket | None:
    bracket = Bracket(**{name: _exact_or_none(amount) for name, amount in given.items()})
    return bracket if bracket.given else None


class Context:
    """One strategy's view of one symbol, at the current row.

    Nothing here is later than the loop's time. A strategy can propose (`buy`, `sell`, `close`, `target` make a
    `Decision` to return), but not act: there is no broker here.
    """

    __slots__ = ("_live",)

    def __init__(self, live: LiveContext) -> None:
        self._live = live

    strategy_id: str = _of("strategy_id")
    symbol: str = _of("symbol")
    account_label: str = _of("account_label")
    time_in_force: TimeInForce = _of("time_in_force")
    """How long an order stays open if the strategy does not set it."""
    event_ts: int = _of("event_ts")
    """Start of the signal's bar, ns."""
    now: int = _of("now")
    """The loop's time, ns."""
    price: float = _of("price")
    """Close of the signal's bar, quote currency per unit."""
    instrument: Instrument = _of("instrument")
    """The terms of the symbol: tick, step, multiplier and so on."""
    position: Position = _of("position")
    """This strategy's position in this symbol, by its own fills."""
    buying: Decimal = _of("buying")
    """Units that this strategy's open orders in this symbol would still buy, without its protection."""
    selling: Decimal = _of("selling")
    """Units that they would still sell."""
    protecting: Decimal = _of("protecting")
    """Signed units that its protection (stops and take-profits that only reduce the position) would still add."""
    last_order_at: int | None = _of("last_order_at")
    """Loop time of the last decision of this strategy in this symbol that was allowed, ns; None before the first."""

    @property
    def working(self) -> Decimal:
        """Signed units that this strategy's open orders in this symbol would still add."""
        live = self._live  # one look, and not a property for each
        return KERNEL_DECIMAL.add(KERNEL_DECIMAL.subtract(live.buying, live.selling), live.protecting)

    @property
    def is_flat(self) -> bool:
        """Nothing is held, and no order is open that would change that."""
        live = self._live
        return not (live.side or live.buying or live.selling)

    @property
    def is_long(self) -> bool:
        """Units are held, whatever orders are open."""
        return self._live.side > 0

    @property
    def is_short(self) -> bool:
        """Units are owed, whatever orders are open."""
        return self._live.side < 0

    @property
    def account(self) -> Account:
        """Cash, equity and buying power of the account."""
        return self._live.account_view.account()

    @property
    def orders(self) -> Sequence[Order]:
        """Open orders of the strategy in this symbol, oldest first: copies."""
        return [order.copy() for order in self._live.open_orders.values()]

    def history(self, bars: int, timeframe: str | None = None, symbol: str | None = None) -> History:
        """The last bars, those that are complete at the current row: as many as there are, `bars` at most.

        Of the strategy's own timeframe and the context's symbol where none is given. The strategy says in `Strategy.history`
        how many it asks for at most.

        Raises
        ------
        InputError : it has not said that, or the symbol is none of its entry.
        """
        return self._live.bars.last(self._live, bars, timeframe, symbol)

    # How much: whole steps of the instrument, rounded down; 0 where the price, or the distance, is not known.

    def size_by_equity(self, pct: Number) -> Decimal:
        """Units worth `pct` percent of the account's equity, at the bar's close."""
        return self._units(pct, self.account.equity, self.price)

    def size_by_buying_power(self, pct: Number) -> Decimal:
        """Units that take `pct` percent of the account's buying power, at the bar's close."""
        return self._units(pct, self.account.buying_power, self.price, self.instrument.margin)

    def size_by_risk(self, stop: Number, pct: Number) -> Decimal:
        """Units that lose `pct` percent of the account's equity when the price goes from the bar's close to `stop`."""
        return self.size_by_volatility(abs(float(stop) - self.price), pct)

    def size_by_volatility(self, move: Number, pct: Number) -> Decimal:
        """Units of which a move of the price by `move`, as an average true range, is `pct` percent of the account's equity."""
        return self._units(pct, self.account.equity, move)

    def _units(self, pct: Number, of: Decimal, each: Number, share: Decimal = ONE) -> Decimal:
        """Whole units in a part of an amount of money, of which each takes a `share` of `each`."""
        instrument = self.instrument
        part = KERNEL_DECIMAL.divide(KERNEL_DECIMAL.multiply(of, _exact(pct)), HUNDRED)
        price = _exact(each)
        if not price.is_finite() or price <= 0 or part <= 0:
            return ZERO
        return instrument.whole(KERNEL_DECIMAL.divide(part, instrument.notional(share, price)))

    # What is proposed.

    def buy(self, quantity: Number, because: str, **order: Any) -> Decision:
        """Propose to buy `quantity` units; of a float that is the decimal which it prints as, 0.1 a tenth.

        `order` has the terms that differ from a market order with the broker's usual time in force: `order_type`,
        `limit_price`, `stop_price`, `trail_price`, `trail_pct`, `time_in_force`. Prices may be floats, as `quantity`.

        What the order opens is protected from its fills on by a `stop_loss` (a price) or a trailing stop (`trail`, its
        distance), and by a `take_profit` (a price): each is an order of its own, and what fills of one the other loses.
        """
        return self._decision(_BUY, _exact(quantity), because, order)

    def sell(self, quantity: Number, because: str, **order: Any) -> Decision:
        """Propose to sell `quantity` units; `order` as in `buy`."""
        return self._decision(_SELL, _exact(quantity), because, order)

    def close(self, because: str, **order: Any) -> Decision | None:
        """Propose to close what is held; None when nothing is, or exits of all of it are on their way.

        On their way are orders at the market, and those with the terms of this one. What protects the position otherwise is
        canceled first: stops, take-profits, an earlier `close` at another price; and entries that would sell what is held (buy
        what is owed). An entry in the direction of the position stays open.
        """
        if not self._live.side:
            return None
        held, order["is_close"] = self._live.position.quantity, True
        proposed = self._decision(_SELL if held > 0 else _BUY, held.copy_abs(), because, order)
        return None if self._live.is_closing(proposed) else proposed

    def target(self, quantity: Number, because: str, **order: Any) -> Decision | None:
        """Propose the order that brings what is held to `quantity` signed units; None when it is there, or on its way.

        Of open orders those in the same direction count; of protection only that with the terms of this one: what is not
        held is not sold.
        """
        live = self._live
        change = KERNEL_DECIMAL.subtract(_exact(quantity), live.position.quantity)
        is_buy = change > 0
        missing = KERNEL_DECIMAL.subtract(change.copy_abs(), live.buying if is_buy else live.selling)
        if live.is_nothing(missing):
            return None
        proposed = self._decision(_BUY if is_buy else _SELL, missing, because, order)
        if live.protecting and live.is_nothing(missing - live.waiting(proposed)[0]):
            return None
        return proposed

    def target_notional(self, notional: Number, because: str, **order: Any) -> Decision | None:
        """Propose the order that brings what is held to a signed notional, at the bar's close; None as for `target`."""
        worth = _exact(notional)
        if worth and not 0 < self.price < float("inf"):
            return None
        units = self._units(HUNDRED, worth.copy_abs(), self.price)
        return self.target(units.copy_sign(worth), because, **order)

    def target_pct(self, pct: Number, because: str, **order: Any) -> Decision | None:
        """Propose the order that makes what is held `pct` percent of the account's equity, signed; None as for `target`."""
        part = KERNEL_DECIMAL.multiply(self.account.equity, _exact(pct))
        return self.target_notional(KERNEL_DECIMAL.divide(part, HUNDRED), because, **order)

    def cancel(self, order: Order, because: str) -> Cancel:
        """Propose to cancel an open order; nothing happens where it is done, or is being canceled."""
        return Cancel(symbol=self.symbol, client_order_id=order.intent.client_order_id, because=because)

    def replace(
        self,
        order: Order,
        because: str,
        *,
        quantity: Number | None = None,
        limit_price: Number | None = None,
        stop_price: Number | None = None,
    ) -> Decision:
        """Propose other terms for an open order, such as a stop that follows the price; None leaves a term as it is.

        It stays the same order, with what was filled of it. Gates and rules judge it as the order that it would be; where they
        deny that, it stays as it is. Nothing happens where it is done, not sent yet, or being changed or canceled.

        Parameters
        ----------
        quantity : what is to remain open of it, units.
        """
        intent = order.intent
        terms = {"limit_price": limit_price, "stop_price": stop_price}
        changed = {name: getattr(intent, name) if price is None else price for name, price in terms.items()}
        same = {name: getattr(intent, name) for name in ("order_type", "trail_price", "trail_pct", "time_in_force")}
        remaining = order.remaining if quantity is None else _exact(quantity)
        return self._decision(intent.side, remaining, because, {**same, **changed, "replaces": intent.client_order_id})

    def cancel_all(self, because: str, *, protection: bool = False) -> list[Cancel]:
        """Propose to cancel all open orders in this symbol; stops and take-profits that only reduce the position stay, unless `protection`."""
        return [self.cancel(order, because) for order in self.orders if protection or not order.intent.is_protection]

    def _is_reduced_by(self, side: Side) -> bool:
        """Whether an order of this side makes what is held smaller."""
        return self.is_long if side is Side.SELL else self.is_short

    def _decision(self, action: Side, quantity: Decimal, because: str, order: dict[str, Any]) -> Decision:
        live = self._live  # one look, and not a property for each
        if live.time_in_force is not _DAY:
            order.setdefault("time_in_force", live.time_in_force)
        for name, term in order.items():
            if name in _TERMS:
                order[name] = _TERMS[name](term)
        if not order.keys().isdisjoint(_BRACKET):
            order["bracket"] = _bracket({name: order.pop(name, None) for name in _BRACKET})
        return Decision(
            account=live.account_label,
            strategy_id=live.strategy_id,
            symbol=live.symbol,
            event_ts=live.event_ts,
            decided_at=live.now,
            action=action,
            quantity=quantity,
            because=because,
            price=money(live.price) if live.price == live.price else None,
            **order,
        )


class LiveContext(Context):
    """The context as the kernel writes it; strategies get its `read_only`.

    Attributes
    ----------
    open_orders : the strategy's open orders in the symbol, by client order id.
    protections : how many of them are protection.
    """

    __slots__ = (
        "account_label",
        "account_view",
        "bars",
        "buying",
        "event_ts",
        "instrument",
        "last_order_at",
        "now",
        "open_orders",
        "position",
        "price",
        "protecting",
        "protections",
        "read_only",
        "selling",
        "side",
        "smallest_order",
        "strategy_id",
        "symbol",
        "time_in_force",
    )

    def __init__(
        self,
        strategy_id: str,
        symbol: str,
        account_label: str,
        account_view: AccountView,
        time_in_force: TimeInForce = TimeInForce.DAY,
        instrument: Instrument = ANY_TERMS,
    ) -> None:
        super().__init__(self)
        self.strategy_id = strategy_id
        self.symbol = symbol
        self.account_label = account_label
        self.account_view = account_view
        self.time_in_force = time_in_force
        self.instrument = instrument
        self.smallest_order = instrument.smallest_order
        self.event_ts = self.now = 0
        self.price = float("nan")
        self.hold(Position())
        self.buying = self.selling = self.protecting = ZERO
        self.protections = 0
        self.open_orders: dict[str, Order] = {}
        self.last_order_at: int | None = None
        self.bars: BarHistory = NO_HISTORY
        self.read_only = Context(self)

    def hold(self, position: Position) -> None:
        """Set the position, and its `side`: 1 long, -1 short, 0 where it is none or dust, see `Instrument.smallest_order`."""
        self.position, quantity = position, position.quantity
        self.side = 0 if not quantity or abs(quantity) < self.smallest_order else 1 if quantity > 0 else -1

    def is_nothing(self, units: Decimal) -> bool:
        """Whether that is none, or too little for an order."""
        return units <= 0 or units < self.smallest_order

    def is_closing(self, close: Decision) -> bool:
        """Whether nothing is left for a `close` to do: exits of all of it are on their way, at once or on its terms."""
        at_once = self.selling if close.action is Side.SELL else self.buying
        opposing = sum((self.open_orders[number].remaining for number in self.opposing(close.action)), ZERO)
        missing = close.quantity - at_once + opposing
        if not self.protecting or self.is_nothing(missing):
            return self.is_nothing(missing)
        alike, is_all = self.waiting(close)
        return is_all and self.is_nothing(missing - alike)

    def opposing(self, exits: Side) -> list[str]:
        """The open entries in the direction of exits: a `close` takes them back."""
        return [
            number
            for number, order in self.open_orders.items()
            if order.intent.side is exits and not order.intent.is_exit
        ]

    def waiting(self, proposed: Decision) -> tuple[Decimal, bool]:
        """Units of open protection that has the terms of a decision, and whether there is no other."""
        rounded, alike, is_all = self.instrument.rounded(proposed), ZERO, True
        for order in self.open_orders.values():
            if not order.intent.is_protection or order.state is _PENDING_CANCEL:
                continue
            if order.intent.side is rounded.action and _all_terms(order.intent) == _all_terms(rounded):
                alike += order.remaining
            else:
                is_all = False
        return alike, is_all

    def reach(self, _event: Any, now: int) -> None:
        """Move to an event that is no row: its price is that of the last one."""
        self.now = now

    def show(self, event_ts: int, now: int, price: float) -> None:
        """Move to a row."""
        self.event_ts, self.now, self.price = event_ts, now, price


class BarHistory:
    """Gives a context the last bars; this one has none."""

    def last(self, context: LiveContext, bars: int, timeframe: str | None, symbol: str | None) -> History:  # noqa: ARG002
        """See `Context.history`."""
        raise InputError(f"{context.strategy_id} declares no history (write `history = {bars!r:.20}` in the strategy)")


NO_HISTORY = BarHistory()


class PortfolioContext(Mapping[str, Context]):
    """One strategy's view of all symbols of its entry: by symbol, in their order, the context of each.

    Examples
    --------
    ``context["AAPL"].buy(10, because="strongest")``, ``[symbol for symbol in context if context[symbol].is_long]``.
    """

    __slots__ = ("_live",)

    def __init__(self, live: LivePortfolio) -> None:
        self._live = live

    strategy_id: str = _of("strategy_id")
    now: int = _of("now")
    """The loop's time, ns."""

    def __getitem__(self, symbol: str) -> Context:
        try:
            return self._live.contexts[symbol].read_only
        except KeyError:
            raise KeyError(f"{symbol!r} is no symbol of {self.strategy_id} (it has {', '.join(self)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._live.contexts)

    def __len__(self) -> int:
        return len(self._live.contexts)

    @property
    def account(self) -> Account:
        """Cash, equity and buying power of the account."""
        return self._live.account_view.account()

    @property
    def orders(self) -> Sequence[Order]:
        """Open orders of the strategy, by symbol, and oldest first."""
        return [order for context in self.values() for order in context.orders]

    def cancel_all(self, because: str, *, protection: bool = False) -> list[Cancel]:
        """Propose to cancel all open orders; see `Context.cancel_all`."""
        return [cancel for context in self.values() for cancel in context.cancel_all(because, protection=protection)]

    def target_weights(self, weights: Mapping[str, Number], because: str, **order: Any) -> list[Decision]:
        """Propose the orders that make each symbol its share of the account's equity, at its last close: first what reduces.

        Parameters
        ----------
        weights : by symbol, signed; 1 is all of the equity. A symbol of the entry that is not named has the weight 0.
        because : why.

        Raises
        ------
        InputError : a symbol is none of the entry's.
        """
        if unknown := sorted(weights.keys() - self._live.contexts.keys()):
            raise InputError(f"weight of {unknown[0]!r}: no symbol of {self.strategy_id} (it has {', '.join(self)})")
        targets = [
            self[symbol].target_pct(KERNEL_DECIMAL.multiply(_exact(weights.get(symbol, 0)), HUNDRED), because, **order)
            for symbol in self
        ]
        proposed = [each for each in targets if each is not None]
        return sorted(proposed, key=lambda each: not self[each.symbol]._is_reduced_by(each.action))  # noqa: SLF001


class LivePortfolio(PortfolioContext):
    """The view of all symbols as the kernel writes it; strategies get its `read_only`."""

    __slots__ = ("account_view", "contexts", "now", "read_only", "strategy_id")

    def __init__(self, strategy_id: str, contexts: Mapping[str, LiveContext], account_view: AccountView) -> None:
        super().__init__(self)
        self.strategy_id = strategy_id
        self.contexts = contexts
        self.account_view = account_view
        self.now = 0
        self.read_only = PortfolioContext(self)

    def reach(self, event: Any, now: int) -> None:
        """Move to an event; to the rows of a slice."""
        self.now = now
        for context in self.contexts.values():
            context.now = now
        if type(event) is Slice:
            for symbol, row in event.items():
                self.contexts[symbol].show(row.event_ts, now, row.close)


class AccountView:
    """Gives a context the account: the engine, or a test's stand-in."""

    def account(self) -> Account:
        """The account now."""
        raise NotImplementedError
