"""When corporate actions take effect."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec

from torghut_core.calendars import ROUND_THE_CLOCK, calendar_zone
from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.instruments import Instrument
from torghut_core.timestamps import from_datetime

NEW_YORK = "America/New_York"
"""The zone of a symbol without an exchange calendar: what is split and pays dividends is mostly an equity of the USA."""


class Terms(Protocol):
    """Has the terms of every symbol."""

    def __getitem__(self, symbol: str) -> Instrument:
        """Return the terms of a symbol."""


class DatedAction(NamedTuple):
    """A corporate action, and the time before whose first event it takes effect, ns."""

    at: int
    action: CorporateAction


def dated(actions: Iterable[CorporateAction], instruments: Terms) -> list[DatedAction]:
    """The actions in the order in which they take effect, each at the midnight at which its ex date begins at the exchange.

    So the hours before the open, which trade at the new price, come after it. Of one date dividends come first: they are
    paid on what was held the evening before.

    Prices of an instrument that is `adjusted` have the splits in them. Its units are those of after the last split: so its
    splits are left out, and a dividend is divided by what the later ones multiply.
    """
    days: dict[tuple[str, date], int] = {}
    splits: dict[str, list[CorporateAction]] = {}
    actions = list(actions)
    for action in actions:
        if action.is_split:
            splits.setdefault(action.symbol, []).append(action)
    found = []
    for action in actions:
        instrument = instruments[action.symbol]
        if instrument.adjusted and action.is_split:
            continue
        place = instrument.calendar, action.ex_date
        if place not in days:
            days[place] = _midnight(*place)
        in_force = _adjusted(action, splits.get(action.symbol, ())) if instrument.adjusted else action
        found.append(DatedAction(days[place], in_force))
    return sorted(found, key=lambda each: (each.at, each.action.symbol, each.action.is_split))


def _midnight(calendar: str, day: date) -> int:
    zone = NEW_YORK if calendar == ROUND_THE_CLOCK else calendar_zone(calendar)
    return from_datetime(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)))


def _adjusted(dividend: CorporateAction, splits: Iterable[CorporateAction]) -> CorporateAction:
    """A dividend on one unit of after the last split."""
    amount: Decimal = dividend.dividend
    for split in splits:
        if split.ex_date >= dividend.ex_date:
            amount = split.price(amount)
    return msgspec.structs.replace(dividend, dividend=amount)
