"""Shows new strategies and features the past before they trade: the last bars of the signal store, as many as they need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from torghut_core.boundary import bound_method, from_plugins
from torghut_core.catalog import Catalog
from torghut_core.errors import CatalogError, Problem, StateError, reason_of
from torghut_core.feature_graph import FeatureGraph, FeaturePlan, Frame, rescale_rows
from torghut_core.feature_graph.nodes import QUOTES
from torghut_core.generation import Generation, StrategyInstance, has_same_terms
from torghut_core.model.market import SIGNAL_COLUMNS, Batch, Signals, SymbolTable, window_size
from torghut_core.ports import LiveContext
from torghut_core.reload.plan import Moment, ShownRows
from torghut_core.signals import KEY, Selection, SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.trading.ex_dates import dated
from torghut_core.trading.roster import EMPTY
from torghut_core.trading.subscription import Subscription

MICROBAR_COLUMNS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vwap": "vwap", "count": "count"}
"""The name in `Signals` of each column of ``microbars``."""

NO_ROWS: Mapping[tuple[int, str], int] = MappingProxyType({})
LATEST = 2**63 - 1
"""Later than the `event_ts` of any row."""


class WarmedUp(NamedTuple):
    """What the past was shown to.

    Attributes
    ----------
    rows : by strategy and symbol, how many rows its new instance was shown, and the `event_ts` of the last.
    graph : the features of the generation after those rows; None where nothing is new.
    """

    rows: ShownRows
    graph: FeatureGraph | None


NOTHING = WarmedUp(EMPTY, None)


def warm_up(
    generation: Generation,
    moment: Moment,
    fresh: Collection[str],
    signals: SignalDatabase,
    since: int | None,
    last: Mapping[tuple[int, str], int] = NO_ROWS,
    before: FeatureGraph | None = None,
) -> WarmedUp:
    """Show new instances and features what the signal store has; what strategies answer is not acted on.

    Parameters
    ----------
    fresh : strategies that do not take over the state of a running instance.
    since : earliest time from which rows of the store count, ns; None for all of them.
    last : by step and symbol, `event_ts` of the last row that counts, where the source gives those after it; where it is not
        said, rows that are shown here are left out when they come.
    before : features that resume, where another process has kept them.

    Raises
    ------
    CatalogError : one of them raised.
    """
    plan = generation.features or FeaturePlan()
    old = {each.name: each for each in moment.running.strategies if each.name not in fresh}
    new = [each for each in generation.strategies if each.warmup and not _keeps_state(old.get(each.name), each)]
    needed = bars_needed(plan, moment.running.features or FeaturePlan(), new)
    if not needed:
        return NOTHING
    try:
        signals.flush()
        batch = only(stored(signals, plan, needed, since, moment.now), last, are_later=False)
        _split(batch, generation, moment.now)
    except StateError as error:
        logs.warning("no history to warm up with, strategies and features wait for new rows", error=str(error))
        return NOTHING
    graph = FeatureGraph(plan)
    graph.update(batch)
    for instance in generation.strategies if graph.failed else ():
        failure = graph.failure(instance.wanted)
        if failure is not None:
            raise CatalogError([_problem(generation, instance, failure.error)]) from failure.error
    shown = {}
    for instance in new:
        try:
            shown[instance.name] = _show(instance, batch, graph, moment)
        except from_plugins() as error:  # a plugin may raise anything
            raise CatalogError([_problem(generation, instance, error)]) from error
    if before is not None:
        graph.resume(before)
    graph.skip_shown(batch, but=last)
    return WarmedUp(shown, graph)


def _split(batch: Batch, generation: Generation, now: int) -> None:
    """Give the rows of before splits up to now, ns, the prices of after them."""
    actions = () if generation.source is None else generation.source.corporate_actions()
    table = batch.signals
    for at, action in dated(actions, generation.instruments):
        number = batch.symbols.find(action.symbol)
        if at <= now and action.is_split and number is not None:
            rescale_rows(table, (table.symbol == number) & (table.end <= at), action.factor)


def fill_gap(
    generation: Generation,
    moment: Moment,
    graph: FeatureGraph,
    signals: SignalDatabase,
    last: Mapping[tuple[int, str], int],
) -> ShownRows:
    """Show features and strategies that resume the rows of the store after their last ones; return what was shown.

    Raises
    ------
    StateError : the store cannot be read.
    """
    if not last:
        return {}
    signals.flush()
    gap = max(1, moment.now - min(last.values()))
    bars = {frame: -(-gap // frame.step) for frame in graph.plan.symbols}
    batch = only(stored(signals, graph.plan, bars, None, moment.now), last, are_later=True)
    graph.update(batch)
    shown = {each.name: _show(each, batch, graph, moment) for each in generation.strategies if each.enabled}
    graph.skip_shown(batch)
    return shown


def only(batch: Batch, last: Mapping[tuple[int, str], int], *, are_later: bool) -> Batch:
    """The rows of a batch of `stored` up to the last ones of their series, or those after them."""
    table, names = batch.signals, batch.symbols.names
    limit = np.array(
        [
            last.get((step, names[number]), LATEST)
            for step, number in zip(table.step.tolist(), table.symbol.tolist(), strict=True)
        ],
        np.int64,
    )
    is_later = table.event_ts > limit
    return _batch(batch.symbols, table.take(is_later if are_later else ~is_later), int(batch.now[-1]))


def _problem(generation: Generation, instance: StrategyInstance, error: BaseException) -> Problem:
    entry = next(each for each in generation.catalog.strategies if each.name == instance.name)
    message = f"strategy {instance.use!r} cannot be warmed up: {reason_of(error)}"
    return generation.catalog.marks.problem(f"{entry.place}.use", message, "fix the plugin")


def bars_needed(plan: FeaturePlan, running: FeaturePlan, new: Iterable[StrategyInstance]) -> dict[Frame, int]:
    """How many bars of a symbol new features and new strategies need, by frame."""
    bars: dict[Frame, int] = {}
    for key, node in plan.nodes.items():
        is_known = key in running.nodes and plan.symbols[node.frame] <= running.symbols[node.frame]
        if node.memory > 1 and not is_known:
            bars[node.frame] = max(bars.get(node.frame, 0), node.memory)
    known = running.history
    for step, most in plan.history.items():
        frame = Frame(step, is_sliced=False)
        if most > known.get(step, 0) or not plan.symbols[frame] <= running.symbols.get(frame, set()):
            bars[frame] = max(bars.get(frame, 0), most)
    for instance in new:
        wanted = instance.wanted
        bars[wanted.frame] = max(bars.get(wanted.frame, 0), instance.warmup + max(wanted.memory, 1))
    if bars:  # what they are made of starts as far back
        longest = max(frame.step * rows for frame, rows in bars.items())
        bars |= {frame: max(bars.get(frame, 0), -(-longest // frame.step)) for frame in plan.symbols}
    return bars


def stored(signals: SignalDatabase, plan: FeaturePlan, bars: dict[Frame, int], since: int | None, now: int) -> Batch:
    """The last bars of the store, of each frame so many of a symbol, with their signals; as a batch, by their ends."""
    symbols = SymbolTable()
    leaves = {key.partition("@")[0] for key, node in plan.nodes.items() if not node.inputs}
    columns = sorted({QUOTES.get(name, name) for name in leaves}.intersection(SIGNAL_COLUMNS))
    tables = []
    for step in sorted({frame.step for frame in bars}):
        frames = [frame for frame in bars if frame.step == step]
        names = sorted(set().union(*(plan.symbols[frame] for frame in frames)))
        rows = max(bars[frame] for frame in frames)
        selection = Selection(None, window_size(step), since, now - step + 1, rows)
        tables.append(_signals(signals, symbols, names, columns, step, selection))
    table = Signals.concatenate(tables)
    as_known = np.lexsort((-table.step, symbols.ranks[table.symbol], table.end))
    return _batch(symbols, table.take(as_known), now)


def _batch(symbols: SymbolTable, table: Signals, now: int) -> Batch:
    """A batch of rows, each known at the end of its bar, and of a clock tick after them."""
    table.at[:] = np.arange(len(table))
    batch = Batch.of(symbols, 0, np.append(table.end, now))
    batch.signals = table
    return batch


def _signals(
    store: SignalDatabase,
    symbols: SymbolTable,
    names: Sequence[str],
    columns: Sequence[str],
    step: int,
    selection: Selection,
) -> Signals:
    """The last bars of some symbols at one step, with these columns of ``ta_signals``."""
    found = store.newest("microbars", (*KEY, *MICROBAR_COLUMNS), names, selection)
    values: dict[str, Any] = {name: _floats(found[column]) for column, name in MICROBAR_COLUMNS.items()}
    if columns:
        # Twice as many: a venue's own bars have signals too.
        selection = msgspec.structs.replace(selection, limit=2 * (selection.limit or 0))
        more = store.newest("signals", (*KEY, *columns), names, selection)
        place = {key: number for number, key in enumerate(_keys(more))}
        index = np.array([place.get(key, -1) for key in _keys(found)], np.int64)
        for column in columns:
            values[column] = np.append(_floats(more[column]), np.nan)[index]
    event_ts = found["event_ts"].cast("int64").to_numpy()
    number = symbols.numbers(found["symbol"].to_pylist())
    values["count"] = np.nan_to_num(values["count"]).astype(np.int64)
    return Signals.from_columns(
        event_ts=event_ts, symbol=number, seq=found["seq"].to_numpy(), step=np.full(len(found), step), **values
    )


def _floats(column: pa.ChunkedArray) -> Any:
    return column.cast("float64").to_numpy()


def _keys(table: pa.Table) -> list[tuple[int, str, int]]:
    columns = table["event_ts"].cast("int64"), table["symbol"], table["seq"]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def enabled_again(running: Generation, catalog: Catalog) -> frozenset[str]:
    """Strategies that were disabled and are to trade again, and have a warm-up: meanwhile they saw nothing."""
    disabled = {each.name for each in running.strategies if not each.enabled and each.warmup}
    return frozenset(entry.name for entry in catalog.strategies if entry.enabled and entry.name in disabled)


def _show(instance: StrategyInstance, batch: Batch, graph: FeatureGraph, moment: Moment) -> dict[str, tuple[int, int]]:
    """Hand the rows of a batch to a strategy, and drop its answers; return what it was shown, see `_rows_shown`."""
    subscription = Subscription(instance, SimpleNamespace(at=0))
    views: dict[str, LiveContext] = {}

    def view_of(strategy: str, symbol: str) -> LiveContext:
        if symbol not in views:
            terms = moment.running.instruments[symbol]
            view = views[symbol] = LiveContext(strategy, symbol, "", moment, instrument=terms)
            view.hold(moment.positions.get((strategy, symbol), view.position))
        return views[symbol]

    for handler, event, context in subscription.past(batch, graph, view_of):
        bound_method(instance.strategy, handler)(event, context)
    return _rows_shown(instance, subscription, batch, graph)


def _rows_shown(
    instance: StrategyInstance, subscription: Subscription, batch: Batch, graph: FeatureGraph
) -> dict[str, tuple[int, int]]:
    """By symbol, how many rows of a batch a strategy was shown, and `event_ts` of the last."""
    rows = graph.rows[instance.wanted.frame]
    places = subscription.select(batch, graph)
    shown: dict[str, tuple[int, int]] = {}
    for number, event_ts in zip(
        rows.symbol[places].tolist(), rows.signals.event_ts[rows.rows[places]].tolist(), strict=True
    ):
        symbol = batch.symbols.names[number]
        shown[symbol] = shown.get(symbol, (0, 0))[0] + 1, event_ts
    return shown


def _keeps_state(old: StrategyInstance | None, new: StrategyInstance) -> bool:
    """Whether a strategy needs no history: it is the same instance, or gets the state of the old code."""
    return old is not None and (old.strategy is new.strategy or has_same_terms(old, new))
