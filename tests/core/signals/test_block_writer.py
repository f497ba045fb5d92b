"""The thread that stores blocks: nothing is lost, nothing is out of order, nobody waits without need."""

import threading

import numpy as np
import pytest

from support.waiting import PATIENCE
from torghut_core.model.market import Bars, SymbolTable
from torghut_core.signals.rows import Rows
from torghut_core.signals.writer import BlockWriter

SYMBOLS = SymbolTable()


def rows(*seqs: int) -> dict[str, Rows]:
    return {"microbars": Rows(SYMBOLS, Bars.from_columns(seq=seqs), np.zeros(len(seqs), np.int64))}


class Shelf:
    """What a writer inserts into; `fail` is raised instead as long as it is set, and `gate` holds inserts back."""

    def __init__(self):
        self.blocks: list[list[int]] = []
        self.fail: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def insert(self, table, block, token):
        self.gate.wait(PATIENCE)
        if self.fail is not None:
            raise self.fail
        self.blocks.append([int(seq) for part in block for seq in part.values.seq])

    @property
    def seqs(self):
        return [seq for block in self.blocks for seq in block]


@pytest.fixture
def shelf():
    return Shelf()


def test_rows_become_blocks_in_order(shelf):
    """Rows are collected until they make a block, and blocks are stored in the order of the rows."""
    writer = BlockWriter(shelf.insert, block_rows=4, block_age_s=3600)
    for seq in range(0, 10, 2):
        writer.put(rows(seq, seq + 1))
    writer.close()

    assert shelf.blocks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_row_that_waited_long_enough_is_stored_without_a_flush(shelf):
    """On a quiet feed a block is not full for an hour; age makes it one, also at a put that brings nothing."""
    writer = BlockWriter(shelf.insert, block_rows=1000, block_age_s=0)
    writer.put(rows(1))
    writer.put({})
    writer.flush()

    assert shelf.blocks == [[1]]
    writer.close()


def test_put_does_not_wait_for_the_insert(shelf):
    """The loop continues while a block is being stored."""
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=1, block_age_s=3600)
    writer.put(rows(1))
    writer.put(rows(2))
    assert shelf.blocks == []

    shelf.gate.set()
    writer.close()
    assert shelf.seqs == [1, 2]


def test_flush_waits_for_what_was_taken_before_it_alone(shelf):
    """A loop that goes on writing does not hold up who reads what was stored: the history of a new strategy, a count."""
    flushed = threading.Event()

    def insert(table, block, token):
        shelf.insert(table, block, token)
        if not flushed.is_set() and len(shelf.blocks) < 1_000:
            writer.put(rows(len(shelf.blocks)))

    writer = BlockWriter(insert, block_rows=1)
    shelf.gate.clear()
    for seq in range(3):
        writer.put(rows(seq))
    shelf.gate.set()
    writer.flush()
    stored = len(shelf.blocks)
    flushed.set()
    writer.close()

    assert 3 <= stored < 1_000


def test_put_waits_when_too_many_blocks_do(shelf):
    """A store that is slower than the loop holds the loop back: memory stays bounded."""
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=1, block_age_s=3600, waiting_blocks=2)
    writer.put(rows(1))
    writer.put(rows(2))
    held = threading.Thread(target=writer.put, args=(rows(3),))
    held.start()
    held.join(0.05)
    assert held.is_alive()

    shelf.gate.set()
    held.join(PATIENCE)
    writer.close()
    assert shelf.seqs == [1, 2, 3]


def test_a_failed_block_is_raised_and_retried(shelf):
    """Nothing is lost: when the disk has room again the same rows are stored, once and in order."""
    shelf.fail = OSError("full")
    writer = BlockWriter(shelf.insert, block_rows=2, block_age_s=3600)
    writer.put(rows(1))
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            writer.flush()
    writer.put(rows(2))

    shelf.fail = None
    writer.put(rows(3))
    writer.close()
    assert shelf.blocks == [[1], [2, 3]]


def test_put_tells_of_a_failed_block_too(shelf):
    """The failure is raised by the next `put` too, and rows that were put meanwhile are kept."""
    shelf.fail = OSError("full")
    writer = BlockWriter(shelf.insert, block_rows=1, block_age_s=3600, waiting_blocks=0)
    with pytest.raises(OSError, match="full"):
        writer.put(rows(1))

    shelf.fail = None
    writer.put(rows(2))
    writer.close()
    assert shelf.seqs == [1, 2]


def test_close_ends_the_thread_also_when_rows_cannot_be_stored(shelf):
    """`close` raises the last failure, and no thread stays behind."""
    shelf.fail = OSError("full")
    writer = BlockWriter(shelf.insert)
    writer.put(rows(1))
    with pytest.raises(OSError, match="full"):
        writer.close()

    assert not writer._thread.is_alive()
