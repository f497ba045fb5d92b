"""The page of a backtest: one HTML file for whoever judges it, and for the trader who works with it.

`write_backtest` writes it. What it shows comes as a `Run`, so that a run of another origin has the same page. Figures
come from the run as it was; what is drawn is thinned where it is long (`charts`), and the page says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import bottleneck as bn
import msgspec
import numpy as np
import pyarrow as pa

from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.market import FloatArray
from torghut_core.research.belief.judge import Belief
from torghut_core.research.pages import charts
from torghut_core.research.pages.documents import CHARTS, Card, write_document
from torghut_core.research.pages.returns import returns_of
from torghut_core.research.performance.curve import BUY_AND_HOLD, BarSeries, Curve, Row
from torghut_core.research.performance.figures import FIGURES, Days, Trips, drawdowns, unknown
from torghut_core.research.performance.summary import duration, figure_text, label_of
from torghut_core.research.performance.trips import RoundTrip
from torghut_core.timestamps import DAY, SECOND, format_timestamp

if TYPE_CHECKING:
    from torghut_core.research.backtests import Backtest
    from torghut_core.research.experiments import Experiment

FEW_TRIPS = 30
SHORT_SPAN = 90 * DAY
LONG_PAUSE = 5 * DAY
"""Longer than any weekend with its holidays."""
MOST_DRAWDOWNS = 5
MOST_ROWS = 100
"""Of a table that is written into the HTML."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows.

    Attributes
    ----------
    title : of the page.
    cash : of the account when the run began, in `currency`.
    bars : of each symbol.
    curve : of the account; and its `days`.
    fills : event_ts, symbol, strategy_id, side, quantity, price, fee, decision_hash, and the rationale as `because`; in order.
    trips : the positions that were closed; as arrays with their excursions in `arrays`.
    breakdowns : of the round trips, see `trips.breakdown`, by what they have in common.
    figures : of the run, by the names of `FIGURES`; NaN where one is not known.
    benchmark, compared : its name, and its equity at the times of the curve; None without one.
    against : the figures beside the benchmark, see `figures.compared`.
    belief : whether it can be told from luck.
    monte_carlo : what it could as well have come to, in words.
    record : of the generation, see `Generation.to_record`; empty if unknown.
    digests : of what has to be the same for the same result, by name; those of `record` where empty.
    signals : columns symbol, event_ts, window_size, and those of ``ta_signals`` to draw.
    denied : decisions: event_ts, symbol, strategy_id, action, quantity, and the rule's code, value and limit.
    denials : how often each rule denied, also those that `denied` leaves out.
    positions : open at the end: strategy, symbol, signed quantity, average price.
    actions : splits and dividends that were applied.
    warnings : sentences about the run, beside those that follow from what is here.
    costs : the figures at multiples of the costs.
    facts : what else is known of the run, by name.
    """

    title: str
    cash: Decimal
    currency: str = "account currency"
    bars: Mapping[str, BarSeries]
    curve: Curve
    days: Days
    fills: Sequence[Row] = ()
    trips: Sequence[RoundTrip] = ()
    arrays: Trips
    breakdowns: Mapping[str, pa.Table] = {}
    figures: Mapping[str, float] = {}
    benchmark: str = ""
    compared: FloatArray | None = None
    against: Mapping[str, float] = {}
    belief: Belief | None = None
    monte_carlo: str = ""
    record: Mapping[str, Any] = {}
    digests: Mapping[str, str] = {}
    signals: pa.Table | None = None
    denied: Sequence[Row] = ()
    denials: Mapping[str, int] = {}
    positions: Sequence[tuple[str, str, Decimal, Decimal]] = ()
    actions: Sequence[AppliedAction] = ()
    warnings: Sequence[str] = ()
    costs: Mapping[float, Mapping[str, float]] = {}
    facts: Mapping[str, str] = {}


def write_backtest(
    path: Path,
    title: str,
    done: Backtest,
    *,
    benchmark: str = BUY_AND_HOLD,
    costs: Mapping[float, Mapping[str, float]] | None = None,
    belief: Belief | None = None,
    experiment: Experiment | None = None,
) -> None:
    """Write the page of a backtest; its folder is made where it is missing.

    Parameters
    ----------
    path : of the HTML file.
    title : of the page.
    done : the backtest.
    benchmark : to compare with, see `Backtest.benchmark`.
    costs : the figures of the same run at multiples of its costs, as ``{0: ..., 1: ..., 2: ...}``.
    belief : whether the run can be told from luck; as if nothing else had been tried where None.
    experiment : the row of the ledger, whose id and digests the page has.

    Raises
    ------
    InputError : the tape has no bars of the benchmark.
    StateError : the file cannot be written.
    """
    totals = done.totals
    is_compared = bool(done.series) and done.starting_cash > 0
    run = Run(
        title=title,
        cash=done.starting_cash,
        currency=done.currency,
        bars=done.series,
        curve=done.curve(),
        days=done.days,
        fills=done.fills(),
        trips=done.round_trips(),
        arrays=done.trips,
        breakdowns={by: done.breakdown(by) for by in ("strategy", "symbol", "side", "weekday", "hour")},
        figures=done.statistics,
        benchmark=benchmark.replace("-", " ") if is_compared else "",
        compared=done.benchmark(benchmark) if is_compared else None,
        against=done.against(benchmark) if is_compared else {},
        record=done.generation.to_record(),
        digests={
            "catalog": experiment.catalog_digest,
            "code": experiment.code_digest,
            "data": experiment.data_digest,
        }
        if experiment
        else {},
        signals=done.signal_rows(),
        denied=done.denied(),
        denials=totals.denials,
        positions=[
            (strategy, symbol, position.quantity, position.average_price)
            for (strategy, symbol), position in done.positions.items()
            if position.quantity
        ],
        actions=done.actions,
        warnings=list(_warnings_of(done)),
        costs=costs or {},
        belief=belief or done.belief(),
        monte_carlo=done.monte_carlo.sentence,
        facts=({"run": experiment.run_id} if experiment else {})
        | {
            "events": f"{done.result.events:,}",
            "bars made of trades": f"{done.result.microbars:,}",
            "signals": f"{done.result.signals:,}",
            "decisions": f"{done.result.decisions:,}",
            "orders": f"{done.result.orders:,}",
            "rejected by the broker": f"{totals.rejected:,}",
            "late trades dropped": f"{totals.late:,}",
            "duplicates dropped": f"{totals.duplicates:,}",
            "result digest": done.result.digest[:16],
        },
    )
    write_page(path, run)


def write_page(path: Path, run: Run) -> Path:
    """Write the page of a run and return its path.

    Raises
    ------
    StateError : the file cannot be written.
    """
    symbols = charts.drawn_symbols(run.bars, run.fills)
    every = list(dict.fromkeys([*symbols, *run.bars, *(fill["symbol"] for fill in run.fills)]))
    strategies = sorted({fill["strategy_id"] for fill in run.fills})
    drawn = charts.markets(run.bars, symbols, run.signals)
    returns = returns_of(run.curve, float(run.cash), run.days, run.compared)
    is_drawn = len(run.curve.event_ts) > 1
    data = {
        "currency": run.currency,
        "cash": float(run.cash),
        "symbols": every,
        "strategies": strategies,
        "account": charts.account(run.curve, run.compared) if is_drawn else None,
        "benchmark": run.benchmark,
        "rolling": returns.rolling(),
        "markets": drawn,
        "fills": charts.fill_columns(run.fills, every, strategies),
        "trips": charts.trip_columns(run.trips, run.arrays, run.fills, every, strategies),
    }
    return write_document(
        path,
        "backtest.html",
        scripts=(CHARTS, "charts.js", "backtest.js"),
        data=data,
        title=run.title,
        subtitle=_subtitle(run),
        warnings=[*run.warnings, *_warnings(run)],
        cards=_cards(run),
        belief=run.belief,
        monte_carlo=run.monte_carlo,
        is_drawn=is_drawn,
        benchmark=run.benchmark,
        currency=run.currency,
        drawdowns=[
            {
                "depth": f"{each.depth_pct:.2f} %",
                "from": _moment(each.began_at),
                "lowest": _moment(each.lowest_at),
                "recovered": _moment(each.recovered_at) if each.recovered_at else "not yet",
                "length": duration(each.length_ns),
            }
            for each in drawdowns(run.curve.event_ts, run.curve.equity, float(run.cash))[:MOST_DRAWDOWNS]
        ],
        returns=returns,
        return_bins=charts.histogram(100 * returns.each),
        trip_bins=charts.histogram(run.arrays.profit),
        groups=[_group(by, table) for by, table in run.breakdowns.items() if table.num_rows > 1],
        markets=drawn,
        is_thinned=len(run.curve.event_ts) > charts.MOST_POINTS,
        thinned=_thinned(run, drawn),
        trips=[_trip_row(trip) for trip in run.trips[-MOST_ROWS:][::-1]],
        trip_count=len(run.trips),
        fill_count=len(run.fills),
        positions=[
            {"strategy": strategy, "symbol": symbol, "quantity": _number(quantity), "price": _number(price)}
            for strategy, symbol, quantity, price in run.positions
        ],
        costs=_costs(run.costs),
        reasons=_shares(_reasons(run)),
        denied=[{**row, "time": _moment(row["event_ts"])} for row in run.denied[-MOST_ROWS:][::-1]],
        denied_count=max(len(run.denied), sum(_reasons(run).values())),
        actions=[{"time": _moment(applied.at), "what": str(applied)} for applied in run.actions],
        figures=_figures(run),
        unknown={label_of(name): why for name, why in unknown(run.figures).items()},
        setup=_setup(run.record, run.digests),
        facts=run.facts,
        spans=[_span(symbol, bars) for symbol, bars in list(run.bars.items())[:MOST_ROWS]],
        span_count=len(run.bars),
    )


# What is said about the run


def _subtitle(run: Run) -> str:
    strategies = {fill["strategy_id"] for fill in run.fills}
    known = [bars for bars in run.bars.values() if len(bars)]
    parts = []
    if strategies:
        parts.append(", ".join(sorted(strategies)) if len(strategies) <= 3 else f"{len(strategies):,} strategies")
    if run.bars:
        parts.append("on " + (", ".join(run.bars) if len(run.bars) <= 4 else f"{len(run.bars):,} symbols"))
    if known:
        begin, end = min(int(bars.event_ts[0]) for bars in known), max(int(b.event_ts[-1]) + b.step for b in known)
        parts.append(f"from {_moment(begin)} to {_moment(end)} UTC")
    return " ".join(parts)


def _warnings_of(done: Backtest) -> Iterator[str]:
    """What only a backtest knows."""
    totals = done.totals
    if done.jumps:
        yield (
            f"{_many(len(done.jumps), 'price')} changed as in a split that no tape of corporate actions has; nothing was "
            f"adjusted. The first: {done.jumps[0]}"
        )
    if totals.liquidations:
        yield f"The broker closed positions for want of margin, by {_many(totals.liquidations, 'order')} of its own."
    if done.open_orders:
        yield f"{_many(done.open_orders, 'order')} were open at the end."
    for reason, count in list(done.skipped.items())[:3]:
        yield f"{_many(count, 'row')} of the tape were skipped: {reason}"
    for strategy, why in done.starved.items():
        yield f"{strategy} was shown no signal at all: {why}"
    for name, failure in totals.failures.items():
        yield f"{name} failed: {failure}"


def _warnings(run: Run) -> Iterator[str]:
    """What follows from what the page shows."""
    if run.trips and len(run.trips) < FEW_TRIPS:
        yield f"Only {_many(len(run.trips), 'round trip')} were closed: too few to tell skill from luck."
    elif not run.trips:
        yield "No position was closed, so nothing was earned or lost for good."
    times = run.curve.event_ts
    if len(times) and times[-1] - times[0] < SHORT_SPAN:
        yield f"The data spans {duration(int(times[-1] - times[0]))}: annual figures of so short a time mean little."
    if run.positions:
        value = "it is" if len(run.positions) == 1 else "they are"
        yield f"{_many(len(run.positions), 'position')} open at the end; {value} in the equity at the last price."
    profits = run.arrays.profit
    if len(profits) > 1 and profits.sum() > 0 and profits.max() > profits.sum() / 2:
        yield f"One round trip made {100 * profits.max() / profits.sum():.0f} % of the profit."
    for multiple in sorted(run.costs):
        gain = run.costs[multiple].get("total_return_pct", math.nan)
        if multiple > 1 and gain < 0 < run.figures.get("total_return_pct", math.nan):
            yield f"At {multiple:g} times its costs the run loses {-gain:.2f} %."
            break
    if run.fills and not any(fill["fee"] for fill in run.fills):
        yield "No fee was charged: state what trading costs in the catalog."
    pauses = [(pause, symbol) for symbol, bars in run.bars.items() if (pause := _pauses(bars)[1]) > LONG_PAUSE]
    if pauses:
        longest, symbol = max(pauses)
        yield f"The data has pauses: {symbol} has no bar for {duration(longest)}."


def _thinned(run: Run, drawn: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the charts leave out."""
    said = []
    for market in drawn:
        finest = market["levels"][0]
        if len(finest["time"]) < market["bars"]:
            said.append(
                f"{market['symbol']} has {market['bars']:,} bars of {market['step']}; the finest drawn are {finest['name']}."
            )
    if len(run.bars) > len(drawn):
        said.append(f"{len(run.bars) - len(drawn):,} more symbols are not drawn.")
    return said


