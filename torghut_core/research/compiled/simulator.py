"""Backtests of many parameter sets on one tape, in compiled code: the same fills and the same money as the loop's, to the cent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import context_of, from_plugins
from torghut_core.errors import InputError, reason_of
from torghut_core.feature_graph import FeaturePlan, Frame, Planner, Wanted, with_columns
from torghut_core.generation import Generation, StrategyInstance
from torghut_core.model.market import FloatArray, IntArray
from torghut_core.model.trading import Side, money
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Columns, FillTerms, Strategy
from torghut_core.ports.deciding import targets_of
from torghut_core.research.compiled.reasons import in_units, of_gates, reasons, terms_of
from torghut_core.research.compiled.tape import (
    Sessions,
    bar_bits,
    compute,
    frame_tables,
    is_sane,
    read_tape,
    recent_prices,
    series_of,
    sessions_of,
)
from torghut_core.research.compiled.walk import (
    AT_BETTER,
    AT_LIMIT,
    AT_STOP,
    COUNTS,
    DONE,
    FILLS,
    FULL,
    HAS_PRICE,
    IS_FRESH,
    IS_SANE,
    KINDS,
    MOST_UNITS,
    N_DECISIONS,
    N_DENIED,
    N_FILLS,
    N_ORDERS,
    STOPS,
    UNITS_OF_ONE,
    count_units,
    walk,
)
from torghut_core.research.performance.curve import BarSeries, Curve, account_curve
from torghut_core.research.performance.trips import RoundTrip, round_trips
from torghut_core.timestamps import DAY, EARLIEST, LATEST, SECOND
from torghut_core.trading.answers import MOST_DIGITS
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import BATCH_SIZE

Row = Mapping[str, Any]
Params = Mapping[str, Mapping[str, Any]]
"""New values of parameters, by strategy."""

NOTHING: Params = MappingProxyType({})
MANY_VIEWS = 64
"""So many tables of columns are kept for parameter sets to come with the same features."""
ROWS_AT_A_TIME = 65_536
"""So many rows a strategy decides on at a time: what it makes of them stays small."""
KEPT_VALUES = 2**28
"""So many bytes of features are kept for the parameter sets to come."""
FEW_FILLS = 4096


class Fills(NamedTuple):
    """The fills of a run, as numbers: columns of shape (fills,), in order.

    Attributes
    ----------
    event_ts : starts of the bars that they were at, ns.
    strategy, symbol : numbers in `Simulator.strategies` and `Simulator.symbols`.
    units : signed, bought or sold, in `walk.UNIT`.
    price, fee : quote currency.
    bar : numbers of the bars.
    basis, leg : what the price is made of (`walk`), and the price of the leg that filled, NaN for none.
    is_maker : whether it brought liquidity.
    """

    event_ts: IntArray
    strategy: IntArray
    symbol: IntArray
    units: IntArray
    price: FloatArray
    fee: FloatArray
    bar: IntArray
    basis: IntArray
    leg: FloatArray
    is_maker: IntArray

    @classmethod
    def of(cls, table: IntArray, prices: FloatArray, starts: IntArray) -> Fills:
        """Make them of what `walk` has filled, and of the starts of the bars."""
        bar, _, strategy, symbol, is_buy, units, basis, is_maker = table.T.copy()
        price, fee, leg = prices.T.copy()
        signed = np.where(is_buy != 0, units, -units)
        return cls(starts[bar], strategy, symbol, signed, price, fee, bar, basis, leg, is_maker)


NO_FILLS = Fills.of(np.zeros((0, len(FILLS)), np.int64), np.zeros((0, 3)), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A parameter set that was traded.

    Attributes
    ----------
    params : the set.
    needs_loop : why compiled code does not give what the loop gives for this set; "" where it does. Else nothing below counts.
    final_equity : at the end, the account's currency; a float within a millionth of what the loop has.
    fees : paid in all.
    decisions, denied, orders, filled : how many there were.
    since : loop time, ns, after which was traded.
    first_bar, stop_bar : numbers of the first bar that was traded on, and of the one behind the last.
    equity : after each of these bars, shape (bars,), see `Simulator.times`; None where it was not asked for.
    fills : as numbers; `Simulator.fill_rows` gives them as the audit has them.
    """

    params: Params
    needs_loop: str = ""
    final_equity: float = np.nan
    fees: float = 0.0
    decisions: int = 0
    denied: int = 0
    orders: int = 0
    filled: int = 0
    since: int = EARLIEST
    first_bar: int = 0
    stop_bar: int = 0
    equity: FloatArray | None = None
    fills: Fills = field(repr=False, default=NO_FILLS)


