"""A pipeline without a broker as a process: `torghut forward` and `torghut ta`.

It has probes and metrics of its own, ends with SIGTERM, and needs no audit database: nothing in it trades.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torghut_core import catalog as catalogs
from torghut_core.admin.api_process import Routes
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.server import AdminServer
from torghut_core.catalog import Catalog
from torghut_core.errors import CatalogError
from torghut_core.generation import build
from torghut_core.installation.known_settings import check_environment
from torghut_core.installation.open import load_plugins, open_signals, source_connection
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.installation.universe import UniverseSettings, open_universe
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.forwarder import Forwarder
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.market_data.universe import ListedUniverse
from torghut_core.ports import Closed, Connection, Sink, Source
from torghut_core.runtime.life import Life, admin_server, run_until_first_ends
from torghut_core.signals import Guardrails, SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Measured, Metric, MetricSpec

STOP_SECONDS = 10.0
"""Seconds that a process has, once it is stopped, to store what it has read."""


class Part(Measured, Protocol):
    """A part of a service whose checks and numbers the probes show."""

    def gates(self) -> Mapping[str, Closed | None]:
        """By name, why it makes no progress."""
        ...


@contextmanager
def open_service(
    catalog: Path,
    state: Path,
    pipeline: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    settings: Settings | None = None,
) -> Iterator[Service]:
    """Make a service of one pipeline of a catalog, and close all that it opened.

    Parameters
    ----------
    catalog : catalog file or folder.
    state : directory of this process, which no other may use.
    pipeline : name in the catalog.
    host, port : where its probes listen; port 0 takes any.
    settings : of the environment where None.

    Raises
    ------
    TorghutError : catalog, plugins, stores or settings do not let it start.
    """
    settings = settings or load_settings()
    parsed = catalogs.load(catalogs.read(catalog))
    state = state.absolute()  # a plugin may change the working folder
    directory = StateDirectory(state)
    server = admin_server(settings, state, host, port)
    _check(parsed, pipeline)
    plugins = load_plugins(settings, parsed.plugins.allow)
    check_environment(plugins)
    generation = build(parsed, plugins, pipeline=pipeline)
    source, sink = generation.source, generation.sink
    assert source is not None
    source.check()
    with ExitStack() as stack:
        stack.enter_context(directory)
        server.listen()
        stack.callback(server.stop)
        life = stack.enter_context(Life())
        stack.enter_context(life.signals())
        universe = open_universe(UniverseSettings.read(), parsed.symbols, directory.path)
        snapshots = SnapshotStore(settings.ta_state_url or str(directory.path / "snapshots"))
        work: Forwarder | Deriver
        if generation.stages:
            store = open_signals(settings, directory, is_replay=False)
            stack.callback(store.close)
            guard = _guard(store, settings)
            guard.check()
            work = Deriver(
                source,
                generation.stages,
                store,
                sink,
                snapshots,
                name=pipeline,
                may_write=lambda: guard.may_write,
                checkpoint_s=settings.ta_checkpoint_ms / 1000,
                status_s=settings.ta_status_ms / 1000,
            )
            guards = [guard]
        else:
            assert sink is not None
            work, guards = Forwarder(source, sink, snapshots, name=pipeline), []
        sinks = [] if sink is None else [sink]
        parts: list[Part] = [universe, source, *sinks, *guards, work]
        readiness = Readiness(
            *(part.gates for part in parts), kill_after_s=settings.health_not_ready_kill_after_ms / 1000
        )
        stack.callback(universe.close)
        stack.callback(source.close)
        for each in sinks:
            stack.callback(each.close)
        yield Service(
            pipeline=pipeline,
            life=life,
            server=server,
            connection=source_connection(settings, directory, universe),
            universe=universe,
            source=source,
            sinks=sinks,
            guards=guards,
            work=work,
            parts=parts,
            checks=readiness,
        )


@dataclass(frozen=True, kw_only=True)
class Service:
    """One pipeline of a catalog, from its start to SIGTERM or the end of its source; `open_service` makes it.

    Attributes
    ----------
    pipeline : its name in the catalog.
    life, server : the process, and its probes.
    connection, universe, source, sinks : where data comes from and goes to; connected by `execute`.
    guards : watch the signal store of a pipeline that derives; none in one that forwards.
    work : moves or derives the data.
    parts, checks : whose numbers `metrics` gives, and whose gates say whether it can make progress.
    """

    pipeline: str
    life: Life
    server: AdminServer
    connection: Connection
    universe: ListedUniverse
    source: Source
    sinks: list[Sink]
    guards: list[Guardrails]
    work: Forwarder | Deriver
    parts: list[Part]
    checks: Readiness

    def execute(self, on_start: Callable[[str], None] = lambda _url: None) -> None:
        """Work until the source ends or the process is stopped, and store everything.

        `on_start` is called with the address of the probes once they listen.

        Raises
        ------
        TorghutError : source or sink cannot be connected, or it broke for good.
        """
        self.life.run(self._live(on_start))

    async def _live(self, on_start: Callable[[str], None]) -> None:
        self.universe.start()
        self.source.connect(self.connection)
        for sink in self.sinks:
            sink.connect(self.connection)
        self.server.start(self, Routes.PROBES)
        on_start(self.server.url)
        logs.info("working", pipeline=self.pipeline, probes=self.server.url)
        await run_until_first_ends(self.work.run(), self._finish(), self._poll_checks())

    async def _finish(self) -> None:
        """Wait for the signal to stop, then for the work to make durable what it has."""
        await self.life.stopping()
        self.work.stop()
        await asyncio.sleep(STOP_SECONDS)
        logs.warning(
            "not all was made durable before the end: it is done again at the next start",
            **{name: reason for name, reason in self.gates().items() if reason},
        )

    async def _poll_checks(self) -> None:
        """Poll the checks each second, so that their history is known also without a request."""
        while True:
            self.checks.poll()
            for guard in self.guards:
                await asyncio.to_thread(guard.check)
            await asyncio.sleep(1)

    @property
    def summary(self) -> str:
        """What it did, in a line."""
        why = "stopped" if self.life.is_stopping else "the source has ended"
        if isinstance(self.work, Forwarder):
            counts = ", ".join(f"{count:,} {channel}" for channel, count in sorted(self.work.forwarded.items()))
            return f"{why}: forwarded {counts or 'nothing'}"
        totals = self.work.totals
        return (
            f"{why}: {totals.events:,} events ({totals.late:,} late, {totals.duplicates:,} twice), "
            f"{totals.microbars:,} microbars, {totals.signals:,} signals"
        )

    # What the probes ask; from threads of the admin server.

    def health(self) -> list[str]:
        """See `admin.routes.probes.Probed`."""
        return self.checks.health()

    def readiness(self) -> list[str]:
        """See `admin.routes.probes.Probed`."""
        return ["stopping"] if self.life.is_stopping else self.checks.reasons()

    def gates(self) -> dict[str, str]:
        """See `admin.routes.probes.Probed`."""
        return {name: "" if gate is None else gate.reason for name, gate in self.checks.poll().items()}

    def error_class(self) -> str:
        """See `admin.routes.probes.Probed`."""
        return self.checks.error_class()

    @property
    def _measured(self) -> list[Measured]:
        return [*self.parts, self.checks, self.server]

    @property
    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """See `admin.routes.probes.Probed`."""
        return tuple(spec for each in self._measured for spec in each.metric_specs)

    def metrics(self) -> Mapping[str, Metric]:
        """See `admin.routes.probes.Probed`."""
        numbers: dict[str, Metric] = {}
        for each in self._measured:
            numbers |= each.metrics()
        return numbers


def _guard(store: SignalDatabase, settings: Settings) -> Guardrails:
    return Guardrails(
        store,
        min_free_bytes=settings.ta_clickhouse_min_free_bytes,
        resume_free_bytes=settings.ta_clickhouse_resume_free_bytes,
        max_age_s=settings.ta_freshness_max_seconds,
    )


def _check(catalog: Catalog, pipeline: str) -> None:
    """Refuse a pipeline of which nothing, or not all, would be done here."""
    parts, marks = catalog.pipelines.get(pipeline), catalog.marks
    key = f"pipelines.{pipeline}"
    if parts is not None and parts.broker is not None:
        problem = "gets no orders from `torghut forward` and `torghut ta`"
        raise CatalogError([marks.problem(f"{key}.broker", problem, "take it out, or trade with `torghut run`")])
    if parts is not None and not parts.stages and parts.sink is None:
        hint = "add `sink: {use: kafka}` to forward, or stages to derive"
        raise CatalogError([marks.problem(key, "has neither stages nor a sink: nothing to do", hint)])