def _cards(run: Run) -> list[Card]:
    """The figures that a trader asks for first; those that are not known are left out."""
    start = float(run.cash)
    equity = float(run.curve.equity[-1]) if len(run.curve.equity) else start
    cards = []
    if start > 0:
        gain = 100 * (equity / start - 1)
        beside = "" if run.compared is None else f"{run.benchmark} {100 * (run.compared[-1] / start - 1):+.2f}\u00a0%"
        cards.append(Card("Return", f"{gain:+.3f} %", beside, "good" if gain > 0 else "bad" if gain < 0 else ""))
    cards.append(Card("Final equity", f"{equity:,.2f}", f"from {start:,.2f} {run.currency}"))
    if len(run.curve.drawdown):
        worst = int(bn.nanargmin(run.curve.drawdown))
        deep = float(run.curve.drawdown[worst])
        cards.append(
            Card("Deepest drawdown", f"{100 * deep:.3f} %", _moment(int(run.curve.event_ts[worst])) if deep else "")
        )
    figures = {**run.figures, **run.against}
    for label, name, note in _MORE_CARDS:
        value = figures.get(name, math.nan)
        if _is_known(value) and (value or name != "interest"):
            is_bad = value < 0 and name in ("sharpe", "sortino", "expectancy", "alpha_pct", "cagr_pct")
            cards.append(Card(label, figure_text(name, value), note, "bad" if is_bad else ""))
    won = sum(trip.profit > 0 for trip in run.trips)
    share = f"{100 * won / len(run.trips):.0f} %" if run.trips else "none"
    cards.append(
        Card("Won", share, f"{won:,} of {_many(len(run.trips), 'round trip')}" if run.trips else "nothing was closed")
    )
    fees = float(sum(fill["fee"] for fill in run.fills))
    cards.append(Card("Fees", f"{fees:,.2f}", f"{_many(len(run.fills), 'fill')}, in the equity"))
    reasons = _reasons(run)
    if reasons:
        most = ", ".join(f"{code} {count:,}" for code, count in list(reasons.items())[:2])
        cards.append(Card("Denied by risk", f"{sum(reasons.values()):,}", most))
    return cards


