"""A window of the signal store as what a generation trades on: its bounds, its source, and the past that goes before it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from torghut_core.catalog import Catalog
from torghut_core.errors import InputError
from torghut_core.feature_graph import FeaturePlan
from torghut_core.generation import Generation, build, use_stored
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Connection
from torghut_core.reload.plan import Moment
from torghut_core.reload.state_keeper import NO_STATE
from torghut_core.reload.warm_up import warm_up
from torghut_core.signals import SignalDatabase
from torghut_core.timestamps import format_timestamp, parse_timestamp
from torghut_core.trading.engine import Engine

_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)


class Window(NamedTuple):
    """From `since`, inclusive, up to `until`, exclusive, by the start of a bar; ns since 1970."""

    since: int
    until: int

    @classmethod
    def parse(cls, start: str, end: str, now: int) -> Window:
        """The window between two times or days; an empty `end` is `now`, and what names no zone is UTC.

        Raises
        ------
        InputError : one of them is no time, or nothing lies between them.

        Examples
        --------
        >>> window = Window.parse("2026-01-05", "2026-01-05T09:30:00-05:00", 0)
        >>> (window.until - window.since) / 3_600_000_000_000
        14.5
        """
        since = _moment("--start", start)
        until = _moment("--end", end) if end else now
        if since >= until:
            raise InputError(
                f"nothing lies between --start {format_timestamp(since)} and --end {format_timestamp(until)} "
                "(--start has to come first)"
            )
        return cls(since, until)


def _moment(option: str, text: str) -> int:
    if len(text) == 10:
        text += "T00:00:00Z"
    elif _WITHOUT_ZONE.fullmatch(text):
        text += "Z"
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise InputError(f"{option} {text}: {error} (write 2026-01-05T14:30:00Z, or 2026-01-05)") from None


def day_window(day: str) -> Window:
    """The 24 hours of a day in UTC.

    Raises
    ------
    InputError : `day` is not one.
    """
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"{day!r} is not a day (write 2026-01-05)") from None
    since = int(start.timestamp()) * 1_000_000_000
    return Window(since, since + 86_400_000_000_000)


def stored_generation(
    catalog: Catalog,
    host: PluginHost,
    signals: SignalDatabase,
    window: Window,
    *,
    symbols: Collection[str] = (),
    limit: int | None = None,
    defaults: Limits | None = None,
    cash: Decimal | None = None,
) -> Generation:
    """Build a catalog's trading pipeline on a window of the signal store and a simulated broker.

    Parameters
    ----------
    symbols : those whose rows are read; of all that the catalog's features are computed of where empty.
    limit : rows at most.
    defaults : limits of strategies that state none.
    cash : of the simulated account at its start; as the catalog or the broker says where None.

    Raises
    ------
    CatalogError : a plugin cannot be made; every problem with its place.
    InputError : the catalog has no trading pipeline, or trades none of `symbols`.
    """
    broker = {} if cash is None else {"cash": str(cash)}
    wanted = symbols or _symbols_of(build(use_stored(catalog, host, {}), host, defaults=defaults or Limits()))
    params: dict[str, Any] = {
        "symbols": sorted(wanted),
        "since": window.since,
        "until": window.until,
        "limit": limit,
    }
    generation = build(use_stored(catalog, host, params, broker), host, defaults=defaults or Limits())
    if generation.source is None or generation.broker is None:
        raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to replay")
    unknown = sorted(set(symbols) - _symbols_of(generation))
    if unknown:
        raise InputError(
            f"no strategy of the catalog trades {', '.join(unknown)} (it has {', '.join(sorted(_symbols_of(generation)))})"
        )
    generation.source.connect(Connection(False, _no_secret, None, signals, Path()))
    return generation


def _symbols_of(generation: Generation) -> set[str]:
    plan = generation.features or FeaturePlan()
    return {symbol for each in generation.strategies for symbol in each.symbols}.union(*plan.symbols.values())


def _no_secret(name: str) -> SecretStr:
    raise InputError(f"{name} is not given to a source that reads the signal store")


def show_past(engine: Engine, signals: SignalDatabase, since: int) -> None:
    """Show strategies and features what the store has of before a window, as a run is shown it at its start.

    Raises
    ------
    CatalogError : a strategy or an indicator raised.
    """
    generation = engine.generation
    nothing = replace(generation, strategies=(), features=FeaturePlan())
    moment = Moment(nothing, frozenset(), frozenset(), since, {}, engine.account())
    shown, graph = warm_up(generation, moment, (), signals, None)
    if graph is not None:
        engine.resume(NO_STATE, graph, shown)
