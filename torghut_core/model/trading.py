"""The trader's words: decision, verdict, intent, order, fill, position.

Money is `Decimal` from here on: quantities in units, prices in quote currency per unit, cash and fees in quote
currency. Market data is float64; the two meet in `money`. Times are nanoseconds since the epoch, UTC.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from torghut_core.errors import without_secrets
from torghut_core.timestamps import format_timestamp

ZERO = Decimal(0)


@lru_cache(maxsize=16_384)  # prices come again and again
def money(value: float) -> Decimal:
    """The decimal that a market value prints as: the only place where float64 becomes `Decimal`.

    Examples
    --------
    >>> money(1640.25), money(0.1)
    (Decimal('1640.25'), Decimal('0.1'))
    """
    return Decimal(repr(float(value) or 0.0))


class Side(StrEnum):
    """BUY raises the position, SELL lowers it."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How an order sets its price."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class TimeInForce(StrEnum):
    """How long an order stays open.

    For the session's day, until canceled, immediate or cancel, fill or kill; in the opening or closing auction.
    """

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    OPG = "opg"
    CLS = "cls"


class Bracket(msgspec.Struct, frozen=True, gc=False):
    """What protects an entry from its fills on: a stop or a trailing stop, a take-profit, or one of the former with the latter.

    Prices in quote currency per unit; `trail` is the distance of a trailing stop. None where there is none.
    """

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trail: Decimal | None = None

    @property
    def given(self) -> dict[str, Decimal]:
        """The amounts that there are, by name."""
        return {name: amount for name in self.__struct_fields__ if (amount := getattr(self, name)) is not None}


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a strategy proposes.

    `event_ts` is the signal's, `decided_at` the loop's time; `price` the last price at that time, None where none was
    known. Prices that the order type does not use are None. `decision_hash` and `generation` are set by the kernel.
    """

    account: str
    strategy_id: str
    symbol: str
    event_ts: int
    decided_at: int
    action: Side
    quantity: Decimal
    because: str
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_pct: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    price: Decimal | None = None
    decision_hash: str = ""
    generation: int = 0
    is_close: bool = False
    """Made by `Context.close`: what protects the position is canceled first, and nothing is opened."""
    bracket: Bracket | None = None
    """Protects what the order opens."""
    replaces: str = ""
    """The client order id of the open order that is to get these terms, its `quantity` what is to remain of it; "" for a new order."""
    handler: str = ""
    """Of the strategy, that gave it; "" for `on_signal`. Set by the kernel."""
    number: int = 1
    """Which of several equal decisions on the same row. Set by the kernel."""

    def to_intent(
        self, quantity: Decimal, purpose: Purpose, highest_price: Decimal | None = None, *, leg: int = 1
    ) -> Intent:
        """An order on its terms, of this many units; `leg` numbers the orders of one decision."""
        return Intent(
            client_order_id=client_order_id(self.decision_hash, leg),
            decision_hash=self.decision_hash,
            account=self.account,
            strategy_id=self.strategy_id,
            symbol=self.symbol,
            side=self.action,
            quantity=quantity,
            decided_at=self.decided_at,
            order_type=self.order_type,
            limit_price=self.limit_price,
            stop_price=self.stop_price,
            trail_price=self.trail_price,
            trail_pct=self.trail_pct,
            time_in_force=self.time_in_force,
            purpose=purpose,
            highest_price=highest_price,
            bracket=self.bracket if purpose is _ENTRY else None,
        )

    @property
    def params(self) -> dict[str, str]:
        """The order's terms, and the handler, as text: the `params` of the decision hash. Absent values are left out."""
        return self.params_of(self.handler, self.number)

    def params_of(self, handler: str, number: int) -> dict[str, str]:
        """What `params` would be with this handler and number."""
        params = {
            "quantity": str(self.quantity),
            "order_type": str(self.order_type),
            "time_in_force": str(self.time_in_force),
        }
        if self.limit_price is not None:
            params["limit_price"] = str(self.limit_price)
        if self.stop_price is not None:
            params["stop_price"] = str(self.stop_price)
        if self.trail_price is not None:
            params["trail_price"] = str(self.trail_price)
        if self.trail_pct is not None:
            params["trail_pct"] = str(self.trail_pct)
        if self.bracket is not None:
            params.update({name: str(amount) for name, amount in self.bracket.given.items()})
        if self.replaces:
            params["replaces"] = self.replaces
        if handler:
            params["handler"] = handler
        if number > 1:
            params["n"] = str(number)
        return params


class Cancel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a strategy proposes of an open order of its own: that it be canceled. Nothing is risked, so no gate and no rule is asked."""

    symbol: str
    client_order_id: str
    because: str


_CANONICAL = msgspec.json.Encoder(order="sorted")


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for the same value on any machine."""
    return _CANONICAL.encode(value)


