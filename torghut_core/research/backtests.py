"""The one way from a generation and its tape to a result: the live loop, on the simulated broker.

`run_backtest` keeps everything in memory, so that a process can run thousands; a replay gives it the stores of a state
directory and is otherwise the same. What it returns is a value: nothing of it changes any more.
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from torghut_core import catalog as catalogs
from torghut_core.audit import AuditStore, MemoryAuditStore
from torghut_core.boundary import SourceIterator
from torghut_core.calendars import LONGEST_DAY, ROUND_THE_CLOCK
from torghut_core.catalog import Catalog
from torghut_core.errors import InputError
from torghut_core.generation import Generation, build, use_tapes
from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.market import Bars, Batch, FloatArray, window_size
from torghut_core.model.trading import Limits, Outcome, Position
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Source
from torghut_core.reload.plan import ReloadOutcome
from torghut_core.research.belief.judge import Belief, judge
from torghut_core.research.belief.monte_carlo import MonteCarlo
from torghut_core.research.performance.curve import (
    BUY_AND_HOLD,
    BarSeries,
    Curve,
    Row,
    account_curve,
    bar_series,
    buy_and_hold,
    ints,
    step_of,
)
from torghut_core.research.performance.figures import (
    Days,
    Drawdown,
    Traded,
    Trips,
    compared,
    daily_returns,
    drawdowns,
    figures,
    trading_days,
)
from torghut_core.research.performance.summary import by_group, not_known, summary_html
from torghut_core.research.performance.trips import RoundTrip, breakdown, round_trips, trip_arrays, trip_table
from torghut_core.signals import MemorySignalStore, SignalDatabase, column, dictionary, mask
from torghut_core.timestamps import EARLIEST, LATEST
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import BATCH_SIZE, Loop
from torghut_core.trading.totals import Result, Totals

LONGEST_CALL_S = 60.0
"""A plugin that has used so much processor time in a single call does not return, and is interrupted, seconds."""

Stops = Sequence[tuple[int, Callable[[], None]]]
"""Functions to call between two events, each with the index of the event before which it is called."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Backtest:
    """A backtest that has run.

    Attributes
    ----------
    result : the run in numbers, as ``torghut replay --json`` prints it.
    generation : what traded at the end.
    account : the label under which the run is written down in `audit`.
    starting_cash : cash before the first event.
    currency : of the account.
    totals : what happened, counted.
    positions : what each strategy holds at the end, by (strategy, symbol).
    open_orders : how many orders were open at the end.
    starved : strategies that were shown no signal at all -> why: which bars did not come, which features had no value.
    skipped : rows of the tape that were left out: reason, with the first place -> count.
    began_at, ended_at : the loop's time at the first and the last event that was traded on, ns; the first is `since` after a warm-up.
    audit, signals : where the run is written down.
    """

    result: Result
    generation: Generation
    account: str
    starting_cash: Decimal
    currency: str
    totals: Totals
    positions: Mapping[tuple[str, str], Position]
    open_orders: int
    starved: Mapping[str, str]
    skipped: Mapping[str, int]
    began_at: int
    ended_at: int
    audit: AuditStore
    signals: SignalDatabase
    _own_bars: pa.Table
    _since: int

    @property
    def jumps(self) -> list[str]:
        """Prices that changed as in a split that no tape of corporate actions has, a line each: nothing was adjusted for them."""
        return list(self.totals.jumps)

    @property
    def actions(self) -> list[AppliedAction]:
        """The splits and dividends that were applied in symbols that were traded, in order."""
        return list(self.totals.actions)

    def fills(self) -> list[Row]:
        """The fills in order of time, each with the rationale of its decision, or why the venue liquidated, as `because`."""
        return self._fills

    @cached_property
    def _fills(self) -> list[Row]:
        because = self.audit.rationales(self.account)
        made = {row["client_order_id"]: row["reason"] for row in self.audit.orders(self.account, decision_hash="")}
        fills = self.audit.fills(self.account)
        for fill in fills:
            fill["because"] = because.get(fill["decision_hash"]) or made.get(fill["client_order_id"], "")
        return [*fills]

    def interest(self) -> Sequence[Row]:
        """The interest in order of time: `at`, `symbol` ("" for borrowed money) and the amount, `fees`."""
        return self.audit.charges(self.account)

    def denied(self) -> list[Row]:
        """The decisions that risk denied, each with its parameters and the verdict that denied it."""
        return [
            row | row["params"] | next(verdict for verdict in row["verdicts"] if verdict["outcome"] == Outcome.DENY)
            for row in self.audit.decisions(self.account, status="denied")
        ]

    def orders(self) -> Sequence[Row]:
        """The orders in the order in which they were made, as the audit has them."""
        return self.audit.orders(self.account)

    def bars(self) -> pa.Table:
        """The bars that were traded on; of a tape without trades, its own."""
        return self._bars

    @cached_property
    def _bars(self) -> pa.Table:
        bars = self.signals.bars(since=self.began_at - LONGEST_DAY, until=self.ended_at)
        return _ended_after(bars if bars.num_rows else self._own_bars, self._since)

    def signal_rows(self) -> pa.Table:
        """The signals of the run's time."""
        return self.signals.signals(since=self.began_at - LONGEST_DAY, until=self.ended_at)

    @cached_property
    def series(self) -> dict[str, BarSeries]:
        """The bars of each symbol as arrays."""
        return bar_series(self.bars())

    def curve(self) -> Curve:
        """Equity, drawdown and exposure over the run."""
        return self._curve

    @cached_property
    def _curve(self) -> Curve:
        cash = float(self.starting_cash)
        return account_curve(cash, self.series, self.fills(), self.multipliers, self.interest(), self.actions)

    def round_trips(self) -> list[RoundTrip]:
        """The positions that were opened and closed again, in the order of their ends."""
        return self._round_trips

    @cached_property
    def _round_trips(self) -> list[RoundTrip]:
        return round_trips(self.fills(), self.multipliers, self.actions)

    @cached_property
    def trips(self) -> Trips:
        """The round trips as arrays, with how far the price went against each and for it."""
        return trip_arrays(self.round_trips(), self.series, self.actions)

    @property
    def calendar(self) -> str:
        """See `days_calendar`."""
        return days_calendar(self.generation)

    @cached_property
    def days(self) -> Days:
        """The days of the curve."""
        return trading_days(self.curve().event_ts, self.calendar)

    def traded(self) -> Traded:
        """What was filled, and what it cost."""
        fills, terms = self.fills(), self.generation.instruments
        slipped = [
            terms[fill["symbol"]].notional(fill["quantity"], fill["slippage"])
            for fill in fills
            if fill["slippage"] is not None
        ]
        return Traded(
            fills=len(fills),
            notional=float(sum(terms[fill["symbol"]].notional(fill["quantity"], fill["price"]) for fill in fills)),
            fees=float(sum(fill["fee"] for fill in fills)),
            interest=float(sum(charge["fees"] for charge in self.interest())),
            slippage=float(sum(slipped)) if slipped else math.nan,
        )

    def benchmark(self, name: str = BUY_AND_HOLD) -> FloatArray:
        """The equity of all cash in a symbol, from its first bar on and at no cost, at the times of the curve.

        Parameters
        ----------
        name : a symbol of the tape; or `buy-and-hold`: what was traded, in equal parts.

        Raises
        ------
        InputError : the tape has no bars of it.
        """
        symbols = sorted({fill["symbol"] for fill in self.fills()} or self.series) if name == BUY_AND_HOLD else [name]
        missing = [symbol for symbol in symbols if symbol not in self.series]
        if missing:
            raise InputError(f"benchmark {missing[0]}: the tape has no bars of it (there are {', '.join(self.series)})")
        held = {symbol: self.series[symbol] for symbol in symbols}
        return buy_and_hold(float(self.starting_cash), held, self.curve().event_ts, self.actions)

    def against(self, benchmark: str = BUY_AND_HOLD) -> dict[str, float]:
        """The run beside a benchmark, see `benchmark` and `figures.compared`."""
        cash, days = float(self.starting_cash), self.days
        own, other = (daily_returns(equity, cash, days) for equity in (self.curve().equity, self.benchmark(benchmark)))
        return compared(own, other, days.per_year)

    def belief(self, trials: int = 1, variance: float | None = None) -> Belief:
        """Whether the run can be told from luck, see `judge`.

        Parameters
        ----------
        trials : how many parameter sets were tried until this one was chosen.
        variance : of their daily Sharpe ratios; where None, what chance alone gives.
        """
        days = self.days
        returns = daily_returns(self.curve().equity, float(self.starting_cash), days)
        return judge(returns, self.trips.profit, days.per_year, trials=trials, variance=variance)

    @cached_property
    def monte_carlo(self) -> MonteCarlo:
        """What the run could as well have come to: its round trips in another order, and others like them at other costs."""
        fees = np.array([float(trip.fees) for trip in self.round_trips()], np.float64)
        return MonteCarlo.of(self.trips.profit, fees, float(self.starting_cash))

    def breakdown(self, by: str) -> pa.Table:
        """Round trips and their profit by strategy, symbol, side, hour, weekday or month, see `trips.breakdown`."""
        return breakdown(self.round_trips(), by, self.generation.instruments)

    # In a notebook.

    @property
    def equity(self) -> pa.Table:
        """Equity at the end of each bar: columns time (UTC), equity, and drawdown, a share of the highest so far (<= 0)."""
        curve = self.curve()
        times = column(curve.event_ts, pa.timestamp("ns", "UTC"))
        money = [column(values, pa.float64()) for values in (curve.equity, curve.drawdown)]
        return pa.Table.from_arrays([times, *money], names=["time", "equity", "drawdown"])

    @property
    def trades(self) -> pa.Table:
        """The round trips: a row each, with the fields of `RoundTrip` and its `mae_pct` and `mfe_pct`; times are UTC, money is float64."""
        return trip_table(self.round_trips(), self.trips)

    @cached_property
    def statistics(self) -> dict[str, float]:
        """The run in figures, see `figures`."""
        curve = self.curve()
        return figures(
            curve.event_ts,
            curve.equity,
            float(self.starting_cash),
            days=self.days,
            trips=self.trips,
            traded=self.traded(),
            exposure=curve.exposure,
        )

    def drawdowns(self) -> list[Drawdown]:
        """The drawdowns, the deepest first."""
        curve = self.curve()
        return drawdowns(curve.event_ts, curve.equity, float(self.starting_cash))

    def page(self, path: Path | str, title: str = "Backtest") -> Path:
        """Write the page of the run, one HTML file, and return its path.

        Raises
        ------
        StateError : the file cannot be written.
        """
        from torghut_core.research.pages.backtest import write_backtest  # its templates are slow to import

        write_backtest(Path(path), title, self)
        return Path(path)

    def save(self, folder: Path | str, *, notes: str = "") -> Path:
        """Write the folder that `torghut backtest` writes, which `torghut report` reads, and return its path.

        Parameters
        ----------
        folder : new, or empty.
        notes : what the run is for.

        Raises
        ------
        InputError : the folder has something in it.
        StateError : it cannot be written.
        """
        from torghut_core.research.run_folder import experiment_of, save_backtest  # as above

        made = Path(folder)
        return save_backtest(made, self, experiment_of(self, notes=notes, folder=str(made.absolute())))

    def __repr__(self) -> str:
        strategies = ", ".join(each.name for each in self.generation.strategies)
        lines = [f"Backtest of {strategies}, {self.result.events:,} events"]
        for group, known in by_group(self.statistics).items():
            lines += ["", group, *(f"  {label:<32}{value:>16}" for label, value in known.items())]
        notes = self._notes()
        return "\n".join([*lines, *(["", *notes] if notes else [])])

    def _repr_html_(self) -> str:
        return summary_html(repr(self).splitlines()[0], self.statistics, self.curve(), self._notes())

    def _notes(self) -> list[str]:
        """Why strategies were shown nothing, and which figures are not known."""
        return [*(f"{name} was shown no row: {why}" for name, why in self.starved.items()), *not_known(self.statistics)]

    @property
    def multipliers(self) -> dict[str, Decimal]:
        """The multiplier of each symbol that a strategy lists."""
        symbols = {symbol for each in self.generation.strategies for symbol in each.symbols}
        return {symbol: self.generation.instruments[symbol].multiplier for symbol in sorted(symbols)}


