"""Builders of everything that a plugin is given, with a default for whatever a test does not care about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np

from torghut_core import (
    SECOND,
    SIGNAL_COLUMNS,
    TIMEFRAMES,
    Account,
    AccountView,
    Bars,
    Batch,
    Context,
    Decision,
    Instrument,
    Intent,
    Limits,
    LiveContext,
    OpenOrder,
    Order,
    OrderState,
    Position,
    RiskContext,
    Side,
    Signal,
    Signals,
    SymbolTable,
    Trades,
    signal_type,
)

SYMBOL = "BTC/USD"
NOW = 1_767_623_401_000_000_000
"""2026-01-05T14:30:01Z: the loop's time in everything that is built here."""
EVENT_TS = NOW - 1_000_000_000
"""Start of the second that ends at `NOW`."""
STRATEGY = "strategy-under-test"
"""Whose decisions, contexts and intents these are."""
OTHER_STRATEGY = "another-strategy"
"""Whose open orders are beside them."""
Number = Decimal | int | str
NO_FEATURES: Mapping[str, float] = MappingProxyType({})


def signal(
    symbol: str = SYMBOL,
    event_ts: int = EVENT_TS,
    *,
    open: float | None = None,
    high: float | None = None,
    low: float | None = None,
    close: float = 100.0,
    volume: float = 1.0,
    features: Mapping[str, float] = NO_FEATURES,
    **columns: float,
) -> Signal:
    """A signal row with the given columns of ``ta_signals`` and features, and no others, of a bar of one second.

    A price that is left out is the close; of `high` and `low`, the highest and lowest of open and close.

    Raises
    ------
    TypeError : a column that ``ta_signals`` does not have: a feature of that name is one of `features`.

    Examples
    --------
    >>> signal(rsi14=28.5).rsi14
    28.5
    >>> row = signal(close=101.0, features={"top": 100.5})
    >>> row.close > row.top
    True
    """
    unknown = columns.keys() - set(SIGNAL_COLUMNS)
    if unknown:
        raise TypeError(
            f"no columns of ta_signals: {sorted(unknown)} (there are {', '.join(SIGNAL_COLUMNS)};"
            " give features as `features={...}`)"
        )
    first = close if open is None else open
    bar = Signals.from_columns(
        event_ts=[event_ts],
        step=[SECOND],
        open=[first],
        high=[max(first, close) if high is None else high],
        low=[min(first, close) if low is None else low],
        close=[close],
        volume=[volume],
    )
    values = {**columns, **features}
    make: Any = signal_type(tuple(values))
    made: Signal = make(symbol, event_ts, *values.values(), bar, 0)
    return made


