"""The running kernel: what `torghut run` does, from the first batch to SIGTERM.

One thread trades: between two batches its event loop also hears the venue and the watchers, and swaps generations. Plans
are made and the venue is looked at in worker threads, orders are sent by the executor's, and the admin API lives in a
thread of its own; none of them touches the engine.

The operator's control is watched by a thread that needs none of the others: while the loop is stuck in a plugin, what
works at the venue is canceled all the same.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from torghut_core import catalog as catalogs
from torghut_core.admin.auth import parse_tokens
from torghut_core.admin.console import Console
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.server import STOP_SECONDS, AdminServer
from torghut_core.audit import AuditStore
from torghut_core.catalog import Catalog, Draft, content_digest, load_draft
from torghut_core.catalog.watch import CatalogWatch, Version
from torghut_core.concurrency import DaemonThreads, wait_for
from torghut_core.errors import (
    CatalogError,
    InputError,
    NotFoundError,
    Problem,
    StateError,
    Superseded,
    VenueError,
    reason_of,
)
from torghut_core.execution.controls import Control, Controls
from torghut_core.execution.lease import open_lease
from torghut_core.execution.reconciler import Reconciliation
from torghut_core.execution.venue import CLOSE_LOOK, Venue, connect
from torghut_core.generation import Generation, build, validate
from torghut_core.installation.open import audit_url, load_plugins, open_audit, open_signals, source_connection
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.installation.universe import UniverseSettings, open_universe
from torghut_core.model.trading import Intent, Purpose
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Broker, Source
from torghut_core.reload.plan import Plan, ReloadOutcome
from torghut_core.reload.reloader import Reloader
from torghut_core.reload.settle import settle
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import Loop

BATCH_SIZE = 4096
"""Events per batch at most: a reload waits for one batch."""

PULSE = 0.25
"""Seconds between two looks at what else there is to do."""

HEED = 0.05
"""Seconds between two looks at the operator's control."""

GATHER = 0.005
"""Seconds in which news of orders is gathered: what comes together is written down together."""

POLL = 1.0
"""Seconds between two looks at what the database says of it, and at whether it can be written."""

LOOK_SOON = 5.0
"""Seconds between two looks at a venue where orders come to something; a look takes three requests."""

CURSOR = "trading"
"""Source of the cursor that says how far an account was traded."""

TURN = 0.0005
"""Seconds that another thread may keep the interpreter while the loop waits for it."""

ACCOUNT = "paper"
"""Label under which a run is written down."""

PINNED = "catalog.pinned"
"""The control that holds a rollback: which generation trades while the catalog's files hold what they did."""