_MORE_CARDS = (
    ("CAGR", "cagr_pct", "return a year"),
    ("Sharpe", "sharpe", "annual"),
    ("Sortino", "sortino", "annual"),
    ("Calmar", "calmar", "CAGR to deepest drawdown"),
    ("Volatility", "volatility_pct", "annual"),
    ("Alpha", "alpha_pct", "annual, to the benchmark"),
    ("Beta", "beta", "to the benchmark"),
    ("Profit factor", "profit_factor", "gains to losses"),
    ("Mean profit", "expectancy", "of a round trip, after fees"),
    ("In the market", "time_in_market_pct", "of the time"),
    ("Slippage", "slippage", "in the equity"),
    ("Interest paid", "interest", "in the equity"),
)


def _reasons(run: Run) -> dict[str, int]:
    """How often each rule denied, the most frequent first."""
    counts = run.denials or Counter(str(row.get("code", "")) for row in run.denied)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    most = max(counts.values(), default=1)
    return [{"name": name, "count": count, "share": 100 * count / most} for name, count in counts.items()]


def _group(by: str, table: pa.Table) -> dict[str, Any]:
    """Round trips by what they have in common, and the length of each one's bar, percent of half the width."""
    rows = table.slice(0, MOST_ROWS).to_pylist()
    if by == "hour":
        none = {"round_trips": 0, "won": 0, "profit": 0.0}
        known = {row[by]: row for row in rows}
        rows = [known.get(hour, {by: hour, **none}) for hour in (f"{number:02}" for number in range(24))]
    most = max(abs(row["profit"]) for row in rows) or 1
    return {
        "kind": by,
        "is_series": by == "hour",
        "rows": [
            {
                "name": {"buy": "long", "sell": "short"}[row[by]] if by == "side" else row[by],
                "trips": f"{row['round_trips']:,}",
                "won": f"{100 * row['won'] / max(1, row['round_trips']):.0f} %",
                "profit": f"{row['profit']:+,.2f}",
                "share": 50 * abs(row["profit"]) / most,
                "is_gain": row["profit"] >= 0,
            }
            for row in rows
        ],
    }


