"""Enter only while the venue trades."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from torghut_core import (
    ROUND_THE_CLOCK,
    SECOND,
    Calendars,
    Decision,
    RiskContext,
    RiskRule,
    Verdict,
    calendar_bounds,
    calendar_of,
    check_calendar,
    format_timestamp,
    param,
)
from torghut_risk.sizing import entry_verdict
from torghut_risk.trading_hours import trading_hours


class MarketHours(RiskRule):
    """Deny an entry outside of its venue's trading hours, or too close to their ends.

    Value: the time of the decision, UTC. Limit: the calendar, and the time from which and before which entries are allowed,
    UTC: of the current session, or else of the next one. A pair such as BTC/USD trades round the clock, every other
    symbol by `calendar`, unless `calendars` or the catalog's instruments say otherwise. Holidays, half days, pauses at
    noon and changes of the clock are those of exchange_calendars; where a calendar does not know its sessions, entries
    are denied. The order's time in force does not matter: an order for the next auction is an entry outside the hours
    too. Exits pass.
    """

    class Params(RiskRule.Params):
        """Parameters of `MarketHours`."""

        calendar: Annotated[str, AfterValidator(check_calendar)] = param(
            "XNYS", help="exchange calendar of symbols without a slash; 24/7 is always open"
        )
        calendars: Calendars = param(
            {},
            help="exchange calendar by symbol or pattern of symbols (* and ?); the first match counts, before `calendar`",
        )
        open_grace_seconds: int = param(0, ge=0, help="time after an open without entries, seconds")
        close_grace_seconds: int = param(0, ge=0, help="time before a close without entries, seconds")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        for name in params.calendars.values():  # loaded now, not at the first decision
            if name != ROUND_THE_CLOCK:
                calendar_bounds(name)
        self._graces = params.open_grace_seconds * SECOND, params.close_grace_seconds * SECOND

    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow within the hours; see the class."""
        usual = ROUND_THE_CLOCK if "/" in decision.symbol else self.params.calendar
        name = calendar_of(decision.symbol, self.params.calendars) or usual
        now, limit, is_open = context.now, name, name == ROUND_THE_CLOCK
        if not is_open:
            hours = trading_hours(name, now).around(now, *self._graces)
            if hours is not None:
                is_open = hours[0] <= now
                limit = f"{name} {format_timestamp(hours[0])}/{format_timestamp(hours[1])}"
        value = format_timestamp(now)
        return entry_verdict("market-hours", decision, context, may_enter=is_open, value=value, limit=limit)
