"""The running kernel: what `torghut run` does, from the first batch to SIGTERM.

One thread trades: between two batches its event loop also applies the venue's updates, follows the catalog, and swaps
generations. Plans are made and snapshots of the venue are taken in worker threads, orders are sent by the executor's, and
the admin API lives in a thread of its own; none of them touches the engine.

Of all processes on an account one trades. The others, and one with ``TRADING_ENABLED=false``, do the same up to where
something is decided, see `Standby`; one that gets the lease continues with the books as the database has them then.

The operator's control is watched by a thread that needs none of the others: while the loop is stuck in a plugin, open
orders at the venue are canceled all the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torghut_core.admin.api_process import Routes
from torghut_core.admin.console import Console
from torghut_core.admin.readiness import Readiness, ask_checks
from torghut_core.admin.server import AdminServer
from torghut_core.admin.waiting import Waiting
from torghut_core.audit import AuditStore
from torghut_core.boundary import without_event_loop
from torghut_core.catalog import DEFAULT_ALLOW, load, read
from torghut_core.concurrency import wait_for
from torghut_core.errors import CatalogError, InputError, StateError, Superseded, VenueError
from torghut_core.execution.committer import CURSOR, Committer
from torghut_core.execution.control_watch import CONTROL_POLL_S, apply_control, watch_control
from torghut_core.execution.controls import Controls
from torghut_core.execution.permit import control_refusal
from torghut_core.execution.reconciler import Reconciler
from torghut_core.execution.standby import ASK_S, ReplicaRole, Standby
from torghut_core.execution.trading_log import TradingLog
from torghut_core.execution.venue import Access, SimulatedVenue, Venue, open_access
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import audit_url, load_plugins, open_audit, open_signals, source_connection
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.installation.universe import UniverseSettings, open_universe
from torghut_core.market_data.universe import ListedUniverse
from torghut_core.model.trading import Account, Position
from torghut_core.plugin_host import PluginHost
from torghut_core.plugin_host.running_plugin import recorded_in
from torghut_core.plugin_host.watchdog import Watchdog
from torghut_core.ports import Broker, Source
from torghut_core.reload.follower import Follower
from torghut_core.reload.reloader import Reloader
from torghut_core.reload.start import choose_start, require_catalog
from torghut_core.reload.state_keeper import StateKeeper
from torghut_core.runtime.life import Life, admin_server, run_until_first_ends
from torghut_core.signals import SignalDatabase, StoreError
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, SECOND, SYSTEM_CLOCK, Clock, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import Loop

BATCH_SIZE = 4096
"""Events per batch at most: a reload waits for one batch."""

CHECK_S = 0.25
"""Seconds between two polls of the checks, and of what the engine found."""

GATHER_S = 0.005
"""Seconds in which updates of orders are gathered: those that come together are written down together."""

SWITCH_S = 0.0001
"""Seconds that another thread may keep the interpreter while the loop waits for it."""

TAKE_OVER_S = 1.0
"""Seconds between two attempts to take over where the venue does not answer."""

NEVER = 2**63 - 1
"""Loop time until which nothing is decided, while it is not known until when the account was traded."""

CLOCKS_DIFFER = MINUTE
"""Nanoseconds that the market's time may be ahead of this machine's while both are right."""

UNSTORED_TAPE = "once that is fixed, start it again: it goes on where it ended, and stores what is missing"
UNSTORED_LIVE = "those rows are lost: once that is fixed, `torghut backfill --to-store` makes them again"
"""What to do where the signal store does not take the last rows of a run."""

ACTOR = "start"
"""Who a run's first generation is written down as changed by."""