def days_calendar(generation: Generation) -> str:
    """The calendar by whose days returns are measured: that of all symbols that are traded, 24/7 where they have several."""
    symbols = {symbol for each in generation.strategies for symbol in each.symbols}
    names = {generation.instruments[symbol].calendar for symbol in symbols}
    return names.pop() if len(names) == 1 else ROUND_THE_CLOCK


def load_catalog(catalog: Path | Mapping[str, str]) -> Catalog:
    """Read a catalog: a file, a folder, or texts by file name.

    Raises
    ------
    CatalogError : it cannot be read; every problem with its place.
    """
    return catalogs.load(catalogs.read(catalog) if isinstance(catalog, Path) else dict(catalog))


def on_tapes(catalog: Catalog, host: PluginHost, tapes: Sequence[Path] = (), **source: Any) -> Catalog:
    """A catalog with its trading pipeline on recorded tapes and a simulated broker; arguments as `tape_generation`."""
    params = {"speed": "max", "follow": False} | source
    if tapes:
        params["paths"] = [str(tape) for tape in tapes]
    return use_tapes(catalog, host, params)


def tape_generation(
    catalog: Catalog,
    tapes: Sequence[Path] = (),
    host: PluginHost | None = None,
    *,
    defaults: Limits | None = None,
    **source: Any,
) -> Generation:
    """Build a catalog's trading pipeline on recorded tapes and a simulated broker, and check the tapes whole.

    Parameters
    ----------
    tapes : Parquet, CSV or JSONL files; empty for those that the catalog's own source names.
    host : the plugins; those that are installed and that the catalog allows where None.
    defaults : limits of strategies that state none.
    source : further parameters of the source that reads the tapes.

    Raises
    ------
    CatalogError : a plugin cannot be made; every problem with its place.
    InputError : the catalog has no trading pipeline.
    TapeError : a bad tape.
    """
    host = host or PluginHost.load(catalog.plugins.allow)
    generation = build(on_tapes(catalog, host, tapes, **source), host, defaults=defaults or Limits())
    if generation.source is None or generation.broker is None:
        raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to replay")
    generation.source.check()
    return generation