def _figures(run: Run) -> dict[str, dict[str, str]]:
    """The figures that are known, by group and label."""
    groups: dict[str, dict[str, str]] = {}
    for name, value in run.figures.items():
        if _is_known(value):
            groups.setdefault(FIGURES[name].group if name in FIGURES else "others", {})[label_of(name)] = figure_text(
                name, value
            )
    if any(map(_is_known, run.against.values())):
        groups[f"beside {run.benchmark}"] = {
            label_of(name): figure_text(name, value) for name, value in run.against.items() if _is_known(value)
        }
    return groups


def _costs(costs: Mapping[float, Mapping[str, float]]) -> dict[str, Any] | None:
    """A row for each figure, a column for each multiple of the costs."""
    if not costs:
        return None
    multiples = sorted(costs)
    names = [name for name in _OF_COSTS if any(_is_known(costs[each].get(name, math.nan)) for each in multiples)]
    return {
        "multiples": [f"{each:g}x" for each in multiples],
        "rows": [
            {
                "name": label_of(name),
                "values": [
                    figure_text(name, value) if _is_known(value := costs[each].get(name, math.nan)) else ""
                    for each in multiples
                ],
            }
            for name in names
        ],
    }


_OF_COSTS = (
    *("total_return_pct", "cagr_pct", "sharpe", "max_drawdown_pct", "profit_factor", "expectancy", "win_rate_pct"),
    *("round_trips", "fees", "slippage", "interest", "costs", "costs_bps", "costs_of_gain_pct"),
)
"""The figures that costs change, and a trader compares."""


