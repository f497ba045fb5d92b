"""Keeps the states of stages, features and strategies while `run` trades, so that a process that was killed resumes as if it had not been.

A snapshot is taken between two batches, in the loop's thread, with the cursor of the source at the same moment; a thread of
its own writes it once the signal store has the rows that are in it. The next process reads the source from that cursor:
each row after the snapshot comes once, and each row before it is in the states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torghut_core.boundary import from_plugins
from torghut_core.errors import CatalogError, SettingsError, StateError, reason_of
from torghut_core.feature_graph import FeatureGraph, FeaturePlan
from torghut_core.generation import Generation, InstanceKey, load_states, save_states
from torghut_core.market_data.snapshots import Snapshot, SnapshotStore, pack, unpack
from torghut_core.ports import Source
from torghut_core.reload.plan import Moment, ShownRows
from torghut_core.reload.warm_up import NOTHING, fill_gap, warm_up
from torghut_core.signals import SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, SYSTEM_CLOCK, Clock, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.series import TradedSeries

ENGINE = "engine"
"""Where the engine's own state is among those of the plugins."""

VERSION = 1
"""Of the engine's own state: raised when its meaning changes, so that no other version is read."""

FOLDER = "snapshots"
"""Where snapshots are in the state directory."""

CLOCKS_DIFFER = MINUTE
"""Nanoseconds that a snapshot may be ahead of this machine's clock while both are right."""


