"""What `torghut backfill` does: the past of some symbols from a source, into a tape or the signal store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torghut_core import catalog as catalogs
from torghut_core.catalog import DEFAULT_ALLOW, Catalog
from torghut_core.errors import InputError
from torghut_core.generation import build, tape_source
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import load_plugins, open_signals, source_connection
from torghut_core.installation.settings import load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.installation.universe import UniverseSettings
from torghut_core.market_data.backfill import write_actions, write_tape
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.universe import StaticUniverse, is_of
from torghut_core.model.market import SYMBOL_PATTERN
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Source
from torghut_core.signals import TABLES, SignalDatabase, ttl_setting
from torghut_core.timestamps import DAY, SYSTEM_CLOCK, Clock, format_timestamp, parse_timestamp, to_datetime

if TYPE_CHECKING:  # a process without stages should not wait for their compiler
    from torghut_core.stages.base import Stage


def run_backfill(
    symbols: Sequence[str],
    start: str,
    end: str = "",
    *,
    out: Path | None,
    actions: Path | None = None,
    state: Path,
    catalog: Path | None = None,
    source: str = "",
    on_progress: Callable[[int], None] = lambda _events: None,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, Any]:
    """Fetch the past of some symbols into the tape `out`, or, where that is None, into the signal store.

    Parameters
    ----------
    actions : tape into which their splits and dividends are fetched instead, by ex date, whole days of UTC.
    catalog : where the source and the stages come from; without it they are loaded plugins with their defaults.
    source : name of that plugin; "" for the only one that has a history.
    clock : where it asks for the time.

    Returns
    -------
    `events` by channel, or corporate actions by kind, and `to`; into the store also `microbars` and `signals`.

    Raises
    ------
    InputError : no symbols, no times, or times of which the store keeps nothing.
    VenueError : the source does not answer.
    StateError : the store does not take the rows.
    """
    started_at = clock.wall()
    settings, market = load_settings(), UniverseSettings.read().alpaca_market_type
    if not symbols:
        raise InputError("--symbols names none (write BTC/USD,ETH/USD)")
    for symbol in symbols:
        if not SYMBOL_PATTERN.fullmatch(symbol):
            raise InputError(f"--symbols: {symbol!r} is not a symbol (write BTC/USD,ETH/USD)")
        if not is_of(symbol, market):
            raise InputError(f"--symbols: {symbol} is not of ALPACA_MARKET_TYPE={market} (set that to its market)")
    since = _moment("--start", start)
    until = _moment("--end", end) if end else started_at
    if until <= since:
        raise InputError(
            f"nothing lies between --start {format_timestamp(since)} and --end {format_timestamp(until)} "
            "(--start has to come first)"
        )
    given = None if catalog is None else catalogs.load(catalogs.read(catalog))
    host = load_plugins(settings, given.plugins.allow if given else DEFAULT_ALLOW)
    check_environment(host)
    is_stored = out is None and actions is None
    parsed = given or _default_catalog(host, source, tuple(TABLES) if is_stored else ())
    made = build(parsed, host, pipeline=_pipeline(parsed, ("forwarder", "trading"))).source
    assert made is not None
    directory = StateDirectory(state)
    made.connect(source_connection(settings, directory, StaticUniverse(symbols)))
    try:
        if actions is not None:
            days = to_datetime(since).date(), to_datetime(until - 1).date() + timedelta(days=1)
            return {"events": dict(write_actions(actions, made, symbols, *days)), "to": str(actions)}
        if out is not None:
            return {"events": dict(write_tape(out, made, symbols, since, until, on_progress)), "to": str(out)}
        with (
            TemporaryDirectory() as folder,
            directory,
            closing(open_signals(settings, directory, is_replay=False, learned_at=started_at)) as store,
        ):
            _check_kept(store, since, started_at)
            tape = Path(folder) / "backfill.jsonl"
            events = write_tape(tape, made, symbols, since, until, on_progress)
            if not events:
                return {"events": {}, "to": "the signal store", "microbars": 0, "signals": 0}
            replayed = _with_tape(parsed, tape_source(host), tape)
            generation = build(replayed, host, pipeline="backfill")
            assert generation.source is not None
            deriver = Deriver(generation.source, generation.stages, store)
            asyncio.run(deriver.run())
        totals = deriver.totals
        return {
            "events": dict(events),
            "to": "the signal store",
            "microbars": totals.microbars,
            "signals": totals.signals,
        }
    finally:
        made.close()


def _check_kept(store: SignalDatabase, since: int, now: int) -> None:
    """Refuse times of which the store would delete the rows as soon as it has them."""
    for table in TABLES:
        days = store.kept_days(table)
        if days is not None and since < now - days * DAY:
            first = format_timestamp(-(-(now - days * DAY) // DAY) * DAY)
            raise InputError(
                f"--start {format_timestamp(since)}: the signal store keeps {table} for {days} days, and deletes older ones "
                f"as they come (begin at {first}, raise {ttl_setting(table)}, or write a tape with --out)"
            )


def _default_catalog(host: PluginHost, source: str, tables: Sequence[str]) -> Catalog:
    """A source that has a history, and the stages that make the rows of these tables of the store."""
    sources = [source] if source else host.names_where("source", lambda cls: cls.history is not Source.history)
    if len(sources) != 1:
        found = f"are {', '.join(sources)}: choose one" if sources else "is none: install one"
        raise InputError(f"--source: of loaded sources with a history there {found}, or give a --catalog")
    stages = []
    for table in tables:
        names = host.names_where("stage", partial(_makes, table))
        if not names:
            raise InputError(f"no loaded stage makes the rows of {table} (install one, or give a --catalog)")
        stages.append({"use": names[0]})
    fetched = {"source": {"use": sources[0]}}
    return Catalog.model_validate(
        {"version": 1, "pipelines": {"forwarder": fetched, "ta": fetched | {"stages": stages}}}
    )


def _makes(table: str, stage: type[Stage]) -> bool:
    return stage.derives == table


def _pipeline(catalog: Catalog, names: Sequence[str]) -> str:
    found = next((name for name in names if name in catalog.pipelines), None)
    if found is None:
        raise InputError(f"the catalog has none of the pipelines {', '.join(names)} (add one, or leave out --catalog)")
    return found


def _with_tape(catalog: Catalog, use: str, tape: Path) -> Catalog:
    """The catalog with a pipeline that takes a tape through the stages of `ta`, or else of `trading`."""
    stages = catalog.model_dump()["pipelines"][_pipeline(catalog, ("ta", "trading"))]["stages"]
    source = {"use": use, "params": {"paths": [str(tape)]}}
    pipelines = {"backfill": {"source": source, "stages": stages}}
    return catalog.with_(pipelines=Catalog.model_validate({"version": 1, "pipelines": pipelines}).pipelines)


def _moment(option: str, text: str) -> int:
    """Nanoseconds of a time or a day."""
    try:
        return parse_timestamp(f"{text}T00:00:00Z" if len(text) == 10 else text)
    except ValueError as error:
        raise InputError(f"{option} {text}: {error} (write 2026-01-05T14:30:00Z, or 2026-01-05)") from None
