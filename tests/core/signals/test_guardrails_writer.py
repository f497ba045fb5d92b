"""The writer under guard: marks make blocks that can be made again, pauses hold, attempts are as far apart as asked."""

import time
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from support.effort import examples
from torghut_core.model.market import Bars, SymbolTable
from torghut_core.signals.rows import Rows
from torghut_core.signals.writer import BlockWriter

SYMBOLS = SymbolTable()


def rows(*seqs: int) -> dict[str, Rows]:
    return {
        table: Rows(SYMBOLS, Bars.from_columns(seq=seqs), np.zeros(len(seqs), np.int64))
        for table in ("microbars", "signals")
    }


class Shelf:
    """What a writer inserts into; `fails` are raised first, one for each attempt."""

    def __init__(self, *fails):
        self.blocks = []
        self.fails = list(fails)
        self.attempts = []

    def insert(self, table, block, token):
        self.attempts.append(time.monotonic())
        if self.fails:
            raise self.fails.pop(0)
        self.blocks.append((table, token, [int(seq) for part in block for seq in part.values.seq]))


@examples(30)
@given(n=st.integers(0, 30), block_rows=st.integers(1, 7), cuts=st.sets(st.integers(0, 30)), before=st.integers(0, 9))
def test_the_same_rows_after_a_mark_make_the_same_blocks(n, block_rows, cuts, before):
    """In whatever parts they are put, and whatever came before the mark, where none waited too long."""

    def blocks(parts, first):
        shelf = Shelf()
        writer = BlockWriter(shelf.insert, block_rows=block_rows, block_age_s=1e9)
        if first:
            writer.put(rows(*range(-first, 0)))
        writer.mark("here")
        for part in parts:
            writer.put(rows(*part) if len(part) else {})
        writer.close()
        return [block for block in shelf.blocks if block[1]]

    bounds = [0, *sorted(cut for cut in cuts if cut < n), n]
    parts = [range(start, stop) for start, stop in pairwise(bounds)]
    made = blocks(parts, before)
    assert sorted(made) == sorted(blocks([range(n)], 0))
    for table in ("microbars", "signals"):
        of_table = [(token, seqs) for name, token, seqs in made if name == table]
        assert [seq for _, seqs in of_table for seq in seqs] == list(range(n))
        assert [token for token, _ in of_table] == [f"here/{part}" for part in range(len(of_table))]


def test_nothing_is_attempted_while_it_is_paused():
    """Paused, rows are kept up to the limit, then `put` and `flush` raise; resumed, all are stored in order."""
    shelf, reason = Shelf(), OSError("no room")
    writer = BlockWriter(shelf.insert, block_rows=1, waiting_blocks=4)
    writer.pause(reason)
    writer.put(rows(1))
    writer.put(rows(2))
    for call in (lambda: writer.put(rows(3)), writer.flush):
        with pytest.raises(OSError, match="no room"):
            call()
    assert (shelf.attempts, writer.trouble) == ([], reason)

    writer.resume()
    writer.flush()
    assert [seqs for table, _, seqs in shelf.blocks if table == "signals"] == [[1], [2], [3]]
    assert writer.trouble is None
    writer.close()


def test_a_failure_that_is_not_reported_is_retried_after_its_pause():
    """The caller's flush waits until the retry succeeds, and raises nothing."""
    shelf = Shelf(OSError("a"), OSError("b"))
    writer = BlockWriter(shelf.insert, retry=lambda _error, failures: (0.05 * failures, False))
    writer.put(rows(1))
    writer.flush()
    gaps = np.diff(shelf.attempts)
    assert gaps[0] >= 0.05
    assert gaps[1] >= 0.1
    writer.close()


def test_a_long_pause_is_raised_and_not_waited_for():
    """`flush` does not wait 30 s for the next attempt; `close` makes one at once."""
    shelf = Shelf(OSError("later"))
    writer = BlockWriter(shelf.insert, retry=lambda _error, _failures: (30.0, True))
    writer.put(rows(1))
    for _ in range(20):
        with pytest.raises(OSError, match="later"):
            writer.flush()
    assert len(shelf.attempts) == 1
    writer.close()
    assert len(shelf.blocks) == 2