@contextmanager
def open_run(
    catalog: Path,
    state: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8181,
    settings: Settings | None = None,
    on_wait: Callable[[str, str], None] = lambda _url, _reason: None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Run]:
    """Make a run of a catalog, ready to trade, and close all that it opened.

    Parameters
    ----------
    catalog : catalog file or folder, watched.
    state : directory of the embedded stores.
    host, port : where the admin API listens; port 0 takes any.
    settings : of the environment where None.
    on_wait : called, with the address of the probes and the reason, where another process owns the state directory: this
        one stands by until that ends.
    clock : where its parts ask for the time.

    Raises
    ------
    TorghutError : the catalog, the plugins, the stores or the venue do not let it start.
    """
    settings = settings or load_settings()
    state = state.absolute()  # a plugin may change the working folder
    directory = StateDirectory(state)
    server = admin_server(settings, state, host, port)
    if not (directory.exists and os.path.exists(catalog)):  # noqa: PTH110 - `Path.exists` raises where it may not look
        require_catalog(catalog)
    with ExitStack() as stack:
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_S)
        ended = threading.Event()
        stack.callback(ended.set)
        stack.callback(directory.release)
        server.listen()
        stack.callback(server.stop)
        life = stack.enter_context(Life(clock))
        controls = Controls(directory.control_path, audit_url(settings, directory), clock, halted_by=settings.halted_by)
        if not directory.try_acquire():
            check_environment(load_plugins(settings, _allowed(catalog)))  # now, and not when it takes over
            controls.halt_by_setting()
            _wait_for(directory, server, life, on_wait, clock)
        if died := stack.enter_context(recorded_in(directory.path)):
            logs.error(died)
        audit = open_audit(settings, directory, is_tidied=True)
        stack.callback(audit.close)

        start = choose_start(catalog, audit, partial(_first_plugins, settings), settings.limits)
        if start.refused is not None:
            logs.error("fallback: the catalog is refused, the last good generation trades", catalog=str(catalog))
        source, broker = start.generation.source, start.generation.broker
        assert source is not None
        assert broker is not None
        if source.corporate_actions():
            raise InputError(
                "the source has tapes of corporate actions, which a replay and a backtest apply: a venue adjusts its account itself "
                "(leave `actions` out of its params, or use `torghut replay`)"
            )
        is_recorded = source.is_recorded  # a tape waits for the store, the market does not
        signals = open_signals(settings, directory, is_replay=is_recorded, waits=is_recorded)
        stack.callback(_close_signals, signals, is_recorded)
        controls.halt_by_setting()

        orders_changed, troubled = asyncio.Event(), asyncio.Event()
        access = stack.enter_context(
            open_access(
                broker,
                is_live=settings.is_live,
                live_account=settings.trading_live_account,
                audit=audit,
                database=audit_url(settings, directory),
                state=directory.path,
                controls=controls,
                on_update=partial(life.call_soon, orders_changed.set),
                clock=clock,
            )
        )
        label, lease = access.account_label, access.permit.lease
        audit.guard = lease.guard
        standby = Standby(label, lease, is_enabled=settings.trading_enabled, clock=clock)
        gates = _gates(settings, is_simulated=access.executor is None)
        engine = Engine(
            start.generation,
            label,
            audit,
            gates,
            executor=access.executor,
            permits=partial(control_refusal, controls),
            allow_shorts=settings.trading_allow_shorts,
            on_trouble=troubled.set,
        )
        apply_control(controls, gates)
        engine.traded_to = NEVER
        log = TradingLog(partial(_pulse, engine, standby, gates, clock), clock)
        committer, venue = _venue(access, broker, source, engine, audit, gates, standby, log, settings, clock)

        watchdog = engine.watchdog(settings.trading_plugin_budget_ms / 1000)
        universe = open_universe(UniverseSettings.read(), start.generation.catalog.symbols, directory.path)
        stack.callback(source.close)
        source.connect(source_connection(settings, directory, universe, signals))
        checks = Readiness(
            *([source.gates, universe.gates] if source.gates() else []),  # a tape needs no universe
            lambda: engine.gates() if standby.is_trading else {},
            kill_after_s=settings.health_not_ready_kill_after_ms / 1000,
            clock=clock,
        )
        unstored = partial(_unstored, signals, is_recorded)
        around = partial(batch_checks, source, unstored, gates, watchdog)
        reloader = Reloader(
            engine,
            audit,
            signals,
            gates,
            start.host,
            partial(load_plugins, settings),
            defaults=settings.limits,
            actor=ACTOR,
            problems=start.problems,
            commit=committer.commit,
            around=partial(watched, watchdog),
            clock=clock,
        )
        follower = Follower(
            catalog,
            start,
            reloader,
            engine,
            audit,
            commit=committer.commit,
            folders=settings.plugin_folders,
            reload_s=settings.trading_strategy_reload_seconds,
            stalled_s=settings.trading_stalled_seconds,
            clock=clock,
        )
        states = StateKeeper(
            label,
            directory.path,
            engine,
            source,
            signals,
            every_s=settings.trading_state_seconds,
            may_keep=lambda: standby.is_trading and not gates.unrecorded,
            around=partial(watched, watchdog),
            clock=clock,
        )
        stack.callback(states.close)
        console = Console(
            account_label=label,
            path=catalog,
            plugin_folders=settings.plugin_folders,
            standby=standby,
            engine=engine,
            gates=gates,
            controls=controls,
            venue=venue,
            follower=follower,
            reloader=reloader,
            audit=audit,
            checks=checks,
            measured=[source, universe, checks, engine.totals, venue, server],
            unstored=unstored,
            resumed_from=lambda: states.resumed_from,
            events=life.events,
            silent_s=lambda: life.silent_s,
            stalled_s=settings.trading_stalled_seconds,
            is_stopping=lambda: life.is_stopping,
            clock=clock,
        )
        run = Run(
            account_label=label,
            path=catalog,
            standby=standby,
            life=life,
            server=server,
            console=console,
            source=source,
            signals=signals,
            universe=universe,
            checks=checks,
            loop=Loop(engine.generation, engine, audit, signals, around, committer.commit),
            engine=engine,
            watchdog=watchdog,
            gates=gates,
            controls=controls,
            audit=audit,
            committer=committer,
            log=log,
            venue=venue,
            reloader=reloader,
            follower=follower,
            states=states,
            orders_changed=orders_changed,
            troubled=troubled,
            ended=ended,
            clock=clock,
        )
        if standby.take_lease():
            run.begin()
        yield run


