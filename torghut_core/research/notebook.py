"""A backtest in one call: a strategy and its data, on the same loop as everything else."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from torghut_core.errors import InputError
from torghut_core.hookspecs import hookimpl
from torghut_core.model.market import TIMEFRAMES
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Strategy
from torghut_core.research.backtests import Backtest, load_catalog, run_backtest, tape_generation
from torghut_core.research.performance.curve import ints, rows_by


class Frame(Protocol):
    """A table of pandas, polars, pyarrow or another library that gives its columns to Arrow."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The columns."""


Data: TypeAlias = "Path | str | Sequence[Path | str] | Frame"

NOTHING: Mapping[str, Any] = MappingProxyType({})
COSTS: Mapping[str, Any] = MappingProxyType({"fees": {"*": {"bps": "1"}}, "slippage": {"*": {"bps": "1"}}})
"""What trading costs where `backtest` is given nothing else."""
TIMES = ("event_ts", "date", "datetime", "timestamp", "time", "index")
"""Names of a column with the starts of the bars, as other libraries have them."""
ALONE = "ASSET"
"""The symbol of bars that name none."""


def backtest(
    strategy: type[Strategy] | str,
    data: Data,
    *,
    params: Mapping[str, Any] = NOTHING,
    symbols: Sequence[str] | None = None,
    timeframe: str | None = None,
    cash: str | float = "100000",
    broker: Mapping[str, Any] = COSTS,
    risk: Sequence[Mapping[str, Any]] = (),
    instruments: Mapping[str, Mapping[str, Any]] = NOTHING,
    actions: Path | str | Sequence[Path | str] = (),
    allow_shorts: bool = True,
) -> Backtest:
    """Trade one strategy on recorded data, from the first event to the last.

    Parameters
    ----------
    strategy : its class, or the name of one that is installed.
    data : tapes (.parquet, .csv, .jsonl, with their gzipped forms), or a table of bars: columns open, high, low, close and
        volume in any case, the bars' starts in a column or index of times (UTC where they have no zone) or whole nanoseconds, and
        `symbol` where there are several.
    params : of the strategy.
    symbols : that it trades; all of a table's where None. Of a table without a column `symbol`, the name of its one.
    timeframe : of the rows that it is shown, like ``1Min``; that of a table's bars where None.
    cash : of the account.
    broker : other parameters of the simulated broker. Where it is left out, a fee and a slippage of one basis point each.
    risk, instruments : as in a catalog.
    actions : tapes of corporate actions (.csv, .jsonl): splits and dividends, applied on their ex dates.
    allow_shorts : whether a position may fall below zero.

    Raises
    ------
    CatalogError : the strategy or a parameter is wrong; every problem with its place.
    InputError : the data cannot be read.

    Examples
    --------
    >>> from torghut_core import Strategy
    >>> class Hold(Strategy):
    ...     def on_signal(self, signal, context):
    ...         return context.target(1, because="always")
    >>> days = np.arange("2026-01-05", "2026-01-09", dtype="datetime64[D]")
    >>> price = [100.0, 101.0, 102.0, 103.0]
    >>> bars = pa.table({"Date": days, "Open": price, "High": price, "Low": price, "Close": price, "Volume": [9.0] * 4})
    >>> done = backtest(Hold, bars, symbols=["AAPL"], broker={})
    >>> done.result.fills, done.result.final_equity
    (1, Decimal('100002.0'))
    """
    host = PluginHost.load(extra=() if isinstance(strategy, str) else [("notebook", _module_of(strategy))])
    use = strategy if isinstance(strategy, str) else _name_of(strategy)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torghut-"))
        if isinstance(data, Path | str | Sequence):
            tapes = [Path(data)] if isinstance(data, Path | str) else [Path(tape) for tape in data]
            if symbols is None or timeframe is None:
                raise InputError("say which `symbols` of the tapes are traded, and at which `timeframe` (like 1Min)")
            source: dict[str, Any] = {}
        else:
            bars, step = _bars_of(data, symbols)
            tapes, source = [Path(folder) / "bars.parquet"], {"bar_step": step}
            pq.write_table(bars, tapes[0])
            symbols, timeframe = symbols or pc.unique(bars["symbol"]).sort().to_pylist(), timeframe or step
        if actions:
            source["actions"] = [str(tape) for tape in ([actions] if isinstance(actions, Path | str) else actions)]
        text = {
            "version": 1,
            "pipelines": {
                "trading": {
                    "source": {"use": "replay", "params": {"paths": []}},
                    "stages": [
                        {"use": "microbars"},
                        {"use": "resample", "params": {"timeframes": [timeframe]}},
                        {"use": "indicators"},
                    ],
                    "broker": {"use": "simulated", "params": {"cash": str(cash), **broker}},
                }
            },
            "instruments": {name: dict(terms) for name, terms in instruments.items()},
            "strategies": [
                {
                    "name": use,
                    "use": use,
                    "base_timeframe": timeframe,
                    "symbols": list(symbols),
                    "params": dict(params),
                }
            ],
            "risk": list(risk),
        }
        catalog = load_catalog({"notebook": json.dumps(text, default=str)})
        generation = tape_generation(catalog, tapes, host, **source)
        done = run_backtest(generation, allow_shorts=allow_shorts, name="notebook")
        weakref.finalize(done, stack.pop_all().close)  # its tape is read again where the run is saved
        return done


