"""Identity of trades and length of bars, from nothing but the values."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.tape.rows import BARS, TRADES, Rows, bar_step, text_hashes, trade_keys

from torghut_core import MINUTE, SymbolTable

SECOND = 1_000_000_000
HOUR = 3600 * SECOND

ids = st.one_of(st.integers(0, 2**64 - 1).map(str), st.text(min_size=1, max_size=6))


def keys(ids, exchanges=None):
    return trade_keys(
        pa.array(ids), None if exchanges is None else text_hashes(pa.array(exchanges, pa.string()))
    ).tolist()


@given(st.lists(st.tuples(ids, st.sampled_from(["D", "K", None])), min_size=1, max_size=30))
def test_trades_share_a_key_exactly_when_exchange_and_id_agree(rows):
    """Equal trades are found and different ones are kept, whatever the ids look like and stand beside."""
    found = keys([id_ for id_, _ in rows], [exchange for _, exchange in rows])
    identities = [(int(id_) if id_.isascii() and id_.isdigit() else id_, exchange) for id_, exchange in rows]
    assert len(set(found)) == len(set(identities))
    assert len(set(zip(found, identities, strict=True))) == len(set(identities))
    assert 0 not in found


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=10))
def test_number_and_its_digits_are_one_id(numbers):
    """Parquet has numbers and CSV has text; the trade is the same."""
    assert keys(numbers) == keys([str(number) for number in numbers]) == keys([*map(str, numbers), "x"])[:-1]


def test_unsigned_number_and_its_digits_are_one_id():
    """The whole range of 64 bits is used, in either form."""
    numbers = [5, 2**63 - 1, 2**63, 2**64 - 1]
    assert keys(pa.array(numbers, pa.uint64())) == keys([str(number) for number in numbers])
    assert len(set(keys([str(number) for number in numbers]))) == 4


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view()])
def test_texts_that_only_read_alike_as_numbers_are_ids_of_their_own(type_):
    """``7``, ``007``, ``0x7`` and ``-0`` are four ids, alone or beside each other, in text of any type."""
    texts = ["7", "007", "0x7", "-0", "0"]
    beside = trade_keys(pa.array(texts, type_)).tolist()
    assert len(set(beside)) == len(texts)
    assert [trade_keys(pa.array([text], type_)).tolist()[0] for text in texts] == beside
    assert beside[0] == trade_keys(pa.array([7])).tolist()[0]


def test_number_beyond_64_bits_is_bad_and_its_neighbours_are_not():
    """A `seq` from 2^63 on, and a time that only the lowest number of 64 bits could be, are complaints about their rows."""
    n = 2
    columns = {
        "symbol": pa.array(["ES"] * n, pa.string_view()),
        "event_ts": pa.array([-(2**63), 5]),
        "seq": pa.array([7, 2**63], pa.uint64()),
        "price": pa.array([1.0] * n),
        "size": pa.array([1.0] * n),
    }
    found = Rows(TRADES, np.arange(n), columns, SymbolTable())
    assert found.bad.tolist() == [True, True]
    assert [complaint.message.split(" ")[0] for complaint in found.complaints] == ["event_ts", "seq"]


def test_bar_has_to_end_within_64_bits():
    """The time at which a bar is known, its start and its length, is a time too."""
    latest = 2**63 - 1 - MINUTE
    columns = {name: pa.array([1.0, 1.0]) for name in ("open", "high", "low", "close", "volume")}
    columns |= {"symbol": pa.array(["ES", "ES"]), "event_ts": pa.array([latest, latest + 1])}
    assert Rows(BARS, np.arange(2), columns, SymbolTable(), step=MINUTE).bad.tolist() == [False, True]


def test_trade_without_id_has_no_key():
    """0 says that nothing is known, so it is never found to be a duplicate."""
    assert keys([None, 5]) == [0, keys([5])[0]]
    assert keys(pa.array([None, None], pa.int64())) == [0, 0]


def test_key_is_never_zero_for_an_id():
    """The id whose mixed bits are all zero gets another key."""
    assert keys([0]) == [1]


def test_keys_are_the_same_in_any_process():
    """A restart finds the trades that it has seen before: nothing depends on PYTHONHASHSEED."""
    code = (
        "import pyarrow as pa; from torghut_sources.tape.rows import text_hashes, trade_keys;"
        "print(trade_keys(pa.array(['7', 'a-b', None]), text_hashes(pa.array(['D', 'K', 'D']))).tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert printed == {f"{keys(['7', 'a-b', None], ['D', 'K', 'D'])}\n"}
    assert keys(["7", "a-b", None], ["D", "K", "D"]) == [8105457578609298198, -3198371361736381886, 0]


def columns(*bars):
    """Bars (symbol, start in seconds) as a file has them."""
    symbols, starts = zip(*bars, strict=True)
    return {"symbol": pa.array(symbols), "event_ts": pa.array([s * SECOND for s in starts], pa.int64())}


@given(
    step=st.sampled_from([1, 5, 60, 900, 3600]),
    bars=st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 22)), min_size=1, max_size=20, unique=True),
)
def test_bar_step_divides_every_gap_and_no_longer_one_does(step, bars):
    """Whatever minutes are missing, the step is on the grid of the bars, and none where no symbol has two."""
    found = bar_step(columns(*((symbol, start * step) for symbol, start in sorted(bars))))
    gaps = [
        later - earlier
        for name in "AB"
        for earlier, later in zip(
            sorted(start for symbol, start in bars if symbol == name),
            sorted(start for symbol, start in bars if symbol == name)[1:],
            strict=False,
        )
    ]
    assert found == (int(np.gcd.reduce(gaps)) * step * SECOND if gaps else None)


@pytest.mark.parametrize(
    ("hours", "step"),
    [([0, 24, 48], 24), ([0, 23, 47, 71], 24), ([0, 25, 49], 24), ([0, 168, 335], 168), ([0, 1, 2, 19], 1)],
)
def test_days_are_days_also_where_clocks_change(hours, step):
    """23, 24 and 25 hours are a day, a week stays a week, and hours with a night between them are hours."""
    assert bar_step(columns(*(("A", hour * 3600) for hour in hours))) == step * HOUR
