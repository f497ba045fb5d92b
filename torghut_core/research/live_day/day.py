"""What `torghut run` did on a day, beside a backtest of that day on what was stored: decisions, fills, costs of orders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.audit import AuditStore, MemoryAuditStore
from torghut_core.audit.records import Records
from torghut_core.audit.rows import as_json
from torghut_core.catalog import Catalog
from torghut_core.errors import CatalogError, InputError, NotFoundError
from torghut_core.generation import Generation
from torghut_core.installation.open import existing_audit, existing_state, load_plugins, open_signals
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.reload.start import as_draft, recorded_catalog
from torghut_core.research.backtests import Backtest, load_catalog, run_backtest
from torghut_core.research.live_day.tca import (
    OrderCost,
    Row,
    by_symbol,
    expectations,
    latencies,
    order_costs,
    percentiles,
    ratios,
)
from torghut_core.research.replay import gates_of
from torghut_core.research.stored.window import Window, day_window, show_past, stored_generation
from torghut_core.signals import SignalDatabase
from torghut_core.timestamps import DAY, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.loop import Loop

SCHEMA = "torghut.live-day.v1"

_REPLAYED = re.compile(r"(replay|backtest)-\d+")
_PAGE = 10_000


class Side(msgspec.Struct, frozen=True):
    """One of the two runs that are compared: its decisions, orders and fills of the day, as the audit has them."""

    decisions: Sequence[Row]
    orders: Sequence[Row]
    fills: Sequence[Row]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are, by kind and state."""
        states = Counter(row["state"] for row in self.orders)
        return {
            "decisions": len(self.decisions),
            "denied": sum(row["status"] == "denied" for row in self.decisions),
            "orders": len(self.orders),
            "filled": sum(row["filled_quantity"] > 0 for row in self.orders),
            "canceled": states["canceled"],
            "rejected": states["rejected"],
            "fills": len(self.fills),
        }

    def costs(self, multipliers: Mapping[str, Decimal], **expectation: Any) -> list[OrderCost]:
        """The cost of each order; the rest as in `order_costs`."""
        first: dict[str, int] = {}
        for fill in self.fills:
            first.setdefault(fill["client_order_id"], fill["event_ts"])
        decisions = {row["decision_hash"]: row for row in self.decisions}
        return order_costs(self.orders, decisions, first, multipliers=multipliers, **expectation)


class Pair(msgspec.Struct, frozen=True):
    """A decision of the live run and that of the backtest; None where the other one has none like it."""

    live: Row | None
    backtest: Row | None

    @property
    def kind(self) -> str:
        """How they compare: ``same``, ``other_terms``, ``other_verdict``, ``live_only`` or ``backtest_only``."""
        if self.live is None:
            return "backtest_only"
        if self.backtest is None:
            return "live_only"
        if self.live["decision_hash"] != self.backtest["decision_hash"]:
            return "other_terms"
        return "same" if self.live["status"] == self.backtest["status"] else "other_verdict"