def _name_of(strategy: type[Strategy]) -> str:
    """The name under which a class is traded: its own, in the way of catalogs."""
    return strategy.__name__.strip("_").lower().replace("_", "-")


def _module_of(strategy: type[Strategy]) -> ModuleType:
    """A plugin module that has one strategy."""

    @hookimpl
    def register_strategies(register: Any) -> None:
        register(_name_of(strategy), strategy)

    module = ModuleType("notebook")
    module.register_strategies = register_strategies  # type: ignore[attr-defined]
    return module


def _bars_of(frame: Any, symbols: Sequence[str] | None) -> tuple[pa.Table, str]:
    """A table of bars as a tape has them, and their timeframe.

    Raises
    ------
    InputError : a column is missing, or the bars have no timeframe.
    """
    if hasattr(frame, "reset_index") and "index" not in frame:  # of pandas: the times are often the index
        frame = frame.reset_index(drop=type(frame.index).__name__ == "RangeIndex")
    table = pa.table(frame)
    table = table.rename_columns([name.lower() for name in table.column_names])
    times = next((name for name in TIMES if name in table.column_names), None)
    missing = [name for name in ("open", "high", "low", "close", "volume") if name not in table.column_names]
    if times is None or missing:
        raise InputError(
            f"the bars have no column {missing[0] if missing else 'with their times, like `date`'} "
            f"(there are {', '.join(table.column_names)})"
        )
    if "symbol" not in table.column_names:
        if symbols is not None and len(symbols) != 1:
            raise InputError("the bars have no column `symbol`: name one symbol, or add the column")
        table = table.append_column("symbol", pa.array([symbols[0] if symbols else ALONE] * len(table)))
    try:
        columns = {name: table[name].cast(pa.float64()) for name in ("open", "high", "low", "close", "volume")}
        bars = pa.table({"symbol": table["symbol"].cast(pa.string()), "event_ts": _instants(table[times]), **columns})
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the bars cannot be read: {error} (give numbers, and in `{times}` times, as pandas.to_datetime makes them)"
        ) from error
    bars = bars.sort_by([("event_ts", "ascending"), ("symbol", "ascending")])
    return bars, _timeframe_of(bars)


def _instants(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times, text or whole nanoseconds as times of UTC, which is their zone where they have none."""
    if pa.types.is_string(times.type) or pa.types.is_large_string(times.type):
        try:
            times = times.cast(pa.timestamp("ns"))
        except pa.ArrowInvalid:  # with a zone
            return times.cast(pa.timestamp("ns", "UTC"))
    return times.cast(pa.timestamp("ns", "UTC"))


def _timeframe_of(bars: pa.Table) -> str:
    """The timeframe of bars: the longest that is no longer than the shortest time between two of a symbol."""
    apart = [np.diff(ints(rows["event_ts"].cast(pa.int64()))) for rows in rows_by(bars, "symbol").values()]
    shortest = min((int(each.min()) for each in apart if len(each)), default=0)
    fitting = [name for name, step in TIMEFRAMES.items() if step <= shortest]
    if not fitting:
        raise InputError("the bars show no timeframe: two of one symbol have the same time, or there is only one")
    return fitting[-1]
