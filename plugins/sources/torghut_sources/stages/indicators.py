"""The `indicators` stage: every indicator of every bar series, in one pass over the bars.

The formulas are in the modules of the indicators. Here they are combined into kernels that read a bar once and write all
of its values. A call of a kernel costs more than the values of one bar, so a live batch makes as few calls as its columns
need: one for the columns made of closes, one for volumes and returns, one for quotes.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from torghut_core import (
    MILLISECOND,
    MINUTE,
    PAIRS_AND_US_EQUITIES,
    SIGNAL_COLUMNS,
    Bars,
    Batch,
    Calendars,
    FloatArray,
    IntArray,
    Params,
    ShapeError,
    Signals,
    SymbolTable,
    param,
)
from torghut_core.stages import (
    COLUMN,
    FLAG,
    FLOATS,
    INTS,
    NUMBER,
    NUMBERS,
    OUTPUT,
    TABLE,
    Stage,
    kernel,
    native,
    records,
)
from torghut_sources.settings import TaSettings
from torghut_sources.stages import bollinger, macd, quote_imbalance, realized_volatility, rsi, vwap
from torghut_sources.stages.order import merge
from torghut_sources.stages.session_opens import SPAN, SessionOpens, session_open
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.window import last_seconds, last_values

GROUPS: dict[str, tuple[str, ...]] = {
    "macd": ("macd", "macd_signal", "macd_hist"),
    "ema": ("ema12", "ema26"),
    "boll": ("boll_mid", "boll_upper", "boll_lower"),
    "vwap": ("vwap_session", "vwap_w5m"),
    "imbalance": tuple(column for column in SIGNAL_COLUMNS if column.startswith("imbalance_")),
    "vol_realized": ("vol_realized_w60s",),
}
"""Groups of columns that a name in the parameter `columns` may stand for."""


CLOSES = np.dtype([("macd", macd.MACD), ("rsi", rsi.RSI), ("bollinger", last_values(20))])
SESSION = np.dtype([("span", SPAN), ("vwap", vwap.SESSION)])
ROLLING = last_seconds(300)  # five minutes of bars of a second, the shortest there are
RETURNS = realized_volatility.volatility(60)

STATES = {
    "closes": CLOSES,
    "sessions": SESSION,
    "rolling": ROLLING,
    "returns": RETURNS,
    "quotes": quote_imbalance.QUOTE,
}
"""Rows of state: per symbol of `quotes`, per series of the others."""

MACD_STATES = tuple(macd.MACD.names or ())

# Rows of the blocks of `Bars` and `Signals`, as a kernel needs them.
TS, STEP, SERIES = Bars.event_ts.row, Bars.step.row, Bars.series.row
HIGH, LOW, CLOSE, VOLUME, VWAP = Bars.high.row, Bars.low.row, Bars.close.row, Bars.volume.row, Bars.vwap.row
MACD, MACD_SIGNAL, MACD_HIST = Signals.macd.row, Signals.macd_signal.row, Signals.macd_hist.row
EMA12, EMA26, RSI14 = Signals.ema12.row, Signals.ema26.row, Signals.rsi14.row
BOLL_MID, BOLL_UPPER, BOLL_LOWER = Signals.boll_mid.row, Signals.boll_upper.row, Signals.boll_lower.row
VWAP_SESSION, VWAP_W5M = Signals.vwap_session.row, Signals.vwap_w5m.row
IMBALANCE, VOL_REALIZED = Signals.imbalance_spread.row, Signals.vol_realized_w60s.row
BAR = Signals.open.row
"""The first of the rows that are copied from the bar, in the order of `Bars`."""


@kernel
def run_closes(
    state: Any, ints: IntArray, floats: FloatArray, row: int, out: FloatArray, sma: bool, wanted: int
) -> int:
    """Write the columns made of closes, from a row on, and NaN to all that are not `wanted` (a bit per column).

    Returns
    -------
    -1, or the first row whose series has no state: continue there once it has.
    """
    averages = wanted & (1 << MACD | 1 << MACD_SIGNAL | 1 << MACD_HIST | 1 << EMA12 | 1 << EMA26) != 0
    strength = wanted & 1 << RSI14 != 0
    bands = wanted & (1 << BOLL_MID | 1 << BOLL_UPPER | 1 << BOLL_LOWER) != 0
    for i in range(row, ints.shape[1]):
        series = ints[SERIES, i]
        if series < 0 or series >= len(state):
            return i
        closes = state[series]
        close = floats[CLOSE, i]
        ema12 = ema26 = difference = line = index = mid = upper = lower = math.nan
        if close == close:  # a bar without a close has no values, and the series continues after it
            if averages:
                ema12, ema26, difference, line = macd.step(closes.macd, close, 12, 26, 9, sma)
            if strength:
                index = rsi.step(closes.rsi, close, 14)
            if bands:
                mid, upper, lower = bollinger.step(closes.bollinger, close, 20, 2.0)
        out[MACD, i] = difference
        out[MACD_SIGNAL, i] = line
        out[MACD_HIST, i] = difference - line
        out[EMA12, i] = ema12
        out[EMA26, i] = ema26
        out[RSI14, i] = index
        out[BOLL_MID, i] = mid
        out[BOLL_UPPER, i] = upper
        out[BOLL_LOWER, i] = lower
    for column in range(BAR):
        if wanted & 1 << column == 0:
            for i in range(ints.shape[1]):
                out[column, i] = math.nan
    return -1


@kernel
def run_volumes(
    sessions: Any,
    rolling: Any,
    returns: Any,
    opens: IntArray,
    ends: IntArray,
    first: int,
    until: int,
    ints: IntArray,
    floats: FloatArray,
    out: FloatArray,
    wanted: int,
) -> int:
    """Write the `wanted` columns made of volumes and returns.

    Returns
    -------
    -1, or the first row whose end is not from `first` to `until`; then nothing was done.
    """
    since_open = wanted & 1 << VWAP_SESSION != 0
    if since_open:
        for i in range(ints.shape[1]):
            last = ints[TS, i] + ints[STEP, i] - 1
            if last < first or last >= until:
                return i
    for i in range(ints.shape[1]):
        series, ts = ints[SERIES, i], ints[TS, i]
        price = vwap.price_of(floats[HIGH, i], floats[LOW, i], floats[CLOSE, i], floats[VWAP, i])
        volume = floats[VOLUME, i] if price == price else 0.0
        if since_open:
            session = sessions[series]
            # a bar in which a session opens is of that session
            opened = session_open(session.span, opens, ends, ts + ints[STEP, i] - 1)
            out[VWAP_SESSION, i] = vwap.session_step(session.vwap, opened, price, volume)
        if wanted & 1 << VWAP_W5M:
            out[VWAP_W5M, i] = vwap.rolling_step(rolling[series], ts, price, volume, 5 * MINUTE)
        if wanted & 1 << VOL_REALIZED:
            out[VOL_REALIZED, i] = realized_volatility.step(returns[series], ts, floats[CLOSE, i], MINUTE)
    return -1


class Indicators(Stage):
    """One row of signals per bar of `Batch.bars` and `Batch.microbars`.

    Every bar series has a state of its own. A value is NaN until its indicator is warm: ema12 and ema26 for 12 and 26
    bars, macd for 26, macd_signal and macd_hist for 34, rsi14 for 15, boll for 20; vol_realized_w60s with fewer than two
    returns in its window; the VWAPs without volume; the columns made of quotes without a fresh quote.
    """

    derives: ClassVar[str] = "signals"
    settings = (TaSettings,)
    state_version: ClassVar[int] = 2

    class Params(Params):
        """Parameters of `Indicators`."""

        columns: list[str] = param(
            ["ema", "macd", "rsi14", "boll", "vwap", "imbalance", "vol_realized"],
            help="columns of ta_signals to compute, or groups: macd, ema, boll, vwap, imbalance, vol_realized; the"
            " others stay null",
        )
        seed: Literal["first", "sma"] = param(
            "first", help="start of the averages: first close, or sma (mean of the first span closes, as TA-Lib)"
        )
        quote_stale_after_ms: int = param(
            setting=(TaSettings, "ta_quote_stale_after_ms"), ge=0, help="age at which a quote is stale, ms"
        )
        calendars: Calendars = param(
            dict(PAIRS_AND_US_EQUITIES),
            help="exchange calendar by symbol pattern, first match counts, for the sessions of vwap_session;"
            " 24/7 begins at 00:00 UTC; in a catalog its instruments come instead of the default",
        )

        @field_validator("columns")
        @classmethod
        def _columns_exist(cls, columns: list[str]) -> list[str]:
            for name in columns:
                if name not in GROUPS and name not in SIGNAL_COLUMNS:
                    nearest = difflib.get_close_matches(name, [*GROUPS, *SIGNAL_COLUMNS], 1, 0)[0]
                    raise ValueError(f"{name!r} is no column of ta_signals (the nearest is {nearest!r})")
            return columns

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        names = {column for name in params.columns for column in GROUPS.get(name, (name,))}
        self._wanted = sum(1 << row for row, column in enumerate(SIGNAL_COLUMNS) if column in names)
        self._sma = params.seed == "sma"
        self._stale_after = params.quote_stale_after_ms * MILLISECOND
        needs = {
            "sessions": ("vwap_session",),
            "rolling": ("vwap_w5m",),
            "returns": GROUPS["vol_realized"],
            "quotes": GROUPS["imbalance"],
        }
        self._kept = ["closes", *(name for name, columns in needs.items() if not names.isdisjoint(columns))]
        self._by_volume = not {"sessions", "rolling", "returns"}.isdisjoint(self._kept)
        self._by_quote = "quotes" in self._kept
        self._run_closes = native(run_closes, records(CLOSES), INTS, FLOATS, NUMBER, OUTPUT, FLAG, NUMBER)
        if self._by_volume:
            states = records(SESSION), records(ROLLING), records(RETURNS)
            opens = TABLE, NUMBERS, NUMBER, NUMBER
            self._count_implausible = native(vwap.count_implausible, FLOATS)
            self._run_volumes = native(run_volumes, *states, *opens, INTS, FLOATS, OUTPUT, NUMBER)
        if self._by_quote:
            quotes = COLUMN, NUMBER, INTS, FLOATS
            self._run_quotes = native(
                quote_imbalance.run, records(quote_imbalance.QUOTE), NUMBER, *quotes, INTS, OUTPUT, NUMBER, NUMBER
            )
        self._clear()

    def _clear(self) -> None:
        self._symbols = SymbolTable()
        self._series = 0
        self._saved: dict[str, Any] | None = None
        self._sessions = SessionOpens(self.params.calendars)
        self._states = {name: np.zeros(0, dtype) for name, dtype in STATES.items()}

    def update(self, batch: Batch) -> Batch:
        """Fill `Batch.signals`: a row per bar of `bars` and `microbars`, in order of (at, event_ts, symbol, step).

        Raises
        ------
        ShapeError : a bar of a series, or a quote of a symbol, that is not in the batch's symbol table.
        """
        symbols = batch.symbols
        if symbols is not self._symbols:
            self._adopt(symbols)
        bars, microbars = batch.bars, batch.microbars
        if microbars.ints.size:
            bars = merge(symbols, bars, microbars) if bars.ints.size else microbars
        ints, floats = bars.ints, bars.floats
        out = np.empty((BAR + len(floats), ints.shape[1]))
        out[BAR:] = floats
        row = self._run_closes(self._states["closes"], ints, floats, 0, out, self._sma, self._wanted)
        while row >= 0:
            if int(ints[SERIES, row]) not in range(len(symbols.series_step)):
                raise ShapeError(f"indicators: bar {row} is of series {ints[SERIES, row]}, which is not in the table")
            self._grow()
            row = self._run_closes(self._states["closes"], ints, floats, row, out, self._sma, self._wanted)
        if self._by_volume:
            self._update_volumes(ints, floats, out)
            if batch.bars.ints.size:
                batch.implausible_vwaps += int(self._count_implausible(batch.bars.floats))
        if self._by_quote:
            self._update_quotes(batch, ints, out)
        batch.signals = Signals(ints, out)
        return batch

    def rescale(self, symbol: str, factor: float) -> None:
        """See `Stage.rescale`; windows of seconds and quotes, which are over by the next session, begin anew."""
        if self._saved is not None:
            self._adopt(SymbolTable())
        names, states = self._symbols.names, self._states
        series = [row for row in range(self._series) if names[self._symbols.series_symbol[row]] == symbol]
        closes = states["closes"]
        for row in series:
            for average in MACD_STATES:
                closes["macd"][average]["value"][row] *= factor
            for name in ("last", "gain", "loss"):
                closes["rsi"][name][row] *= factor
            bands = closes["bollinger"]
            for name in ("anchor", "distance"):
                bands[name][row] *= factor
            bands["square"][row] *= factor * factor
            bands["slots"]["distance"][row] *= factor
            bands["slots"]["square"][row] *= factor * factor
            if "returns" in self._kept:
                states["returns"]["last"][row] *= factor
            if "rolling" in self._kept:
                states["rolling"][row] = np.zeros((), ROLLING)
        number = self._symbols.find(symbol)
        if number is not None and number < len(states["quotes"]):
            states["quotes"][number] = np.zeros((), quote_imbalance.QUOTE)

    def _update_volumes(self, ints: IntArray, floats: FloatArray, out: FloatArray) -> None:
        if len(self._symbols.series_step) > self._series:
            self._grow()
        sessions, states = self._sessions, self._states
        while True:
            opens = sessions.opens, sessions.ends, sessions.first, sessions.until
            row = self._run_volumes(
                states["sessions"], states["rolling"], states["returns"], *opens, ints, floats, out, self._wanted
            )
            if row < 0:
                return
            sessions.cover(int(ints[TS, row] + ints[STEP, row] - 1))

    def _update_quotes(self, batch: Batch, ints: IntArray, out: FloatArray) -> None:
        quotes = batch.quotes
        self._states["quotes"] = grown(self._states["quotes"], len(batch.symbols))
        events = batch.now, batch.start, quotes.ints, quotes.floats
        wanted = self._wanted >> IMBALANCE
        symbol = self._run_quotes(self._states["quotes"], self._stale_after, *events, ints, out, IMBALANCE, wanted)
        if symbol >= 0:
            raise ShapeError(f"indicators: an event is of symbol {symbol}, and the table has {len(batch.symbols)}")

    def _grow(self) -> None:
        """Make room for the series that are new in the symbol table."""
        new = range(self._series, len(self._symbols.series_step))
        self._series = new.stop
        for name in self._kept:
            if name != "quotes":
                self._states[name] = grown(self._states[name], new.stop)
        if "sessions" in self._kept:
            self._set_calendars(new)

    def _set_calendars(self, numbers: Iterable[int]) -> None:
        spans = self._states["sessions"]["span"]
        for series in numbers:
            name = self._symbols.names[self._symbols.series_symbol[series]]
            spans[series] = (self._sessions.calendar(name), 0, 0)

    def save_state(self) -> dict[str, Any]:
        """Return the state by name: `symbols`, `series` (symbol, step, of the venue), and the words of each kind of state."""
        if self._saved is not None:
            return self._saved
        symbols, rows = self._symbols, len(self._states["closes"])
        names = [symbols.names[number] for number in symbols.series_symbol[:rows]]
        saved: dict[str, Any] = {
            "symbols": symbols.names[: len(self._states["quotes"])],
            "series": [list(each) for each in zip(names, symbols.series_step, symbols.series_of_venue, strict=False)],
        }
        for name, state in self._states.items():
            saved[name] = to_words(state[: len(saved["symbols" if name == "quotes" else "series"])])
        return saved

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Resume from what `save_state` gave; columns that its instance did not compute start cold.

        Raises
        ------
        ValueError : state of another version or shape.
        """
        super().load_state(state, version)
        for name, dtype in STATES.items():
            from_words(state[name], dtype)
        self._clear()
        self._saved = state

    def _adopt(self, symbols: SymbolTable) -> None:
        """Adopt the saved state, or that of the table before, by the names of the symbols."""
        saved = self.save_state()
        self._clear()
        self._symbols = symbols
        rows = {
            "symbols": [symbols.number(name) for name in saved["symbols"]],
            "series": [symbols.series(symbols.number(name), *which) for name, *which in saved["series"]],
        }
        self._states["quotes"] = grown(self._states["quotes"], len(symbols))
        self._grow()
        for name in self._kept:
            if len(saved[name]):
                numbers = rows["symbols" if name == "quotes" else "series"]
                self._states[name][numbers] = from_words(saved[name], STATES[name])
        if "sessions" in self._kept:
            self._set_calendars(rows["series"])  # the parameters may have other calendars
