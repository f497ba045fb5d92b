"""What a person reads in a terminal: progress, tables and sentences."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from torghut_core.model.trading import ZERO, Purpose

if TYPE_CHECKING:
    from torghut_core.installation.known_settings import Setting
    from torghut_core.research.backtests import Backtest
    from torghut_core.research.live_day.day import LiveDay
    from torghut_core.research.simulation.isolation import Check
    from torghut_core.research.simulation.plan import Plan
    from torghut_core.research.stored.decisions import Decided
    from torghut_core.research.sweeps.results import SweepResult
    from torghut_core.research.walk_forward.walk import WalkForward


MOST_LINES = 20
"""Lines of a kind in a summary."""


def counted(number: int, noun: str) -> str:
    """Give a number with its noun, in the plural where it is one.

    Examples
    --------
    >>> counted(1, "strategy"), counted(2, "strategy"), counted(1_200, "open order"), counted(2, "day")
    ('1 strategy', '2 strategies', '1,200 open orders', '2 days')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def new_console() -> Console:
    """Make a console of standard output; one that is no terminal has no width, so lines stay whole."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=120, soft_wrap=True)  # wide enough for tables


class _Rate(TextColumn):
    """Events per second, or whatever is counted, and how many so far if their total is not known."""

    def __init__(self, unit: str) -> None:
        super().__init__("")
        self._unit = unit

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        count = f"{task.completed:,.0f} {self._unit}  " if task.total is None else ""
        digits = 0 if speed and speed >= 10 else 1  # a slow one says something too
        return Text(count + (f"{speed:,.{digits}f} {self._unit}/s" if speed else ""))


@contextmanager
def progress(total: int | None, label: str, unit: str = "events") -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error; gives the function to call with the number of events, or other units, so far.

    It is drawn from the first call on, so that an error before that is a message alone.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), _Rate(unit), TimeRemainingColumn()]
    bar = Progress(*columns, console=Console(stderr=True), transient=False)
    task = bar.add_task(label, total=total)

    def advance(done: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield advance
        if total is None:
            bar.update(task, total=bar.tasks[0].completed)
    finally:
        if bar.live.is_started:
            bar.stop()


def _money(value: Decimal) -> str:
    return f"{value:,.2f}"


def plain_table(*columns: str, text: int = 1) -> Table:
    """Make a table without lines; the first `text` columns are text, the others numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < text else "right", no_wrap=True)
    return table


