"""Follows what changes while a run trades, and applies it: the catalog's files, plugin code, an operator's requests.

Plans are made in worker threads; everything else here runs in the loop's thread, between two batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from torghut_core.audit import AuditStore
from torghut_core.catalog import content_digest, load_draft
from torghut_core.catalog.watch import CatalogWatch
from torghut_core.errors import CatalogError, NotFoundError, Problem, reason_of
from torghut_core.reload.plan import Plan, ReloadOutcome
from torghut_core.reload.reloader import Reloader
from torghut_core.reload.start import PINNED, Start, as_draft, read_version, recorded_catalog, texts_of
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock
from torghut_core.trading.engine import Engine

CODE_POLL_MS = 250
"""Milliseconds between two checks whether the plugin folders are due to be read, whatever their watcher reports."""

PLAN_STOP_S = 3.0
"""How long the end of a run waits for a plan that is under way, seconds."""


class Follower:
    """Keeps what trades in step with the catalog's files and the plugins' code.

    Parameters
    ----------
    path : the catalog: a file, or a folder of them.
    start : what the run has started with.
    reloader, engine, audit : of the run.
    commit : makes durable what was recorded.
    folders : plugin folders, which are watched; other plugins are checked every `reload_s`.
    reload_s : seconds between two reads of files and code that do not wait for a watcher.
    stalled_s : seconds after which a plan that is not made is reported.
    clock : where it asks for the time.

    Attributes
    ----------
    is_pinned : rolled back, until the content of the catalog's files changes.
    """

    def __init__(
        self,
        path: Path,
        start: Start,
        reloader: Reloader,
        engine: Engine,
        audit: AuditStore,
        *,
        commit: Callable[[], None],
        folders: Sequence[Path],
        reload_s: float,
        stalled_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.is_pinned = start.is_pinned
        self._path = path
        self._version = start.version
        self._draft = start.draft
        self._refused = start.refused
        self._reloader = reloader
        self._engine = engine
        self._audit = audit
        self._commit = commit
        self._folders = folders
        self._reload_s = reload_s
        self._stalled_s = stalled_s
        self._clock = clock
        self._watch = CatalogWatch(path, poll_seconds=reload_s)
        self._lock = asyncio.Lock()
        self._planning: asyncio.Future[Plan] | None = None
        self._quarantined: dict[str, str] = {}

    @property
    def is_refused(self) -> bool:
        """Whether the catalog's files are wrong as a whole, so that an earlier generation trades."""
        return self._refused is not None or self._reloader.status.outcome is ReloadOutcome.REFUSED

    @property
    def is_polling(self) -> bool:
        """Whether the watcher of the catalog's files does not work, so that changes are seen late."""
        return self._watch.is_polling

    async def follow_catalog(self) -> None:
        """Apply the catalog's files whenever their content changes."""
        async with aclosing(self._watch.versions()) as versions:
            async for version in versions:
                if str(version) != str(self._version):
                    self._version = version
                    await self._apply_files("watch")

    async def follow_code(self) -> None:
        """Apply changed plugin code: at once in plugin folders, every `reload_s` in any case."""
        async with aclosing(self._code_changes()) as changes:
            async for _ in changes:
                await self._apply("plugins", releases=False, is_quiet=True)

    async def follow_engine(self) -> None:
        """Act on what the engine found: go back to the old code of what failed, apply what waited for a flat position."""
        if self._engine.reverted:
            self._reloader.reject_reverted()
            await self._apply("torghut", releases=False)
        elif self._reloader.can_resume:
            await self._apply(self._reloader.status.actor, releases=False)

    def record_quarantine(self) -> None:
        """Write down which strategies have come into quarantine, and which have left it."""
        known, self._quarantined = self._quarantined, self._engine.roster.quarantined
        for name in sorted(known.keys() | self._quarantined.keys()):
            reason = self._quarantined.get(name)
            if known.get(name) != reason:
                if reason is None:
                    logs.warning("strategy released from quarantine", strategy_id=name)
                self._audit.record_control(f"quarantine.{name}", reason, "torghut")
                self._commit()

    def forget_quarantine(self) -> None:
        """Take none as written down: what was recorded until now was dropped."""
        self._quarantined = {}

    async def finish(self) -> None:
        """Wait for a plan that is under way: it may be reading from a store that is about to be closed."""
        if self._planning is not None:
            await asyncio.wait([self._planning], timeout=PLAN_STOP_S)

    # What an operator asks for; in the loop's thread.

    async def reload(self, actor: str) -> dict[str, Any]:
        """Read the catalog again, apply it, and release quarantined strategies."""
        self._version = await asyncio.to_thread(read_version, self._path)
        await self._apply_files(actor)
        return self._result()

    async def roll_back(self, number: int, actor: str) -> dict[str, Any]:
        """Trade an earlier generation again, until the catalog's files change.

        Raises
        ------
        NotFoundError : there is no such generation.
        """
        catalog = recorded_catalog(self._audit, number)
        if catalog is None:
            raise NotFoundError(f"there is no generation {number} (see `torghut catalog status`)")
        self._draft, self._refused = as_draft(catalog), None
        await self._apply(actor, releases=True)
        self._pin(number, actor)
        return self._result()

    def _result(self) -> dict[str, Any]:
        status = self._reloader.status
        return {
            "generation": self._engine.generation.number,
            "outcome": status.outcome,
            "problems": list(status.problems),
        }

    def _pin(self, number: int | None, actor: str) -> None:
        """Keep a generation that was rolled back to while the content of the files stays the same; None keeps none."""
        if number is not None and not isinstance(self._version, CatalogError):
            pin = {"generation": number, "content": content_digest(self._version)}
        elif self.is_pinned:
            pin = None
        else:
            return
        self.is_pinned = pin is not None
        self._audit.record_control(PINNED, pin, actor)
        self._commit()

    async def _apply_files(self, actor: str) -> None:
        """Apply what the catalog's files hold."""
        self._pin(None, actor)
        try:
            self._draft = await asyncio.to_thread(load_draft, texts_of(self._version))
        except CatalogError as error:
            self._refused = error
            self._reloader.refuse(error)
            return
        self._refused = None
        await self._apply(actor, releases=True)

    async def _apply(self, actor: str, *, releases: bool, is_quiet: bool = False) -> None:
        """Plan and swap, until a plan still holds when it is made. `is_quiet`: where nothing differs, report nothing."""
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
        problems = plan.problems if refused is None else [str(problem) for problem in refused.problems]
        if is_quiet and is_same and problems == reloader.status.problems:
            return True
        if not reloader.apply(plan, actor):
            return False
        self.record_quarantine()
        if refused is not None:  # the files are as wrong as they were, whatever else was applied
            reloader.refuse(refused)
        return True

    async def _planned(self, planning: asyncio.Future[Plan]) -> Plan:
        """The plan, once it is made; report one that hangs, which no other can overtake."""
        done, _ = await asyncio.wait([planning], timeout=self._stalled_s)
        if not done:
            self._reloader.end()
            message = f"the next generation is not made after {self._stalled_s:g} s: a plugin hangs when it is imported or made"
            self._reloader.refuse(CatalogError([self._problem_of(message, "fix it, and start torghut anew")]))
        try:
            return await asyncio.shield(planning)
        except CatalogError:
            raise
        except Exception as error:  # whatever it is, the generation that trades is not affected
            logs.error("the next generation cannot be made", error=reason_of(error), exc_info=error)
            message = f"the next generation cannot be made: {reason_of(error)}"
            raise CatalogError([self._problem_of(message, "see the log")]) from error

    def _problem_of(self, message: str, hint: str) -> Problem:
        return Problem(str(self._path), 0, 0, "", message, hint)

    async def _code_changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever code may have changed; one watch for all of it, so that no change falls between two."""
        from watchfiles import awatch

        seconds = self._reload_s
        due = 0.0  # at once: what changed before the watch began was reported by none
        while True:
            folders = [folder for folder in self._folders if folder.is_dir()]
            if folders:
                watch = awatch(*folders, debounce=100, rust_timeout=CODE_POLL_MS, yield_on_timeout=True)
                try:
                    async with aclosing(watch) as changes:
                        async for found in changes:
                            if found or self._clock.monotonic() > due:
                                yield
                                due = self._clock.monotonic() + seconds
                except (OSError, RuntimeError) as error:  # of the watcher; the folders are read all the same
                    logs.warning("plugin watcher failed, polling", reason=reason_of(error), seconds=seconds)
            await asyncio.sleep(seconds)
            yield