class FixedAccount(AccountView):
    """An account that never changes."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def account(self) -> Account:
        """The account that it was made with."""
        return self._account


def context(
    price: float = 100.0,
    position: Number = 0,
    *,
    average_price: Number = 100,
    working: Number = 0,
    protecting: Number = 0,
    orders: Iterable[Intent] = (),
    cash: Number = 100_000,
    symbol: str = SYMBOL,
    event_ts: int = EVENT_TS,
    now: int = NOW,
    strategy_id: str = STRATEGY,
    instrument: Instrument | None = None,
) -> Context:
    """The context of a strategy: a price, a position, and an account with `cash` and nothing else.

    `working` and `protecting` are the signed units that its open orders would still add: those that open or close at once,
    and the stops and take-profits that protect the position; `orders` are open ones besides these, to cancel or to replace (see
    `intent`). `instrument` has the terms of the symbol.

    Examples
    --------
    >>> context(position=2).is_long, context(position=2).close(because="enough").quantity
    (True, Decimal('2'))
    """
    funds = Decimal(cash)
    account = FixedAccount(Account(cash=funds, equity=funds, buying_power=funds))
    made = LiveContext(strategy_id, symbol, "test", account, instrument=instrument or Instrument())
    made.event_ts = event_ts
    made.now = now
    made.price = price
    made.hold(Position(Decimal(position), Decimal(average_price) if Decimal(position) else Decimal(0)))
    made.buying, made.selling = max(Decimal(0), Decimal(working)), max(Decimal(0), -Decimal(working))
    made.protecting = Decimal(protecting)
    for order in orders:
        made.open_orders[order.client_order_id] = Order(intent=order, state=OrderState.ACCEPTED)
        units = order.quantity if order.side is Side.BUY else -order.quantity
        if order.is_protection:
            made.protecting += units
        elif units > 0:
            made.buying += units
        else:
            made.selling -= units
    return made.read_only


def decision(action: Side | str = Side.BUY, quantity: Number = 1, *, symbol: str = SYMBOL, **fields: Any) -> Decision:
    """What a strategy proposed; `fields` are those of `Decision`.

    Examples
    --------
    >>> decision("sell", "0.5").quantity
    Decimal('0.5')
    """
    given = {
        "account": "test",
        "strategy_id": STRATEGY,
        "event_ts": EVENT_TS,
        "decided_at": NOW,
        "because": "the test says so",
        "price": Decimal(100),
        **fields,
    }
    return Decision(symbol=symbol, action=Side(action), quantity=Decimal(quantity), **given)


def risk_context(
    price: Number = 100,
    position: Number = 0,
    *,
    working: Number = 0,
    strategy_position: Number | None = None,
    account_working: Number | None = None,
    orders: Iterable[OpenOrder] = (),
    equity: Number = 100_000,
    day_start_equity: Number | None = None,
    day_low_equity: Number | None = None,
    buying_power: Number | None = None,
    reserved_cash: Number = 0,
    gross_exposure: Number | None = None,
    strategy_exposure: Number | None = None,
    open_orders: int | None = None,
    orders_last_minute: int = 0,
    limits: Limits | None = None,
    allow_shorts: bool = False,
    last_order_at: int | None = None,
    now: int = NOW,
    price_ts: int | None = None,
    recent_price: Number | None = None,
    quote: tuple[Number, Number] | None = None,
    collar: Number = 0,
    instrument: Instrument | None = None,
) -> RiskContext:
    """The context of a risk rule.

    Parameters
    ----------
    working, account_working : signed units that open market orders of the strategy, and of all strategies, would still
        add in the symbol; left out, the account's are the strategy's.
    orders : open orders in the symbol besides these.
    strategy_position : signed units; left out, the account's.
    buying_power, day_start_equity, day_low_equity : left out, `equity`.
    gross_exposure, strategy_exposure, open_orders : left out, as if there were no other symbol.
    price_ts : left out, the price is as old as `now`.
    quote : bid and ask.
    instrument : the terms of the symbol; left out, any price and quantity, and multiplier 1.

    Examples
    --------
    >>> risk_context(position=3, working=-1).closable(Side.SELL)
    Decimal('2')
    """
    held = Decimal(position)
    own_held = held if strategy_position is None else Decimal(strategy_position)
    own_working = Decimal(working)
    others_working = Decimal(0) if account_working is None else Decimal(account_working) - own_working
    open_in_symbol = (*_market_order(STRATEGY, own_working), *_market_order(OTHER_STRATEGY, others_working), *orders)
    instrument = instrument or Instrument()
    unit = Decimal(price) * instrument.multiplier
    gross = (abs(held) + sum(order.quantity for order in open_in_symbol)) * unit
    own = (abs(own_held) + sum(order.quantity for order in open_in_symbol if order.strategy_id == STRATEGY)) * unit
    funds = Decimal(equity)
    return RiskContext(
        now=now,
        strategy_id=STRATEGY,
        price=Decimal(price),
        price_ts=now if price_ts is None else price_ts,
        position=held,
        strategy_position=own_held,
        reserved_cash=Decimal(reserved_cash),
        account=Account(
            cash=funds, equity=funds, buying_power=funds if buying_power is None else Decimal(buying_power)
        ),
        limits=limits or Limits(),
        allow_shorts=allow_shorts,
        last_order_at=last_order_at,
        orders=open_in_symbol,
        day_start_equity=funds if day_start_equity is None else Decimal(day_start_equity),
        day_low_equity=funds if day_low_equity is None else Decimal(day_low_equity),
        gross_exposure=gross if gross_exposure is None else Decimal(gross_exposure),
        strategy_exposure=own if strategy_exposure is None else Decimal(strategy_exposure),
        open_orders=len(open_in_symbol) if open_orders is None else open_orders,
        orders_last_minute=orders_last_minute,
        recent_price=None if recent_price is None else Decimal(recent_price),
        bid=None if quote is None else Decimal(quote[0]),
        ask=None if quote is None else Decimal(quote[1]),
        collar=Decimal(collar),
        instrument=instrument,
    )


def _market_order(strategy_id: str, units: Decimal) -> list[OpenOrder]:
    """The order that would add signed units; none for 0."""
    side = Side.BUY if units > 0 else Side.SELL
    return [OpenOrder(strategy_id=strategy_id, side=side, quantity=abs(units))] if units else []


def intent(
    client_order_id: str = "tg-test-1", side: Side | str = Side.BUY, quantity: Number = 1, **fields: Any
) -> Intent:
    """An intent to be sent as an order; `fields` are those of `Intent`."""
    given = {
        "decision_hash": client_order_id,
        "account": "test",
        "strategy_id": STRATEGY,
        "symbol": SYMBOL,
        "decided_at": NOW,
        **fields,
    }
    return Intent(client_order_id=client_order_id, side=Side(side), quantity=Decimal(quantity), **given)


def trade_batch(
    rows: Iterable[tuple[str, int, float, float]], symbols: SymbolTable | None = None, start: int = 0
) -> Batch:
    """A batch of trades, one per row of (symbol, event_ts, price, size), at stream positions from `start` on.

    Examples
    --------
    >>> trade_batch([("ES", NOW, 1640.25, 3), ("ES", NOW + 1, 1640.5, 1)]).trades.price.tolist()
    [1640.25, 1640.5]
    """
    table = SymbolTable() if symbols is None else symbols
    names, event_ts, price, size = _transposed(rows, 4)
    trades = Trades.from_columns(
        at=range(start, start + len(names)),
        event_ts=event_ts,
        symbol=[table.number(name) for name in names],
        seq=range(start, start + len(names)),
        price=price,
        size=size,
    )
    return Batch.of(table, start, np.maximum.accumulate(trades.event_ts), trades=trades)


def bar_batch(
    rows: Iterable[tuple[str, int, float, float, float, float, float]],
    timeframe: str = "1Min",
    symbols: SymbolTable | None = None,
    start: int = 0,
) -> Batch:
    """A batch of bars, one per row of (symbol, event_ts of its start, open, high, low, close, volume).

    Each is known at its end, so rows are in order of that.

    Examples
    --------
    >>> bar_batch([("ES", 0, 1.0, 3.0, 1.0, 2.0, 10.0)]).now.tolist()
    [60000000000]
    """
    table = SymbolTable() if symbols is None else symbols
    step = TIMEFRAMES[timeframe]
    names, event_ts, opened, high, low, close, volume = _transposed(rows, 7)
    numbers = [table.number(name) for name in names]
    bars = Bars.from_columns(
        at=range(start, start + len(names)),
        event_ts=event_ts,
        symbol=numbers,
        seq=range(start, start + len(names)),
        step=[step] * len(names),
        series=[table.series(number, step) for number in numbers],
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )
    return Batch.of(table, start, np.maximum.accumulate(bars.event_ts + step), bars=bars)


def _transposed(rows: Iterable[tuple[Any, ...]], columns: int) -> list[list[Any]]:
    """The columns of `rows`, also where there are none."""
    given = list(rows)
    return [[row[column] for row in given] for column in range(columns)]
