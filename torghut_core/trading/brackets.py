"""The legs of brackets: which protect the same units, what is left of these, and which legs have lapsed.

An entry with a bracket gets, with each of its fills, a pair of legs (`Intent.legs`): a stop and a take-profit of the filled
quantity, of which each loses what the other fills. The `Books` record them with the fill; the `Gateway` sends them, and makes
them smaller where the strategy sells otherwise.

Where a venue does not hold two exits of the same units (`OrderEntry.holds_pair`), the kernel keeps the take-profit: it waits
in the outbox until the market reaches its price. Then the stop is canceled, and when that is done the take-profit is sent, to
be filled at once or not at all; where it is not, both legs are sent, and kept, anew.

A leg that ends without a fill, and not because we asked for it, has *lapsed*: what it protected is held without it. One that
never reached the venue, or has expired there, is sent anew, and so is one that a venue has canceled with its partner, or that we
have canceled because it could not be made smaller. One that the venue has refused, or canceled by itself, is reported until the
position is closed. All of that is in what is recorded of the legs: a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import chain, count

import msgspec

from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import ZERO, Fill, Intent, Order, OrderState, OrderType, Side
from torghut_core.ports import LiveContext
from torghut_core.trading.working_order import WorkingOrder

_BUY = Side.BUY
_FILLED, _EXPIRED, _CANCELED = OrderState.FILLED, OrderState.EXPIRED, OrderState.CANCELED
_PENDING_CANCEL = OrderState.PENDING_CANCEL

MADE_WAY = "its take-profit is reached"
"""Why a stop was canceled that makes way for a take-profit of the same units."""

TOO_LARGE = "a smaller one takes its place"
"""Why a leg was canceled that the venue could not make smaller."""

CLOSED = "what it protects is closed"
"""Why a leg was canceled otherwise, where nobody has given a reason."""


class Pair(msgspec.Struct):
    """The legs of one fill of an entry.

    `number` counts fills; `left` is what of this one neither they nor the strategy otherwise have sold.
    """

    number: int
    left: Decimal
    legs: list[WorkingOrder] = []
    was_asked: bool = False
    """Whether we have asked to cancel one of them."""


class Brackets:
    """The legs of one account's brackets, by pair (`Intent.pair`)."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], Pair] = {}
        """As long as one leg of the pair is open, or has lapsed."""
        self._lapsed: dict[tuple[str, str, OrderType], WorkingOrder] = {}
        """By pair and kind."""
        self._failed: dict[tuple[str, str], WorkingOrder] = {}
        """By strategy and symbol, the last exit that protection made room for, and that was not filled."""
        self.has_due = False
        """Whether a leg has lapsed that is to be sent anew at once."""
        self._numbers = count()

    def add(self, working: WorkingOrder) -> None:
        """Add an order, where it is a leg."""
        intent = working.order.intent
        if intent.parent:
            pair = self._pairs.get(intent.pair)
            if pair is None:
                pair = self._pairs[intent.pair] = Pair(next(self._numbers), intent.quantity)
            pair.legs.append(working)

    def restore(self, legs: list[WorkingOrder], exits: list[WorkingOrder]) -> None:
        """Add legs of an earlier process, open and done, and note which of them have lapsed.

        `exits` are those for which protection made room, open and done, oldest first: the newest may have failed.
        """
        for leg in legs:
            self.add(leg)
        for pair in {leg.order.intent.pair for leg in legs}:
            self._pairs[pair].left = _left([leg.order for leg in self._pairs[pair].legs])
        for leg in legs:
            order = leg.order
            if is_done(order.state):
                was_asked = order.state is _CANCELED and bool(order.reason) and not _is_renewable(order)
                self._note_end(leg, was_asked=was_asked)
        for leg in legs:
            self.forget_done(leg.order.intent.pair)
        for exit_ in exits:
            order = exit_.order
            was_asked = order.state is _CANCELED and not order.reason.startswith("not sent")
            self.note_exit(exit_, _PENDING_CANCEL if was_asked else OrderState.SUBMITTED)

    def apply_split(self, split: CorporateAction) -> None:
        """Count what is left of the pairs in a symbol in units of after a split."""
        for pair in self._pairs.values():
            if pair.legs[0].order.intent.symbol == split.symbol:
                pair.left = split.units(pair.left)

    def sibling(self, client_order_id: str) -> Intent | None:
        """A leg of the entry to which a leg with this id belongs, of those that are known."""
        base, _, end = client_order_id.rpartition("-")
        legs = [leg.order.intent for pair in self._pairs.values() for leg in pair.legs]
        alike = [leg for leg in legs if leg.client_order_id.rpartition("-")[0] == base]
        return alike[0] if alike and end[:1] in ("s", "p") else None

    def has_lapsed(self, leg: WorkingOrder) -> bool:
        """Whether an order is a leg that has lapsed."""
        return bool(leg.order.intent.parent) and self._lapsed.get(_kind(leg)) is leg

    def forget_done(self, pair: tuple[str, str]) -> None:
        """Drop a pair whose legs are done, and none of them missed."""
        found = self._pairs.get(pair)
        if found and all(is_done(leg.order.state) and _kind(leg) not in self._lapsed for leg in found.legs):
            del self._pairs[pair]

    def partner(self, intent: Intent) -> WorkingOrder | None:
        """The other leg of a pair, where it is not done; None for an order that is no leg."""
        pair = self._pairs.get(intent.pair) if intent.parent else None
        others = (leg for leg in pair.legs if leg.order.intent.order_type is not intent.order_type) if pair else ()
        return next((leg for leg in others if not is_done(leg.order.state)), None)

    def allot(
        self, context: LiveContext, orders: Iterable[WorkingOrder], exits: Side, rest: Decimal
    ) -> dict[tuple[str, str], Decimal]:
        """Divide what is held among the pairs, and release what a pair does not get: it protects no more than that from here on.

        The newest comes first: what a strategy sells otherwise is what it has held longest.

        Parameters
        ----------
        context, orders : a view, and its working orders.
        exits : the side of what closes its position.
        rest : units that it holds and does not sell otherwise.

        Returns
        -------
        Units by pair.
        """
        largest: dict[tuple[str, str], Decimal] = {}
        lapsed = (leg for leg in self._lapsed.values() if leg.context is context)
        for working in chain(orders, lapsed):
            order, intent = working.order, working.order.intent
            if intent.parent and intent.side is exits:
                largest[intent.pair] = max(order.remaining, largest.get(intent.pair, ZERO))
        shares = {}
        for pair, units in sorted(largest.items(), key=lambda each: -self._pairs[each[0]].number):
            left = min(self._pairs[pair].left, units)
            shares[pair] = max(ZERO, min(left, rest))
            rest -= shares[pair]
            if shares[pair] < left:
                self._pairs[pair].left = shares[pair]
        return shares

    # Legs that have lapsed.

    def note_change(self, leg: WorkingOrder, was: OrderState, fill: Fill | None) -> None:
        """Note that a leg has changed, whose state `was` another one before: it has filled, or may have lapsed."""
        order, pair = leg.order, self._pairs.get(leg.order.intent.pair)
        if pair is None:
            return
        if fill is not None:
            pair.left -= fill.quantity
        pair.was_asked |= order.state is _PENDING_CANCEL
        if is_done(order.state):
            was_asked = leg.was_taken_back or (was is _PENDING_CANCEL and leg.cancel_reason != TOO_LARGE)
            self._note_end(leg, was_asked=was_asked)
            if _kind(leg) in self._lapsed:
                is_with_other = order.state is _CANCELED and pair.was_asked and not order.reason.startswith("not sent")
                leg.is_due_again = leg.is_reached or leg.cancel_reason == TOO_LARGE or is_with_other
                self.has_due = self.has_due or leg.is_due_again

    def note_exit(self, working: WorkingOrder, was: OrderState) -> None:
        """Note that an exit has changed that protection made room for: where it failed, what it was to close is unprotected."""
        order, context = working.order, working.context
        key = context.strategy_id, context.symbol
        if order.state is _FILLED:
            self._failed.pop(key, None)
        elif is_done(order.state) and was is not _PENDING_CANCEL and not working.was_taken_back:
            self._failed[key] = working

    def _note_end(self, leg: WorkingOrder, *, was_asked: bool) -> None:
        order, pair = leg.order, self._pairs[leg.order.intent.pair]
        if was_asked:
            pair.was_asked = True
            self._lapsed.pop(_kind(leg), None)
        elif order.state is not _FILLED and pair.left > 0:
            self._lapsed[_kind(leg)] = leg
            if leg.is_reached:  # it was not filled there: the stop that has made way is missed again
                self._lapsed.update({_kind(each): each for each in pair.legs if _has_made_way(each.order)})

    def _missing(self, leg: WorkingOrder) -> tuple[Decimal, Decimal]:
        """Units held that a lapsed leg would close and no other of its kind is there to, and how many these others would."""
        intent, context = leg.order.intent, leg.context
        pair = self._pairs.get(intent.pair)
        if pair is None or not context.side:
            return ZERO, ZERO
        alike = [each.order for each in list(pair.legs) if _kind(each) == _kind(leg)]
        others = sum((each.remaining for each in alike if not is_done(each.state)), ZERO)
        held = -context.position.quantity if intent.side is _BUY else context.position.quantity
        return min(pair.left, held) - others, others

    @property
    def unprotected(self) -> list[str]:
        """What is held without the protection that its strategy has asked for, a line each; any thread."""
        missed = [_line(leg) for leg in list(self._lapsed.values()) if self._missing(leg)[0] > 0]
        return missed + [_failure_line(exit_) for exit_ in list(self._failed.values()) if _is_held(exit_)]

    def renewable(self) -> list[tuple[WorkingOrder, Decimal]]:
        """The lapsed legs that can be sent anew, and the units that they are to protect; those that nobody misses are forgotten."""
        found = []
        for kind, leg in list(self._lapsed.items()):
            order = leg.order
            missing, others = self._missing(leg)
            if missing <= 0:
                del self._lapsed[kind]
                self.forget_done(order.intent.pair)
                continue
            is_with_other = order.state is _CANCELED and self._pairs[order.intent.pair].was_asked
            if not others and (leg.is_due_again or is_with_other or _is_renewable(order)):
                found.append((leg, min(order.remaining, missing)))
        for key in [key for key, exit_ in self._failed.items() if not _is_held(exit_)]:
            del self._failed[key]
        self.has_due = False
        return found