class LiveDay(msgspec.Struct, frozen=True):
    """A day of a live account beside its backtest.

    Attributes
    ----------
    day, account : what is compared.
    live, backtest : both sides.
    pairs : their decisions, in order of time.
    costs : of the live orders, with what the backtest's let expect.
    backtest_costs : of the backtest's orders.
    warnings : why the two may differ though nothing is wrong.
    catalog_digest : of the catalog that both traded.
    """

    day: str
    account: str
    live: Side
    backtest: Side
    pairs: Sequence[Pair]
    costs: Sequence[OrderCost]
    backtest_costs: Sequence[OrderCost]
    warnings: Sequence[str]
    catalog_digest: str

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; money stays `Decimal`."""
        kinds = Counter(pair.kind for pair in self.pairs)
        found = {name: kinds[name] for name in ("same", "other_verdict", "other_terms", "live_only", "backtest_only")}
        matched = len(self.pairs) - kinds["live_only"] - kinds["backtest_only"]
        realized = [cost.realized_shortfall_bps for cost in self.costs]
        return {
            "schema": SCHEMA,
            "day": self.day,
            "account": self.account,
            "catalog_digest": self.catalog_digest,
            "live": self.live.counts,
            "backtest": self.backtest.counts,
            "decisions": found
            | {
                "match_ratio": matched / len(self.pairs) if self.pairs else None,
                "differences": [_difference(pair) for pair in self.pairs if pair.kind != "same"],
            },
            "ratios": {"live": ratios(self.costs), "backtest": ratios(self.backtest_costs)},
            "latencies": latencies(self.costs),
            "realized_shortfall_bps": percentiles(realized),
            "divergence_bps": percentiles(cost.divergence_bps for cost in self.costs),
            "symbols": by_symbol(self.costs),
            "orders": [_cost_json(cost) for cost in self.costs],
            "warnings": list(self.warnings),
        }


def _difference(pair: Pair) -> Row:
    row = pair.live or pair.backtest or {}
    names = ("strategy_id", "symbol", "event_ts", "action")
    sides = {"live": pair.live, "backtest": pair.backtest}
    terms = {
        side: None
        if found is None
        else {"decision_hash": found["decision_hash"], "status": found["status"], **found["params"]}
        for side, found in sides.items()
    }
    return {"kind": pair.kind} | as_json({name: row[name] for name in names}) | terms


def _cost_json(cost: OrderCost) -> Row:
    row = msgspec.structs.asdict(cost)
    return row | {"decided_at": format_timestamp(cost.decided_at)}


@contextmanager
def open_live_day(
    day: str,
    state: Path,
    *,
    account: str | None = None,
    store: Path | None = None,
    catalog: Path | None = None,
    settings: Settings | None = None,
) -> Iterator[Callable[[Callable[[int], None]], LiveDay]]:
    """Open what a day's report needs; gives the function that makes it, which takes what is called with the events so far.

    Parameters
    ----------
    day : 24 hours in UTC.
    state : directory with the audit database; that of ``DB_DSN`` comes before it.
    account : its label; the one that traded on the day where None.
    store : directory with the embedded signal store, `state` where None; the server of ``TA_CLICKHOUSE_URL`` comes before it.
    catalog : what is backtested; what traded at the end of the day, as it was written down, where None.
    settings : of the environment where None.

    Raises
    ------
    InputError, NotFoundError : there is no such day, or nothing was decided on it.
    StateError : a store cannot be read, or is in use.
    """
    settings = settings or load_settings()
    window = day_window(day)
    with existing_audit(settings, state) as audit, _signals(settings, store or state) as signals:
        label = account or _account(audit, window)
        given = None if catalog is None else load_catalog(catalog)

        def make(on_progress: Callable[[int], None]) -> LiveDay:
            return compare_day(day, window, label, audit, signals, settings, given, on_progress)

        yield make


@contextmanager
def _signals(settings: Settings, state: Path) -> Iterator[SignalDatabase]:
    if settings.ta_clickhouse_url is not None:
        with closing(open_signals(settings, StateDirectory(state))) as server:
            yield server
    else:
        with existing_state(state) as directory, closing(open_signals(settings, directory)) as embedded:
            yield embedded


def _account(audit: Records, window: Window) -> str:
    """The account that decided something on the day, replays left out.

    Raises
    ------
    InputError : none did, or several.
    """
    labels: set[str] = {row["account"] for row in decided_in(audit, "trade_decisions", window)}
    labels = {label for label in labels if not _REPLAYED.fullmatch(label)}
    day = format_timestamp(window.since)[:10]
    if not labels:
        raise NotFoundError(f"no account decided anything on {day} (give another day, or --account LABEL)")
    if len(labels) > 1:
        raise InputError(f"several accounts traded on {day} (give --account, one of {', '.join(sorted(labels))})")
    return labels.pop()


def rows_since(audit: Records, table: str, since: int, **equal: Any) -> Iterator[Row]:
    """The rows of a table from a time on, ns, in order; read in pages."""
    last = 0
    while True:
        page = audit.rows(table, since=since, after=last, limit=_PAGE, **equal)
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]["id"]


def decided_in(audit: Records, table: str, window: Window, **equal: Any) -> Iterator[Row]:
    """The decisions or orders that were decided in a window, in order."""
    rows = rows_since(audit, table, window.since - DAY, **equal)
    return (row for row in rows if window.since < row["decided_at"] <= window.until)


def compare_day(
    day: str,
    window: Window,
    account: str,
    audit: AuditStore,
    signals: SignalDatabase,
    settings: Settings,
    catalog: Catalog | None = None,
    on_progress: Callable[[int], None] = lambda _events: None,
) -> LiveDay:
    """Backtest a day of an account on the stored signals, and compare; arguments as in `open_live_day`.

    Raises
    ------
    InputError : nothing was decided on the day, or its catalog is not written down.
    CatalogError : the catalog's plugins cannot be made any more.
    """
    live = _side(audit, window, account)
    if not live.decisions and not live.orders:
        raise NotFoundError(f"account {account} decided nothing on {day} (give another day, or --account LABEL)")
    numbers = sorted({row["generation"] for row in live.decisions})
    warnings = []
    if catalog is None:
        catalog = recorded_catalog(audit, numbers[-1]) if numbers else None
        if catalog is None:
            raise InputError(f"the catalog that traded on {day} is not written down (give --catalog PATH)")
        catalog = as_draft(catalog).catalog
        if len(numbers) > 1:
            warnings.append(
                f"{len(numbers)} generations traded on the day, {numbers[0]} to {numbers[-1]}: the backtest trades the last one all day"
            )
    equity, held = _opening(audit, account, window.since)
    if held:
        warnings.append(f"the account held {', '.join(held)} when the day began: the backtest begins flat")
    generation, more = _generation(catalog, settings, signals, window, equity)
    warnings += more
    done = _backtest(generation, account, signals, settings, window, on_progress)
    warnings += [f"{name} was shown no row: {reason}" for name, reason in done.starved.items()]
    warnings += [f"{count:,} left out: {reason}" for reason, count in done.skipped.items()]
    if not done.result.events:
        warnings.append("the signal store has no row of the day: nothing could be decided again")
    replayed = _side(done.audit, window, account)
    ours = replayed.costs(done.multipliers)
    broker = done.generation.made[next(place for place in done.generation.made if place[0] == "broker")].plugin
    version = f"{broker.name} {broker.version} {broker.code_digest[:12]}"
    return LiveDay(
        day=day,
        account=account,
        live=live,
        backtest=replayed,
        pairs=match(live.decisions, replayed.decisions),
        costs=live.costs(done.multipliers, expected=expectations(ours), simulator_version=version),
        backtest_costs=ours,
        warnings=warnings,
        catalog_digest=catalog.digest,
    )


def _side(audit: Records, window: Window, account: str) -> Side:
    decisions = list(decided_in(audit, "trade_decisions", window, account=account))
    orders = list(decided_in(audit, "executions", window, account=account))
    known = {row["client_order_id"] for row in orders}
    events = rows_since(audit, "execution_events", window.since, account=account, event="fill")
    return Side(decisions, orders, [row for row in events if row["client_order_id"] in known])


def _opening(audit: Records, account: str, since: int) -> tuple[Decimal | None, list[str]]:
    """Equity of an account when a day began, None where it is not known, and the symbols that it held then."""
    rows = rows_since(audit, "position_snapshots", since - DAY, account=account)
    before = [row for row in rows if row["at"] <= since and row["strategy_id"] is None and row["reason"] is None]
    totals = [row for row in before if row["symbol"] is None]
    if not totals:
        return None, []
    last = totals[-1]
    held = sorted({row["symbol"] for row in before if row["symbol"] and row["at"] == last["at"] and row["quantity"]})
    return last["equity"], held


def _generation(
    catalog: Catalog, settings: Settings, signals: SignalDatabase, window: Window, equity: Decimal | None
) -> tuple[Generation, list[str]]:
    host = load_plugins(settings, catalog.plugins.allow)
    warnings = []
    if equity is not None:
        try:
            funded = stored_generation(catalog, host, signals, window, defaults=settings.limits, cash=equity)
        except CatalogError:  # a simulated broker without such a parameter
            warnings.append("the simulated broker does not begin with the account's equity")
        else:
            return funded, warnings
    return stored_generation(catalog, host, signals, window, defaults=settings.limits), warnings


def _backtest(
    generation: Generation,
    account: str,
    signals: SignalDatabase,
    settings: Settings,
    window: Window,
    on_progress: Callable[[int], None],
) -> Backtest:
    def show(engine: Engine, _loop: Loop) -> tuple[()]:
        show_past(engine, signals, window.since)
        return ()

    return run_backtest(
        generation,
        audit=_AuditOf(account),
        signals=signals,
        gates=gates_of(settings),
        allow_shorts=settings.trading_allow_shorts,
        on_progress=on_progress,
        stops=show,
    )


class _AuditOf(MemoryAuditStore):
    """Writes a backtest down under the label of a live account, so that the same decisions have the same hashes."""

    def __init__(self, account: str) -> None:
        super().__init__()
        self._account = account

    def new_account(self, prefix: str) -> str:
        """The account."""
        del prefix
        return self._account


def match(live: Sequence[Row], backtest: Sequence[Row]) -> list[Pair]:
    """Decisions of two runs of one account, each beside its like: by hash, else by strategy, symbol, time and action.

    Of several that are alike otherwise, the first goes with the first.
    """
    left = {row["decision_hash"]: row for row in backtest}
    pairs = [Pair(row, left.pop(row["decision_hash"], None)) for row in live]
    waiting: dict[tuple[Any, ...], list[Row]] = {}
    for row in left.values():
        waiting.setdefault(_like(row), []).append(row)
    for place, pair in enumerate(pairs):
        if pair.live is not None and pair.backtest is None and (alike := waiting.get(_like(pair.live))):
            pairs[place] = Pair(pair.live, alike.pop(0))
    pairs += [Pair(None, row) for rows in waiting.values() for row in rows]
    return sorted(pairs, key=lambda pair: (pair.live or pair.backtest or {})["decided_at"])


def _like(row: Row) -> tuple[Any, ...]:
    return row["strategy_id"], row["symbol"], row["event_ts"], row["action"]