def decision_hash(
    account: str, strategy_id: str, symbol: str, event_ts: int, action: Side, params: dict[str, str]
) -> str:
    """sha256 over the canonical JSON of [account, strategy_id, symbol, event_ts, action, params], hexadecimal.

    `event_ts` is in nanoseconds and hashed as RFC 3339 text; `params` is `Decision.params`.
    """
    identity = [account, strategy_id, symbol, format_timestamp(event_ts), action, params]
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def client_order_id(decision_hash: str, leg: int = 1) -> str:
    """The id under which a decision's order is sent: at most 48 characters, the same on every retry.

    Examples
    --------
    >>> client_order_id("ab" * 32), client_order_id("ab" * 32, leg=2)
    ('tg-abababababababababababababababababababab', 'tg-abababababababababababababababababababab-2')
    """
    return f"tg-{decision_hash[:40]}" if leg == 1 else f"tg-{decision_hash[:40]}-{leg}"


class Outcome(StrEnum):
    """The result of a risk check."""

    ALLOW = "allow"
    SHRINK = "shrink"
    DENY = "deny"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One rule's result for one decision.

    `code` is stable and machine-readable (``max-notional``), `value` the measured value and `limit` the allowed one, in
    the unit that the rule documents; `quantity` is the reduced quantity of a shrink. `highest_price` is up to where an order
    to buy may be filled and stay within the limit, None where that depends on no price.
    """

    rule: str
    outcome: Outcome
    code: str
    value: str = ""
    limit: str = ""
    quantity: Decimal | None = None
    highest_price: Decimal | None = None


class Purpose(StrEnum):
    """What an order is for: to open a position, to reduce one, or to close one because trading is stopped.

    A LIQUIDATION is none of ours: the venue closes a position itself, for want of margin.
    """

    ENTRY = "entry"
    EXIT = "exit"
    FLATTEN = "flatten"
    LIQUIDATION = "liquidation"


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An allowed decision, recorded, to be sent: what a broker receives.

    `highest_price` bounds an order to buy that names no limit price: above it, it would break a limit of risk, so it must
    not be filled there, and waits as a limit order would. None where nothing bounds it.
    """

    client_order_id: str
    decision_hash: str
    account: str
    strategy_id: str
    symbol: str
    side: Side
    quantity: Decimal
    decided_at: int
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_pct: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    purpose: Purpose = Purpose.ENTRY
    highest_price: Decimal | None = None
    bracket: Bracket | None = None
    """Of an entry: each of its fills gets its `legs`."""
    parent: str = ""
    """Of a leg of a bracket, the client order id of the entry; "" for any other order."""
    parent_fill: str = ""
    """Of a leg, the id of the entry's fill that it protects. The legs of one fill are a pair: what fills of one, the other loses."""

    partner: Intent | None = None
    """Of a leg that is sent to a real venue, the other one of its pair, where that is not done. Not recorded."""

    def legs(self, fill: Fill, decided_at: int, number: int) -> list[Intent]:
        """The orders that protect a fill of this entry: the stop first.

        Parameters
        ----------
        decided_at : when it became known, ns.
        number : which of its fills that is, from 1 on.
        """
        bracket = self.bracket
        if bracket is None:
            return []
        leg = msgspec.structs.replace(
            self,
            side=_SELL if self.side is _BUY else _BUY,
            quantity=fill.quantity,
            decided_at=decided_at,
            limit_price=None,
            stop_price=None,
            trail_price=None,
            trail_pct=None,
            time_in_force=TimeInForce.GTC,
            purpose=_EXIT,
            highest_price=None,
            bracket=None,
            parent=self.client_order_id,
            parent_fill=fill.fill_id,
        )
        terms: list[tuple[str, dict[str, Any]]] = []
        if bracket.stop_loss is not None:
            terms.append(("s", {"order_type": OrderType.STOP, "stop_price": bracket.stop_loss}))
        elif bracket.trail is not None:
            terms.append(("s", {"order_type": OrderType.TRAILING_STOP, "trail_price": bracket.trail}))
        if bracket.take_profit is not None:
            terms.append(("p", {"order_type": OrderType.LIMIT, "limit_price": bracket.take_profit}))
        return [
            msgspec.structs.replace(
                leg, client_order_id=f"{client_order_id(self.decision_hash)}-{kind}{number}", **each
            )
            for kind, each in terms
        ]

    @property
    def pair(self) -> tuple[str, str]:
        """What the legs of one fill share."""
        return self.parent, self.parent_fill

    @property
    def is_exit(self) -> bool:
        """Whether it only reduces a position."""
        return self.purpose is not _ENTRY

    @property
    def is_protection(self) -> bool:
        """Whether it is an exit that waits for its price: a stop, a take-profit."""
        return self.purpose is _EXIT and self.order_type is not _MARKET and self.time_in_force not in _IMMEDIATE