class StateKeeper:
    """Keeps the states of a run in its state directory, and lets the next one resume from them.

    Parameters
    ----------
    name : of the snapshots: the account's label.
    state : the state directory.
    engine, source, signals : of the run.
    every_s : seconds between two snapshots; 0: none is kept.
    may_keep : whether what was decided so far is written down by this process.
    around : makes the context manager in which plugins give their state: a watchdog's.
    clock : where it asks for the time.

    Attributes
    ----------
    resumed_from : loop time of the snapshot that the states are from, ns; 0 where they began anew.
    """

    def __init__(
        self,
        name: str,
        state: Path,
        engine: Engine,
        source: Source,
        signals: SignalDatabase,
        *,
        every_s: float,
        may_keep: Callable[[], bool],
        around: Callable[[], AbstractContextManager[None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.resumed_from = 0
        self._name = name
        self._engine = engine
        self._source = source
        self._stages = {place: made for place, made in engine.generation.made.items() if place[0] == "stage"}
        self._use = engine.generation.name_of(source)
        self._signals = signals
        self._every_s = every_s
        self._may_keep = may_keep
        self._around = around
        self._clock = clock
        self._due = clock.monotonic() + every_s
        self._logged: set[str] = set()
        """Problems that were logged: each is logged once."""
        self._writer = ThreadPoolExecutor(1, "states")
        self._written: Future[None] | None = None
        self._store: SnapshotStore | None = None
        try:
            if every_s and source.gates():  # a tape starts from its beginning again, and all is derived anew
                self._store = SnapshotStore(str(state / FOLDER))
        except SettingsError as error:
            logs.error("no states are kept: a restart begins anew", error=str(error))

    # While it trades.

    def keep(self) -> None:
        """Take a snapshot where it is time for one; in the loop's thread, after a batch was stored."""
        if self._store is None or self._clock.monotonic() < self._due:
            return
        if not (self._written is None or self._written.done()) or not self._may_keep():
            return
        self._due = self._clock.monotonic() + self._every_s
        if (taken := self._take()) is not None:
            self._written = self._writer.submit(self._write, self._store, taken)

    def finish(self) -> None:
        """Keep the last states, once everything that was decided is written down; in the loop's thread."""
        if self._store is not None and self._may_keep() and (taken := self._take()) is not None:
            self._writer.submit(self._write, self._store, taken)
        self.close()

    def close(self) -> None:
        """Wait until what was taken is written."""
        self._writer.shutdown()

    def _take(self) -> Snapshot | None:
        engine, generation = self._engine, self._engine.generation
        if not engine.market_time:
            return None
        try:
            with self._around():
                own = engine.save(self._not_kept)
                but = {each.name for each in generation.strategies} - own["strategies"].keys()
                states = save_states({**generation.made, **self._stages}, but, self._not_kept)
            states.append((ENGINE, VERSION, {"state": pack(own)}))
            return Snapshot(states, {"use": self._use, "source": self._source.cursor()}, engine.market_time)
        except from_plugins() as error:  # the source is a plugin too
            self._log_once("the states are not kept", reason_of(error))
            return None

    def _write(self, store: SnapshotStore, snapshot: Snapshot) -> None:
        """Write a snapshot, after the rows that its states have seen; in a thread of its own."""
        try:
            self._signals.flush()
            store.save(self._name, snapshot)
            self._logged.discard("the states are not kept")
        except from_plugins() as error:  # the cursor is a plugin's, and may be anything
            self._log_once("the states are not kept", reason_of(error))

    def _not_kept(self, plugin: str, error: BaseException) -> None:
        self._log_once(f"the state of {plugin} is not kept: after a restart it begins anew", reason_of(error))

    def _log_once(self, what: str, reason: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            logs.error(what, error=reason)

    # At a start.

    def resume(self, traded: Mapping[str, Any]) -> None:
        """Resume where the process before ended; in the loop's thread, before the first batch.

        What is new, or was made from something else, begins anew and is shown the past of the signal store. Where the source
        has no cursor, what came between the snapshot and now is taken from that store too.

        Parameters
        ----------
        traded : the cursor of the account, see `Committer`; empty where it was never traded.
        """
        if not self._source.gates():
            return
        snapshot, loaded = self._load(), set[InstanceKey]()
        if snapshot is None:
            own, cursor = NO_STATE, traded.get("source")
            at = traded.get("now", 0) if cursor else self._clock.wall()
        else:
            cursor = snapshot.cursor["source"] if snapshot.cursor["use"] == self._use else None
            own, loaded = self._restore(snapshot, with_stages=bool(cursor))
            at = snapshot.at
        if cursor:
            self._source.seek(cursor)
        last, before = _last_rows(own), self._graph(own)
        moment = self._moment(own, before.plan, at)
        shown, graph = self._warm_up(moment, last, before)
        if snapshot is not None:
            if not cursor:
                shown = self._fill_gap(graph, replace(moment, now=self._clock.wall()), last, shown)
            self.resumed_from = at
            logs.info("stages, features and strategies resume", at=format_timestamp(at))
            if anew := _anew(self._engine.generation, loaded):
                logs.warning(
                    "of some there is no state: they begin anew, with the past of the signal store", names=anew
                )
        self._engine.resume(own, graph, shown)

    def _load(self) -> Snapshot | None:
        """The snapshot to resume from; None, and the reason in the log, where there is none."""
        try:
            snapshot = None if self._store is None else self._store.load(self._name)
        except StateError as error:
            logs.warning("no state can be read: strategies and features begin anew", error=str(error))
            return None
        if snapshot is None:
            return None
        if snapshot.at > self._clock.wall() + CLOCKS_DIFFER:
            until = format_timestamp(snapshot.at)
            logs.warning("the states are of the future, so a clock is wrong: all begins anew", at=until)
            return None
        if (ENGINE, VERSION) not in [kept[:2] for kept in snapshot.states]:
            logs.warning("the states are of another version: strategies and features begin anew")
            return None
        return snapshot

    def _restore(self, snapshot: Snapshot, *, with_stages: bool) -> tuple[Mapping[str, Any], set[InstanceKey]]:
        """Give the plugins their states; return the engine's own, and the places of the plugins that have theirs.

        Where the source does not continue at the snapshot a stage would miss what came since: it begins anew.
        """
        states = [each for each in snapshot.states if each[0] != ENGINE and (with_stages or each[2]["kind"] != "stage")]
        loaded = load_states(self._engine.generation.made, states, _begins_anew)
        return _own(snapshot, loaded), loaded

    def _warm_up(
        self, moment: Moment, last: Mapping[tuple[int, str], int], before: FeatureGraph
    ) -> tuple[ShownRows, FeatureGraph]:
        """Show what is new the past; return what was shown, and the generation's features, which resume where they can."""
        generation = self._engine.generation
        try:
            shown, graph = warm_up(generation, moment, (), self._signals, None, last, before)
        except CatalogError as error:
            logs.error("no history to warm up with, strategies and features wait for new rows", error=str(error))
            shown, graph = NOTHING
        if graph is None:
            graph = FeatureGraph(generation.features or FeaturePlan())
            graph.resume(before)
        return shown, graph

    def _graph(self, own: Mapping[str, Any]) -> FeatureGraph:
        """The features that resume, as they were."""
        plan = (self._engine.generation.features or FeaturePlan()).saved_in(own["graph"])
        graph = FeatureGraph(plan)
        if lost := graph.load(own["graph"], _begins_anew):
            graph = FeatureGraph(
                replace(plan, nodes={key: node for key, node in plan.nodes.items() if key not in lost})
            )
            graph.load(own["graph"], _begins_anew)
        return graph

    def _moment(self, own: Mapping[str, Any], features: FeaturePlan, now: int) -> Moment:
        """The loop when the snapshot was taken, as far as it is known again."""
        engine, generation = self._engine, self._engine.generation
        strategies = tuple(each for each in generation.strategies if each.name in own["strategies"])
        running = replace(generation, strategies=strategies, features=features)
        books = engine.books
        return Moment(running, frozenset(), frozenset(), now, books.positions, engine.gateway.last_account)

    def _fill_gap(
        self, graph: FeatureGraph, moment: Moment, last: Mapping[tuple[int, str], int], shown: ShownRows
    ) -> ShownRows:
        """Show what came after the snapshot, as far as the store has it; return all that was shown."""
        try:
            more = fill_gap(self._engine.generation, moment, graph, self._signals, last)
        except StateError as error:
            logs.warning("what came since the states were kept is missing in them", error=str(error))
            return shown
        except from_plugins() as error:  # a strategy may raise anything; it does so again at its next row
            logs.error("a strategy cannot be shown what came since the states were kept", error=reason_of(error))
            return shown
        for name, found in more.items():
            merged = dict(shown.get(name, {}))
            for symbol, (rows, event_ts) in found.items():
                merged[symbol] = merged.get(symbol, (0, 0))[0] + rows, event_ts
            shown = {**shown, name: merged}
        return shown


NO_STATE: Mapping[str, Any] = {
    "now": 0,
    "series": [],
    "prices": [],
    "strategies": {},
    "graph": FeatureGraph(FeaturePlan()).save(),
}
"""What `Engine.save` gives before the first batch."""


def _begins_anew(plugin: str, error: BaseException) -> None:
    logs.warning("a plugin does not take its state, and begins anew", plugin=plugin, error=reason_of(error))


def _own(snapshot: Snapshot, loaded: Collection[InstanceKey]) -> dict[str, Any]:
    """The engine's own state, without that of strategies which begin anew."""
    own: dict[str, Any] = next(unpack(kept["state"]) for name, _, kept in snapshot.states if name == ENGINE)
    names = {name for kind, name, _ in loaded if kind == "strategy"}
    own["strategies"] = {name: each for name, each in own["strategies"].items() if name in names}
    return own


def _last_rows(own: Mapping[str, Any]) -> Mapping[tuple[int, str], int]:
    """By step and symbol, `event_ts` of the last row that is in the states."""
    series = TradedSeries()
    series.load(own["series"])
    return series.last_rows()


def _anew(generation: Generation, loaded: Collection[InstanceKey]) -> list[str]:
    """What has a state to keep, and begins anew."""
    return [
        f"{place[0]} {place[1]}"
        for place in generation.made
        if place[0] in ("stage", "strategy") and place not in loaded
    ]