@dataclass(frozen=True, kw_only=True)
class Run:
    """A process that trades a catalog until it is stopped; `open_run` makes it.

    Attributes
    ----------
    account_label : under which everything is written down.
    path : the catalog: a file, or a folder of them.
    standby : says whether it trades, or waits for the process that does.
    life, server, console : the process, its admin API, and what that shows.
    source, signals, universe, checks : the market data, where it is kept, its symbols, and whether it can be traded on.
    loop, engine, watchdog : what trades, and what interrupts a plugin that takes too long.
    gates, controls : what holds orders back; the operator's control.
    audit, committer, log : where everything is written down, what makes it durable, and what logs it.
    venue : where the orders go.
    reloader, follower : how the catalog is applied, and how its changes are found.
    states : keeps what stages, features and strategies know, for the next process.
    orders_changed, troubled : set when there are updates of orders; when the engine found something.
    ended : set when everything is closed.
    clock : where it asks for the time.
    """

    account_label: str
    path: Path
    standby: Standby
    life: Life
    server: AdminServer
    console: Console
    source: Source
    signals: SignalDatabase
    universe: ListedUniverse
    checks: Readiness
    loop: Loop
    engine: Engine
    watchdog: Watchdog
    gates: Gates
    controls: Controls
    audit: AuditStore
    committer: Committer
    log: TradingLog
    venue: Venue | SimulatedVenue
    reloader: Reloader
    follower: Follower
    states: StateKeeper
    orders_changed: asyncio.Event
    troubled: asyncio.Event
    ended: threading.Event
    clock: Clock

    def execute(self, on_start: Callable[[str], None] = lambda _url: None) -> None:
        """Trade, or stand by, until the source ends or the process is stopped, and record the final state.

        `on_start` is called with the address of the admin API once it listens.

        Raises
        ------
        TorghutError : the source, the venue or the database ended it in an error.
        """
        with self.watchdog.installed(), self.life.signals():
            self.life.run(self._live(on_start))

    def begin(self) -> None:
        """Trade from the next event on, with the lease, on the account as the database and the venue have it now.

        Raises
        ------
        VenueError : the venue does not answer; nothing has changed.
        StateError : the database cannot be read, or a simulated account cannot be continued.
        """
        cursor, engine = self.audit.cursor(self.account_label, CURSOR) or {}, self.engine
        self.venue.start()
        is_fresh = not engine.market_time
        engine.traded_to = max(_traded_to(cursor.get("now", 0), self.clock), engine.market_time)
        if is_fresh:
            self.states.resume(cursor)
        self.standby.start_trading()
        self.reloader.record(ACTOR)
        self.follower.forget_quarantine()
        self.checks.restart_grace()
        self.committer.commit()

    @property
    def resumes_after(self) -> str:
        """Up to when an earlier process has traded the account, "" where none has."""
        traded_to = self.engine.traded_to if self.standby.is_trading else 0
        return format_timestamp(traded_to) if traded_to else ""

    @property
    def summary(self) -> str:
        """What it did, in a line."""
        totals = self.engine.totals
        why = "stopped" if self.life.is_stopping else "the source has ended"
        return (
            f"{why}: {totals.events:,} events, {totals.decisions:,} decisions ({totals.denied:,} denied), "
            f"{totals.orders:,} orders, {totals.fills:,} fills; account {self.account_label}, "
            f"generation {self.engine.generation.number}"
        )

    async def _live(self, on_start: Callable[[str], None]) -> None:
        self.universe.start()
        self.server.start(self.console)
        watch = partial(watch_control, self.controls, self.venue, self.ended, self.committer.poll_database, self.clock)
        threading.Thread(target=watch, name="control", daemon=True).start()
        on_start(self.server.url)
        control, reason = self.controls.current(), self.standby.reason
        log = logs.info if control.state == "running" else logs.warning
        log(
            str(self.standby.role),
            catalog=str(self.path),
            generation=self.engine.generation.number,
            admin=self.server.url,
            control=str(control),
            **({"reason": reason} if reason else {}),
        )
        await run_until_first_ends(
            self._trade(),
            self.follower.follow_catalog(),
            self.follower.follow_code(),
            self._poll_parts(),
            self.life.heartbeat(),
            self._poll_orders(),
            self._take_part(),
            self.life.stopping(),
            at_end=self._close,
        )

    async def _trade(self) -> None:
        try:
            await self.loop.run(BATCH_SIZE, lambda _events: self.states.keep())
        except StoreError as error:
            raise StateError(f"{error}; {UNSTORED_TAPE}") from error
        logs.info("the source has ended", events=self.engine.totals.events)

    async def _take_part(self) -> None:
        """Stand by until it is this process's turn, then keep in step with the venue."""
        if not self.standby.is_trading:
            await self.standby.wait()
            logs.warning("taking over", account=self.account_label)
            await self._take_over()
            logs.warning(
                "trading",
                account=self.account_label,
                generation=self.engine.generation.number,
                control=str(self.controls.current()),
            )
        await run_until_first_ends(*self.venue.tasks())

    async def _take_over(self) -> None:
        while True:
            try:
                return self.begin()
            except VenueError as error:
                logs.error("the venue does not answer: not trading yet", account=self.account_label, error=str(error))
            await asyncio.sleep(TAKE_OVER_S)

    async def _poll_orders(self) -> None:
        """Apply updates of orders and the operator's control, also while no market data comes in."""
        while True:
            await wait_for(self.orders_changed, CONTROL_POLL_S)
            await asyncio.sleep(GATHER_S)
            self.orders_changed.clear()
            control = apply_control(self.controls, self.gates)
            may_flatten = control.flatten and self.venue.is_reconciled_for(control)
            flatten = f"{control.reason} ({control.actor})" if may_flatten else ""
            with watched(self.watchdog):
                self.engine.apply_control(flatten, self.clock.wall())
                has_changed = self.engine.gateway.apply_updates()
                self.engine.announce()
            if has_changed:
                self.venue.reconcile_soon()
            self.committer.commit()

    async def _poll_parts(self) -> None:
        """Poll the checks, tell the universe what is traded and held, and act on what the engine found."""
        while True:
            await wait_for(self.troubled, CHECK_S)
            self.checks.poll()
            self.log.beat()
            self.universe.follow(self.engine.generation.catalog.symbols)
            self.universe.keep(self.engine.books.symbols)
            self.follower.record_quarantine()
            self.engine.gateway.refresh()
            await self.follower.follow_engine()

    async def _close(self, errors: list[BaseException]) -> None:
        """Write down how everything stands, unless another process has traded the account meanwhile."""
        self.universe.close()
        self.server.stop()
        await self.follower.finish()
        if any(isinstance(error, Superseded) for error in errors):
            self.audit.drop()
        else:
            self.committer.close(self.venue.finish())
            self.states.finish()


