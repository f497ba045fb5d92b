"""Looks after the signal store: room on its disks, and how old its newest rows are.

Below `min_free_bytes` writing is paused, before the disk is full and every insert fails; above `resume_free_bytes` it
goes on. The distance between the two keeps it from going to and fro while old rows are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from torghut_core.errors import StateError
from torghut_core.ports import Closed
from torghut_core.signals.failures import Remedy, StoreError
from torghut_core.signals.schema import TABLES
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SECOND

if TYPE_CHECKING:
    from torghut_core.signals.database import SignalDatabase

_MARGIN = 1.25


class Guardrails:
    """Pauses a signal store's writing while a disk has too little room, and says why rows are not what they should be.

    Parameters
    ----------
    store : what is looked after; `pause` and `resume` of it are called.
    min_free_bytes : below so much room writing is paused.
    resume_free_bytes : from so much on it goes on; a quarter more than the minimum where None.
    max_age_s : how old the newest row of each table may be, seconds; None where that is not judged.
    every_s : `check` asks the store no more often than this, seconds.
    wall : the time of day, ns; `clock` : what `every_s` is counted by, seconds.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("clickhouse_guardrails_disk_free_bytes", "Free bytes on the signal store's fullest disk."),
        MetricSpec("clickhouse_guardrails_errors_total", "Failures of the signal store, by class.", "error_class"),
        *(
            MetricSpec(
                f"clickhouse_guardrails_ta_{table}_max_event_ts_seconds", f"Time of the newest {row}, Unix seconds."
            )
            for table, row in (("microbars", "microbar"), ("signals", "signal"))
        ),
        MetricSpec("clickhouse_guardrails_writes_paused", "1 while nothing is written because the disk is full."),
    )

    def __init__(
        self,
        store: SignalDatabase,
        *,
        min_free_bytes: int,
        resume_free_bytes: int | None = None,
        max_age_s: float | None = None,
        every_s: float = 5.0,
        wall: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._min_free = min_free_bytes
        self._resume_free = max(min_free_bytes, resume_free_bytes or int(min_free_bytes * _MARGIN))
        self._max_age_s = max_age_s
        self._every_s = every_s
        self._wall = wall
        self._clock = clock
        self._checking = Lock()
        self._next = clock()
        self._free: int | None = None
        self._is_told = False
        self._newest: dict[str, int | None] = {}
        self._paused: StoreError | None = None
        self._failed: Closed | None = None

    def check(self) -> None:
        """Ask the store, and pause or resume it; may wait, so call it in a thread. Does nothing before it is due.

        A store that does not answer is told by `gates`; what was known of it stands.
        """
        with self._checking:
            if self._clock() < self._next:
                return
            try:
                self._free = self._store.free_bytes()
                self._judge()
                self._newest = {table: self._store.newest_event_ts(table) for table in TABLES}
            except StateError as error:
                error_class = error.error_class if isinstance(error, StoreError) else "other"
                self._failed = Closed(str(error), error_class)
            else:
                self._failed = None
            self._next = self._clock() + self._every_s

    @property
    def may_write(self) -> bool:
        """Whether there is room to write."""
        return self._paused is None

    def gates(self) -> Mapping[str, Closed | None]:
        """``store``: rows can be stored and read; ``freshness``: there are new ones, where that is judged."""
        trouble = self._paused or self._store.trouble
        store = self._failed if trouble is None else Closed(str(trouble), trouble.error_class)
        if self._max_age_s is None:
            return {"store": store}
        return {"store": store, "freshness": self._freshness(self._max_age_s)}

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name; of the disk and the newest rows only what is known."""
        numbers: dict[str, Metric] = {
            "clickhouse_guardrails_writes_paused": float(not self.may_write),
            "clickhouse_guardrails_errors_total": self._store.errors,
        }
        if self._free is not None:
            numbers["clickhouse_guardrails_disk_free_bytes"] = self._free
        for table, newest in self._newest.items():
            if newest is not None:
                numbers[f"clickhouse_guardrails_ta_{table}_max_event_ts_seconds"] = newest / SECOND
        return numbers

    def _judge(self) -> None:
        free = self._free
        if free is None:
            if not self._is_told:
                logs.warning(
                    "what room the signal store has is not known: writing is not paused for want of it (its tables are of "
                    "an engine that does not say on which disks they are, such as Distributed; watch those yourself)"
                )
            self._is_told = True
            return
        if self._paused is None and free < self._min_free:
            self._paused = StoreError(
                f"writing to the signal store is paused: {free:,} bytes are free, less than {self._min_free:,} "
                f"(free disk space, or shorten TA_SIGNALS_TTL_DAYS or TA_MICROBARS_TTL_DAYS with "
                f"TA_CLICKHOUSE_APPLY_TTL=true; it goes on by itself at {self._resume_free:,})",
                "disk-full",
                Remedy.PAUSE,
            )
            self._store.pause(self._paused)
        elif self._paused is not None and free >= self._resume_free:
            self._paused = None
            self._store.resume()

    def _freshness(self, max_age_s: float) -> Closed | None:
        for table in TABLES:
            newest = self._newest.get(table)
            if newest is None:
                return Closed(f"ta_{table} has no rows yet (see whether the TA pipeline runs)", "no-rows")
            age_s = (self._wall() - newest) / SECOND
            if age_s > max_age_s:
                return Closed(
                    f"the newest row of ta_{table} is {age_s:,.0f} s old, more than {max_age_s:g} s "
                    "(see whether the TA pipeline runs, and its source brings anything)",
                    "stale",
                )
        return None
