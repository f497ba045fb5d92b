"""Recorded tapes through the loop, on the simulated broker: what `torghut replay` and `torghut demo` do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from torghut_core import catalog as catalogs
from torghut_core.catalog import Draft
from torghut_core.errors import CatalogError, InputError, StateError
from torghut_core.generation import Generation, build, use_tapes
from torghut_core.installation.open import load_plugins, open_audit, open_signals
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.model.market import Bars, window_size
from torghut_core.model.trading import Position
from torghut_core.reload.plan import ReloadOutcome
from torghut_core.reload.reloader import Reloader
from torghut_core.timestamps import DAY, MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import BATCH_SIZE, Loop
from torghut_core.trading.totals import Result, Totals, to_json


def demo_files() -> tuple[Path, Path]:
    """The example catalog and the tape that come with torghut.

    Raises
    ------
    InputError : this installation carries neither.
    """
    package = Path(__file__).parent
    for folder in (package / "demo", package.parent / "catalog"):  # installed from a wheel; a checkout
        tapes = sorted((folder / "tapes").glob("*.parquet"))
        if tapes and (folder / "trading.yaml").exists():
            return folder / "trading.yaml", tapes[0]
    raise InputError("this installation carries no demo tape (run it from a checkout of the project)")


class Replay:
    """One run of tapes through a catalog; a context manager that owns the state directory meanwhile.

    Everything that can be wrong with the catalog and the tapes is found on entering, before anything is written.

    Parameters
    ----------
    catalog : catalog file or folder.
    tapes : what to replay; empty for those that the catalog's own source names.
    state : directory of the embedded stores.
    speed, on_bad_row : parameters of the source that reads the tapes.
    swaps : (event, catalog): before which event, counted from 0, what other catalog is taken up, as a reload would.
    settings : of the environment where None.

    Attributes
    ----------
    account : the label under which this run is written down.
    starting_cash : cash before the first event.
    """

    def __init__(
        self,
        catalog: Path,
        tapes: Sequence[Path],
        state: Path,
        *,
        speed: str = "max",
        on_bad_row: str = "fail",
        swaps: Sequence[tuple[int, Path]] = (),
        settings: Settings | None = None,
    ) -> None:
        self.state = state
        self.account = ""
        self.starting_cash = Decimal(0)
        self._settings = settings or load_settings()
        self._tapes = [str(tape) for tape in tapes]
        self._name = catalog.name
        self._open = ExitStack()
        parsed = catalogs.load(catalogs.read(catalog))
        params: dict[str, Any] = {"speed": speed, "on_bad_row": on_bad_row, "follow": False}
        if tapes:
            params["paths"] = self._tapes
        self._host = load_plugins(self._settings, parsed.plugins.allow)
        self._catalog = use_tapes(parsed, self._host, params)
        self._swaps = [
            (event, Draft(use_tapes(catalogs.load(catalogs.read(path)), self._host, params), [], {}))
            for event, path in sorted(swaps, key=itemgetter(0))
        ]

    def __enter__(self) -> Self:
        generation = build(self._catalog, self._host, defaults=self._settings.limits)
        if generation.source is None or generation.broker is None:
            raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to replay")
        self._source, self._broker = generation.source, generation.broker
        self._source.check()
        try:
            directory = self._open.enter_context(StateDirectory(self.state))
            self._audit = open_audit(self._settings, directory)
            self._open.callback(self._audit.close)
            self._signals = open_signals(self._settings, directory, is_replay=True)
            self._open.callback(self._signals.close)
            self._begin(generation)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _begin(self, generation: Generation) -> None:
        settings, audit = self._settings, self._audit
        self.account = audit.new_account("replay")
        number = audit.record_generation(generation.to_record(), actor="replay", outcome=ReloadOutcome.REPLAYED)
        audit.record_strategies(generation.strategy_rows(), self._catalog.mode)
        self._generation = generation.numbered(number)
        gates = Gates(trading_enabled=True, price_max_age_ns=settings.trading_price_lookback_minutes * MINUTE)
        self._engine = Engine(self._generation, self.account, audit, gates, allow_shorts=settings.trading_allow_shorts)
        self.starting_cash = self._broker.account().cash
        self._loop = Loop(self._generation, self._engine, audit, self._signals)
        self._reloader = Reloader(
            self._engine,
            audit,
            self._signals,
            gates,
            self._host,
            partial(load_plugins, settings),
            defaults=settings.limits,
            since=lambda: self._loop.began_at,
        )

    def _swap(self, draft: Draft) -> None:
        """Take up another catalog between two events; what it says of source, stages and broker waits for a restart.

        Raises
        ------
        CatalogError : it cannot be taken up as it stands.
        """
        plan = self._reloader.plan(draft, self._reloader.begin(), releases=True)
        if plan.problems:
            raise CatalogError(plan.draft.problems)
        while not self._reloader.apply(plan, "replay"):
            plan = self._reloader.plan(draft, self._reloader.begin(), releases=True)

    @property
    def total(self) -> int | None:
        """Events to come in all; None where nobody knows."""
        return self._source.total

    @property
    def skipped(self) -> dict[str, int]:
        """Rows left out by ``--on-bad-row skip``: reason, with the first place -> count."""
        return self._source.skipped

    @property
    def totals(self) -> Totals:
        """What happened so far, counted."""
        return self._engine.totals

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        return self._engine.positions

    @property
    def working(self) -> int:
        """How many orders are still out."""
        return self._engine.working

    @property
    def starved(self) -> list[str]:
        """Enabled strategies that were shown no signal at all."""
        shown = self.totals.strategies
        return [each.name for each in self._engine.generation.strategies if each.enabled and not shown[each.name].rows]

    def run(self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None) -> None:
        """Trade the tapes from the first event to the last, and write down how the books stand then."""
        stops = [(event, partial(self._swap, draft)) for event, draft in self._swaps]
        asyncio.run(self._loop.run(batch_size, on_progress, stops))
        books = self._engine.account()
        held = {symbol: position for symbol, position in self._broker.positions().items() if position.quantity}
        self._audit.record_account(self.account, books, held, self._loop.ended_at)
        self._audit.commit()

    def result(self) -> Result:
        """The run in numbers."""
        engine = self._engine
        return Result.of(
            engine.totals,
            final_equity=engine.account().equity,
            digest=engine.digest,
            generation=engine.generation.number,
            seconds=self._loop.seconds,
        )

    def example(self) -> str:
        """A decision worth explaining: the first that was denied or shrunk, else the first; "" without any."""
        for choice in ({"status": "denied"}, {}):
            found = self._audit.decisions(self.account, limit=1, **choice)
            if found:
                return str(found[0]["decision_hash"])[:12]
        return ""

    def write_page(self, path: Path) -> None:
        """Draw the run as one HTML page that needs nothing else.

        Raises
        ------
        StateError : the file cannot be written.
        """
        from torghut_core.research.page import write_page

        because = {row["decision_hash"]: row["rationale"] for row in self._audit.decisions(self.account)}
        fills = [fill | {"because": because[fill["decision_hash"]]} for fill in self._audit.fills(self.account)]
        denied = [
            row | row["params"] | next(verdict for verdict in row["verdicts"] if verdict["outcome"] == "deny")
            for row in self._audit.decisions(self.account, status="denied")
        ]
        since, until = self._loop.began_at - DAY, self._loop.ended_at
        bars = self._signals.bars(since=since, until=until)
        if not bars.num_rows:
            bars = asyncio.run(self._tape_bars())
        signals = self._signals.signals(since=since, until=until)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_page(
                path,
                title=", ".join([self._name, *(Path(tape).name for tape in self._tapes)]),
                summary=json.loads(to_json(self.result())) | {"denials": self.totals.denials},
                bars=bars,
                cash=self.starting_cash,
                signals=signals,
                fills=fills,
                denied=denied,
            )
        except OSError as error:
            raise StateError(f"{path}: {error.strerror} (give another --page)") from error

    async def _tape_bars(self) -> pa.Table:
        """The bars of the tapes themselves, for a page about tapes that have no trades."""
        source = build(self._catalog, self._host, defaults=self._settings.limits).source
        assert source is not None
        tables = []
        names: list[str] = []
        async for batch in source.batches(BATCH_SIZE):
            tables.append(batch.bars)
            names = batch.symbols.names
        bars = Bars.concatenate(tables)
        columns = {name: getattr(bars, name) for name in ("event_ts", "open", "high", "low", "close", "volume")}
        sizes = {step: window_size(step) for step in set(bars.step.tolist())}
        return pa.table(
            {
                "symbol": [names[number] for number in bars.symbol.tolist()],
                "window_size": [sizes[step] for step in bars.step.tolist()],
                **columns,
            }
        )
