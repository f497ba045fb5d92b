"""Round trips: what each position cost and gained, from flat to flat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa

from torghut_core.calendars import calendar_zone
from torghut_core.errors import InputError
from torghut_core.generation.instruments import Instruments
from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.positions import ONE, apply_fill
from torghut_core.model.trading import ZERO, Fill, Position, Side
from torghut_core.research.performance.curve import NO_MULTIPLIERS, BarSeries, Row, decimal, factors_at, in_order
from torghut_core.research.performance.figures import Trips
from torghut_core.signals import column, texts
from torghut_core.timestamps import to_datetime

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BREAKDOWNS: Mapping[str, Callable[[RoundTrip, ZoneInfo], str]] = MappingProxyType(
    {
        "strategy": lambda trip, _zone: trip.strategy_id,
        "symbol": lambda trip, _zone: trip.symbol,
        "side": lambda trip, _zone: str(trip.side),
        "hour": lambda trip, zone: f"{_there(trip.entered_at, zone):%H}",
        "weekday": lambda trip, zone: WEEKDAYS[_there(trip.entered_at, zone).weekday()],
        "month": lambda trip, zone: f"{_there(trip.exited_at, zone):%Y-%m}",
    }
)
"""What round trips can be broken down by: the name of each one's group."""

_TIMES = ("entered_at", "exited_at")


