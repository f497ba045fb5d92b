"""Blocks of rows, inserted in order by a thread of their own, so that the loop does not wait."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from threading import Condition, Thread

from torghut_core.signals.failures import Remedy, StoreError
from torghut_core.signals.rows import Rows
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

MOST_BYTES = 200_000_000
"""Memory that a writer which does not wait may use for rows, bytes: some 600,000 bars with their signals."""

PATIENCE_S = 5.0
"""`put` and `flush` wait for the next attempt if it is due within so many seconds; otherwise they raise the last error."""

_BEHIND = StoreError(
    "the signal store takes rows more slowly than they come (find out why it is slow; rows that are not stored yet are kept)",
    "behind",
    Remedy.WAIT,
)


def _at_once(error: Exception, failures: int) -> tuple[float, bool]:
    del error, failures
    return 0.0, True


class BlockWriter:
    """Collects rows and hands them to `insert` in blocks, in a thread, so that the caller need not wait.

    Nothing is lost silently: a block that `insert` raised on stays first in the queue. The next call that hands over a
    block, or `flush`, raises the error here; the call after that retries the block, but not before `retry` allows it:
    however often the writer is called, attempts are as far apart as that.

    A writer that does not wait is for a caller that has more to do than to write. Its `put` neither waits nor raises while
    the store is slow or refuses rows: `trouble` says so, blocks are retried without being asked for, and `put` raises only
    when more than `most_bytes` are kept.

    Parameters
    ----------
    insert : stores the rows of one table, with the block's token (see `mark`, "" without one); called with the same
        block again after it raised.
    block_rows : rows of one table that make a block.
    block_age_s : a block is smaller when the oldest of its rows has waited so long, seconds; not after a mark.
    waiting_blocks : blocks that may wait; when there are more, `put` waits, or `trouble` says that the store is behind.
    waits : whether `put` and `mark` wait, and raise what an insert raised.
    most_bytes : where they do not: memory that the kept rows may take.
    retry : the error, and how many attempts in a row have failed -> the seconds until the next attempt, and whether the
        caller gets the error meanwhile.
    clock : for the age of blocks and the time of attempts.
    """

    def __init__(
        self,
        insert: Callable[[str, list[Rows], str], None],
        block_rows: int = 50_000,
        block_age_s: float = 1.0,
        waiting_blocks: int = 8,
        waits: bool = True,
        most_bytes: int = MOST_BYTES,
        retry: Callable[[Exception, int], tuple[float, bool]] = _at_once,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._now = clock.monotonic
        self._insert = insert
        self._block_rows = block_rows
        self._block_age_s = block_age_s
        self._waiting_blocks = waiting_blocks
        self._waits = waits
        self._most_bytes = most_bytes
        self._retry = retry
        self._open: dict[str, list[Rows]] = {}
        self._open_rows: Counter[str] = Counter()
        self._open_since = 0.0
        self._mark = ""
        self._parts: Counter[str] = Counter()
        self._kept_rows = self._kept_bytes = 0
        self._blocks: deque[tuple[str, list[Rows], str]] = deque()
        self._stored_blocks = 0
        self._failure: Exception | None = None
        self._was_raised = False
        self._failures = 0
        self._last: Exception | None = None
        self._not_before = 0.0
        self._paused: Exception | None = None
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="torghut-signal-writer", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> Exception | None:
        """Why waiting rows are not stored; None while nothing is wrong."""
        with self._changed:
            return self._paused or self._last or (_BEHIND if self._is_behind and not self._waits else None)

    @property
    def kept(self) -> int:
        """How many rows were taken and are not stored yet."""
        with self._changed:
            return self._kept_rows

    def put(self, rows: dict[str, Rows]) -> None:
        """Take the rows of each table; an error of an earlier insert is raised after that.

        A writer that does not wait raises a `StoreError` when it keeps too much.
        """
        with self._changed:
            queued = len(self._blocks)
            for table, part in rows.items():
                self._add(table, part)
            is_old = self._open and self._now() - self._open_since >= self._block_age_s
            if is_old and (self._waits or not self._is_behind):  # a store that is behind needs large blocks
                self._close_blocks()
            is_due = len(self._blocks) > queued
        if is_due:
            self._hand_over()

    def mark(self, token: str) -> None:
        """Begin a new block: the tokens of the blocks from here on begin with `token`. Raises as `put` does.

        The same rows after the same mark make the same blocks, in whatever parts they are put, except those that were
        closed because of their age: the table removes the duplicates of these.
        """
        with self._changed:
            self._close_blocks()
            self._mark = token
            self._parts.clear()
        self._hand_over()

    def flush(self) -> None:
        """Wait until everything taken before is stored, or raise the reason why it cannot be; from any thread."""
        with self._changed:
            self._close_blocks()
        self._wait_for_room(0)

    def pause(self, reason: Exception) -> None:
        """Attempt nothing until `resume`; calls that would wait for the store raise `reason`."""
        with self._changed:
            self._paused = reason
            self._changed.notify_all()

    def resume(self) -> None:
        """Retry now."""
        with self._changed:
            self._paused = None
            self._not_before = 0.0
            self._changed.notify_all()

    def close(self) -> None:
        """Flush and end the thread, also if the flush raises."""
        try:
            with self._changed:
                self._not_before = 0.0
                if not self._waits:
                    self._failure, self._was_raised = None, False
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join()

    @property
    def _is_behind(self) -> bool:
        return len(self._blocks) > self._waiting_blocks

    def _add(self, table: str, rows: Rows) -> None:
        if not self._open:
            self._open_since = self._now()
        while len(rows):
            room = self._block_rows - self._open_rows[table]
            part, rows = rows.split(room)
            self._open.setdefault(table, []).append(part)
            self._kept_rows += len(part)
            self._kept_bytes += part.memory
            self._open_rows[table] += len(part)
            if self._open_rows[table] == self._block_rows:
                self._close_block(table)

    def _close_blocks(self) -> None:
        for table in list(self._open):
            self._close_block(table)

    def _close_block(self, table: str) -> None:
        token = f"{self._mark}/{self._parts[table]}" if self._mark else ""
        self._blocks.append((table, self._open.pop(table), token))
        self._parts[table] += 1
        del self._open_rows[table]

    def _hand_over(self) -> None:
        """Wake the thread for the closed blocks; wait while too many are queued, or check how much memory they take."""
        if self._waits:
            self._wait_for_room(self._waiting_blocks)
            return
        with self._changed:
            self._changed.notify_all()
            if self._kept_bytes > self._most_bytes:
                why = self._paused or self._last or _BEHIND
                raise StoreError(
                    f"{self._kept_rows:,} rows wait to be stored, and no more can be kept in memory: {why}",
                    "behind",
                    Remedy.STOP,
                ) from why

    def _wait_for_room(self, waiting_blocks: int) -> None:
        """Wait until at most so many of the blocks that are queued now are left; not for those that others add meanwhile."""
        with self._changed:
            due = self._stored_blocks + len(self._blocks) - waiting_blocks
            if self._was_raised:
                self._failure, self._was_raised = None, False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stored_blocks >= due or self._obstacle() is not None)
            if self._failure is not None:
                self._was_raised = True
                raise self._failure
            if self._stored_blocks < due and (reason := self._obstacle()) is not None:
                raise reason

    def _obstacle(self) -> Exception | None:
        """Why no block will be stored soon; None if one will."""
        if self._failure is not None:
            return self._failure
        is_far_off = self._not_before - self._now() > PATIENCE_S
        return self._paused or (self._last if is_far_off else None)

    def _run(self) -> None:
        while (block := self._next()) is not None:
            try:
                self._insert(*block)
            except Exception as error:  # whatever it is, put and flush raise it
                with self._changed:
                    self._failures += 1
                    wait, is_raised = self._retry(error, self._failures)
                    self._last, self._not_before = error, self._now() + wait
                    if is_raised:
                        self._failure = error
                    self._changed.notify_all()
            else:
                stored = [(len(part), part.memory) for part in block[1]]
                with self._changed:
                    self._blocks.popleft()
                    self._stored_blocks += 1
                    self._kept_rows -= sum(rows for rows, _ in stored)
                    self._kept_bytes -= sum(memory for _, memory in stored)
                    self._failures, self._last, self._not_before = 0, None, 0.0
                    if not self._waits:
                        self._failure, self._was_raised = None, False
                    self._changed.notify_all()

    def _next(self) -> tuple[str, list[Rows], str] | None:
        """Wait for a block that may be attempted; None at the end."""
        with self._changed:
            while not self._closing:
                wait = None
                may_retry = self._failure is None or not self._waits
                if self._blocks and may_retry and self._paused is None:
                    wait = self._not_before - self._now()
                    if wait <= 0:
                        return self._blocks[0]
                self._changed.wait(wait)
            return None
