"""The writer with `waits=False`: `put` never waits, `trouble` says what fails, and rows are kept up to a limit."""

import threading

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from support.effort import examples
from support.waiting import PATIENCE, until
from torghut_core.model.market import Bars, SymbolTable
from torghut_core.signals.failures import StoreError
from torghut_core.signals.rows import Rows
from torghut_core.signals.writer import BlockWriter

SYMBOLS = SymbolTable()


def rows(*seqs):
    return {"microbars": Rows(SYMBOLS, Bars.from_columns(seq=seqs), np.zeros(len(seqs), np.int64))}


class Shelf:
    """What a writer inserts into; `fails` are raised first, one for each attempt, and `gate` holds inserts back."""

    def __init__(self, *fails):
        self.fails = list(fails)
        self.blocks = []
        self.attempts = 0
        self.tried = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def insert(self, table, block, token):
        assert self.gate.wait(PATIENCE)
        self.attempts += 1
        self.tried.set()
        if self.fails:
            raise self.fails.pop(0)
        self.blocks.append([int(seq) for part in block for seq in part.values.seq])

    @property
    def seqs(self):
        return [seq for block in self.blocks for seq in block]


def stored(writer):
    """Wait until nothing is kept any more."""
    until(lambda: not writer.kept, lambda: writer.trouble)


def soon(error, failures):
    return 0.001, True


def test_refused_rows_raise_nothing_and_are_stored_without_a_flush():
    """`put` raises nothing; `trouble` clears by itself, also when no row comes any more."""
    shelf = Shelf(*[OSError("full")] * 5)
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=1, waits=False, retry=soon)
    writer.put(rows(1))
    writer.put(rows(2))
    assert (writer.trouble, writer.kept) == (None, 2)
    shelf.gate.set()
    stored(writer)
    assert (shelf.blocks, shelf.attempts, writer.trouble) == ([[1], [2]], 7, None)
    writer.close()


def test_trouble_is_what_the_store_said():
    """The reason is the store's own while its next attempt is put off."""
    shelf = Shelf(OSError("full"))
    writer = BlockWriter(shelf.insert, block_rows=1, waits=False, retry=lambda _error, _failures: (30.0, False))
    writer.put(rows(1))
    assert shelf.tried.wait(PATIENCE)
    for seq in range(2, 50):
        writer.put(rows(seq))
    assert str(writer.trouble) == "full"
    writer.close()
    assert shelf.seqs == list(range(1, 50))


def test_slow_store_is_behind_and_holds_nobody_up():
    """`trouble` is `behind` while more than `waiting_blocks` blocks wait, and None once they are stored."""
    shelf = Shelf()
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=1, waiting_blocks=3, waits=False)
    for seq in range(3):
        writer.put(rows(seq))
    assert writer.trouble is None
    for seq in range(3, 20):
        writer.put(rows(seq))
    assert writer.trouble.error_class == "behind"
    shelf.gate.set()
    stored(writer)
    assert writer.trouble is None
    writer.close()
    assert shelf.seqs == list(range(20))


def test_backlog_is_stored_in_large_blocks():
    """While it is behind, age makes no blocks: a store that comes back is not met by thousands of small ones."""
    shelf = Shelf()
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=100, block_age_s=0, waiting_blocks=2, waits=False)
    for seq in range(250):
        writer.put(rows(seq))
    shelf.gate.set()
    writer.close()
    assert [len(block) for block in shelf.blocks] == [1, 1, 1, 100, 100, 47]
    assert shelf.seqs == list(range(250))


def test_more_than_memory_may_take_is_raised_and_not_dropped():
    """`put` raises with the store's error; `close` stores what was kept if it can."""
    shelf = Shelf(OSError("full"))
    one = rows(0)["microbars"].memory
    writer = BlockWriter(
        shelf.insert, block_rows=1, waits=False, most_bytes=10 * one, retry=lambda _error, _failures: (30.0, True)
    )
    writer.put(rows(0))
    assert shelf.tried.wait(PATIENCE)
    for seq in range(1, 10):
        writer.put(rows(seq))
    with pytest.raises(StoreError, match=r"11 rows wait .* no more can be kept in memory: full"):
        writer.put(rows(10))
    assert writer.kept == 11
    writer.close()
    assert shelf.seqs == list(range(11))


def test_flush_raises_what_is_known_and_close_tries_once_more():
    """`flush` raises the last failure; `close` makes one more attempt."""
    shelf = Shelf(OSError("full"), OSError("still full"))
    writer = BlockWriter(shelf.insert, block_rows=1, waits=False, retry=lambda _error, _failures: (30.0, True))
    writer.put(rows(1))
    for _ in range(3):
        with pytest.raises(OSError, match=r"^full"):
            writer.flush()
    with pytest.raises(OSError, match="still full"):
        writer.close()
    assert (writer.kept, shelf.attempts) == (1, 2)


def test_mark_does_not_wait_either():
    """No call but `flush` and `close` waits."""
    shelf = Shelf()
    shelf.gate.clear()
    writer = BlockWriter(shelf.insert, block_rows=1, waiting_blocks=0, waits=False)
    writer.put(rows(1))
    writer.mark("here")
    shelf.gate.set()
    writer.close()
    assert shelf.seqs == [1]


@examples(40)
@given(
    puts=st.lists(st.integers(0, 5), max_size=25),
    fails=st.integers(0, 10),
    block_rows=st.integers(1, 6),
    waiting_blocks=st.integers(0, 3),
    age=st.sampled_from([0.0, 3600.0]),
)
def test_every_row_is_stored_once_in_order(puts, fails, block_rows, waiting_blocks, age):
    """Rows are stored once and in order, however often the store refused them."""
    shelf = Shelf(*[OSError("full")] * fails)
    writer = BlockWriter(
        shelf.insert,
        block_rows=block_rows,
        block_age_s=age,
        waiting_blocks=waiting_blocks,
        waits=False,
        retry=lambda _error, _failures: (0.0, False),
    )
    seq = 0
    for count in puts:
        writer.put(rows(*range(seq, seq + count)) if count else {})
        seq += count
    writer.close()
    assert shelf.seqs == list(range(seq))
    assert (writer.kept, writer._kept_bytes) == (0, 0)