def run_backtest(
    generation: Generation,
    *,
    audit: AuditStore | None = None,
    signals: SignalDatabase | None = None,
    gates: Gates | None = None,
    allow_shorts: bool = False,
    name: str = "backtest",
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int], None] = lambda _events: None,
    stops: Callable[[Engine, Loop], Stops] = lambda _engine, _loop: (),
    since: int = EARLIEST,
    until: int = LATEST,
) -> Backtest:
    """Trade a generation on its tape, from the first event to the last.

    A strategy that does not return (`LONGEST_CALL_S`) is quarantined, as one that raises.

    Parameters
    ----------
    generation : as `tape_generation` makes it: its source is the tape. It is used up, for its stages keep their state.
    audit, signals : where the run is written down; in memory where None.
    gates : the kernel's gates; trading is enabled where None.
    allow_shorts : whether a position may fall below zero.
    name : what the account's label begins with, and who started the generation.
    batch_size : events per batch; any size gives the same result.
    on_progress : called after each batch with the number of events so far.
    stops : called with the engine and the loop before the first event; gives what to call on the way.
    since : loop time, ns, after which is traded: on what became known until then features and strategies warm up, as after a
        restart, and the answers to it are dropped.
    until : loop time, ns, up to which is traded; what became known later is not read.

    Raises
    ------
    TapeError, StateError : from the source and the stores; what was committed is kept.
    """
    source, broker = generation.source, generation.broker
    if source is None or broker is None:
        raise InputError("a generation without a source and a broker cannot be backtested (see `tape_generation`)")
    audit = MemoryAuditStore() if audit is None else audit
    signals = MemorySignalStore() if signals is None else signals
    account = audit.new_account(name)
    played = _Played((source, generation.name_of(source), until))
    number = audit.record_generation(generation.to_record(), actor=name, outcome=ReloadOutcome.REPLAYED)
    audit.record_strategies(generation.strategy_rows(), generation.catalog.mode)
    generation = replace(generation.numbered(number), source=played)
    gates = Gates(trading_enabled=True) if gates is None else gates
    engine = Engine(generation, account, audit, gates, allow_shorts=allow_shorts)
    engine.traded_to = since
    starting_cash = broker.account().cash
    with watched() as around:
        loop = Loop(generation, engine, audit, signals, around, actions=source.corporate_actions())
        asyncio.run(loop.run(batch_size, on_progress, stops(engine, loop)))
    held = {symbol: position for symbol, position in broker.positions().items() if position.quantity}
    audit.record_account(account, engine.account(), held, loop.ended_at)
    audit.commit()
    result = Result.of(
        engine.totals,
        final_equity=engine.account().equity,
        digest=engine.digest,
        generation=engine.generation.number,
        seconds=loop.seconds,
    )
    return Backtest(
        result=result,
        generation=engine.generation,
        account=account,
        starting_cash=starting_cash,
        currency=engine.account().currency,
        totals=engine.totals,
        positions=engine.books.positions,
        open_orders=len(engine.books.working),
        starved=engine.roster.starved,
        skipped=source.skipped,
        began_at=max(loop.began_at, since),
        ended_at=loop.ended_at,
        audit=audit,
        signals=signals,
        _own_bars=played.bars(),
        _since=since,
    )


