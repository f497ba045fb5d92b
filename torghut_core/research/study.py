"""A backtest as `torghut backtest` runs it: a part of a tape, one strategy or all, and the same again at multiples of its costs.

Everything that can be wrong with catalog, span and tapes is found before anything is traded. A tape of a usual size is read once
and kept, so each further run costs its trading alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from torghut_core.calendars import calendar_zone
from torghut_core.catalog import Catalog
from torghut_core.errors import CatalogError, InputError
from torghut_core.generation import Generation, build
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import load_plugins
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Source
from torghut_core.research.backtests import Backtest, load_catalog, on_tapes, run_backtest
from torghut_core.research.kept_tape import KeptTape
from torghut_core.research.performance.curve import BUY_AND_HOLD
from torghut_core.research.replay import gates_of
from torghut_core.research.sweeps.search import one_strategy
from torghut_core.timestamps import EARLIEST, LATEST, format_timestamp, from_datetime, parse_timestamp

KEPT_BYTES = 64 * 2**20
"""Tapes of so many bytes together are kept in memory; longer ones are read again for each run."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Studied:
    """What came out of a `Study`.

    Attributes
    ----------
    done : the backtest.
    costs : by multiple of fees and slippage, the figures of the same backtest; with 1, that of `done`. Empty where none were asked for.
    benchmark : what it is compared with.
    """

    done: Backtest
    costs: Mapping[Decimal, Mapping[str, float]]
    benchmark: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """A backtest that is ready to run; see `open_study`.

    Attributes
    ----------
    total : events to come in all runs; None where that is not known.
    """

    total: int | None
    _catalog: Catalog
    _host: PluginHost
    _settings: Settings
    _generation: Generation
    _tape: KeptTape | None
    _costs: tuple[Decimal, ...]
    _benchmark: str
    _since: int
    _until: int

    def run(self, on_progress: Callable[[int], None] = lambda _events: None) -> Studied:
        """Run it; once only.

        Raises
        ------
        InputError : the tapes have no event in the span, or no bars of the benchmark.
        TapeError, StateError : as `run_backtest`.
        """
        done = self._run(self._generation, on_progress)
        if done.ended_at <= self._since or not done.result.events:
            raise InputError(_missed(self._since, self._until, done.began_at, done.ended_at))
        if done.series:
            done.benchmark(self._benchmark)
        further: dict[Decimal, Mapping[str, float]] = {}
        for number, factor in enumerate((each for each in self._costs if each != 1), start=1):
            before = number * done.result.events
            again = self._run(self._at(factor), lambda events, before=before: on_progress(before + events))  # type: ignore[misc]
            further[factor] = again.statistics
        costs = {factor: further.get(factor, done.statistics) for factor in self._costs}
        return Studied(done=done, costs=costs, benchmark=self._benchmark)

    def _at(self, factor: Decimal) -> Generation:
        """A generation that is the same but for its costs."""
        made = build(_costing(self._catalog, factor), self._host, defaults=self._settings.limits)
        return made if self._tape is None else replace(made, source=self._tape)

    def _run(self, generation: Generation, on_progress: Callable[[int], None]) -> Backtest:
        return run_backtest(
            generation,
            gates=gates_of(self._settings),
            allow_shorts=self._settings.trading_allow_shorts,
            on_progress=on_progress,
            since=self._since,
            until=self._until,
        )