def _traded_to(kept: int, clock: Clock) -> int:
    """Up to when an earlier process has traded, ns; now where a clock that was ahead says that it was long after now."""
    now = clock.wall()
    if kept > now + CLOCKS_DIFFER:
        logs.warning(
            "an earlier process has traded in the future, so a clock is wrong: what comes from now on is traded",
            until=format_timestamp(kept),
        )
        return now
    if kept:
        logs.info("resuming: what an earlier process has traded is shown only", until=format_timestamp(kept))
    return kept


def _allowed(catalog: Path) -> Sequence[str]:
    """The distributions that may be loaded, as the catalog says; the built-in ones where it cannot be read."""
    try:
        return load(read(catalog)).plugins.allow
    except CatalogError:
        return DEFAULT_ALLOW


def _first_plugins(settings: Settings, allow: Sequence[str]) -> PluginHost:
    """Load the plugins of the first generation, and refuse settings that neither they nor the kernel read."""
    host = load_plugins(settings, allow)
    check_environment(host)
    return host


def _wait_for(
    directory: StateDirectory, server: AdminServer, life: Life, on_wait: Callable[[str, str], None], clock: Clock
) -> None:
    """Serve probes until the state directory can be owned: all that follows is kept there.

    Raises
    ------
    SystemExit : a signal has asked the process to end.
    """
    waiting = Waiting(directory, clock)
    with life.signals():
        server.start(waiting, Routes.WAITING)
        on_wait(server.url, waiting.reason)
        logs.info(str(ReplicaRole.STANDBY), admin=server.url, reason=waiting.reason)
        while not directory.try_acquire():
            time.sleep(ASK_S)
            if life.is_stopping:
                raise SystemExit(0)
    server.stop()
    server.listen()
    logs.warning("taking over", state=str(directory.path))


