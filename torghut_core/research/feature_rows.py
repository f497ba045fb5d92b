"""Features of bars without trading: the rows that a strategy would be shown, for tests, notebooks and training data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torghut_core.errors import Problem
from torghut_core.feature_graph import FeatureGraph, Planner, with_columns
from torghut_core.features.values import Feature, Optional
from torghut_core.installation.settings import load_settings
from torghut_core.model.market import TIMEFRAME_NAMES, TIMEFRAMES, Bars, Batch, Signal, Signals, signal_type
from torghut_core.plugin_host import PluginHost, Registered
from torghut_core.ports import Indicator

NO_OTHERS: Mapping[str, type[Indicator]] = MappingProxyType({})


class FeatureRows:
    """Computes features batch by batch, by the code that computes them in trading.

    Parameters
    ----------
    features : as `Strategy.features` gives them.
    symbols : of the catalog entry.
    timeframe : the strategy's own.
    columns : of ``ta_signals``, as a strategy names them.
    indicators : classes by name, beside those of the plugins that are installed or in the folders of ``TORGHUT_PLUGIN_PATH``.

    Attributes
    ----------
    needs : symbols by timeframe, whose bars have to be in the batches.
    warmup : rows of a symbol until every value can be known.

    Raises
    ------
    InputError : a feature cannot be computed; the message says which, and why.

    Examples
    --------
    >>> from torghut_testing import bar_batch
    >>> from torghut_core.features import close, sma
    >>> rows = FeatureRows({"mean": sma(close, 2)}, ["ES"])
    >>> bars = bar_batch([("ES", minute * 60 * 10**9, 1, 5, 1, 1 + minute, 10) for minute in range(3)])
    >>> [(row.close, row.mean) for row in rows.update(bars)]
    [(2.0, 1.5), (3.0, 2.5)]
    """

    def __init__(
        self,
        features: Mapping[str, Feature | Optional],
        symbols: Collection[str],
        timeframe: str = "1Min",
        *,
        columns: tuple[str, ...] = (),
        indicators: Mapping[str, type[Indicator]] = NO_OTHERS,
    ) -> None:
        own = {name: Registered("indicator", name, cls, "", "", "") for name, cls in indicators.items()}

        def find(name: str) -> Registered | Problem:
            return own.get(name) or _plugins(load_settings().plugin_folders).resolve("indicator", name)

        planner = Planner(find)
        planner.add("", with_columns(columns, features), TIMEFRAMES[timeframe], symbols)
        plan = planner.plan
        self._wanted = plan.wanted[""]
        self._graph = FeatureGraph(plan)
        self._symbols = frozenset(symbols)
        self._row: Any = signal_type(self._wanted.names)
        self.needs: Mapping[str, frozenset[str]] = {
            TIMEFRAME_NAMES[frame.step]: frozenset(names) for frame, names in plan.symbols.items()
        }
        self.warmup = max((plan.nodes[key].warmup for key in self._wanted.nodes), default=1)

    def update(self, batch: Batch) -> list[Signal]:
        """The rows of a batch in which every value is known that is not optional.

        A batch without signals gets those of its bars: prices and volume alone.

        Raises
        ------
        Exception : whatever an indicator in plain Python raises.
        """
        if not len(batch.signals):
            batch.signals = _signals_of(batch.bars)
        graph, wanted = self._graph, self._wanted
        graph.update(batch)
        if failure := graph.failure(wanted):
            raise failure.error
        shown = graph.rows[wanted.frame]
        values = [graph.values[node].tolist() for node in wanted.nodes]
        is_needed = [name not in wanted.optional for name in wanted.names]
        rows = []
        for place, (index, number) in enumerate(zip(shown.rows.tolist(), shown.symbol.tolist(), strict=True)):
            row = [column[place] for column in values]
            symbol = batch.symbols.names[number]
            is_known = all(value == value for value, needed in zip(row, is_needed, strict=True) if needed)
            if is_known and symbol in self._symbols:
                rows.append(self._row(symbol, shown.signals.event_ts.item(index), *row, shown.signals, index))
        return rows

    def save(self) -> dict[str, Any]:
        """The state, as plain values and bytes."""
        return self._graph.save()

    def load(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `save` gave."""
        self._graph.load(saved)


@lru_cache(maxsize=1)
def _plugins(folders: tuple[Path, ...]) -> PluginHost:
    return PluginHost.load(("*",), folders=folders)


def _signals_of(bars: Bars) -> Signals:
    signals = Signals.empty(len(bars))
    signals.ints[:] = bars.ints
    for name in Bars.FLOAT_COLUMNS:
        getattr(signals, name)[:] = getattr(bars, name)
    return signals