def _there(at: int, zone: ZoneInfo) -> datetime:
    return to_datetime(at).astimezone(zone)


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy's position in a symbol, from flat to flat or through zero.

    `side` is that of its entry, `quantity` what was entered in all, units. Times are those of the first and the last fill, ns;
    prices are means by quantity. `profit` is after fees; of a fill that turns a position round, this one pays all.
    """

    strategy_id: str
    symbol: str
    side: Side
    quantity: Decimal
    entered_at: int
    exited_at: int
    entry_price: Decimal
    exit_price: Decimal
    profit: Decimal
    fees: Decimal


class _Open(msgspec.Struct):
    """A round trip that is not over: what was paid for how many units, on the way in and on the way out."""

    began_at: int
    realized: Decimal
    fees: Decimal
    entered: Decimal = ZERO
    cost: Decimal = ZERO
    exited: Decimal = ZERO
    proceeds: Decimal = ZERO


def round_trips(
    fills: Sequence[Row],
    multipliers: Mapping[str, Decimal] = NO_MULTIPLIERS,
    actions: Sequence[AppliedAction] = (),
) -> list[RoundTrip]:
    """The round trips that are over, in the order of their ends.

    `multipliers` are those of the symbols, 1 where there is none. Of a position that was split, quantity and prices are in units of
    after the split; dividends, and what was paid for less than a whole unit, are in the profit.
    """
    positions: dict[tuple[str, str], Position] = {}
    begun: dict[tuple[str, str], _Open] = {}
    trips: list[RoundTrip] = []
    for row in in_order(fills, actions):
        if isinstance(row, AppliedAction):
            _act(row, positions, begun, trips)
            continue
        key = (row["strategy_id"], row["symbol"])
        before = positions.get(key, Position())
        fill = Fill(
            client_order_id="",
            fill_id="",
            symbol=row["symbol"],
            side=Side(row["side"]),
            quantity=decimal(row["quantity"]),
            price=decimal(row["price"]),
            fee=decimal(row["fee"]),
            event_ts=row["event_ts"],
        )
        after = positions[key] = apply_fill(before, fill, multipliers.get(fill.symbol, ONE))
        trip = begun.setdefault(key, _Open(fill.event_ts, before.realized_pnl, before.fees))
        is_entry = (before.quantity >= 0) == (fill.side is Side.BUY)
        closing = ZERO if is_entry else min(fill.quantity, abs(before.quantity))
        trip.exited += closing
        trip.proceeds += closing * fill.price
        if before.quantity and before.quantity * after.quantity <= 0:
            trips.append(_ended(key, before, after, trip, fill.event_ts))
            trip = begun[key] = _Open(fill.event_ts, after.realized_pnl, after.fees)
        opening = fill.quantity - closing
        trip.entered += opening
        trip.cost += opening * fill.price
        if not after.quantity:
            del begun[key]
    return trips


def _act(
    applied: AppliedAction,
    positions: dict[tuple[str, str], Position],
    begun: dict[tuple[str, str], _Open],
    trips: list[RoundTrip],
) -> None:
    """Apply a corporate action to the round trips that are not over."""
    action = applied.action
    for change in applied.changes:
        key = change.strategy_id, action.symbol
        before = positions.get(key)
        if before is None or not before.quantity:
            continue
        profit = change.after.realized_pnl - change.before.realized_pnl
        positions[key] = msgspec.structs.replace(
            change.after, realized_pnl=before.realized_pnl + profit, fees=before.fees
        )
        trip = begun[key]
        trip.entered, trip.exited = action.units(trip.entered), action.units(trip.exited)
        if action.is_split:
            trip.exited += abs(action.units(change.before.quantity) - change.after.quantity)
            trip.proceeds += abs(change.cash)
        if not change.after.quantity:
            trips.append(_ended(key, before, positions[key], trip, applied.at))
            del begun[key]


def _ended(key: tuple[str, str], before: Position, after: Position, trip: _Open, at: int) -> RoundTrip:
    fees = after.fees - trip.fees
    return RoundTrip(
        strategy_id=key[0],
        symbol=key[1],
        side=Side.BUY if before.quantity > 0 else Side.SELL,
        quantity=trip.entered,
        entered_at=trip.began_at,
        exited_at=at,
        entry_price=trip.cost / trip.entered,
        exit_price=trip.proceeds / trip.exited,
        profit=after.realized_pnl - trip.realized - fees,
        fees=fees,
    )


def trip_arrays(
    trips: Sequence[RoundTrip], series: Mapping[str, BarSeries], actions: Sequence[AppliedAction] = ()
) -> Trips:
    """Round trips as arrays, with their excursions: how far the price went against each and for it, from its entry to its exit.

    Of bars those count that lie between the two as a whole; a fill in a bar has the time of its start, so that of the bar in which
    a round trip ends only its exit does. An excursion is 0 where the price never was on that side, NaN where the entry price is not
    positive.
    """
    mae, mfe = np.zeros(len(trips)), np.zeros(len(trips))
    places: dict[str, list[int]] = defaultdict(list)
    for place, trip in enumerate(trips):
        places[trip.symbol].append(place)
    entered_at, exited_at = (np.array([getattr(trip, name) for trip in trips], np.int64) for name in _TIMES)
    for symbol, own in places.items():
        entry = np.array([float(trips[place].entry_price) for place in own])
        low = high = np.array([float(trips[place].exit_price) for place in own])
        bars = series.get(symbol)
        if bars is not None:
            splits = [applied for applied in actions if applied.action.symbol == symbol]
            first = np.searchsorted(bars.event_ts, entered_at[own])
            behind = np.searchsorted(bars.event_ts + bars.step, exited_at[own], side="right")
            between = np.column_stack([first, np.maximum(first, behind)]).ravel()
            has_bars, now, then = (
                first < behind,
                factors_at(splits, exited_at[own]),
                factors_at(splits, bars.event_ts + bars.step - 1),
            )
            lowest = np.fmin.reduceat(np.append(bars.low / then, np.inf), between)[::2] * now
            highest = np.fmax.reduceat(np.append(bars.high / then, -np.inf), between)[::2] * now
            low = np.where(has_bars, np.fmin(low, lowest), low)
            high = np.where(has_bars, np.fmax(high, highest), high)
        is_long = np.array([trips[place].side is Side.BUY for place in own])
        with np.errstate(divide="ignore", invalid="ignore"):
            fell, rose = 100 * (low / entry - 1), 100 * (high / entry - 1)
        known = np.where(entry > 0, 0.0, np.nan)
        mae[own] = np.minimum(np.where(is_long, fell, -rose), 0) + known
        mfe[own] = np.maximum(np.where(is_long, rose, -fell), 0) + known
    return Trips(entered_at, exited_at, np.array([float(trip.profit) for trip in trips]), mae, mfe)


def trip_table(trips: Sequence[RoundTrip], arrays: Trips) -> pa.Table:
    """Round trips as a table, a column for each field and excursion: times as timestamps of UTC, money and units as float64."""
    columns: dict[str, pa.Array] = {}
    for name in RoundTrip.__struct_fields__:
        values = [getattr(trip, name) for trip in trips]
        if name in _TIMES:
            columns[name] = column(np.array(values, np.int64), pa.timestamp("ns", "UTC"))
        elif name in ("strategy_id", "symbol", "side"):
            columns[name] = texts([str(value) for value in values])
        else:
            columns[name] = column(np.array(values, np.float64), pa.float64())
    for name, values_of in (("mae_pct", arrays.mae_pct), ("mfe_pct", arrays.mfe_pct)):
        columns[name] = column(np.full(len(trips), np.nan) if values_of is None else values_of, pa.float64())
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def breakdown(trips: Sequence[RoundTrip], by: str, instruments: Instruments) -> pa.Table:
    """Round trips by what they have in common, a row for each in order: their number, those won, profit, fees and mean profit.

    Parameters
    ----------
    by : `strategy`, `symbol`, `side`, `hour` or `weekday` of the entry, or `month` of the exit; these are in the time zone of the
        symbol's calendar.
    instruments : their terms.

    Raises
    ------
    InputError : there is no such breakdown.
    """
    if by not in BREAKDOWNS:
        raise InputError(f"there is no breakdown by {by!r} (there are {', '.join(BREAKDOWNS)})")
    key = BREAKDOWNS[by]
    zones = {trip.symbol: ZoneInfo(calendar_zone(instruments[trip.symbol].calendar)) for trip in trips}
    groups: dict[str, list[RoundTrip]] = defaultdict(list)
    for trip in trips:
        groups[key(trip, zones[trip.symbol])].append(trip)
    names = sorted(groups, key=WEEKDAYS.index if by == "weekday" else None)
    profits = [sum((trip.profit for trip in groups[name]), ZERO) for name in names]
    counts = [len(groups[name]) for name in names]
    whole = {"round_trips": counts, "won": [sum(trip.profit > 0 for trip in groups[name]) for name in names]}
    money = {
        "profit": profits,
        "fees": [sum((trip.fees for trip in groups[name]), ZERO) for name in names],
        "expectancy": [float(profit) / count for profit, count in zip(profits, counts, strict=True)],
    }
    return pa.Table.from_arrays(
        [
            texts(names),
            *(column(np.array(values, np.int64), pa.int64()) for values in whole.values()),
            *(column(np.array(values, np.float64), pa.float64()) for values in money.values()),
        ],
        names=[by, *whole, *money],
    )
