"""The loop: takes batches from the source, runs the stages, trades, records. One loop for replay and live."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from torghut_core.boundary import SourceIterator, bound_method, call_plugin, without_event_loop
from torghut_core.generation import Generation
from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.market import Batch
from torghut_core.plugin_host.process_state import ProcessState
from torghut_core.plugin_host.running_plugin import LOOP, NO_PLUGIN, RECORD, label
from torghut_core.ports import Journal, SignalStore
from torghut_core.trading.engine import Engine
from torghut_core.trading.ex_dates import dated

BATCH_SIZE = 65_536
"""Events per batch by default. Any size gives the same result; this one is fast."""

TURN = 0.005
"""After so many seconds other tasks of the event loop get a turn, also where the source never waits."""


class Loop:
    """Runs one generation over its source.

    Parameters
    ----------
    generation : source and stages.
    engine : trades on each batch.
    audit, signals : where everything is recorded.
    actions : splits and dividends that are applied on their ex dates.
    around : makes the context manager that each batch is traded in, such as a watchdog's.
    commit : makes durable what a batch led to, then sends its orders; `Journal.commit` where None.

    Attributes
    ----------
    seconds : time from asking for the first batch to the last row stored.
    began_at, ended_at : the loop's time at the first and the last event, ns; 0 before the first.
    """

    def __init__(
        self,
        generation: Generation,
        engine: Engine,
        audit: Journal,
        signals: SignalStore,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        commit: Callable[[], None] | None = None,
        actions: Iterable[CorporateAction] = (),
    ) -> None:
        self.seconds = 0.0
        self.began_at = 0
        self.ended_at = 0
        self._generation = generation
        self._engine = engine
        self._audit = audit
        self._signals = signals
        self._around = around
        self._commit = commit or audit.commit
        source = generation.source
        self._stages = [(generation.name_of(stage), bound_method(stage, "update")) for stage in generation.stages]
        self._is_derived_here = source is None or not source.is_stored
        self._actions = deque(dated(actions, generation.instruments))

    async def run(
        self,
        batch_size: int = BATCH_SIZE,
        on_progress: Callable[[int], None] = lambda _events: None,
        stops: Sequence[tuple[int, Callable[[], None]]] = (),
    ) -> None:
        """Trade until the source ends; then close the windows that are complete, and store everything.

        Parameters
        ----------
        on_progress : called after each batch with the number of events so far.
        stops : positions in the stream, rising, and what is called before the event there; after the last event for later ones.

        Raises
        ------
        TapeError, StateError : from the source and the stores; what was committed is kept and readable.
        PluginError : source, stage or simulated broker raised something else: nothing can be traded without it.
        """
        source = self._generation.source
        if source is None:
            raise ValueError("a generation without a source cannot run")
        began = time.perf_counter()
        turn = began
        waiting = deque(stops)
        actions = self._actions
        last: Batch | None = None
        with _rare_collections(), ProcessState(self._plugin_names) as process:
            name = self._generation.name_of(source)
            async for rest in SourceIterator(name, lambda: source.batches(batch_size)):
                if last is None:
                    self.began_at = int(rest.now[0])
                    while actions and actions[0].at < self.began_at:
                        actions.popleft()
                    self._engine.expect_splits({each.symbol for _, each in actions if each.is_split})
                for batch in self._parts(rest, waiting):
                    self.step(batch)
                    process.restore()
                    last = batch
                    self.ended_at = int(batch.now[-1])
                on_progress(self._engine.totals.events)
                if time.perf_counter() - turn > TURN:
                    await asyncio.sleep(0)
                    turn = time.perf_counter()
            for _, call in waiting:
                call()
            if last is not None:
                self.step(self._drain(last))
            with without_event_loop(), self._around():
                self._engine.roster.end()
        self._signals.flush()
        self._commit()
        self.seconds = time.perf_counter() - began

    def _parts(self, batch: Batch, stops: deque[tuple[int, Callable[[], None]]]) -> Iterator[Batch]:
        """Yield a batch in parts, and call in between what is to be called there, and apply corporate actions.

        An action takes effect before the first event that became known after its ex date began. Right before it come clock ticks,
        at which every bar of before is closed, and shown.
        """
        actions = self._actions
        while True:
            stop = stops[0][0] if stops else batch.stop
            takes_effect = batch.stop
            if actions:
                takes_effect = batch.start + int(batch.now.searchsorted(actions[0].at, "right"))
            if min(stop, takes_effect) >= batch.stop:
                break
            if min(stop, takes_effect) > batch.start:
                before, batch = batch.split(min(stop, takes_effect))
                yield before
            if takes_effect > batch.start:
                stops.popleft()[1]()
                continue
            at = actions[0].at
            wait = self._drain_ns()
            ticks = np.array([at, at + wait, at + wait + 1], np.int64)
            yield Batch.of(batch.symbols, batch.start, np.minimum(ticks, batch.now[0]))
            self._apply_actions(at)
        yield batch

    def _apply_actions(self, at: int) -> None:
        """Apply the corporate actions that take effect at a time, ns."""
        due = []
        while self._actions and self._actions[0].at == at:
            due.append(self._actions.popleft().action)
        with without_event_loop(), self._around():
            for stage in self._generation.stages:
                name = self._generation.name_of(stage)
                rescale = bound_method(stage, "rescale")
                RECORD.memory[LOOP] = label("stage", name)
                for action in due:
                    if action.is_split:
                        call_plugin(name, rescale, action.symbol, action.factor)
            RECORD.memory[LOOP] = NO_PLUGIN
            self._engine.apply_actions(due, at)

    def _plugin_names(self) -> str:
        """Whoever may have changed the process."""
        return f"one of {', '.join(sorted({name for _, name, _ in self._engine.generation.made}))}"

    def step(self, batch: Batch) -> None:
        """Take one batch through the stages and the engine, commit what it led to, and store its rows."""
        with without_event_loop():
            for name, update in self._stages:
                RECORD.memory[LOOP] = label("stage", name)
                batch = call_plugin(name, update, batch)
            with self._around():
                self._engine.step(batch)
        self._commit()
        if self._is_derived_here:  # after the orders are sent: the writer's thread competes for the interpreter
            self._signals.write(batch)

    def _drain(self, last: Batch) -> Batch:
        """Make a clock tick after the last event, at which every window that is complete comes out."""
        return Batch.of(last.symbols, last.stop, np.array([last.now[-1] + self._drain_ns()], np.int64))

    def _drain_ns(self) -> int:
        """How far the time has to advance until every window that has ended is complete, ns."""
        stages = self._generation.stages
        with without_event_loop():
            return max(
                (call_plugin(self._generation.name_of(stage), bound_method(stage, "drain_ns")) for stage in stages),
                default=0,
            )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Run the cycle collector rarely: a row makes many objects, and hardly ever a cycle."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
