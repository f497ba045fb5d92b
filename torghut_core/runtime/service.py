"""A pipeline without a broker as a process: `torghut forward` and `torghut ta`.

It has probes and metrics of its own, ends with SIGTERM, and needs no audit database: nothing in it trades.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Protocol

from torghut_core import catalog as catalogs
from torghut_core.admin.auth import parse_tokens
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.server import AdminServer
from torghut_core.concurrency import DaemonThreads
from torghut_core.errors import CatalogError
from torghut_core.generation import Generation, build
from torghut_core.installation.open import connection_of, load_plugins, open_signals, universe_of
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.forwarder import Forwarder
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.ports import Closed, Metric, Sink, Source
from torghut_core.signals.guardrails import Guardrails
from torghut_core.telemetry import logs

STOP_SECONDS = 10.0
"""How long a process that is told to stop tries to make durable what it has."""


class Part(Protocol):
    """What tells of itself in the probes."""

    def gates(self) -> Mapping[str, Closed | None]:
        """By name, why it makes no progress."""
        ...

    def metrics(self) -> Mapping[str, Metric]:
        """Numbers by name."""
        ...


class Service:
    """One pipeline of a catalog, from its start to SIGTERM or the end of its source.

    Parameters
    ----------
    catalog : catalog file or folder.
    state : directory of this process, which no other may use.
    pipeline : name in the catalog.
    host, port : where its probes listen; port 0 takes any.
    settings : of the environment where None.
    """

    def __init__(
        self,
        catalog: Path,
        state: Path,
        pipeline: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or load_settings()
        self.pipeline = pipeline
        self._catalog = catalogs.load(catalogs.read(catalog))
        self._state = StateDirectory(state)
        self._server = AdminServer(
            self,
            is_probed_only=True,
            state_dir=state,
            host=host,
            port=port,
            tokens=parse_tokens(self.settings.admin_tokens),
            hosts=self.settings.admin_hosts.replace(",", " ").split(),
        )
        self._stops = 0
        self._guard: Guardrails | None = None

    def execute(self, on_start: Callable[[str], None] = lambda _url: None) -> None:
        """Work until the source ends or the process is told to stop; then make everything durable and close.

        `on_start` is called with the address of the probes once they listen.

        Raises
        ------
        TorghutError : catalog, plugins, stores or settings do not let it start, or it broke for good.
        """
        self._check()
        host = load_plugins(self.settings, self._catalog.plugins.allow)
        generation = build(self._catalog, host, pipeline=self.pipeline)
        source = generation.source
        assert source is not None
        source.check()
        with ExitStack() as stack:
            stack.enter_context(self._state)
            self._server.listen()
            stack.callback(self._server.stop)
            for number in (signal.SIGTERM, signal.SIGINT):
                stack.callback(signal.signal, number, signal.getsignal(number))
            asyncio.run(self._live(generation, source, stack, on_start))

    def _check(self) -> None:
        """Refuse a pipeline of which nothing, or not all, would be done here."""
        parts, marks = self._catalog.pipelines.get(self.pipeline), self._catalog.marks
        key = f"pipelines.{self.pipeline}"
        if parts is not None and parts.broker is not None:
            told = "gets no orders from `torghut forward` and `torghut ta`"
            raise CatalogError([marks.problem(f"{key}.broker", told, "take it out, or trade with `torghut run`")])
        if parts is not None and not parts.stages and parts.sink is None:
            hint = "add `sink: {use: kafka}` to forward, or stages to derive"
            raise CatalogError([marks.problem(key, "has neither stages nor a sink: nothing to do", hint)])

    async def _live(
        self, generation: Generation, source: Source, stack: ExitStack, on_start: Callable[[str], None]
    ) -> None:
        self._events = asyncio.get_running_loop()
        self._events.set_default_executor(DaemonThreads())
        self._over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        settings, sink = self.settings, generation.sink
        symbols = {symbol for each in self._catalog.strategies for symbol in each.symbols}
        universe = universe_of(symbols, self._state)
        connection = connection_of(settings, self._state, universe)
        self._work: Forwarder | Deriver = self._worker(generation, source, sink, stack)
        parts: list[Part | None] = [universe, source, sink, self._guard, self._work]
        self._parts = [part for part in parts if part is not None]
        self._readiness = Readiness(
            *(part.gates for part in self._parts),
            kill_after_s=settings.health_not_ready_kill_after_ms / 1000,
        )
        universe.start()
        stack.callback(universe.close)
        stack.callback(source.close)
        source.connect(connection)
        if sink is not None:
            stack.callback(sink.close)
            sink.connect(connection)
        self._server.start()
        on_start(self._server.url)
        logs.info("working", pipeline=self.pipeline, probes=self._server.url)
        work = asyncio.create_task(self._work.run())
        others = [asyncio.create_task(task) for task in (self._over.wait(), self._look())]
        try:
            await asyncio.wait([work, *others], return_when=asyncio.FIRST_COMPLETED)
            if self._over.is_set():
                self._work.stop()
                await asyncio.wait([work], timeout=STOP_SECONDS)
                if not work.done():
                    logs.warning(
                        "not all was made durable before the end: it is done again at the next start",
                        **{name: reason for name, reason in self.gates().items() if reason},
                    )
        finally:
            for task in (work, *others):
                task.cancel()
            ended = await asyncio.gather(work, *others, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    def _worker(
        self, generation: Generation, source: Source, sink: Sink | None, stack: ExitStack
    ) -> Forwarder | Deriver:
        settings = self.settings
        snapshots = SnapshotStore(settings.ta_state_url or str(self._state.path / "snapshots"))
        if not generation.stages:
            assert sink is not None
            return Forwarder(source, sink, snapshots, name=self.pipeline)
        store = open_signals(settings, self._state, is_replay=False)
        stack.callback(store.close)
        self._guard = Guardrails(
            store,
            min_free_bytes=settings.ta_clickhouse_min_free_bytes,
            resume_free_bytes=settings.ta_clickhouse_resume_free_bytes,
            max_age_s=settings.ta_freshness_max_seconds,
        )
        self._guard.check()
        return Deriver(
            source,
            generation.stages,
            store,
            sink,
            snapshots,
            name=self.pipeline,
            may_write=lambda: self._guard is None or self._guard.may_write,
            checkpoint_s=settings.ta_checkpoint_ms / 1000,
            status_s=settings.ta_status_ms / 1000,
        )

    async def _look(self) -> None:
        """Look at the gates each second, so that their history is known also when nobody asks."""
        while True:
            self._readiness.look()
            if self._guard is not None:
                await asyncio.to_thread(self._guard.check)
            await asyncio.sleep(1)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """SIGTERM: make durable what was done, and close; the second time, end at once."""
        self._stops += 1
        if self._stops > 1:
            os._exit(128 + number)
        self._events.call_soon_threadsafe(self._over.set)

    @property
    def farewell(self) -> str:
        """What came of it, in a line."""
        why = "stopped" if self._stops else "the source has ended"
        if isinstance(self._work, Forwarder):
            counts = ", ".join(f"{count:,} {channel}" for channel, count in sorted(self._work.forwarded.items()))
            return f"{why}: forwarded {counts or 'nothing'}"
        totals = self._work.totals
        return (
            f"{why}: {totals.events:,} events ({totals.late:,} late, {totals.duplicates:,} twice), "
            f"{totals.microbars:,} microbars, {totals.signals:,} signals"
        )

    # What the probes ask; from threads of theirs.

    def health(self) -> list[str]:
        """See `admin.probes.Probed`."""
        return self._readiness.health()

    def readiness(self) -> list[str]:
        """See `admin.probes.Probed`."""
        return ["stopping"] if self._stops else self._readiness.reasons()

    def gates(self) -> dict[str, str]:
        """See `admin.probes.Probed`."""
        return {name: "" if gate is None else gate.reason for name, gate in self._readiness.look().items()}

    def metrics(self) -> Mapping[str, Metric]:
        """See `admin.probes.Probed`."""
        numbers: dict[str, Metric] = {}
        for part in self._parts:
            numbers |= part.metrics()
        return numbers | self._readiness.metrics()
