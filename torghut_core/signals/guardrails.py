"""Watches the signal store: free space on its disks, and the age of its newest rows.

Below `min_free_bytes` writing is paused, before the disk is full and every insert fails; above `resume_free_bytes` it
resumes. The distance between the two keeps it from switching back and forth while old rows are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from torghut_core.errors import StateError
from torghut_core.ports import Closed
from torghut_core.signals.failures import Remedy, StoreError
from torghut_core.signals.schema import TABLES
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from torghut_core.signals.database import SignalDatabase

_MARGIN = 1.25


class Guardrails:
    """Pauses a signal store's writing while a disk is nearly full, and reports stale rows and a store that fails.

    Parameters
    ----------
    store : whose `pause` and `resume` are called.
    min_free_bytes : writing is paused below so much free space.
    resume_free_bytes : writing resumes from so much on; a quarter more than the minimum where None.
    max_age_s : how old the newest row of each table may be, seconds; None: any age.
    every_s : `check` asks the store no more often than this, seconds.
    clock : for the age of rows and the time between two checks.
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
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._store = store
        self._min_free = min_free_bytes
        self._resume_free = max(min_free_bytes, resume_free_bytes or int(min_free_bytes * _MARGIN))
        self._max_age_s = max_age_s
        self._every_s = every_s
        self._clock = clock
        self._checking = Lock()
        self._next = clock.monotonic()
        self._free: int | None = None
        self._is_logged = False
        self._newest: dict[str, int | None] = {}
        self._paused: StoreError | None = None
        self._failed: Closed | None = None

    def check(self) -> None:
        """Ask the store, and pause or resume it; may wait, so call it in a thread. Does nothing before it is due.

        If the store does not answer, `gates` says so, and what was known of it stays as it was.
        """
        with self._checking:
            if self._clock.monotonic() < self._next:
                return
            try:
                self._free = self._store.free_bytes()
                self._pause_or_resume()
                self._newest = {table: self._store.newest_event_ts(table) for table in TABLES}
            except StateError as error:
                error_class = error.error_class if isinstance(error, StoreError) else "other"
                self._failed = Closed(str(error), error_class)
            else:
                self._failed = None
            self._next = self._clock.monotonic() + self._every_s

    @property
    def may_write(self) -> bool:
        """Whether there is enough free space to write."""
        return self._paused is None

    def gates(self) -> Mapping[str, Closed | None]:
        """``store``: rows can be stored and read; ``freshness``: there are new ones, if `max_age_s` is set."""
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

    def _pause_or_resume(self) -> None:
        free = self._free
        if free is None:
            if not self._is_logged:
                logs.warning(
                    "the free space of the signal store is not known, so writing is not paused when a disk fills up (its "
                    "tables have an engine that does not say on which disks they are, such as Distributed: watch those "
                    "disks yourself)"
                )
            self._is_logged = True
            return
        if self._paused is None and free < self._min_free:
            self._paused = StoreError(
                f"writing to the signal store is paused: {free:,} bytes are free, less than {self._min_free:,} "
                f"(free disk space, or shorten TA_SIGNALS_TTL_DAYS or TA_MICROBARS_TTL_DAYS with "
                f"TA_CLICKHOUSE_APPLY_TTL=true; it resumes by itself at {self._resume_free:,} bytes)",
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
                return Closed(f"ta_{table} has no rows yet (check that the TA pipeline runs)", "no-rows")
            age_s = (self._clock.wall() - newest) / SECOND
            if age_s > max_age_s:
                return Closed(
                    f"the newest row of ta_{table} is {age_s:,.0f} s old, more than {max_age_s:g} s "
                    "(check that the TA pipeline runs and its source receives data)",
                    "stale",
                )
        return None
