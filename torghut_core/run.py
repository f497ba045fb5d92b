"""The running kernel: what `torghut run` does, from the first batch to SIGTERM.

One thread trades: between two batches its event loop also hears the watchers and swaps generations. Plans are made in
worker threads, and the admin API lives in a thread of its own; neither touches the engine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from torghut_core import catalog as catalogs
from torghut_core import logs
from torghut_core.admin.auth import parse_tokens
from torghut_core.admin.server import STOP_SECONDS, AdminServer
from torghut_core.audit.rows import as_json
from torghut_core.catalog import Catalog, Draft, content_digest, json_schema, load_draft
from torghut_core.catalog_diff import diff
from torghut_core.catalog_watch import CatalogWatch, Version
from torghut_core.daemon_threads import DaemonThreads
from torghut_core.engine import Engine
from torghut_core.errors import CatalogError, InputError, NotFoundError, Problem, StateError, reason_of
from torghut_core.generation import Generation, build, validate
from torghut_core.plugin_host import PluginHost
from torghut_core.reload import Plan, Reloader, settle
from torghut_core.risk import Gates
from torghut_core.routes import StrategyTotals
from torghut_core.runner import Loop
from torghut_core.settings import Settings, load_settings
from torghut_core.state import StateDirectory
from torghut_core.stores import load_plugins, open_audit, open_signals
from torghut_core.timestamps import SECOND, format_timestamp

T = TypeVar("T")

BATCH_SIZE = 4096
"""Events per batch at most: a reload waits for one batch."""

PULSE = 0.25
"""Seconds between two looks at what else there is to do."""

TURN = 0.0005
"""Seconds that another thread may keep the interpreter while the loop waits for it."""

ACCOUNT = "paper"
"""Label under which a run is written down."""

REPLAYED = "replayed"
"""Outcome of the generations that replays write down, which no run goes back to."""

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
    """

    def __init__(
        self,
        catalog: Path,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8181,
        settings: Settings | None = None,
    ) -> None:
        self._path = catalog
        self._settings = settings or load_settings()
        self._state = StateDirectory(state)
        self._server = AdminServer(
            self,
            state_dir=state,
            host=host,
            port=port,
            tokens=parse_tokens(self._settings.admin_tokens),
            hosts=self._settings.admin_hosts.replace(",", " ").split(),
        )
        self._folders = self._settings.plugin_folders
        self._stops = 0
        self._beat_at = time.monotonic()
        self._problem = ""
        self._draft: Draft
        self._refused: CatalogError | None = None
        self._is_pinned = False
        self._planning: asyncio.Future[Plan] | None = None
        self._quarantined: dict[str, str] = {}

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
            self._server.listen()
            stack.callback(self._server.stop)
            self._audit = open_audit(self._settings, self._state)
            stack.callback(self._audit.close)
            self._open(stack)
            stack.enter_context(self._watchdog.installed())
            for number in (signal.SIGTERM, signal.SIGINT):
                stack.callback(signal.signal, number, signal.getsignal(number))
            asyncio.run(self._live(on_start))

    @property
    def may_trade(self) -> bool:
        """Whether orders may leave."""
        return self._settings.trading_enabled

    @property
    def farewell(self) -> str:
        """What came of it, in a line."""
        totals = self._engine.totals
        why = "stopped" if self._stops else "the source has ended"
        return (
            f"{why}: {totals.events:,} events, {totals.decisions:,} decisions ({totals.denied:,} denied), "
            f"{totals.orders:,} orders, {totals.fills:,} fills; account {self.account}, "
            f"generation {self._engine.generation.number}"
        )

    # The start.

    def _open(self, stack: ExitStack) -> None:
        """Make the first generation and all that goes around it; what has to be closed goes on the stack."""
        self._version = self._read()
        last = self._last_good()
        self._draft, problems = self._first_draft(last)
        host = self._load(self._draft.catalog.plugins.allow, None)
        generation, problems = self._first_generation(host, last, problems)
        settings, audit = self._settings, self._audit
        source = generation.catalog.pipelines["trading"].source
        self._signals = open_signals(settings, self._state, is_replay=source.use == "replay")
        stack.callback(self._signals.close)
        self.account = audit.new_account(ACCOUNT)
        actor = "start"
        outcome = "degraded" if problems else "started"
        number = audit.record_generation(generation.to_record() | {"problems": problems}, actor, outcome)
        audit.record_strategies(generation.strategy_rows(), "sync")
        audit.commit()
        self._gates = Gates(
            trading_enabled=settings.trading_enabled,
            mode=settings.trading_mode,
            live_enabled=settings.trading_live_enabled,
            price_max_age_ns=settings.trading_price_lookback_minutes * 60 * SECOND,
        )
        self._engine = Engine(
            generation.numbered(number),
            self.account,
            audit,
            self._gates,
            allow_shorts=settings.trading_allow_shorts,
            on_trouble=self._trouble,
        )
        self._watchdog = self._engine.watchdog(settings.trading_plugin_budget_ms / 1000)
        self._loop = Loop(self._engine.generation, self._engine, audit, self._signals, self._watchdog.batch)
        self._reloader = Reloader(
            self._engine, audit, self._signals, self._gates, host, self._load, defaults=settings.limits
        )
        self._reloader.start(problems, actor, outcome, generation.catalog.on_invalid)

    def _read(self) -> Version:
        try:
            return catalogs.read(self._path)
        except CatalogError as error:
            return error

    def _first_draft(self, last: Catalog | None) -> tuple[Draft, list[str]]:
        """What to begin with: what the files say, the generation that was rolled back to, or the last good one."""
        pin = self._audit.control(PINNED)
        if pin and not isinstance(self._version, CatalogError) and pin["content"] == content_digest(self._version):
            content = self._generation(pin["generation"])
            if content is not None:
                self._is_pinned = True
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
                generation = build(catalog, host, defaults=self._settings.limits)
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
            generation.source.check()
            return generation, problems + [str(problem) for problem in draft.problems]

    def _last_good(self) -> Catalog | None:
        """The catalog of the last generation that traded here, None before the first."""
        for row in self._audit.rows("catalog_generations", newest_first=True, limit=100):
            if row["outcome"] != REPLAYED:
                return Catalog.from_record(row["content"])
        return None

    def _generation(self, number: int) -> dict[str, Any] | None:
        rows = self._audit.rows("catalog_generations", number=number)
        return dict(rows[0]["content"]) if rows else None

    def _load(self, allow: Any, before: PluginHost | None) -> PluginHost:
        return load_plugins(self._settings, allow, before)

    # The life.

    async def _live(self, on_start: Callable[[str], None]) -> None:
        self._events = asyncio.get_running_loop()
        self._events.set_default_executor(DaemonThreads())
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._over = asyncio.Event()
        self._watch = CatalogWatch(self._path, poll_seconds=self._settings.trading_strategy_reload_seconds)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        server = self._server
        server.start()
        trading = asyncio.create_task(self._trade())
        others = [
            asyncio.create_task(work)
            for work in (
                self._follow_catalog(),
                self._follow_code(),
                self._look_after(),
                self._beat(),
                self._over.wait(),
            )
        ]
        on_start(server.url)
        logs.info("trading", catalog=str(self._path), generation=self._engine.generation.number, admin=server.url)
        try:
            await asyncio.wait([trading, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (trading, *others):
                task.cancel()
            ended = await asyncio.gather(trading, *others, return_exceptions=True)
            server.stop()
            if self._planning is not None:  # it may be reading from a store that is about to be closed
                await asyncio.wait([self._planning], timeout=STOP_SECONDS)
            self._close_books()
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _trade(self) -> None:
        await self._loop.run(BATCH_SIZE)
        logs.info("the source has ended", events=self._engine.totals.events)

    def _close_books(self) -> None:
        broker = self._engine.generation.broker
        held = (
            {symbol: position for symbol, position in broker.positions().items() if position.quantity} if broker else {}
        )
        self._signals.flush()
        self._audit.record_account(self.account, self._engine.account(), held, self._engine.now)
        self._audit.commit()

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """SIGTERM: finish the batch and close; the second time, end at once."""
        self._stops += 1
        if self._stops > 1:
            os._exit(128 + number)
        self._problem = "stopping"
        self._events.call_soon_threadsafe(self._over.set)

    def _trouble(self) -> None:
        self._woken.set()

    async def _beat(self) -> None:
        """Say that the loop comes round; no plan holds this up."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(PULSE)

    async def _look_after(self) -> None:
        """See to what the engine found out: code that failed its first rows, strategies in quarantine."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), PULSE)
            self._woken.clear()
            self._note_quarantine()
            if self._engine.reverted:
                self._reloader.go_back()
                await self._take_up("torghut", releases=False)
            elif self._reloader.is_waiting:
                await self._take_up(self._reloader.status.actor, releases=False)

    def _note_quarantine(self) -> None:
        """Write down who has come into quarantine, and who has left it."""
        known, self._quarantined = self._quarantined, self._engine.quarantined
        for name in sorted(known.keys() | self._quarantined.keys()):
            reason = self._quarantined.get(name)
            if known.get(name) != reason:
                self._audit.record_control(f"quarantine.{name}", reason, "torghut")
                self._audit.commit()

    async def _follow_catalog(self) -> None:
        async with aclosing(self._watch.versions()) as versions:
            async for version in versions:
                if str(version) != str(self._version):
                    self._version = version
                    await self._reload("watch")

    async def _follow_code(self) -> None:
        """Look whether plugins have changed on disk: at once in plugin folders, and now and then in any case."""
        async with aclosing(self._hints()) as hints:
            async for _ in hints:
                await self._take_up("plugins", releases=False, is_quiet=True)

    async def _hints(self) -> AsyncGenerator[None, None]:
        """Something whenever code may have changed; one watch for all of it, so that no change falls between two."""
        from watchfiles import awatch

        seconds = self._settings.trading_strategy_reload_seconds
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
            self._reloader.refuse(error)
            return
        self._refused = None
        await self._take_up(actor, releases=True)

    async def _take_up(self, actor: str, *, releases: bool, is_quiet: bool = False) -> None:
        """Plan and swap, until a plan still holds when it is made. `is_quiet`: where nothing differs, say nothing."""
        async with self._lock:
            try:
                while not await self._attempt(actor, releases=releases, is_quiet=is_quiet):
                    pass
            finally:
                self._reloader.end()

    async def _attempt(self, actor: str, *, releases: bool, is_quiet: bool) -> bool:
        """Plan, and swap where the plan still holds; whether that is settled."""
        reloader, refused = self._reloader, self._refused
        moment = reloader.begin()
        work = asyncio.to_thread(reloader.plan, self._draft, moment, releases=releases)
        self._planning = asyncio.ensure_future(work)
        try:
            plan = await self._planned(self._planning)
        except CatalogError as error:
            reloader.refuse(error)
            return True
        is_same = plan.generation.digest == self._engine.generation.digest
        told = plan.problems if refused is None else [str(problem) for problem in refused.problems]
        if is_quiet and is_same and told == reloader.status.problems:
            return True
        if not reloader.take_up(plan, actor):
            return False
        self._note_quarantine()
        if refused is not None:  # the files are as wrong as they were, whatever else was taken up
            reloader.refuse(refused)
        return True

    async def _planned(self, planning: asyncio.Future[Plan]) -> Plan:
        """The plan, once it is made; tell of one that hangs, which no other can overtake."""
        seconds = self._settings.trading_stalled_seconds
        done, _ = await asyncio.wait([planning], timeout=seconds)
        if not done:
            self._reloader.end()
            message = f"the next generation is not made after {seconds:g} s: a plugin hangs when it is imported or made"
            self._reloader.refuse(CatalogError([self._problem_of(message, "mend it, and start torghut anew")]))
        try:
            return await asyncio.shield(planning)
        except CatalogError:
            raise
        except Exception as error:  # whatever it is, the generation that trades knows nothing of it
            logs.error("the next generation cannot be made", error=reason_of(error), exc_info=error)
            message = f"the next generation cannot be made: {reason_of(error)}"
            raise CatalogError([self._problem_of(message, "see the log")]) from error

    def _problem_of(self, message: str, mend: str) -> Problem:
        return Problem(str(self._path), 0, 0, "", message, mend)

    # What the admin API asks for, from its own thread.

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the loop's thread, between two batches."""
        future = asyncio.run_coroutine_threadsafe(work, self._events)
        try:
            return future.result(60)
        except TimeoutError:
            future.cancel()
            raise StateError("the trading loop does not answer (see /healthz)") from None

    def reload(self, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""

        async def work() -> dict[str, Any]:
            self._version = await asyncio.to_thread(self._read)
            await self._reload(actor)
            return self._outcome()

        return self._ask(work())

    def rollback(self, to: int | None, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        number = self._engine.generation.number - 1 if to is None else to
        content = self._generation(number)
        if content is None:
            raise NotFoundError(f"there is no generation {number} (see `torghut catalog status`)")

        async def work() -> dict[str, Any]:
            self._draft, self._refused = _recorded(Catalog.from_record(content)), None
            await self._take_up(actor, releases=True)
            self._pin(number, actor)
            return self._outcome()

        return self._ask(work())

    def _pin(self, number: int | None, actor: str) -> None:
        """Hold a generation that was gone back to for as long as the files are what they are; None holds none."""
        if number is not None and not isinstance(self._version, CatalogError):
            pin = {"generation": number, "content": content_digest(self._version)}
        elif self._is_pinned:
            pin = None
        else:
            return
        self._is_pinned = pin is not None
        self._audit.record_control(PINNED, pin, actor)
        self._audit.commit()

    def _outcome(self) -> dict[str, Any]:
        status = self._reloader.status
        return {
            "generation": self._engine.generation.number,
            "outcome": status.outcome,
            "problems": list(status.problems),
        }

    def status(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        status = self._reloader.status
        generation = status.generation
        return {
            "generation": generation.number,
            "digest": generation.digest,
            "since": format_timestamp(status.since),
            "actor": status.actor,
            "path": str(self._path),
            "degraded": bool(status.problems),
            "problems": list(status.problems),
            "pending": _fields(status.pending),
            "quarantined": self._engine.quarantined,
            "restriction": self._gates.restriction,
            "pinned": self._is_pinned,
            "is_polling": self._watch.is_polling,
            "last_reload": {
                "at": format_timestamp(status.at),
                "outcome": status.outcome,
                "successful": status.is_good,
                "succeeded_at": format_timestamp(status.succeeded_at) if status.succeeded_at else None,
                "pause_ms": round(status.pause_s * 1000, 3),
            },
            "strategies": self._strategies(generation),
        }

    def _strategies(self, generation: Generation) -> list[dict[str, Any]]:
        engine = self._engine
        states = engine.states()
        nothing = StrategyTotals()
        return [
            {
                "name": each.name,
                "use": each.use,
                "version": each.plugin.version,
                "code_digest": each.plugin.code_digest,
                "enabled": each.enabled,
                "state": states.get(each.name, "trading"),
                "symbols": list(each.symbols),
                "params": dict(each.params),
                "on_remove": each.on_remove,
                "rows": totals.rows,
                "decisions": totals.decisions,
                "fills": totals.fills,
            }
            for each in (*generation.strategies, *engine.closing)
            for totals in (engine.totals.strategies.get(each.name, nothing),)
        ]

    def catalog(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return self._engine.generation.catalog.model_dump(mode="json")

    def generations(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        """See `admin.kernel.Kernel`."""
        if before is None:
            rows = self._audit.rows("catalog_generations", newest_first=True, limit=limit)
        else:
            numbers = range(before - 1, max(0, before - 1 - limit), -1)
            rows = [row for number in numbers for row in self._audit.rows("catalog_generations", number=number)]
        return [as_json(row) for row in rows]

    def schema(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return json_schema(self._reloader.host.params())

    def plugins(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        host = self._reloader.host
        names = ("kind", "name", "distribution", "version", "code_digest")
        failed = ("plugin", "distribution", "reason")
        return {
            "plugins": [{name: getattr(plugin, name) for name in names} for plugin in host.plugins()],
            "failures": [{name: getattr(failure, name) for name in failed} for failure in host.failures],
            "kept": [{name: getattr(failure, name) for name in failed} for failure in host.kept],
        }

    def health(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        silent = time.monotonic() - self._beat_at
        if silent <= self._settings.trading_stalled_seconds:
            return []
        return [f"the trading loop has not come back for {silent:.0f} s"]

    def readiness(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        return self.health() + ([self._problem] if self._problem else [])

    def validate(self, text: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        try:
            catalog = catalogs.load({"request": text})
            problems = validate(catalog, self._reloader.host)
        except CatalogError as error:
            return {"valid": False, "problems": [str(problem) for problem in error.problems], "diff": None}
        changes = diff(self._engine.generation.catalog, catalog).to_json()
        return {"valid": not problems, "problems": [str(problem) for problem in problems], "diff": changes}

    def metrics(self) -> Mapping[str, float | Mapping[str, float]]:
        """See `admin.kernel.Kernel`."""
        totals, status = self._engine.totals, self._reloader.status
        return {
            "events_total": totals.events,
            "late_total": totals.late,
            "duplicates_total": totals.duplicates,
            "microbars_total": totals.microbars,
            "signals_total": totals.signals,
            "decisions_total": totals.decisions,
            "denials_total": dict(totals.denials),
            "orders_submitted_total": totals.orders,
            "orders_rejected_total": totals.rejected,
            "fills_total": totals.fills,
            "orders_working": self._engine.working,
            "reload_pause_seconds": status.pause_s,
            "catalog_last_reload_success_timestamp_seconds": status.succeeded_at / SECOND,
            "event_lag_seconds": max(0.0, time.time() - self._engine.now / SECOND) if self._engine.now else 0.0,
        }


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


def _fields(pending: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What waits, a dict for each field or entry."""
    told = []
    for change in pending:
        place = f"{change['kind']} {change['name']}".strip()
        fields = change["fields"] or [{"key": change["action"], "timing": change["timing"], "effect": change["effect"]}]
        told += [{"old": None, "new": None} | field | {"key": f"{place} {field['key']}"} for field in fields]
    return told