def _gates(settings: Settings, *, is_simulated: bool) -> Gates:
    return Gates(
        trading_enabled=settings.trading_enabled,
        is_live=settings.is_live and not is_simulated,
        mode=settings.trading_mode,
        live_enabled=settings.trading_live_enabled,
        live_account=settings.trading_live_account,
        price_max_age_ns=settings.trading_price_lookback_minutes * MINUTE,
        price_band=settings.trading_price_band,
        price_collar=settings.trading_price_collar,
    )


def _venue(
    access: Access,
    broker: Broker,
    source: Source,
    engine: Engine,
    audit: AuditStore,
    gates: Gates,
    standby: Standby,
    log: TradingLog,
    settings: Settings,
    clock: Clock,
) -> tuple[Committer, Venue | SimulatedVenue]:
    """Where the orders go, and what commits before they do."""
    label = access.account_label
    venue: Venue | SimulatedVenue

    def snapshot() -> tuple[Account, Mapping[str, Position]] | None:
        return venue.snapshot()

    commits = partial(
        Committer,
        engine,
        audit,
        gates,
        label,
        standby=standby,
        log=log,
        source=source,
        snapshot=snapshot,
        snapshot_s=settings.trading_snapshot_seconds,
        clock=clock,
    )
    if access.executor is None:
        venue = simulated = SimulatedVenue(broker, access, engine.gateway, audit)
        return commits(unreconciled=lambda: simulated.differences, before_commit=simulated.save), venue
    reconciler = Reconciler(engine.gateway, access.executor, audit, label)
    committer = commits(unreconciled=lambda: reconciler.differences)
    reconcile_s = settings.trading_reconcile_ms / 1000
    venue = Venue(
        broker, access, engine.gateway, reconciler, audit, commit=committer.commit, reconcile_s=reconcile_s, clock=clock
    )
    return committer, venue


def _close_signals(signals: SignalDatabase, is_recorded: bool) -> None:
    try:
        signals.close()
    except StoreError as error:
        raise StateError(f"{error}; {UNSTORED_TAPE if is_recorded else UNSTORED_LIVE}") from error


def _pulse(engine: Engine, standby: Standby, gates: Gates, clock: Clock) -> dict[str, Any]:
    """What a run says of itself once a minute."""
    books, reached = engine.books, engine.market_time
    return {
        "role": str(standby.role),
        "control": gates.control,
        "generation": engine.generation.number,
        "events": engine.totals.events,
        "last_event": format_timestamp(reached) if reached else None,
        "lag_s": round(max(0.0, (clock.wall() - reached) / SECOND), 1) if reached else None,
        "positions": sum(1 for quantity in books.nets.values() if quantity),
        "open_orders": len(books.working),
    }


@contextmanager
def batch_checks(source: Source, unstored: Callable[[], str], gates: Gates, watchdog: Watchdog) -> Iterator[None]:
    """What each batch is traded inside of: market data that can be traded on, and no plugin longer than it may take."""
    closed = {name: gate.reason for name, gate in ask_checks(source.gates).items() if gate is not None}
    if reason := unstored():
        closed["store"] = reason
    gates.unready = "; ".join(f"{name}: {reason}" for name, reason in closed.items())
    with watchdog.batch():
        yield


@contextmanager
def watched(watchdog: Watchdog) -> Iterator[None]:
    """What plugins are called inside of between two batches."""
    with without_event_loop(), watchdog.batch():
        yield


def _unstored(signals: SignalDatabase, is_recorded: bool) -> str:
    """Why rows are not being stored, "" while they are: entries wait, exits and open orders do not."""
    if is_recorded:  # it waits for the store
        return ""
    trouble = signals.trouble
    return "" if trouble is None else f"{trouble}; rows are kept, and sent again"