@contextmanager
def watched() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Give what each batch is traded in, or decided on, so that a plugin that does not return is interrupted.

    Nothing is watched in a thread, nor where the process uses the alarm itself, as a test's time limit does.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield nullcontext
        return
    watchdog = Engine.watchdog(LONGEST_CALL_S, is_of_a_call=True)
    with watchdog.installed():
        yield watchdog.batch


class _Played(Source):
    """A source that plays what another one does, up to a time, and keeps its bars."""

    def __init__(self, params: tuple[Source, str, int]) -> None:
        super().__init__(params)
        self._source, self._name, self._until = params
        self.is_stored = self._source.is_stored  # type: ignore[misc]  # as the other one
        self._names: list[str] = []
        self._kept: list[Bars] = []

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield the batches, without what became known after the time; see `Source.batches`."""
        async for whole in SourceIterator(self._name, lambda: self._source.batches(size)):
            count = int(whole.now.searchsorted(self._until, "right"))
            batch = whole if count == len(whole.now) else whole.split(whole.start + count)[0]
            if count:
                self._names = batch.symbols.names
                self._kept.append(batch.bars)
                yield batch
            if batch is not whole:
                return

    def bars(self) -> pa.Table:
        """The bars that were played, as a signal store has them."""
        bars = Bars.concatenate(self._kept)
        steps, step = np.unique(bars.step, return_inverse=True)
        columns = {
            "symbol": dictionary(bars.symbol, self._names),
            "window_size": dictionary(step, [window_size(int(length)) for length in steps]),
            "event_ts": column(bars.event_ts, pa.int64()),
            **{name: column(getattr(bars, name), pa.float64()) for name in ("open", "high", "low", "close", "volume")},
        }
        return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def _ended_after(bars: pa.Table, since: int) -> pa.Table:
    """The bars whose end is after a time, ns."""
    if since == EARLIEST:
        return bars
    sizes = bars["window_size"].combine_chunks().dictionary_encode()
    steps = np.array([step_of(size) for size in sizes.dictionary.to_pylist()], np.int64)
    return bars.filter(mask(ints(bars["event_ts"]) + steps[np.from_dlpack(sizes.indices)] > since))
