"""Graphs of features over made tapes, without a catalog: what they give, row by row."""

from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from torghut_sources.indicators.bollinger import Bollinger
from torghut_sources.indicators.ema import Ema
from torghut_sources.indicators.sma import Sma
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.resample import Resample

from torghut_core import MINUTE, Bars, Batch, Indicator, SymbolTable, param
from torghut_core.errors import Problem
from torghut_core.feature_graph import FeatureGraph, Planner
from torghut_core.plugin_host import Registered

START = 29_460_390 * MINUTE
"""The beginning of a tape, ns: half past nine of a Monday in New York, on a summer's day, is 13:30 UTC."""


class Gap(Indicator):
    """Close less the mean of all closes so far, in plain Python; and how many there were."""

    class Params(Indicator.Params):
        skip: int = param(0, ge=0, le=10, help="bars")

    outputs = ("gap", "count")
    state = ("total", "count")

    def __init__(self, params):
        super().__init__(params)
        self.total, self.count = 0.0, 0

    def update(self, close):
        self.total, self.count = self.total + close, self.count + 1
        return (close - self.total / self.count if self.count > self.params.skip else float("nan")), self.count


INDICATORS = {"ema": Ema, "sma": Sma, "bollinger": Bollinger, "gap": Gap}


def find(name):
    """The indicator plugin of a name, as a host gives it."""
    if name not in INDICATORS:
        return Problem("", 0, "", f"no indicator {name!r}", "")
    return Registered("indicator", name, INDICATORS[name], "", "", "0" * 64)


def planned(features, symbols, *, step=MINUTE, finder=find, is_sliced=False):
    """The plan of one strategy that asks for these features."""
    planner = Planner(finder)
    planner.add("one", features, step, symbols, is_sliced=is_sliced)
    return planner.plan


@dataclass
class Tape:
    """Bars of one minute, by their ends: symbol names, starts in minutes, closes and volumes; each shape (rows,)."""

    symbol: list
    minute: np.ndarray
    close: np.ndarray
    volume: np.ndarray

    def rows(self, start, stop):
        """Some rows, as a tape of their own."""
        return Tape(self.symbol[start:stop], *(each[start:stop] for each in (self.minute, self.close, self.volume)))

    def batch(self, table, start, stop):
        """Rows as a batch."""
        part = self.rows(start, stop)
        number = table.numbers(part.symbol)
        times = START + part.minute * MINUTE
        bars = Bars.from_columns(
            at=np.arange(start, stop),
            event_ts=times,
            symbol=number,
            seq=times // MINUTE,
            step=np.full(len(times), MINUTE),
            series=[table.series(each, MINUTE) for each in number.tolist()],
            count=np.ones(len(times)),
            open=part.close,
            high=part.close + 1,
            low=part.close - 1,
            close=part.close,
            volume=part.volume,
            vwap=part.close,
        )
        return Batch.of(table, start, times + MINUTE, bars=bars)

    def __len__(self):
        return len(self.minute)


class Pipeline:
    """Makes larger bars and the signals of all."""

    def __init__(self, timeframes=("5Min",), calendars=None, lateness_ms=0):
        given = {"timeframes": timeframes, "max_out_of_order_ms": lateness_ms, "calendars": calendars or {}}
        self._stages = Resample(Resample.Params(**given)), Indicators(Indicators.Params(columns=["ema12"]))

    def update(self, batch):
        for stage in self._stages:
            batch = stage.update(batch)
        return batch


def shown(graph, name="one"):
    """What a strategy's features are in the last batch: (symbol, event_ts, position, values), in order."""
    wanted = graph.plan.wanted[name]
    rows = graph.rows[wanted.frame]
    signals, index = rows.signals, rows.rows
    columns = [graph.values[node].tolist() for node in wanted.nodes]
    return [
        (rows.table.names[number], event_ts, at, tuple(values))
        for number, event_ts, at, *values in zip(
            rows.symbol.tolist(), signals.event_ts[index].tolist(), signals.at[index].tolist(), *columns, strict=True
        )
    ]


def bits(rows):
    """Rows so that equal means equal to the bit."""
    return [(*head, np.array(values).tobytes()) for *head, values in rows]


def run(plan, tape, cuts=(), *, at_cut=lambda graph, _position: graph, other_tables=False, pipeline=None):
    """What the graph shows over a tape that is cut at these positions.

    Parameters
    ----------
    at_cut : gives the graph to continue with.
    other_tables : each part has a table of symbols of its own, in another order.
    """
    graph, pipeline, found = FeatureGraph(plan), pipeline or Pipeline(), []
    table = SymbolTable()
    edges = [0, *sorted(cuts), len(tape)]
    for number, (start, stop) in enumerate(pairwise(edges)):
        if other_tables:
            table = SymbolTable()
            table.numbers([f"Z{number}", *sorted(set(tape.symbol), reverse=bool(number % 2))])
        if number:
            graph = at_cut(graph, start)
        graph.update(pipeline.update(tape.batch(table, start, stop)))
        found += shown(graph)
    return found


def restarted(graph, _position):
    """The graph in another process, which has what was saved of it."""
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(graph.save()), strict=False)
    again = FeatureGraph(graph.plan)
    again.load(saved)
    return again
