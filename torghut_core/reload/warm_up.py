"""Shows new strategies the past before they trade: the last rows of the signal store, as many as each one needs."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter
from typing import Any

import pyarrow as pa

from torghut_core.boundary import bound_method, from_plugins
from torghut_core.catalog import Catalog
from torghut_core.errors import CatalogError, StateError, reason_of
from torghut_core.generation import Generation, StrategyInstance, has_same_terms
from torghut_core.model.market import signal_type, window_size
from torghut_core.ports import LiveContext
from torghut_core.reload.plan import Moment, Warmth
from torghut_core.signals import KEY, Selection, SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.trading.roster import EMPTY


def warm_up(
    generation: Generation, moment: Moment, fresh: Collection[str], signals: SignalDatabase, since: int | None
) -> Warmth:
    """Show new instances what the signal store has; what they answer is not acted on.

    Parameters
    ----------
    fresh : strategies that do not take over the state of a running instance.
    since : earliest time from which rows of the store count, ns; None for all of them.

    Raises
    ------
    CatalogError : one of them raised.
    """
    before = {each.name: each for each in moment.running.strategies if each.name not in fresh}
    new = [each for each in generation.strategies if each.warmup and not _keeps_state(before.get(each.name), each)]
    if not new:
        return EMPTY
    try:
        signals.flush()
        rows = {each.name: history(signals, each, since, moment.now) for each in new}
    except StateError as error:
        logs.warning("no history to warm up with, strategies wait for new rows", error=str(error))
        return EMPTY
    warmed = {}
    for instance in new:
        try:
            warmed[instance.name] = _show(instance, rows[instance.name], moment)
        except from_plugins() as error:  # a plugin may raise anything
            entry = next(each for each in generation.catalog.strategies if each.name == instance.name)
            message = f"strategy {instance.use!r} cannot be warmed up: {reason_of(error)}"
            problem = generation.catalog.marks.problem(f"{entry.place}.use", message, "fix the plugin")
            raise CatalogError([problem]) from error
    return warmed


def history(signals: SignalDatabase, instance: StrategyInstance, since: int | None, now: int) -> list[tuple[Any, ...]]:
    """The last rows of its symbols that a strategy would have been shown, as many as it needs to be warm.

    Returns
    -------
    A tuple of event_ts (ns), symbol, close and the values of the strategy's columns per row, oldest first. Rows without
    a stored bar are left out: their close is not known.
    """
    until, rows = now - instance.step_ns + 1, 2 * (instance.warmup + 1)  # a venue's own bars have signals too
    selection = Selection(None, window_size(instance.step_ns), since, until, rows)
    bars = signals.newest("microbars", (*KEY, "c"), instance.symbols, selection)
    closes = dict(zip(_keys(bars), bars["c"].to_pylist(), strict=True))
    found = signals.newest("signals", (*KEY, *instance.columns), instance.symbols, selection)
    columns = [found[column].to_pylist() for column in instance.columns]
    shown = [
        (key[0], key[1], closes[key], *values)
        for key, *values in sorted(zip(_keys(found), *columns, strict=True), key=itemgetter(0), reverse=True)
        if key in closes and None not in values
    ]
    left = dict.fromkeys(instance.symbols, instance.warmup + 1)
    newest = []
    for row in shown:
        left[row[1]] -= 1
        if left[row[1]] >= 0:
            newest.append(row)
    return newest[::-1]


def enabled_again(running: Generation, catalog: Catalog) -> frozenset[str]:
    """Strategies that were disabled and are to trade again, and have a warm-up: meanwhile they saw nothing."""
    disabled = {each.name for each in running.strategies if not each.enabled and each.warmup}
    return frozenset(entry.name for entry in catalog.strategies if entry.enabled and entry.name in disabled)


def _show(instance: StrategyInstance, rows: list[tuple[Any, ...]], moment: Moment) -> dict[str, tuple[int, int]]:
    """Hand rows to a strategy; its answers are dropped."""
    make, on_signal = signal_type(instance.columns), bound_method(instance.strategy, "on_signal")
    shown: dict[str, tuple[int, int]] = {}
    views: dict[str, LiveContext] = {}
    for event_ts, symbol, close, *values in rows:
        view = views.get(symbol)
        if view is None:
            view = views[symbol] = LiveContext(instance.name, symbol, "", moment)
            view.hold(moment.positions.get((instance.name, symbol), view.position))
        view.show(event_ts, event_ts + instance.step_ns, close)
        on_signal(make(symbol, event_ts, *values), view.read_only)
        shown[symbol] = shown.get(symbol, (0, 0))[0] + 1, event_ts
    return shown


def _keeps_state(old: StrategyInstance | None, new: StrategyInstance) -> bool:
    """Whether a strategy needs no history: it is the same instance, or gets the state of the old code."""
    return old is not None and (old.strategy is new.strategy or has_same_terms(old, new))


def _keys(table: pa.Table) -> list[tuple[int, str, int]]:
    columns = table["event_ts"].cast("int64"), table["symbol"], table["seq"]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))