def print_summary(done: Backtest, state: Path | None, page: Path | None) -> None:
    """Print what was decided, denied and why, and filled, and the equity at the end.

    Where there is a state directory, also how a decision is explained.
    """
    console = new_console()
    result, totals = done.result, done.totals
    console.print()
    console.print(
        f"[bold]{result.events:,}[/] events -> {counted(result.microbars, 'bar')}, {counted(result.signals, 'signal')}"
        f" in {result.seconds:.2f} s ([bold]{result.events_per_second:,.0f}[/] events/s)"
    )
    for count, thing, what in (
        (totals.late, "trade", "dropped: late"),
        (totals.duplicates, "event", "dropped: duplicate"),
        (totals.excluded, "trade", "not in any bar: excluded by sale conditions"),
        (
            totals.implausible_vwaps,
            "bar",
            "with a vwap outside low to high: (high + low + close) / 3 counts in its place",
        ),
    ):
        if count:
            console.print(f"{counted(count, thing)} {what}")
    for reason, count in done.skipped.items():
        console.print(f"{counted(count, 'row')} skipped: {reason}", style="yellow", markup=False)
    console.print()
    table = plain_table("strategy", "signals", "decided", "denied", "shrunk", "fills", "position", "realized", "fees")
    for name, strategy in sorted(totals.strategies.items()):
        held = [position for (owner, _), position in done.positions.items() if owner == name]
        holding = ", ".join(
            f"{position.quantity.normalize():f} {symbol}"
            for (owner, symbol), position in sorted(done.positions.items())
            if owner == name and position.quantity
        )
        table.add_row(
            name,
            f"{strategy.rows:,}",
            f"{strategy.decisions:,}",
            f"{strategy.denied:,}",
            f"{strategy.shrunk:,}",
            f"{strategy.fills:,}",
            holding or "flat",
            _money(sum((position.realized_pnl for position in held), ZERO)),
            _money(sum((position.fees for position in held), ZERO)),
        )
    console.print(table)
    for name, reason in totals.failures.items():
        console.print(f"{name} raised an error and was stopped: {reason}", style="red", markup=False)
    for name, reason in done.starved.items():
        console.print(f"{name} received no signals: {reason}", style="yellow", markup=False)
    for applied in done.actions[:MOST_LINES]:
        console.print(str(applied), markup=False)
    if len(done.actions) > MOST_LINES:
        console.print(f"and {counted(len(done.actions) - MOST_LINES, 'corporate action')} more")
    for jump in done.jumps[:MOST_LINES]:
        console.print(f"a price jumped as in a split: {jump}", style="red", markup=False)
    if len(done.jumps) > MOST_LINES:
        console.print(f"and {counted(len(done.jumps) - MOST_LINES, 'such jump')}", style="red")
    if totals.liquidations:
        orders = counted(totals.liquidations, "order")
        console.print(
            f"the broker closed positions for want of margin: {orders} of its own (liquidation-1 and on)", style="red"
        )
    if totals.denials:
        console.print()
        table = plain_table("denied because of", "times")
        for code, count in sorted(totals.denials.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(code, f"{count:,}")
        console.print(table)
    console.print()
    gain = result.final_equity - done.starting_cash
    share = gain / done.starting_cash * 100 if done.starting_cash else ZERO
    interest = f" interest {_money(totals.interest)}," if totals.interest else ""
    console.print(
        f"equity [bold]{_money(result.final_equity)} {done.currency}[/] ({'+' if gain >= 0 else ''}{_money(gain)}, {share:+.3f} %)"
        f" from {_money(done.starting_cash)}, fees {_money(totals.fees)},{interest}"
        f" {counted(result.orders, 'order')}, {counted(result.fills, 'fill')}, {counted(done.open_orders, 'open order')}"
    )
    console.print(f"account {done.account}, generation {result.generation}, digest {result.digest[:16]}", style="dim")
    example = "" if state is None else _example(done)
    if example:
        console.print(f"why:  torghut explain {example} --state {state}", style="dim", markup=False)
    if page is not None:
        console.print(f"page: {page}", markup=False)


def print_decided(done: Decided, decisions: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Print the first decisions of a replay without orders, how many there were, and which strategies saw nothing, and why."""
    console = new_console()
    result, totals = done.result, done.totals
    if decisions:
        table = plain_table("at", "strategy", "symbol", "action", "status", "because", "quantity", "price", text=6)
        for row in decisions:
            texts = (row["strategy_id"], row["symbol"], row["action"], row["status"], row["rationale"])
            table.add_row(
                row["event_ts"], *(escape(str(text)) for text in texts), row["params"]["quantity"], str(row["price"])
            )
        console.print(table)
        if result["decisions"] > len(decisions):
            console.print(f"and {counted(result['decisions'] - len(decisions), 'more decision')}", style="dim")
        console.print()
    console.print(
        f"[bold]{result['events']:,}[/] rows -> {counted(result['decisions'], 'decision')} ({result['denied']:,} denied),"
        f" no orders, in {result['seconds']:.2f} s, digest {result['digest'][:16]}"
    )
    for code, count in sorted(totals.denials.items(), key=lambda item: (-item[1], item[0])):
        console.print(f"denied because of {code}: {count:,}")
    for reason, count in done.skipped.items():
        console.print(f"{count:,} left out: {reason}", style="yellow", markup=False)
    for name, reason in done.starved.items():
        console.print(f"{name} was shown no row: {reason}", style="yellow", markup=False)
    for name, strategy in totals.strategies.items():
        if strategy.failure:
            console.print(f"{name} is quarantined: {strategy.failure}", style="red", markup=False)
    if out is not None:
        console.print(f"decisions: {out}", markup=False)


def print_live_day(day: LiveDay, page: Path | None) -> None:
    """Print how a live day compares with its backtest: counts, decisions, costs by symbol, latencies."""
    from torghut_core.research.live_day.page import decided_text

    console = new_console()
    report = day.to_json()
    table = plain_table(f"{day.account}, {day.day}", "live", "backtest")
    for name, number in report["live"].items():
        table.add_row(name, f"{number:,}", f"{report['backtest'][name]:,}")
    console.print(table)
    console.print(decided_text(report))
    costs = plain_table("symbol", "orders", "filled", "shortfall", "realized bps", "divergence bps")
    for row in report["symbols"]:
        numbers = (row["realized_shortfall_bps"], row["divergence_bps"])
        known = ("-" if value is None else f"{value:,.2f}" for value in numbers)
        costs.add_row(
            row["symbol"], f"{row['orders']:,}", str(row["filled_qty"]), _money(row["shortfall_notional"]), *known
        )
    if report["symbols"]:
        console.print(costs)
    for name, row in report["latencies"].items():
        if row["count"]:
            console.print(f"{name}: p50 {row['p50']:,.1f}, p95 {row['p95']:,.1f}, p99 {row['p99']:,.1f}", style="dim")
    for warning in report["warnings"]:
        console.print(warning, style="yellow", markup=False)
    if page is not None:
        console.print(f"page: {page}", markup=False)


def print_figures(figures: Mapping[str, float]) -> None:
    """Print the figures of a run in groups, in two columns, and below them which are not known and why."""
    from torghut_core.research.performance.summary import by_group, not_known

    console = new_console()
    groups = by_group(figures)
    columns: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for name, lines in groups.items():
        column = columns[name in ("round trips", "costs")]
        column += [("", "")] if column else []
        column += [(f"[bold]{name}[/]", ""), *lines.items()]
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left", "right"):
        table.add_column(justify=justify, no_wrap=True)
    for left, right in zip_longest(*columns, fillvalue=("", "")):
        table.add_row(*left, f"  {right[0]}", right[1])
    console.print(table)
    for line in not_known(figures):
        console.print(line, style="dim", markup=False)


def print_plan(plan: Plan, checks: Sequence[Check], written: Sequence[Path]) -> None:
    """Print what a simulation would do, whether it is isolated, and which objects were written."""
    console = new_console()
    made = plan.to_json()
    window = made["window"]
    console.print(f"run [bold]{plan.run_id}[/] of {made['dataset_id']}, through {made['bus']}")
    span = "the market is closed on that day" if window is None else f"{window['start']} to {window['end']}"
    console.print(f"window: {span}", style="red" if window is None else "")
    console.print(f"artefacts: {plan.folder}", markup=False)
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]FAIL[/]"
        console.print(f"{mark} {check.name}: {escape(check.found)}" + ("" if check.ok else f" ({check.fix})"))
    for path in written:
        console.print(f"object: {path}", markup=False)


def print_simulation(report: Mapping[str, Any], folder: Path) -> None:
    """Print the verdict of a simulation with its codes, the layers, and where the artefacts are."""
    console = new_console()
    verdict, run = report["verdict"], report["run_metadata"]
    colour = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}[verdict["status"]]
    console.print(f"simulation {run['run_id']}: [{colour}]{verdict['status']}[/]")
    for code in verdict["codes"]:
        console.print(f"{verdict['levels'][code]} {code}", markup=False)
    if run["failure"]:
        console.print(run["failure"], style="red", markup=False)
    if coverage := report["coverage"]:
        covered, minutes = coverage["covered_minutes"], coverage["minutes"]
        share = f"{coverage['coverage_ratio']:.1%}".replace("%", " %")
        console.print(f"{covered:,} of {minutes:,} minutes of the window have an event ({share})", markup=False)
    if "funnel" in report:
        table = plain_table("layer", "count")
        for name, count in sorted(report["funnel"].items()):
            if isinstance(count, int):
                table.add_row(name, f"{count:,}")
        console.print(table)
    console.print(f"artefacts: {folder}", markup=False)


def print_days(reports: Sequence[Mapping[str, Any]]) -> None:
    """Print each simulated day: its status, what it came to, and why where it is not done."""
    console = new_console()
    table = plain_table("day", "run", "status", "verdict", "decisions", "executions", "net", text=4)
    for report in reports:
        metrics = report["metrics"]
        counts = [str(metrics.get(name, "")) for name in ("trade_decisions", "executions")]
        net = "" if metrics["net"] is None else f"{metrics['net']:,.2f}"
        colour = (
            "green"
            if report["status"] in ("done", "planned")
            else "yellow"
            if report["status"] == "empty_day"
            else "red"
        )
        status = f"[{colour}]{report['status']}[/]"
        table.add_row(report["trading_day"], report["run_id"], status, report["verdict"] or "", *counts, net)
    console.print(table if reports else "no day with a session")
    for report in reports:
        if report["reason"]:
            console.print(f"{report['trading_day']}: {report['reason']}", markup=False)


@contextmanager
def steps() -> Iterator[Callable[[str, int], None]]:
    """Show what is being done on standard error, with its events and their rate; gives the function to call with both."""
    columns = [TextColumn("{task.description}"), BarColumn(), _Rate("events")]
    bar = Progress(*columns, console=Console(stderr=True), transient=False)
    tasks: dict[str, Any] = {}

    def advance(what: str, done: int) -> None:
        if not bar.live.is_started:
            bar.start()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=None)
        bar.update(tasks[what], completed=done)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def _example(done: Backtest) -> str:
    """A decision worth explaining: the first that was denied or shrunk, else the first; "" without any."""
    for choice in ({"status": "denied"}, {}):
        found = done.audit.decisions(done.account, limit=1, **choice)
        if found:
            return str(found[0]["decision_hash"])[:12]
    return ""


def print_sweep(done: SweepResult, folder: Path, belief: str) -> None:
    """Print the best sets with their figures, why others have none, and how far the best one can be believed."""
    from torghut_core.research.performance.figures import FIGURES, unknown
    from torghut_core.research.performance.summary import figure_text
    from torghut_core.research.sweeps.page import COLUMNS
    from torghut_core.research.sweeps.search import value_text

    console = new_console()
    name = done.objective.name
    columns = [name, *(column for column in COLUMNS if column != name)]
    table = plain_table("set", *(axis.path for axis in done.axes), *(FIGURES[column].label for column in columns))
    for trial in done.best[: MOST_LINES // 2]:
        params = [value_text(trial.params[axis.path]) for axis in done.axes]
        figures = [figure_text(column, trial.figures.get(column, math.nan)) for column in columns]
        table.add_row(f"{trial.number:,}", *params, *figures)
    console.print()
    if done.best:
        console.print(table)
    elif done.outcomes["done"]:
        example = next(trial.figures for trial in done.trials if trial.figures)
        console.print(
            f"no set has a {FIGURES[name].label}: {unknown(example).get(name, 'it is not computed for this run')} "
            "(choose another --objective, such as total_return_pct)",
            style="yellow",
            markup=False,
        )
    counts = done.outcomes
    for reason, count in list(done.reasons.items())[:MOST_LINES]:
        console.print(f"{counted(count, 'set')} without a result: {reason}", style="yellow", markup=False)
    if len(done.reasons) > MOST_LINES:
        console.print(f"and {counted(len(done.reasons) - MOST_LINES, 'other reason')}", style="yellow")
    console.print()
    console.print(
        f"[bold]{len(done.trials):,}[/] of {counted(done.total, 'set')}: {counts['done']:,} done, {counts['invalid']:,} invalid,"
        f" {counts['failed']:,} failed; {done.fresh:,} of them now, {done.way}"
    )
    if belief:
        console.print(belief, markup=False)
    console.print(f"page: {folder / 'page.html'}", markup=False)


def print_walk_forward(done: WalkForward, folder: Path) -> None:
    """Print each fold with its choice, what the choice was worth, and whether that can be told from luck."""
    from torghut_core.research.performance.summary import number

    console = new_console()
    result = done.to_json()
    table = plain_table("tested", "chosen", f"{done.objective} there", "tested", "median", text=2)
    for fold in result["folds"][-MOST_LINES:]:
        chosen = ", ".join(f"{path.removeprefix('params.')} {value}" for path, value in (fold["params"] or {}).items())
        spans = ", ".join(f"{first} to {last}" for first, last in fold["test"])
        table.add_row(spans, chosen or "none", *(number(fold[name]) for name in ("trained", "tested", "median")))
    if len(result["folds"]) > MOST_LINES:
        console.print(f"the last {MOST_LINES} of {len(result['folds'])} folds:")
    console.print(table)
    means = [number(result[name]) for name in ("trained", "tested", "median")]
    console.print(
        f"mean {done.objective} {means[0]} where chosen, {means[1]} when tested; {means[2]} of the median set"
    )
    if done.refused:
        refused = counted(len(done.refused), "parameter set")
        console.print(f"{refused} could not be tried: {'; '.join(result['reasons'][:3])}", style="yellow", markup=False)
    figures = done.figures
    console.print(
        f"out of sample: {number(figures['total_return_pct'])} % in {counted(int(figures['days']), 'day')}, Sharpe ratio "
        f"{number(figures['sharpe'])}, drawdown {number(figures['max_drawdown_pct'])} %"
    )
    console.print(done.belief.sentence, style="bold", markup=False)
    console.print(f"page: {folder / 'page.html'}", markup=False)


def print_explanation(found: dict[str, Any]) -> None:
    """Print one decision, its verdicts, its orders and their fills, in the order in which they happened."""
    console = new_console()
    decision, replaced = found["decision"], found["replaced"]
    if decision is None:
        order = found["execution"]
        is_liquidation = order["purpose"] == Purpose.LIQUIDATION
        why = "the broker closed a position for want of margin" if is_liquidation else "why it was sent is not recorded"
        whose = order["strategy_id"] or "no strategy"
        console.print(f"no decision led to this order of {whose} in account {order['account']}: {why}", markup=False)
        _print_orders(console, found)
        return
    change = f"change order {replaced['client_order_id']}: " if replaced else ""
    console.print(
        f"[bold]{decision['strategy_id']}[/] proposed to {change}{decision['action']} {decision['params']['quantity']}"
        f" {decision['symbol']}{_prices(decision['params'])} at {decision['decided_at']}"
    )
    _pairs(console, "because", {"": decision["rationale"]})
    _pairs(console, "signal", found["signal"])
    generation = found.get("generation") or {}
    strategy = generation.get("strategy") or {}
    if strategy:
        _pairs(
            console,
            "strategy",
            {k: strategy[k] for k in ("use", "distribution", "version", "code_digest") if strategy.get(k)},
        )
        _pairs(console, "parameters", strategy.get("params") or {})
    table = plain_table("rule", "code", "verdict", "value", "limit", text=3)
    for verdict in found["verdicts"]:
        said = {"allow": "[green]allow[/]", "deny": "[red]deny[/]", "shrink": "[yellow]shrink[/]"}[verdict["outcome"]]
        table.add_row(verdict["rule"], verdict["code"], said, str(verdict["value"]), str(verdict["limit"]))
    console.print(table)
    checked = found.get("verification")
    if checked is not None:
        lines = checked["differences"] or ["judged again: the same verdicts"]
        for line in lines + checked["notes"]:
            console.print(line, style="" if checked["is_same"] else "red", markup=False)
    if not (found["orders"] or replaced):
        console.print(f"[red]{decision['status']}[/]: no order was sent")
    elif replaced:
        console.print(f"[bold]{decision['status']}[/]; that order is now:")
        console.print(_order_line(replaced))
    _print_orders(console, found)
    for change in found["replacements"]:
        terms = change["params"]
        console.print(
            f"changed by decision {change['decision_hash'][:12]} at {change['decided_at']}: {terms['quantity']} of"
            f" {terms['replaces']}{_prices(terms)}, because: {change['rationale']}",
            markup=False,
        )


def _print_orders(console: Console, found: dict[str, Any]) -> None:
    """Print orders, each with what was reported of it."""
    events: dict[str, list[str]] = {order["client_order_id"]: [] for order in found["orders"]}
    for event in found["events"]:
        fill = f" {event['quantity']} at {event['price']}, fee {event['fee']}" if event["fill_id"] else ""
        reason = f" ({event['reason']})" if event["reason"] else ""
        events[event["client_order_id"]].append(f"{event['event_ts']}  {event['event']}{fill}{reason}")
    for order in found["orders"]:
        console.print(_order_line(order))
        for line in events[order["client_order_id"]]:
            console.print(f"  {line}", markup=False)


def _order_line(order: dict[str, Any]) -> str:
    """What an order is, and its state; of a leg of a bracket, which fill it protects."""
    of_fill = f"leg {order['client_order_id']} of fill {order['parent_fill']}" if order["parent"] else ""
    name = escape(of_fill or f"order {order['client_order_id']}")
    return (
        f"{name}: {order['side']} {order['quantity']} {order['order_type']}"
        f"{_prices(order)} {order['time_in_force']} -> [bold]{order['state']}[/]"
    )


def _prices(terms: dict[str, Any]) -> str:
    """The prices that an order names, "" for none."""
    names = ("limit_price", "stop_price", "trail_price", "trail_pct", "stop_loss", "take_profit", "trail")
    return "".join(f" {name.replace('_', ' ')} {terms[name]}" for name in names if terms.get(name) is not None)


def _pairs(console: Console, label: str, values: dict[str, Any]) -> None:
    text = ", ".join(f"{key} {value}" if key else str(value) for key, value in values.items())
    console.print(f"{label}: {text}", markup=False)


def print_status(status: dict[str, Any]) -> None:
    """Print what `Kernel.status` returns beside the state of trading: the last reload, pending changes, each strategy."""
    console = new_console()

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False)

    say(f"catalog {status['path']}, at {status['url']}")
    reload = status["last_reload"]
    say(f"last reload {reload['at']}: {reload['outcome']}, trading paused {reload['pause_ms']:.1f} ms")
    if status["pinned"]:
        say("rolled back, until a file of the catalog changes", "yellow")
    if status["is_polling"]:
        say("the file watcher does not work: changes are found by polling", "yellow")
    for change in status["pending"]:
        old, new = (json.dumps(change[key]) if key in change else "not given" for key in ("old", "new"))
        say(f"pending: {change['key']}: {old} -> {new}; {change['timing']}: {change['effect']}", "yellow")
    if status["strategies"]:
        table = Table("strategy", "use", "version", "state", "symbols", box=None, pad_edge=False)
        for count in ("rows", "decisions", "fills"):
            table.add_column(count, justify="right")
        for entry in status["strategies"]:
            texts = (entry["name"], entry["use"], entry["version"], entry["state"], ", ".join(entry["symbols"]))
            table.add_row(*texts, *(f"{entry[count]:,}" for count in ("rows", "decisions", "fills")))
        console.print()
        console.print(table, markup=False)


def print_rows(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of rows as a table; what a row does not have is "-", and a list is its parts."""
    if not rows:
        print("none")
        return
    texts = [
        [", ".join(value) if isinstance(value, list) else str("-" if value is None else value) for value in values]
        for values in ([row.get(column) for column in columns] for row in rows)
    ]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in (columns, *texts):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def print_plugins(plugins: list[dict[str, Any]]) -> None:
    """Print the plugins that a catalog can use."""
    console = new_console()
    table = Table("kind", "name", "distribution", "version", box=None, pad_edge=False)
    for plugin in plugins:
        table.add_row(plugin["kind"], plugin["name"], plugin["distribution"], plugin["version"])
    console.print(table)


def print_failures(failures: list[dict[str, Any]]) -> None:
    """Print the plugins that could not be loaded, and why."""
    console = new_console()
    for failure in failures:
        console.print(
            f"not loaded: {failure['name']} ({failure['distribution']}): {failure['reason']}", style="red", markup=False
        )


def print_checked(found: Mapping[str, Any]) -> None:
    """Print what `plugin check` found: a line for each rule, then the level that is reached."""
    console = new_console()
    level = ""
    for rule in found["rules"]:
        if rule["level"] != level:
            level = rule["level"]
            console.print(level, style="bold")
        mark = "[red]FAIL[/]" if rule["missing"] else "[green]ok[/]  "
        console.print(f"  {mark} {rule['rule']:12} {escape(rule['missing'] or rule['found'])}", soft_wrap=True)
    console.print(f"{found['name']}: {found['level'] or 'below bronze'}", style="bold", markup=False)


def features_text(found: Mapping[str, Any]) -> str:
    """What strategies can have computed: columns, then each indicator as one calls it, with its parameters and outputs."""
    from torghut_core.feature_graph.listing import parameter_text  # brings the compiler of kernels: slow to import

    lines = [
        f"columns of the bars: {', '.join(found['columns'])}",
        f"columns of ta_signals, as column('ema12'): {', '.join(found['ta_signals'])}",
    ]
    for each in found["indicators"]:
        first, _, _ = each["about"].partition("\n\n")
        lines += ["", each["call"], f"  {' '.join(first.split())}"]
        lines += [f"  {name}: {parameter_text(schema)}" for name, schema in each["parameters"].items()]
        if len(each["outputs"]) > 1:
            lines.append("  gives " + ", ".join(f"['{output}']" for output in each["outputs"]))
    return "\n".join(lines)


def settings_text(settings: Iterable[Setting]) -> str:
    """Settings, a line each: name, value and where it comes from; "-" for nothing."""
    rows = [(each.name, "-" if each.value is None else each.value, each.source) for each in settings]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:{names}}  {value:{values}}  {source}" for name, value, source in rows)


def control_text(done: dict[str, Any]) -> str:
    """Say what `kill` or `unkill` did: the control, where it was written, and whether a running kernel confirmed it."""
    control = done["control"]
    what = "stop" if control["state"] == "halted" else "change"
    lines = [
        f"{control['state']}: {control['reason'] or 'no reason given'} ({control['actor']}), written to {' and '.join(done['written'])}",
        *(f"problem: {problem}" for problem in done["problems"]),
    ]
    if done.get("running") is False:
        lines.append(f"No kernel is running. The {what} will apply at the next start.")
    elif done.get("confirmed") is False and done.get("halted_by"):
        lines.append(f"The kernel stays halted: {done['halted_by']} there (set it to false, and start it again).")
    elif done.get("confirmed") is False:
        lines.append(f"The kernel has not confirmed the {what} yet (torghut doctor says whether it is stuck).")
    elif "orders_working" in done:
        text = f"The kernel confirmed the {what}. "
        if done["role"] != "trading":
            text += f"It does not trade itself ({done['role']}): orders and positions are with the process that does"
        else:
            text += counted(done["orders_working"], "open order")
        if done["role"] == "trading" and "positions" in done:
            held = [f"{each['symbol']} {each['quantity']} ({each['strategy']})" for each in done["positions"]]
            text += f"; positions: {', '.join(held) or 'none'}"
        lines.append(f"{text}.")
        lines += (f"difference: {symbol}: {why}" for symbol, why in sorted(done.get("differences", {}).items()))
    if not control["reason"]:
        lines.append("Say why: repeat the command with --reason TEXT. The stop holds meanwhile.")
    return "\n".join(lines)


def reconciliation_text(done: dict[str, Any]) -> str:
    """Say what `reconcile` found: changes, differences by symbol, and orders that need a look."""
    changes = counted(done["changes"], "change") if done["changes"] else "no changes"
    return "\n".join(
        [
            f"Checked the venue at {done['at']}: {changes}",
            *(f"difference: {symbol}: {reason}" for symbol, reason in sorted(done["differences"].items())),
            *(f"foreign order: {order_id}" for order_id in done["foreign"]),
            *(f"adopted order: {order_id}" for order_id in done["adopted"]),
            *(f"order that never reached the venue: {order_id}" for order_id in done["lost"]),
            *([] if done["differences"] else ["Our records and the venue's agree."]),
        ]
    )