class Run:
    """A catalog that trades until it is told to stop.

    Parameters
    ----------
    catalog : catalog file or folder, watched.
    state : directory of the embedded stores.
    host, port : where the admin API listens; port 0 takes any.
    settings : of the environment where None.

    Attributes
    ----------
    account : the label under which everything is written down.
    engine, gates, audit : what trades, what holds it back, and where it is written down.
    controls : the operator's control.
    venue : the real venue; None with a simulated broker.
    reloader, watch : how the catalog is taken up, and how its changes are found.
    events : the event loop of the thread that trades.
    beat_at : when the loop came round last, monotonic seconds.
    problem : why it is not ready to trade at all, "" when it is.
    is_pinned : rolled back, until the catalog's files change.
    """

    account: str
    engine: Engine
    gates: Gates
    audit: AuditStore
    controls: Controls
    reloader: Reloader
    watch: CatalogWatch
    events: asyncio.AbstractEventLoop

    def __init__(
        self,
        catalog: Path,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8181,
        settings: Settings | None = None,
    ) -> None:
        self.path = catalog
        self.settings = settings or load_settings()
        self._state = StateDirectory(state)
        self._server = AdminServer(
            state_dir=state,
            host=host,
            port=port,
            tokens=parse_tokens(self.settings.admin_tokens),
            hosts=self.settings.admin_hosts.replace(",", " ").split(),
        )
        self._folders = self.settings.plugin_folders
        self._stops = 0
        self.beat_at = time.monotonic()
        self.problem = ""
        self._draft: Draft
        self._refused: CatalogError | None = None
        self.is_pinned = False
        self._planning: asyncio.Future[Plan] | None = None
        self._quarantined: dict[str, str] = {}
        self.venue: Venue | None = None
        self._ended = threading.Event()
        self._traded_to = 0
        self._decided = 0
        self._written_at = 0.0
        self._probed = ""

    def execute(self, on_start: Callable[[str], None] = lambda _url: None) -> None:
        """Trade until the source ends or the process is told to stop; then close everything.

        `on_start` is called with the address of the admin API once it listens.

        Raises
        ------
        TorghutError : the catalog, the plugins or the stores do not let it start, or the source ended in an error.
        """
        if not self._state.exists:
            catalogs.load(_texts(self._read()))  # nothing to fall back upon: refused before anything is made
        with ExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(TURN)
            stack.enter_context(self._state)
            stack.callback(self._ended.set)
            self._server.listen()
            stack.callback(self._server.stop)
            self.audit = open_audit(self.settings, self._state, is_tidied=True)
            stack.callback(self.audit.close)
            self._open(stack)
            stack.enter_context(self._watchdog.installed())
            for number in (signal.SIGTERM, signal.SIGINT):
                stack.callback(signal.signal, number, signal.getsignal(number))
            asyncio.run(self._live(on_start))

    @property
    def may_trade(self) -> bool:
        """Whether orders may leave."""
        return self.settings.trading_enabled

    @property
    def farewell(self) -> str:
        """What came of it, in a line."""
        totals = self.engine.totals
        why = "stopped" if self._stops else "the source has ended"
        return (
            f"{why}: {totals.events:,} events, {totals.decisions:,} decisions ({totals.denied:,} denied), "
            f"{totals.orders:,} orders, {totals.fills:,} fills; account {self.account}, "
            f"generation {self.engine.generation.number}"
        )

    # The start.

    def _open(self, stack: ExitStack) -> None:
        """Make the first generation and all that goes around it; what has to be closed goes on the stack."""
        self._version = self._read()
        last = self._last_good()
        self._draft, problems = self._first_draft(last)
        host = self._load(self._draft.catalog.plugins.allow, None)
        generation, problems = self._first_generation(host, last, problems)
        settings, audit = self.settings, self.audit
        assert generation.source is not None
        is_replay = generation.source.is_recorded  # a tape waits for the store, the market does not
        self._signals = open_signals(settings, self._state, is_replay=is_replay, waits=is_replay)
        self._is_replay = is_replay
        stack.callback(self._signals.close)
        self.controls = Controls(self._state.control_path, audit_url(settings, self._state))
        self.controls.poll()
        broker = generation.broker
        assert broker is not None
        if broker.capabilities.simulated:
            self.account = audit.new_account(ACCOUNT)
        else:
            self.venue = self._reach(broker, stack)
            self.account = self.venue.account
        actor = "start"
        outcome = ReloadOutcome.DEGRADED if problems else ReloadOutcome.STARTED
        number = audit.record_generation(generation.to_record() | {"problems": problems}, actor, outcome)
        audit.record_strategies(generation.strategy_rows(), "sync")
        audit.commit()
        venue = self.venue
        self.gates = Gates(
            trading_enabled=settings.trading_enabled,
            is_live=venue is not None and settings.is_live,
            mode=settings.trading_mode,
            live_enabled=settings.trading_live_enabled,
            live_account=settings.trading_live_account,
            price_max_age_ns=settings.trading_price_lookback_minutes * MINUTE,
        )
        self.engine = Engine(
            generation.numbered(number),
            self.account,
            audit,
            self.gates,
            executor=venue.executor if venue else None,
            permits=self._permits,
            allow_shorts=settings.trading_allow_shorts,
            on_trouble=self._trouble,
        )
        self._apply_control()
        if venue is not None:
            cursor = audit.cursor(self.account, CURSOR) or {}
            self.engine.traded_to = self._traded_to = cursor.get("now", 0)
            self._note_books(venue.begin(self.engine, audit))
        self._watchdog = self.engine.watchdog(settings.trading_plugin_budget_ms / 1000)
        self._reach_out(stack)
        self._loop = Loop(self.engine.generation, self.engine, audit, self._signals, self._around, self._commit)
        self.reloader = Reloader(
            self.engine,
            audit,
            self._signals,
            self.gates,
            host,
            self._load,
            defaults=settings.limits,
            actor=actor,
            problems=problems,
            commit=self._commit,
        )

    def _reach_out(self, stack: ExitStack) -> None:
        """Give the source what it needs, and let it go on where the account was traded to."""
        source = self.source
        self.universe = open_universe(UniverseSettings.read(), _symbols(self.engine.generation), self._state.path)
        asks = [source.gates, self.universe.gates] if source.gates() else []  # a tape needs no universe
        self.readiness = Readiness(*asks, kill_after_s=self.settings.health_not_ready_kill_after_ms / 1000)
        stack.callback(source.close)
        source.connect(source_connection(self.settings, self._state, self.universe, self._signals))
        if self.venue is not None and source.gates():
            kept = (self.audit.cursor(self.account, CURSOR) or {}).get("source")
            if kept:
                source.seek(kept)

    @property
    def source(self) -> Source:
        """Where the market data comes from."""
        source = self.engine.generation.source
        assert source is not None
        return source

    @contextmanager
    def _around(self) -> Iterator[None]:
        """Trade a batch: on market data that can be traded on, and not longer than a plugin may take."""
        closed = {name: gate.reason for name, gate in self.source.gates().items() if gate is not None}
        if unstored := self.unstored:
            closed["store"] = unstored
        self.gates.unready = "; ".join(f"{name}: {reason}" for name, reason in closed.items())
        with self._watchdog.batch():
            yield

    @property
    def unstored(self) -> str:
        """Why rows are not being stored, "" while they are. What is at work goes on, like exits; entries wait."""
        if self._is_replay:  # it waits for the store
            return ""
        trouble = self._signals.trouble
        return "" if trouble is None else str(trouble)

    def _reach(self, broker: Broker, stack: ExitStack) -> Venue:
        """Connect to a real venue, as the only one who trades that account."""
        account = connect(broker, self.settings)
        stack.callback(broker.close)
        lease = open_lease(audit_url(self.settings, self._state), account, self._state.path)
        venue = Venue(broker, account, self.controls, lease, self._hear_soon)
        stack.callback(venue.close)
        venue.take_lease()
        self.audit.guard = lease.guard
        return venue

    def _read(self) -> Version:
        try:
            return catalogs.read(self.path)
        except CatalogError as error:
            return error

    def _first_draft(self, last: Catalog | None) -> tuple[Draft, list[str]]:
        """What to begin with: what the files say, the generation that was rolled back to, or the last good one."""
        pin = self.audit.control(PINNED)
        if pin and not isinstance(self._version, CatalogError) and pin["content"] == content_digest(self._version):
            content = self._generation(pin["generation"])
            if content is not None:
                self.is_pinned = True
                return _recorded(Catalog.from_record(content)), []
        try:
            draft = load_draft(_texts(self._version))
        except CatalogError as error:
            if last is None:
                raise
            self._refused = error
            return _recorded(last), [str(problem) for problem in error.problems]
        if draft.problems and last is None:
            raise CatalogError(draft.problems)
        return draft, []

    def _first_generation(
        self, host: PluginHost, last: Catalog | None, problems: list[str]
    ) -> tuple[Generation, list[str]]:
        """The generation to begin with; an entry that is wrong is as it was in the last good one, or stays out."""
        draft = self._draft
        if last is not None:  # as far as its plugins are still what they were
            recorded = _recorded(last)
            last = recorded.without(validate(recorded.catalog, host)).catalog
        while True:
            catalog = settle(draft, last, ()) if last is not None else draft.catalog
            if "pipelines" not in draft.left_out:
                catalog = catalog.with_(pipelines=draft.catalog.pipelines)
            try:
                generation = build(catalog, host, defaults=self.settings.limits)
            except CatalogError as error:
                if last is None:
                    raise
                less = draft.without(error.problems)
                if less.left_out == draft.left_out:
                    raise
                draft = less
                continue
            if generation.source is None or generation.broker is None:
                raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to run")
            if generation.source.has_lanes:
                raise InputError(
                    "the source of `trading` is read in lanes, each with a time of its own, and trading has one time "
                    "(derive signals with `torghut ta`, and trade on the source `clickhouse-signals`)"
                )
            generation.source.check()
            return generation, problems + [str(problem) for problem in draft.problems]

    def _last_good(self) -> Catalog | None:
        """The catalog of the last generation that traded here, None before the first."""
        for row in self.audit.rows("catalog_generations", newest_first=True, limit=100):
            if row["outcome"] != ReloadOutcome.REPLAYED:
                return Catalog.from_record(row["content"])
        return None

    def _generation(self, number: int) -> dict[str, Any] | None:
        rows = self.audit.rows("catalog_generations", number=number)
        return dict(rows[0]["content"]) if rows else None

    def _load(self, allow: Any, before: PluginHost | None) -> PluginHost:
        return load_plugins(self.settings, allow, before)

    # The life.

    async def _live(self, on_start: Callable[[str], None]) -> None:
        self.events = asyncio.get_running_loop()
        self.events.set_default_executor(DaemonThreads())
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._soon = asyncio.Event()
        self.watch = CatalogWatch(self.path, poll_seconds=self.settings.trading_strategy_reload_seconds)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        server = self._server
        self.universe.start()
        server.start(Console(self))
        threading.Thread(target=self._guard, name="control", daemon=True).start()
        trading = asyncio.create_task(self._trade())
        others = [
            asyncio.create_task(work)
            for work in (
                self._follow_catalog(),
                self._follow_code(),
                self._look_after(),
                self._beat(),
                self._mind_orders(),
                self._mind_books(),
                self._mind_lease(),
                self._over.wait(),
            )
        ]
        on_start(server.url)
        logs.info("trading", catalog=str(self.path), generation=self.engine.generation.number, admin=server.url)
        try:
            await asyncio.wait([trading, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (trading, *others):
                task.cancel()
            ended = await asyncio.gather(trading, *others, return_exceptions=True)
            self.universe.close()
            server.stop()
            if self._planning is not None:  # it may be reading from a store that is about to be closed
                await asyncio.wait([self._planning], timeout=STOP_SECONDS)
            if any(isinstance(error, Superseded) for error in ended):
                self.audit.drop()
            else:
                self._close_books()
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _trade(self) -> None:
        await self._loop.run(BATCH_SIZE)
        logs.info("the source has ended", events=self.engine.totals.events)

    def _close_books(self) -> None:
        """Write down how everything stands; orders at a real venue go on working there."""
        venue, broker = self.venue, self.engine.generation.broker
        if venue is not None:
            venue.executor.close()
            self.engine.gateway.apply_updates()
            held = venue.executor.positions()
        else:
            held = broker.positions() if broker else {}
        held = {symbol: position for symbol, position in held.items() if position.quantity}
        self.audit.record_account(self.account, self.engine.account(), held, self.engine.now)
        self._keep_cursor()
        self.audit.commit()

    # What an operator, the venue and the database have to say.

    def _permits(self, intent: Intent) -> str:
        """The last look before a simulated broker: why an order may not leave."""
        return self.controls.refusal(intent.purpose is not Purpose.ENTRY, intent.purpose is Purpose.FLATTEN)

    def _apply_control(self) -> Control:
        """Let the gates be as the operator's control wants them."""
        control = self.controls.current()
        self.gates.control = control.state
        self.gates.control_reason = "" if control.state == "running" else str(control)
        return control

    def _guard(self) -> None:
        """A thread of its own: see the control change, and whether the database can be written; cancel on a halt."""
        before, polled_at = self.controls.current(), 0.0
        while not self._ended.wait(HEED):
            control = self.controls.current()
            if control != before and control.state == "halted" and self.venue is not None:
                logs.error("halted", control=str(control))
                self.venue.executor.cancel_all()
            before = control
            if time.monotonic() - polled_at < POLL:
                continue
            polled_at = time.monotonic()
            self.controls.poll()
            with suppress(StateError):  # the next commit will tell
                self.audit.tidy()
            if self.gates.unrecorded:
                self._probed = self.audit.probe()

    def _hear_soon(self) -> None:
        """There is news of orders; from any thread."""
        events = getattr(self, "events", None)
        if events is not None:
            with suppress(RuntimeError):  # it is over
                events.call_soon_threadsafe(self._news.set)

    async def _mind_orders(self) -> None:
        """Hear of orders, and heed the control, also while no market data comes in."""
        while True:
            await wait_for(self._news, HEED)
            await asyncio.sleep(GATHER)
            self._news.clear()
            control = self._apply_control()
            flatten = f"{control.reason} ({control.actor})" if control.flatten else ""
            self.engine.apply_control(flatten, time.time_ns())
            if self.engine.gateway.apply_updates():
                self._soon.set()
            self._commit()

    async def _mind_books(self) -> None:
        """Hold our books against the venue's, again and again."""
        seconds = self.settings.trading_reconcile_ms / 1000
        while self.venue is not None:
            pause = min(LOOK_SOON, seconds)
            await asyncio.sleep(pause)
            await wait_for(self._soon, seconds - pause)  # what orders have come to changes the account, too
            with suppress(VenueError):  # it is told of in `problem`, until it answers again
                await self._reconcile()
        await self._over.wait()

    async def _mind_lease(self) -> None:
        """Try to get a lost lease back, and see how the venue stands before anything leaves again."""
        while self.venue is not None:
            await asyncio.sleep(PULSE)
            if not self.venue.lease.is_held:
                await asyncio.to_thread(self.venue.regain_lease)
                if self.venue.lease.is_held:
                    with suppress(VenueError):
                        await self._reconcile()
        await self._over.wait()

    async def _reconcile(self) -> None:
        """Look at the venue and settle; what differs is looked at twice."""
        venue = self.venue
        assert venue is not None
        for _ in range(2):
            books = self.engine.books
            ours, moves, spent = venue.reconciler.open_ids, dict(books.moves), books.spent
            done = venue.settle(await asyncio.to_thread(venue.ask, ours, moves, spent))
            self._note_books(done)
            if not done.suspects:
                return
            await asyncio.sleep(CLOSE_LOOK)

    def _note_books(self, done: Reconciliation) -> None:
        """Write down what a look came to, where that is anything."""
        assert self.venue is not None
        self.gates.unreconciled = self.venue.differences
        if done.changes or done.cash_difference:
            executor = self.venue.executor
            self.audit.record_account(self.account, executor.account(), executor.positions(), done.at)
        self._commit()

    def _commit(self) -> None:
        """Make durable what was recorded, then let orders leave; without a database only exits do."""
        gates = self.gates
        if gates.unrecorded and self._probed:
            gates.unrecorded = self._probed
        else:
            try:
                self._keep_cursor()
                self.audit.commit()
                if gates.unrecorded:
                    logs.warning("the audit database can be written again")
                gates.unrecorded = ""
            except Superseded:
                self.audit.drop()
                raise
            except StateError as error:
                if not gates.unrecorded:
                    logs.error("the audit database cannot be written: entries wait", error=str(error))
                gates.unrecorded = self._probed = str(error)
        if self.venue is not None:
            gates.unreconciled = self.venue.differences
        self.engine.gateway.dispatch(lambda intent: gates.unrecorded if intent.purpose is Purpose.ENTRY else "")

    def _keep_cursor(self) -> None:
        """Say how far the account was traded: with every decision, and now and then."""
        engine = self.engine
        if self.venue is None or engine.now <= self._traded_to:
            return
        if engine.totals.decisions == self._decided and time.monotonic() - self._written_at < POLL:
            return
        self._traded_to, self._decided, self._written_at = engine.now, engine.totals.decisions, time.monotonic()
        cursor = {"now": engine.now} | ({"source": self.source.cursor()} if self.source.gates() else {})
        self.audit.record_cursor(self.account, CURSOR, cursor)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """SIGTERM: finish the batch and close; the second time, end at once."""
        self._stops += 1
        if self._stops > 1:
            os._exit(128 + number)
        self.problem = "stopping"
        self.events.call_soon_threadsafe(self._over.set)

    def _trouble(self) -> None:
        self._woken.set()

    async def _beat(self) -> None:
        """Say that the loop comes round; no plan holds this up."""
        while True:
            self.beat_at = time.monotonic()
            await asyncio.sleep(PULSE)

    async def _look_after(self) -> None:
        """See to what the engine found out: code that failed its first rows, strategies in quarantine."""
        while True:
            await wait_for(self._woken, PULSE)
            self.readiness.poll()
            self.universe.follow(_symbols(self.engine.generation))
            self.universe.keep(self.engine.books.symbols)
            self._note_quarantine()
            self.engine.gateway.refresh()
            if self.engine.reverted:
                self.reloader.reject_reverted()
                await self._apply("torghut", releases=False)
            elif self.reloader.can_resume:
                await self._apply(self.reloader.status.actor, releases=False)

    def _note_quarantine(self) -> None:
        """Write down who has come into quarantine, and who has left it."""
        known, self._quarantined = self._quarantined, self.engine.roster.quarantined
        for name in sorted(known.keys() | self._quarantined.keys()):
            reason = self._quarantined.get(name)
            if known.get(name) != reason:
                self.audit.record_control(f"quarantine.{name}", reason, "torghut")
                self._commit()

    async def _follow_catalog(self) -> None:
        async with aclosing(self.watch.versions()) as versions:
            async for version in versions:
                if str(version) != str(self._version):
                    self._version = version
                    await self._reload("watch")

    async def _follow_code(self) -> None:
        """Look whether plugins have changed on disk: at once in plugin folders, and now and then in any case."""
        async with aclosing(self._hints()) as hints:
            async for _ in hints:
                await self._apply("plugins", releases=False, is_quiet=True)

    async def _hints(self) -> AsyncGenerator[None, None]:
        """Something whenever code may have changed; one watch for all of it, so that no change falls between two."""
        from watchfiles import awatch

        seconds = self.settings.trading_strategy_reload_seconds
        due = 0.0  # at once: what changed before there was a watch was told by none
        while True:
            folders = [folder for folder in self._folders if folder.is_dir()]
            if folders:
                watch = awatch(*folders, debounce=100, rust_timeout=round(PULSE * 1000), yield_on_timeout=True)
                try:
                    async with aclosing(watch) as changes:
                        async for found in changes:
                            if found or time.monotonic() > due:
                                yield
                                due = time.monotonic() + seconds
                except (OSError, RuntimeError) as error:  # of the watcher; the folders are looked at all the same
                    logs.warning("plugin watcher failed, polling", reason=reason_of(error), seconds=seconds)
            await asyncio.sleep(seconds)
            yield

    async def _reload(self, actor: str) -> None:
        """Take up what the catalog's files hold."""
        self._pin(None, actor)
        try:
            self._draft = await asyncio.to_thread(load_draft, _texts(self._version))
        except CatalogError as error:
            self._refused = error
            self.reloader.refuse(error)
            return
        self._refused = None
        await self._apply(actor, releases=True)

    async def _apply(self, actor: str, *, releases: bool, is_quiet: bool = False) -> None:
        """Plan and swap, until a plan still holds when it is made. `is_quiet`: where nothing differs, say nothing."""
        async with self._lock:
            try:
                while not await self._attempt(actor, releases=releases, is_quiet=is_quiet):
                    pass
            finally:
                self.reloader.end()

    async def _attempt(self, actor: str, *, releases: bool, is_quiet: bool) -> bool:
        """Plan, and swap where the plan still holds; whether that is settled."""
        reloader, refused = self.reloader, self._refused
        moment = reloader.begin()
        work = asyncio.to_thread(reloader.plan, self._draft, moment, releases=releases)
        self._planning = asyncio.ensure_future(work)
        try:
            plan = await self._planned(self._planning)
        except CatalogError as error:
            reloader.refuse(error)
            return True
        is_same = plan.generation.digest == self.engine.generation.digest
        told = plan.problems if refused is None else [str(problem) for problem in refused.problems]
        if is_quiet and is_same and told == reloader.status.problems:
            return True
        if not reloader.apply(plan, actor):
            return False
        self._note_quarantine()
        if refused is not None:  # the files are as wrong as they were, whatever else was taken up
            reloader.refuse(refused)
        return True

    async def _planned(self, planning: asyncio.Future[Plan]) -> Plan:
        """The plan, once it is made; tell of one that hangs, which no other can overtake."""
        seconds = self.settings.trading_stalled_seconds
        done, _ = await asyncio.wait([planning], timeout=seconds)
        if not done:
            self.reloader.end()
            message = f"the next generation is not made after {seconds:g} s: a plugin hangs when it is imported or made"
            self.reloader.refuse(CatalogError([self._problem_of(message, "fix it, and start torghut anew")]))
        try:
            return await asyncio.shield(planning)
        except CatalogError:
            raise
        except Exception as error:  # whatever it is, the generation that trades knows nothing of it
            logs.error("the next generation cannot be made", error=reason_of(error), exc_info=error)
            message = f"the next generation cannot be made: {reason_of(error)}"
            raise CatalogError([self._problem_of(message, "see the log")]) from error

    def _problem_of(self, message: str, hint: str) -> Problem:
        return Problem(str(self.path), 0, 0, "", message, hint)

    # What an operator asks for; in the loop's thread.

    async def reload(self, actor: str) -> dict[str, Any]:
        """Read the catalog again, take it up, and release quarantined strategies."""
        self._version = await asyncio.to_thread(self._read)
        await self._reload(actor)
        return self._outcome()

    async def roll_back(self, number: int, actor: str) -> dict[str, Any]:
        """Trade an earlier generation again, until the catalog's files change.

        Raises
        ------
        NotFoundError : there is no such generation.
        """
        content = self._generation(number)
        if content is None:
            raise NotFoundError(f"there is no generation {number} (see `torghut catalog status`)")
        self._draft, self._refused = _recorded(Catalog.from_record(content)), None
        await self._apply(actor, releases=True)
        self._pin(number, actor)
        return self._outcome()

    async def reconcile(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """Hold the books against the venue's now; take the differences in `accept` as somebody else's doing.

        Raises
        ------
        InputError : there is no venue, or no difference to accept.
        VenueError : it does not answer.
        """
        venue = self.venue
        if venue is None:
            raise InputError("the broker is simulated: there is nothing to reconcile with")
        await self._reconcile()
        for symbol in accept:
            quantity = venue.reconciler.accept(symbol, reason, actor)
            logs.warning("difference accepted", symbol=symbol, quantity=str(quantity), actor=actor, reason=reason)
        self.gates.unreconciled = venue.differences
        self._commit()
        return venue.status()

    def _pin(self, number: int | None, actor: str) -> None:
        """Hold a generation that was gone back to for as long as the files are what they are; None holds none."""
        if number is not None and not isinstance(self._version, CatalogError):
            pin = {"generation": number, "content": content_digest(self._version)}
        elif self.is_pinned:
            pin = None
        else:
            return
        self.is_pinned = pin is not None
        self.audit.record_control(PINNED, pin, actor)
        self._commit()

    def _outcome(self) -> dict[str, Any]:
        status = self.reloader.status
        return {
            "generation": self.engine.generation.number,
            "outcome": status.outcome,
            "problems": list(status.problems),
        }


def _symbols(generation: Generation) -> set[str]:
    """What its strategies trade."""
    return {symbol for each in generation.strategies for symbol in each.symbols}


def _texts(version: Version) -> Mapping[str, str]:
    if isinstance(version, CatalogError):
        raise version
    return version


def _recorded(catalog: Catalog) -> Draft:
    """A catalog that once traded, as what is wanted now: its entries, which are in no file, stand at their numbers."""
    lists = {
        key: tuple(each.moved(f"{key}[{index}]") for index, each in enumerate(getattr(catalog, key)))
        for key in ("strategies", "risk", "advisors", "observers")
    }
    return Draft(catalog.with_(**lists), [], {})