# A member of an enum, reached through its class, is slow in Python 3.11.
_ENTRY, _EXIT, _MARKET = Purpose.ENTRY, Purpose.EXIT, OrderType.MARKET
_BUY, _SELL = Side.BUY, Side.SELL
_IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An execution, perhaps partial: `quantity` units of one order at one price.

    `fill_id` is the venue's and unique per order. `fee` is in quote currency, positive when it is paid. `slippage` is
    the fill's price minus the decision's, signed so that positive is against us; None where the decision had no price.
    """

    client_order_id: str
    fill_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    event_ts: int
    slippage: Decimal | None = None


class OrderState(StrEnum):
    """Where an order is in its life; `order_state` has the table of transitions."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    REPLACED = "replaced"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


class OrderEvent(StrEnum):
    """What can happen to an order: our own acts (submit, cancel, replace) and the venue's reports."""

    SUBMIT = "submit"
    ACCEPT = "accept"
    FILL = "fill"
    CANCEL = "cancel"
    CANCELED = "canceled"
    CANCEL_REJECTED = "cancel_rejected"
    REPLACE = "replace"
    REPLACED = "replaced"
    REPLACE_REJECTED = "replace_rejected"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of an order, as the venue or the executor reports it.

    `fill` is set exactly when `event` is FILL; `intent` may be set when it is REPLACED, and holds the new terms. It is set
    when it is ACCEPT where the venue has made the order itself, a liquidation, and then the order becomes known by this report.
    """

    client_order_id: str
    event: OrderEvent
    event_ts: int
    venue_order_id: str = ""
    fill: Fill | None = None
    intent: Intent | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """Keep the venue's words without our secrets."""
        if self.reason:
            msgspec.structs.force_setattr(self, "reason", without_secrets(self.reason))


class Order(msgspec.Struct, kw_only=True, gc=False):
    """An intent and its progress; changed only by `order_state.apply_report`.

    `average_price` is weighted by quantity; `fill_ids` are the ids of its fills, oldest first.
    """

    intent: Intent
    state: OrderState = OrderState.PENDING
    venue_order_id: str = ""
    filled_quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    fees: Decimal = ZERO
    fill_ids: list[str] = []
    updated_at: int = 0
    reason: str = ""

    @property
    def remaining(self) -> Decimal:
        """Units that are not filled."""
        return self.intent.quantity - self.filled_quantity

    @property
    def is_unsent_leg(self) -> bool:
        """Whether it is a leg of a bracket that nobody takes back and that the venue has not reported: after a restart it is to be sent."""
        return bool(self.intent.parent) and not self.venue_order_id and self.state is not OrderState.PENDING_CANCEL

    def copy(self) -> Order:
        """The order as it is now, which changes no more."""
        return msgspec.structs.replace(self, fill_ids=list(self.fill_ids))


class OrderStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order in full, as a venue shows it; it may come at any time, and any number of times.

    Its numbers are totals, so the newest status includes all earlier ones; `order_state.reports_of` works out what is new
    in it. `fill` is the latest fill, where the venue reports it; otherwise prices come from the averages. `order.intent`
    of an order that is not ours has what the venue knows of it, with ``""`` for the strategy.
    """

    order: Order
    fill: Fill | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Interest that a venue has taken from the cash at a time, ns: for the units of `symbol` that are borrowed, or for money where it is ""."""

    event_ts: int
    amount: Decimal
    symbol: str = ""


class Position(msgspec.Struct, frozen=True, gc=False):
    """Signed units held, with their average price per unit, and the realized profit in money (fees not subtracted)."""

    quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO


class Account(msgspec.Struct, frozen=True, gc=False):
    """The account at one moment, in its currency. `equity` is cash plus positions at their last price.

    `number` is the venue's account number; `day_start_equity` the equity at the beginning of its day, None where the
    venue does not report it.
    """

    cash: Decimal
    equity: Decimal
    buying_power: Decimal
    currency: str = "USD"
    number: str = ""
    day_start_equity: Decimal | None = None


ControlState: TypeAlias = Literal["running", "pause_entries", "reduce_only", "halted"]
"""The operator's control, from everything allowed to nothing.

`pause_entries` and `reduce_only` let exits pass; `reduce_only` also cancels open entries.
"""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """A strategy's own limits, as its catalog entry has them; None where it has none."""

    max_notional_per_trade: Decimal | None = None
    max_position_pct_equity: Decimal | None = None
    cooldown_seconds: int = 0


LIMITS: tuple[str, ...] = Limits.__struct_fields__
"""The names of the limits, in the order in which the rules that enforce them are added."""
