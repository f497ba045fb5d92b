"""Which days are simulated: the sessions between two dates, each with a plan of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from torghut_core.errors import InputError
from torghut_core.plugin_host import PluginHost
from torghut_core.research.simulation.manifest import Manifest, load_manifest
from torghut_core.research.simulation.plan import Plan, make_plan, session_of

FARTHEST = 15
"""Days without a session at most, before the last one."""

MOST_DAYS = 3660
"""Days of one command at most."""


def parse_day(option: str, text: str) -> date:
    """A day of an option.

    Raises
    ------
    InputError : it is none.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InputError(f"{option} {text} is not a day (write 2026-01-05)") from None


def dates(first: date, last: date) -> Iterator[date]:
    """All dates from one to another, both included.

    Raises
    ------
    InputError : there is none, or there are more than `MOST_DAYS`.
    """
    number = (last - first).days + 1
    if number < 1:
        raise InputError(f"--from-date {first} is after --to-date {last}")
    if number > MOST_DAYS:
        raise InputError(f"{number:,} days are more than {MOST_DAYS:,} (give a part of them)")
    return (first + timedelta(days) for days in range(number))


def last_day(path: Path, now: datetime) -> date:
    """The last day with a session before today, both in the manifest's time zone.

    Raises
    ------
    CatalogError : the manifest is wrong.
    InputError : it cannot be read, or the calendar has no such day.
    """
    zone = ZoneInfo(load_manifest(path).window.timezone)
    today = now.astimezone(zone).date()
    for days in range(1, FARTHEST):
        day = today - timedelta(days)
        if session_of(load_manifest(path, day)) is not None:
            return day
    raise InputError(f"the calendar has no session before {today} (give --from-date)")


def manifests(path: Path, first: date, last: date, *, sessions_only: bool) -> Iterator[Manifest]:
    """The manifest for each day from one to another: of those with a session only, or of all."""
    for day in dates(first, last):
        manifest = load_manifest(path, day)
        clickhouse = manifest.clickhouse
        if clickhouse is not None and clickhouse.simulation_database is not None:
            raise InputError(
                f"clickhouse.simulation_database {clickhouse.simulation_database} would be that of all days "
                "(leave it out: each run gets its own)"
            )
        if not sessions_only or session_of(manifest) is not None:
            yield manifest


def plan_day(manifest: Manifest, host: PluginHost, sequence: int) -> Plan:
    """The plan of a day; its run is called after the day, ``sim-20260105-1``. Raises as `make_plan`."""
    return make_plan(manifest, host, f"sim-{manifest.window.trading_day:%Y%m%d}-{sequence}")