def open_study(
    catalog: Path | Mapping[str, str],
    tapes: Sequence[Path] = (),
    *,
    strategy: str | None = None,
    start: str = "",
    end: str = "",
    benchmark: str = BUY_AND_HOLD,
    costs: Sequence[Decimal] = (),
    actions: Sequence[Path] = (),
    settings: Settings | None = None,
) -> Study:
    """Make a backtest ready to run.

    Parameters
    ----------
    catalog : catalog file or folder, or texts by file name.
    tapes : what to trade on; empty for those that the catalog's own source names.
    strategy : trades alone; all of the catalog's where None.
    start, end : the span, each a date (in the zone of the symbols' calendar) or a time with its zone, "" for all. Traded is on what
        becomes known after the start and up to the end; a date stands for its first moment as a start, for its last as an end.
    benchmark : a symbol of the tapes, or `buy-and-hold`.
    costs : multiples of fees and slippage at which the backtest is run too.
    actions : tapes of corporate actions; empty for those that the catalog's own source names.
    settings : of the environment where None.

    Raises
    ------
    CatalogError, InputError, TapeError : catalog, span, costs or tapes are wrong.
    """
    settings = settings or load_settings()
    parsed = load_catalog(catalog)
    if strategy is not None:
        parsed = one_strategy(parsed, strategy)
    host = load_plugins(settings, parsed.plugins.allow)
    check_environment(host)
    source: dict[str, Any] = {"actions": [str(tape) for tape in actions]} if actions else {}
    parsed = on_tapes(parsed, host, tapes, **source)
    generation = build(parsed, host, defaults=settings.limits)
    if generation.source is None or generation.broker is None:
        raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to trade on")
    since, until = _span(start, end, generation)
    for factor in costs:
        if factor != 1:
            _check_costs(parsed, host, factor, settings)
    tape = _kept(generation.source, parsed)
    if tape is not None and benchmark not in (BUY_AND_HOLD, *tape.symbols):
        raise InputError(f"benchmark {benchmark}: the tapes have no bars of it (there are {', '.join(tape.symbols)})")
    if tape is not None and not (since < tape.ended_at and tape.began_at <= until):
        raise InputError(_missed(since, until, tape.began_at, tape.ended_at))
    total = generation.source.total if tape is None else tape.total
    return Study(
        total=None if total is None else total * len({Decimal(1), *costs}),
        _catalog=parsed,
        _host=host,
        _settings=settings,
        _generation=generation if tape is None else replace(generation, source=tape),
        _tape=tape,
        _costs=tuple(sorted(set(costs))),
        _benchmark=benchmark,
        _since=since,
        _until=until,
    )


def _kept(source: Source, catalog: Catalog) -> KeptTape | None:
    """The tape, read once and kept in memory; None where it is too long for that, and then it is checked."""
    paths = [Path(path) for path in catalog.pipelines["trading"].source.params.get("paths", ())]
    if sum(path.stat().st_size for path in paths if path.is_file()) <= KEPT_BYTES:
        return KeptTape.of(source)
    source.check()
    return None


def _costing(catalog: Catalog, factor: Decimal) -> Catalog:
    """The catalog with all fees and slippage multiplied."""
    pipeline = catalog.pipelines["trading"]
    assert pipeline.broker is not None
    given = Decimal(str(pipeline.broker.params.get("cost_multiplier", 1)))
    params = {**pipeline.broker.params, "cost_multiplier": str(given * factor)}
    broker = pipeline.broker.model_copy(update={"params": params})
    return catalog.with_(pipelines={**catalog.pipelines, "trading": pipeline.model_copy(update={"broker": broker})})


def _check_costs(catalog: Catalog, host: PluginHost, factor: Decimal, settings: Settings) -> None:
    try:
        build(_costing(catalog, factor), host, defaults=settings.limits)
    except CatalogError as error:
        raise InputError(f"costs {factor}: {error.problems[0].message}") from error


# The span


def _span(start: str, end: str, generation: Generation) -> tuple[int, int]:
    zone = _zone(generation) if _DATE.fullmatch(start) or _DATE.fullmatch(end) else UTC
    since = moment("start", start, zone) if start else EARLIEST
    until = moment("end", end, zone) if end else LATEST
    if since >= until:
        raise InputError(f"the start, {start}, is not before the end, {end}")
    return since, until


def _zone(generation: Generation) -> tzinfo:
    """The zone of the calendar of all symbols that are traded; UTC where they have several."""
    symbols = {symbol for each in generation.strategies for symbol in each.symbols}
    zones = {calendar_zone(calendar) for calendar in {generation.instruments[symbol].calendar for symbol in symbols}}
    return ZoneInfo(zones.pop() if len(zones) == 1 else "UTC")


def moment(name: str, text: str, zone: tzinfo = UTC) -> int:
    """The time of a text, ns: of a date its first moment, or its last where `name` is `end`.

    Raises
    ------
    InputError : it is neither a date nor a time with its zone; `name` says which option it was.

    Examples
    --------
    >>> format_timestamp(moment("start", "2026-01-05", ZoneInfo("America/New_York")))
    '2026-01-05T05:00:00Z'
    """
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=name == "end")
            return from_datetime(datetime(day.year, day.month, day.day, tzinfo=zone))
        return parse_timestamp(text)
    except (ValueError, OverflowError):
        raise InputError(
            f"the {name}, {text!r}, is no date like 2026-01-05 and no time with its zone like 2026-01-05T14:30:00Z"
        ) from None


def _missed(since: int, until: int, began_at: int, ended_at: int) -> str:
    """Why there is nothing to trade on."""
    sides = {EARLIEST: "the beginning", LATEST: "the end"}
    first, last = (sides.get(at) or format_timestamp(at) for at in (since, until))
    what = (
        f"begin at {format_timestamp(began_at)} and end at {format_timestamp(ended_at)}" if ended_at else "begin later"
    )
    return f"the tapes have no event between {first} and {last}: they {what}"
