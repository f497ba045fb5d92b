"""Strategies: signals in, decisions out; and the read-only context that a strategy gets with each signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any, ClassVar

from torghut_core.model.market import Signal
from torghut_core.model.trading import ZERO, Account, Decision, Position, Side, TimeInForce, money
from torghut_core.ports.plugin import Plugin

_DAY = TimeInForce.DAY


class Strategy(Plugin, ABC):
    """Signals in, decisions out.

    `columns` names the columns of ``ta_signals`` that it reads; it gets a row when all of them have a value. An instance
    serves all symbols of its catalog entry, so state is kept per symbol (a dict by `signal.symbol`).
    """

    columns: ClassVar[tuple[str, ...]] = ()

    @property
    def warmup(self) -> int:
        """Rows of a symbol that it needs before its decisions count; 0 when it keeps nothing between rows.

        A strategy that a reload adds or changes is first shown so many rows from the signal store.
        """
        return 0

    @abstractmethod
    def on_signal(self, signal: Signal, context: Context) -> Decision | None:
        """Return a decision on one row (made by `context.buy`, `sell`, `close` or `target`), or None."""


class Context:
    """One strategy's view of one symbol, at the current row.

    Nothing here is later than the loop's time. A strategy can propose (`buy`, `sell`, `close`, `target` make a
    `Decision` to return), but not act: there is no broker here.
    """

    __slots__ = (
        "_account_view",
        "account_label",
        "event_ts",
        "last_order_at",
        "now",
        "position",
        "price",
        "strategy_id",
        "symbol",
        "time_in_force",
        "working",
    )

    def __init__(
        self,
        strategy_id: str,
        symbol: str,
        account_label: str,
        account_view: AccountView,
        time_in_force: TimeInForce = TimeInForce.DAY,
    ) -> None:
        self.strategy_id = strategy_id
        self.symbol = symbol
        self.account_label = account_label
        self.time_in_force = time_in_force
        """How long an order stays open if the strategy does not set it."""
        self._account_view = account_view
        self.event_ts = 0
        """Start of the signal's bar, ns."""
        self.now = 0
        """The loop's time, ns."""
        self.price = float("nan")
        """Close of the signal's bar, quote currency per unit."""
        self.position = Position()
        """This strategy's position in this symbol, by its own fills."""
        self.working = ZERO
        """Signed units that this strategy's open orders in this symbol would still add."""
        self.last_order_at: int | None = None
        """Loop time of the last decision of this strategy in this symbol that was allowed, ns; None before the first."""

    @property
    def is_flat(self) -> bool:
        """No position and no open order."""
        return not self.position.quantity and not self.working

    @property
    def is_long(self) -> bool:
        """A long position and no open order."""
        return self.position.quantity > 0 and not self.working

    @property
    def is_short(self) -> bool:
        """A short position and no open order."""
        return self.position.quantity < 0 and not self.working

    @property
    def account(self) -> Account:
        """Cash, equity and buying power of the account."""
        return self._account_view.account()

    def buy(self, quantity: Decimal | int | str, because: str, **order: Any) -> Decision:
        """Propose to buy `quantity` units.

        `order` has the terms that differ from a market order with the broker's usual time in force: `order_type`,
        `limit_price`, `stop_price`, `trail_price`, `trail_pct`, `time_in_force`.
        """
        return self._decision(Side.BUY, Decimal(quantity), because, order)

    def sell(self, quantity: Decimal | int | str, because: str, **order: Any) -> Decision:
        """Propose to sell `quantity` units; `order` as in `buy`."""
        return self._decision(Side.SELL, Decimal(quantity), because, order)

    def close(self, because: str, **order: Any) -> Decision | None:
        """Propose to close the position; None when it is flat."""
        return self.target(ZERO, because, **order)

    def target(self, quantity: Decimal | int | str, because: str, **order: Any) -> Decision | None:
        """Propose the order that brings position and open orders to `quantity` signed units; None when they are there."""
        change = Decimal(quantity) - self.position.quantity - self.working
        if not change:
            return None
        return self._decision(Side.BUY if change > 0 else Side.SELL, abs(change), because, order)

    def _decision(self, action: Side, quantity: Decimal, because: str, order: dict[str, Any]) -> Decision:
        if self.time_in_force is not _DAY:
            order.setdefault("time_in_force", self.time_in_force)
        return Decision(
            account=self.account_label,
            strategy_id=self.strategy_id,
            symbol=self.symbol,
            event_ts=self.event_ts,
            decided_at=self.now,
            action=action,
            quantity=quantity,
            because=because,
            price=money(self.price) if self.price == self.price else None,
            **order,
        )


class AccountView:
    """Gives a context the account: the engine, or a test's stand-in."""

    def account(self) -> Account:
        """The account now."""
        raise NotImplementedError