def _left(legs: list[Order]) -> Decimal:
    """Units that the legs of a pair are to protect, by what is recorded of them.

    A leg that another's fill has made smaller says no more how large the fill was; where all have filled, what remains of
    them does.
    """
    rest = max(leg.intent.quantity for leg in legs) - sum((leg.filled_quantity for leg in legs), ZERO)
    if all(leg.filled_quantity for leg in legs):
        rest = max(rest, min((leg.remaining for leg in legs if not is_done(leg.state)), default=ZERO))
    return rest


def _is_renewable(order: Order) -> bool:
    """Whether a leg that has lapsed would be taken if it were sent anew."""
    is_replaced = _has_made_way(order) or order.reason == TOO_LARGE
    return order.state is _EXPIRED or is_replaced or order.reason.startswith("not sent")


def _has_made_way(order: Order) -> bool:
    """Whether a stop was canceled for its take-profit, before it was sent or after."""
    return order.state is _CANCELED and order.reason.endswith(MADE_WAY)


def _kind(leg: WorkingOrder) -> tuple[str, str, OrderType]:
    return *leg.order.intent.pair, leg.order.intent.order_type


def _line(leg: WorkingOrder) -> str:
    order, context = leg.order, leg.context
    kind = str(order.intent.order_type).replace("_", " ")
    return (
        f"{context.strategy_id} holds {context.symbol} without its {kind} order: {order.state} {order.reason}".rstrip()
    )


def _is_held(exit_: WorkingOrder) -> bool:
    """Whether anything is held that an exit would close."""
    side = exit_.context.side
    return side < 0 if exit_.order.intent.side is _BUY else side > 0


def _failure_line(exit_: WorkingOrder) -> str:
    order, context = exit_.order, exit_.context
    return (
        f"{context.strategy_id} holds {order.remaining} {context.symbol} without protection, which made room for an exit: "
        f"{order.state} {order.reason}".rstrip()
    )


def renewed_id(client_order_id: str) -> str:
    """The id of a leg that takes the place of another.

    Examples
    --------
    >>> renewed_id("tg-ab-s1"), renewed_id("tg-ab-s1r2")
    ('tg-ab-s1r2', 'tg-ab-s1r3')
    """
    first, _, number = client_order_id.partition("r")
    return f"{first}r{int(number or 1) + 1}"