def _trip_row(trip: RoundTrip) -> dict[str, str]:
    return {
        "strategy": trip.strategy_id,
        "symbol": trip.symbol,
        "side": "long" if trip.side == "buy" else "short",
        "quantity": _number(trip.quantity),
        "entered": _moment(trip.entered_at),
        "exited": _moment(trip.exited_at),
        "profit": f"{trip.profit:+,.2f}",
    }


def _span(symbol: str, bars: BarSeries) -> dict[str, str]:
    """What the data of a symbol is."""
    if not len(bars):
        return {"symbol": symbol, "from": "", "to": "", "bars": "0", "pauses": "", "longest": "", "last": ""}
    count, longest = _pauses(bars)
    close = bars.close[np.isfinite(bars.close)]
    return {
        "symbol": symbol,
        "from": _moment(int(bars.event_ts[0])),
        "to": _moment(int(bars.event_ts[-1]) + bars.step),
        "bars": f"{len(bars):,} of {charts.step_name(bars.step)}",
        "pauses": f"{count:,}",
        "longest": duration(longest) if count else "none",
        "last": f"{close[-1]:,.10g}" if len(close) else "",
    }


def _pauses(bars: BarSeries) -> tuple[int, int]:
    """How often more than ten bars are missing in a row, and for how long at most, ns."""
    missing = np.diff(bars.event_ts) - bars.step
    pauses = missing[missing > 10 * bars.step]
    return len(pauses), int(pauses.max(initial=0))


def _setup(record: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any] | None:
    """What traded: strategies with their parameters, the pipeline, rules, and the digests of catalog and code."""
    if not record:
        return None
    pipeline = record["pipelines"].get("trading") or {}
    parts = [(kind, pipeline.get(kind)) for kind in ("source", "broker")]
    uses = [(kind, part) for kind, part in parts if part]
    uses += [("stage", part) for part in pipeline.get("stages", ())]
    uses += [
        (kind, part) for kind, key in (("rule", "risk"), ("advisor", "advisors")) for part in record.get(key) or ()
    ]
    return {
        "digests": digests or {"generation": record["digest"], "catalog": record["catalog_digest"]},
        "strategies": [
            {
                "name": each["name"],
                "use": each["use"],
                "version": each.get("code", {}).get("version", ""),
                "code": each.get("code", {}).get("code_digest", ""),
                "symbols": ", ".join(each["symbols"]),
                "timeframe": each["base_timeframe"],
                "params": _params(each["params"]),
            }
            for each in record["strategies"]
            if each.get("enabled", True)
        ],
        "parts": [{"kind": kind, "use": part["use"], "params": _params(part["params"])} for kind, part in uses],
        "plugins": [
            {name: str(plugin.get(name, "")) for name in ("kind", "name", "distribution", "version", "code_digest")}
            for plugin in record["plugins"]
        ],
    }


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text; of files their names, for a page is sent to others."""
    return {
        name: ", ".join(PurePath(path).name for path in value) if name == "paths" else _plain(value)
        for name, value in params.items()
    }


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_plain, value))
    return str(value)


# How numbers are written


def _is_known(value: float) -> bool:
    return not math.isnan(value)


def _number(value: Decimal) -> str:
    """A decimal as a person writes it: no exponent, no trailing zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _moment(ns: int) -> str:
    return format_timestamp(ns // SECOND * SECOND).replace("T", " ").removesuffix("Z")