class Span(NamedTuple):
    """A part of the tape: of its bars, and of the rows that strategies are shown."""

    bars: slice
    rows: slice


class _View(NamedTuple):
    """The rows that a strategy is shown where these nodes are known: what `decide` gets, and their places in the walk."""

    columns: list[Columns]
    places: IntArray
    """Of the rows in the walk, shape (rows,)."""


class Simulator:
    """One tape, on which parameter sets of a generation's strategies are traded in compiled code.

    Parameters
    ----------
    generation : as `tape_generation` makes it; it is used up.
    host : the plugins that it was made of; those that are installed where None.
    gates, allow_shorts, batch_size, on_progress : as in `run_backtest`; `on_progress` while the tape is read.

    Attributes
    ----------
    strategies, symbols : names, by number.
    starting_cash : cash before the first bar.
    times : shape (bars,), the loop's time at each bar of the tape, ns.

    Raises
    ------
    InputError : the generation or its tape needs the loop; every reason.
    """

    def __init__(
        self,
        generation: Generation,
        host: PluginHost | None = None,
        *,
        gates: Gates | None = None,
        allow_shorts: bool = False,
        batch_size: int = BATCH_SIZE,
        on_progress: Callable[[int], None] = lambda _events: None,
    ) -> None:
        gates = Gates(trading_enabled=True) if gates is None else gates
        if why := [*reasons(generation), *of_gates(gates)]:
            raise InputError(f"it cannot be backtested in compiled code: {'; '.join(why)}")
        assert generation.broker is not None
        assert generation.features is not None
        self._host = host or PluginHost.load(generation.catalog.plugins.allow)
        self._traded = [each for each in generation.strategies if each.enabled]
        self._gates, self._allow_shorts = gates, allow_shorts
        tape = self._tape = read_tape(generation, batch_size, on_progress)
        if tape.has_others:
            raise InputError(
                "it cannot be backtested in compiled code: its tape has trades or quotes (bars alone are compiled)"
            )
        self.strategies = [each.name for each in self._traded]
        self.symbols = list(tape.symbols.names)
        self.starting_cash = generation.broker.account().cash
        self._numbers = {name: number for number, name in enumerate(self.symbols)}
        self._symbols = generation.features.symbols
        self._find = partial(self._host.resolve, "indicator")
        self._wanted: dict[tuple[Any, ...], Wanted] = {}
        self._nodes = dict(generation.features.nodes)
        self._values: dict[str, FloatArray] = {}
        self._failed: set[str] = set()
        self._views: dict[tuple[Any, ...], _View] = {}
        self._read_terms(generation)
        self._read_bars()
        self._read_rows(generation)
        self._multipliers = {symbol: generation.instruments[symbol].multiplier for symbol in self.symbols}
        self._fills = np.zeros((FEW_FILLS, len(FILLS)), np.int64)
        self._fill_prices = np.zeros((FEW_FILLS, 3))
        self._series: tuple[tuple[int, int], dict[str, BarSeries]] | None = None

    # What is the same for every set.

    def _read_terms(self, generation: Generation) -> None:
        broker, bars = generation.broker, self._tape.bars
        assert broker is not None
        first = int(bars.event_ts.min()) if len(bars) else 0
        last = int(self._tape.now[-1]) if len(self._tape.now) else 0
        calendars: dict[str, int] = {}
        count = len(self.symbols)
        self._terms, self._costs = np.zeros((count, 4), np.int64), np.ones((count, 5))
        self._terms[:, 3], self._costs[:, 4] = -1, 0.0
        self._fill_terms: list[FillTerms] = [FillTerms()] * count
        traded = {symbol for each in self._traded for symbol in each.symbols}
        self._tick = [Decimal(0)] * count
        self._sessions: list[Sessions | None] = []
        for number, symbol in enumerate(self.symbols):
            if symbol not in traded:
                self._sessions.append(None)
                continue
            terms, instrument = broker.fill_terms(symbol), terms_of(generation, symbol)
            assert isinstance(terms, FillTerms)
            self._fill_terms[number], self._tick[number] = terms, instrument.tick_size
            if terms.calendar is not None:
                calendars.setdefault(terms.calendar, len(calendars))
            self._sessions.append(None if terms.calendar is None else sessions_of(terms.calendar, first, last))
            step = max(1, in_units(instrument.quantity_step))
            self._terms[number] = (
                max(step, in_units(instrument.smallest_order)),
                step,
                broker.usual_time_in_force(symbol) == "day",
                -1 if terms.calendar is None else calendars[terms.calendar],
            )
            amounts = (instrument.multiplier, instrument.margin, terms.sale, terms.purchase, instrument.tick_size)
            self._costs[number] = [float(amount) for amount in amounts]
        closes = [sessions_of(name, first, last).closes for name in calendars]
        self._calendars = np.array([0, *np.cumsum([len(each) for each in closes])], np.int64)
        self._closes = np.concatenate([*closes, np.zeros(0, np.int64)])
        most = max((len(terms.fees) for terms in self._fill_terms), default=0)
        self._fees = np.zeros((count, most, 7))
        self._fees[:, :, 4:6] = np.inf
        for number, terms in enumerate(self._fill_terms):
            for place, fee in enumerate(terms.fees):
                side = 0.0 if fee.side is None else 1.0 if fee.side is Side.BUY else -1.0
                bounds = (fee.maximum, fee.maximum_share)
                self._fees[number, place] = [
                    *map(float, (fee.maker, fee.taker, fee.per_unit, fee.minimum)),
                    *(np.inf if bound is None else float(bound) for bound in bounds),
                    side,
                ]

    def _read_bars(self) -> None:
        bars, now = self._tape.bars, self._tape.now
        self.times = now[bars.at]
        bits = bar_bits(bars, len(self.symbols), self._sessions)
        self._bars = beside(bars.at, bars.symbol, bars.event_ts, self.times, bits, bars.end)
        self._prices = beside(bars.open, bars.high, bars.low, bars.close)

    def _read_rows(self, generation: Generation) -> None:
        plan = generation.features
        assert plan is not None
        self._frames = frame_tables(self._tape, plan, {each.wanted.frame for each in self._traded})
        steps = {
            self._numbers[symbol]: each.step_ns
            for each in self._traded
            for symbol in each.symbols
            if symbol in self._numbers
        }
        self._recent: dict[Frame, FloatArray] = {}
        parts, self._places = [], []
        for number, each in enumerate(self._traded):
            table = self._frames[each.wanted.frame]
            is_own = np.array([name in each.symbols for name in self.symbols], bool)
            places = np.flatnonzero(is_own[table.symbol])
            self._places.append(places)
            if each.wanted.frame not in self._recent:
                self._recent[each.wanted.frame] = recent_prices(self._tape, steps, table.symbol, table.at)
            recent, price = self._recent[each.wanted.frame][places], table.prices["close"][places]
            now, end = table.now[places], table.end[places]
            sane = np.ones(len(places), bool)
            if each.step_ns < DAY:
                sane = is_sane(price, recent, self._gates.price_band)
            bits = (
                HAS_PRICE * (price == price) + IS_FRESH * (now - end <= self._gates.price_max_age_ns) + IS_SANE * sane
            )
            rows = beside(table.at[places], np.broadcast_to(number, len(places)), table.symbol[places], now, bits)
            prices = beside(price, np.fmax(np.abs(price), np.abs(recent)), recent)
            kind = np.broadcast_to(int(each.wanted.frame.is_sliced), len(places))
            parts.append((rows, prices, kind, table.rank[places]))
        if len(parts) > 1 or any(frame.is_sliced for frame in self._frames):
            rows, prices, kinds, ranks = (np.concatenate([part[column] for part in parts]) for column in range(4))
            order = np.lexsort((rows[:, 1], ranks, kinds, rows[:, 0]))
            rows, prices = rows[order], prices[order]
        self._rows, self._row_prices = rows, prices
        self._slots = [np.flatnonzero(self._rows[:, 1] == number) for number in range(len(self._traded))]
        self._targets = np.full(len(rows), np.nan)
        self._whole = np.zeros((len(rows), 2), np.int64)
        self._no_protection = np.zeros((0, 2))
        self._rules = rules_of(generation, self._traded)
        needs_equity = KINDS.index("position-share") in self._rules[:, :, 0]
        self._is_shown = np.zeros(len(rows) if needs_equity else 0, bool)

    # Parameter sets.

    def run(
        self,
        params: Params = NOTHING,
        *,
        since: int = EARLIEST,
        until: int = LATEST,
        with_equity: bool = False,
    ) -> Run:
        """Trade the strategies with new values of parameters, by strategy; others keep theirs.

        Parameters
        ----------
        since, until : loop times, ns, after which and up to which is traded, as in `run_backtest`.
        with_equity : whether the run has its `equity`.

        Raises
        ------
        pydantic.ValidationError, PluginError : a strategy does not accept them.
        """
        if unknown := sorted(params.keys() - {*self.strategies}):
            raise InputError(f"there is no strategy {unknown[0]!r} (there are {', '.join(self.strategies)})")
        if until < LATEST and (len(self._tape.derived) or any(frame.is_sliced for frame in self._frames)):
            return Run(params=params, needs_loop="what becomes known when the tape is cut depends on the loop's clock")
        span = self._span(since, until)
        self._targets[:], self._is_shown[:] = np.nan, False
        protection = self._no_protection
        for number, each in enumerate(self._traded):
            strategy, wanted = self._made(each, params.get(each.name))
            if wanted is None:
                return Run(
                    params=params, needs_loop=f"the features of strategy {each.name} are of other bars than at first"
                )
            try:
                view = self._view(number, wanted, span.rows)
                if view is None:
                    return Run(params=params, needs_loop=f"a feature of strategy {each.name} fails")
                targets = [context_of(strategy).run(targets_of, each.name, strategy, part) for part in view.columns]
            except from_plugins() as error:  # it is the plugin's code and may raise anything
                return Run(params=params, needs_loop=f"strategy {each.name} fails: {reason_of(error)}")
            if not targets:
                continue
            if len(self._is_shown):
                self._is_shown[view.places] = True
            self._targets[view.places] = (
                np.concatenate([part.units for part in targets]) if len(targets) > 1 else targets[0].units
            )
            if any(part.legs for part in targets):
                if not len(protection):
                    protection = np.full((len(self._rows), 2), np.nan)
                for column, leg in enumerate(("stop_loss", "take_profit")):
                    none = np.nan
                    prices = [part.legs.get(leg, np.broadcast_to(none, part.units.shape)) for part in targets]
                    protection[view.places, column] = np.concatenate(prices)
        problem = self._count_units(span.rows)
        if problem:
            return Run(params=params, needs_loop=problem)
        if len(protection):
            if not is_written_out(protection[span.rows]):
                return Run(
                    params=params, needs_loop="a leg has a price that the loop refuses: its strategy is quarantined"
                )
            self._round(protection)
        return self._walk(params, protection, span, since, with_equity=with_equity)

    def _span(self, since: int, until: int) -> Span:
        """The bars and rows between two loop times."""
        first, stop = self.times.searchsorted((since, until), "right").tolist()
        return Span(slice(first, stop), slice(*self._rows[:, 3].searchsorted((since, until), "right").tolist()))

    def _made(self, each: StrategyInstance, changed: Mapping[str, Any] | None) -> tuple[Strategy, Wanted | None]:
        """A strategy with new parameters, and its features; None where these need other bars than those that were read."""
        if not changed:
            return each.strategy, each.wanted
        params = each.plugin.parameters({**each.params, **changed})
        strategy: Strategy = each.plugin.create(params)
        context = context_of(strategy)
        features = with_columns(type(strategy).columns, context.run(type(strategy).features, strategy))
        key = (each.name, *((name, str(value)) for name, value in features.items()))
        wanted = self._wanted.get(key)
        if wanted is None:
            planner = Planner(self._find)
            planner.add(each.name, features, each.step_ns, each.symbols, is_sliced=each.wanted.frame.is_sliced)
            wanted = planner.plan.wanted[each.name]
            known = all(self._symbols.get(frame, set()) >= symbols for frame, symbols in planner.plan.symbols.items())
            if not known or wanted.frame != each.wanted.frame:
                return strategy, None
            self._nodes = {**self._nodes, **planner.plan.nodes}
            self._wanted[key] = wanted
        return strategy, wanted

    def prepare(self, sets: Iterable[Params]) -> None:
        """Compute the features of many sets in one pass over the tape; a set that is not prepared takes a pass of its own.

        Raises
        ------
        pydantic.ValidationError, PluginError : a strategy does not accept a set.
        """
        nodes: dict[str, None] = {}
        for params in sets:
            for each in self._traded:
                _, wanted = self._made(each, params.get(each.name))
                nodes |= dict.fromkeys(() if wanted is None else wanted.nodes)
        self._compute([*nodes])

    def _compute(self, nodes: list[str]) -> None:
        """Have the values of these nodes at hand, and drop those that have waited longest where there are too many."""
        missing = [node for node in nodes if node not in self._values]
        if not missing:
            return
        needed = {*missing}
        for key, node in reversed(self._nodes.items()):
            if key in needed:
                needed.update(node.inputs)
        plan = FeaturePlan({key: node for key, node in self._nodes.items() if key in needed}, self._symbols)
        values, failed = compute(self._tape, plan, missing)
        self._failed |= failed
        self._values |= values
        size = sum(each.nbytes for each in self._values.values())
        for key in list(self._values):
            if size <= KEPT_VALUES:
                break
            if key not in nodes:
                size -= self._values.pop(key).nbytes
        self._views.clear()

    def _view(self, number: int, wanted: Wanted, rows: slice) -> _View | None:
        """What `decide` of a strategy gets of these features in some rows; None where one of them fails."""
        key = (number, wanted.names, wanted.nodes, rows.start, rows.stop)
        view = self._views.get(key)
        if view is not None:
            return view
        self._compute([*wanted.nodes])
        if self._failed.intersection(wanted.nodes):
            return None
        table, places = self._frames[wanted.frame], self._places[number]
        slots = self._slots[number]
        known = (slots >= rows.start) & (slots < rows.stop)
        values = {name: self._values[node] for name, node in zip(wanted.names, wanted.nodes, strict=True)}
        for name, column in values.items():
            if name not in wanted.optional:
                known &= column[places] == column[places]
        shown = places[known]
        columns = {name: column[shown] for name, column in {**table.prices, **values}.items()}
        symbol, times = np.array(self.symbols, object)[table.symbol[shown]], table.event_ts[shown]
        parts = [slice(first, first + ROWS_AT_A_TIME) for first in range(0, len(shown), ROWS_AT_A_TIME)]
        made = [
            Columns(symbol[part], times[part], {name: each[part] for name, each in columns.items()}) for part in parts
        ]
        view = self._views[key] = _View(made, slots[known])
        if len(self._views) > MANY_VIEWS:
            del self._views[next(iter(self._views))]
        return view

    def _count_units(self, part: slice) -> str:
        """Round the targets of some rows down and up to whole `UNIT`; return what is in the way."""
        most, inexact = count_units(self._targets[part], self._whole[part])
        if most > MOST_UNITS:
            return f"a target of {most:g} units is more than compiled code counts"
        for row in (part.start + np.flatnonzero(inexact)).tolist():
            exact = Decimal(repr(self._targets.item(row))) * UNITS_OF_ONE
            self._whole[row] = int(exact.to_integral_value(ROUND_FLOOR)), int(exact.to_integral_value(ROUND_CEILING))
        return ""

    def _round(self, protection: FloatArray) -> None:
        """Round what protects targets to ticks, as `Instrument.rounded` does."""
        for number, tick in enumerate(self._tick):
            if tick:
                for is_buy, rounding in ((True, ROUND_CEILING), (False, ROUND_FLOOR)):
                    side = self._targets > 0 if is_buy else self._targets < 0
                    rows = np.flatnonzero((self._rows[:, 2] == number) & side)
                    protection[rows] = in_ticks(protection[rows], tick, rounding)

    def _walk(self, params: Params, protection: FloatArray, span: Span, since: int, *, with_equity: bool) -> Run:
        bars, rows = span
        counts = np.zeros(len(COUNTS), np.int64)
        equity = np.empty(len(self._bars[bars]) if with_equity else 0)
        while True:
            status, final, fees = walk(
                self._bars[bars],
                self._prices[bars],
                self._rows[rows],
                self._row_prices[rows],
                self._targets[rows],
                self._whole[rows],
                protection[rows],
                self._terms,
                self._costs,
                self._fees,
                self._calendars,
                self._closes,
                len(self._traded),
                float(self.starting_cash),
                float(self._gates.price_collar),
                float(self._gates.price_band),
                self._allow_shorts,
                self._rules,
                self._is_shown[rows],
                self._fills,
                self._fill_prices,
                counts,
                equity,
            )
            if status != FULL:
                break
            self._fills = np.zeros((4 * len(self._fills), len(FILLS)), np.int64)
            self._fill_prices = np.zeros((len(self._fills), 3))
        if status != DONE:
            return Run(params=params, needs_loop=STOPS[status])
        filled = int(counts[N_FILLS])
        self._fills[:filled, 0] += bars.start
        fills = Fills.of(self._fills[:filled], self._fill_prices[:filled], self._bars[:, 2])
        return Run(
            params=params,
            final_equity=float(final),
            fees=float(fees),
            decisions=int(counts[N_DECISIONS]),
            denied=int(counts[N_DENIED]),
            orders=int(counts[N_ORDERS]),
            filled=filled,
            equity=equity if with_equity else None,
            fills=fills,
            since=since,
            first_bar=bars.start,
            stop_bar=bars.stop,
        )

    # A set that is looked at closely.

    def fill_rows(self, run: Run) -> list[Row]:
        """The fills of a run as `Backtest.fills` has them, with exact amounts, but without ids and reasons."""
        rows: list[Row] = []
        for fill in zip(*[column.tolist() for column in run.fills], strict=True):
            event_ts, strategy, symbol, units, _, _, bar, basis, leg, is_maker = fill
            terms, is_buy = self._fill_terms[symbol], units > 0
            side = Side.BUY if is_buy else Side.SELL
            slip = terms.purchase if is_buy else terms.sale
            if basis == AT_LIMIT:
                price = money(leg)
            elif basis == AT_STOP:
                price = money(leg) * slip
            else:
                price = money(self._prices.item((bar, 0))) * slip
                if basis == AT_BETTER:
                    price = min(price, money(leg)) if is_buy else max(price, money(leg))
            quantity = Decimal(abs(units)).scaleb(-9)
            notional = price * quantity * terms.multiplier
            owed = (fee.owed(side, notional, quantity, is_maker=bool(is_maker)) for fee in terms.fees)
            rows.append(
                {
                    "event_ts": event_ts,
                    "strategy_id": self.strategies[strategy],
                    "symbol": self.symbols[symbol],
                    "side": side,
                    "quantity": quantity,
                    "price": price,
                    "fee": sum(owed, Decimal(0)),
                }
            )
        return rows

    def series(self, run: Run) -> dict[str, BarSeries]:
        """The bars of each symbol by which `curve` values the account."""
        span = run.stop_bar, run.since
        if self._series is None or self._series[0] != span:
            self._series = span, series_of(self._tape, *span)
        return self._series[1]

    def curve(self, run: Run) -> Curve:
        """Equity and drawdown over a run, as `Backtest.curve` gives them."""
        return account_curve(float(self.starting_cash), self.series(run), self.fill_rows(run), self._multipliers)

    def round_trips(self, run: Run) -> list[RoundTrip]:
        """The positions of a run that were opened and closed again, as `Backtest.round_trips` gives them."""
        return round_trips(self.fill_rows(run), self._multipliers)


