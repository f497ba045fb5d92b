"""The loop: takes batches from the source, runs the stages, trades, records. One loop for replay and live."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from torghut_core.boundary import SourceIterator, bound_method, call_plugin, without_event_loop
from torghut_core.generation import Generation
from torghut_core.model.market import Batch
from torghut_core.plugin_host.process_state import ProcessState
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.ports import Journal, SignalStore
from torghut_core.trading.engine import Engine

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
        last: Batch | None = None
        with _rare_collections(), ProcessState(self._plugin_names) as process:
            name = self._generation.name_of(source)
            async for rest in SourceIterator(name, lambda: source.batches(batch_size)):
                if last is None:
                    self.began_at = int(rest.now[0])
                batch = rest
                while waiting and waiting[0][0] < batch.stop:
                    at, call = waiting.popleft()
                    if at > batch.start:
                        before, batch = batch.split(at)
                        self.step(before)
                    call()
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
        stages = self._generation.stages
        with without_event_loop():
            wait = max(
                (call_plugin(self._generation.name_of(stage), bound_method(stage, "drain_ns")) for stage in stages),
                default=0,
            )
        return Batch.of(last.symbols, last.stop, np.array([last.now[-1] + wait], np.int64))


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
