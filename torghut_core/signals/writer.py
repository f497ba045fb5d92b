"""Blocks of rows, inserted behind the loop's back by one thread, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from torghut_core.signals.rows import Rows


class BlockWriter:
    """Collects rows and hands them to `insert` in blocks, in a thread, so that the caller need not wait.

    Nothing is lost silently: a block that `insert` raised on stays first in the queue; what was raised, the next
    hand-over of a block or `flush` raises here; and the one after that tries the block again.

    Parameters
    ----------
    insert : stores the rows of one table; called with the same list again after it raised.
    block_rows : rows of one table that make a block.
    block_age_s : a block is made of fewer when the oldest of them has waited so long, seconds.
    waiting_blocks : blocks that may wait; `put` waits when there are more.
    """

    def __init__(
        self,
        insert: Callable[[str, list[Rows]], None],
        block_rows: int = 50_000,
        block_age_s: float = 1.0,
        waiting_blocks: int = 8,
    ) -> None:
        self._insert = insert
        self._block_rows = block_rows
        self._block_age_s = block_age_s
        self._waiting_blocks = waiting_blocks
        self._open: dict[str, list[Rows]] = {}
        self._open_rows = 0
        self._open_since = 0.0
        self._blocks: deque[tuple[str, list[Rows]]] = deque()
        self._failure: Exception | None = None
        self._is_told = False
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="torghut-signal-writer", daemon=True)
        self._thread.start()

    def put(self, rows: dict[str, Rows]) -> None:
        """Take the rows of each table; raise what an earlier insert raised, with these rows taken all the same."""
        with self._changed:
            if rows:
                if not self._open:
                    self._open_since = time.monotonic()
                for table, part in rows.items():
                    self._open.setdefault(table, []).append(part)
                self._open_rows += max(map(len, rows.values()))
            age = time.monotonic() - self._open_since
            is_due = bool(self._open) and (self._open_rows >= self._block_rows or age >= self._block_age_s)
        if is_due:
            self._hand_over(self._waiting_blocks)

    def flush(self) -> None:
        """Wait until everything taken is stored, or raise why it is not; from any thread."""
        self._hand_over(0)

    def close(self) -> None:
        """Flush and end the thread, which ends also where the flush raises."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join()

    def _hand_over(self, waiting_blocks: int) -> None:
        """Queue the open rows, and wait until no more than so many blocks wait."""
        with self._changed:
            self._blocks.extend(self._open.items())
            self._open = {}
            self._open_rows = 0
            if self._is_told:
                self._failure, self._is_told = None, False
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._blocks) <= waiting_blocks or self._failure is not None)
            if self._failure is not None:
                self._is_told = True
                raise self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (self._blocks and self._failure is None))
                if self._closing:
                    return
                block = self._blocks[0]
            try:
                self._insert(*block)
            except Exception as error:  # whatever it is, it belongs to the caller of put and flush
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
            else:
                with self._changed:
                    self._blocks.popleft()
                    self._changed.notify_all()