def beside(*columns: NDArray[Any]) -> NDArray[Any]:
    """Columns of shape (rows,) as one array of shape (rows, columns), made without another copy."""
    found = np.empty((len(columns[0]), len(columns)), columns[0].dtype)
    for number, column in enumerate(columns):
        found[:, number] = column
    return found


def rules_of(generation: Generation, traded: Sequence[StrategyInstance]) -> FloatArray:
    """What the rules do to each strategy's decisions, as `walk` has it, shape (strategies, rules, 3)."""
    found = np.zeros((len(traded), len(generation.rules), 3))
    for number, each in enumerate(traded):
        for place, (_, rule) in enumerate(generation.rules):
            terms = rule.terms(each.limits)
            assert terms is not None
            limit = np.nan if terms.limit is None else float(terms.limit)
            if terms.kind == "pause":
                limit *= SECOND
            found[number, place] = KINDS.index(terms.kind), limit, in_units(terms.step)
    return found


def is_written_out(prices: FloatArray) -> bool:
    """Whether all prices that are given, not NaN, have so few digits that a decision may name them, see `answers.complaint`.

    Examples
    --------
    >>> is_written_out(np.array([100.25, np.nan, -1.0])), is_written_out(np.array([np.inf]))
    (True, False)
    """
    size = np.abs(prices[(prices == prices) & (prices != 0)])
    return bool(((size >= 10.0**-MOST_DIGITS) & (size < 10.0**MOST_DIGITS)).all())


def in_ticks(prices: FloatArray, tick: Decimal, rounding: str) -> FloatArray:
    """Prices in whole ticks; one that is less than a tick stays.

    Examples
    --------
    >>> in_ticks(np.array([100.3, 100.25, 0.1]), Decimal("0.25"), ROUND_FLOOR).tolist()
    [100.25, 100.25, 0.1]
    """
    found = prices.copy()
    for place, price in np.ndenumerate(prices):
        if np.isfinite(price):
            whole = (money(price) / tick).to_integral_value(rounding) * tick
            found[place] = float(whole or money(price))
    return found
