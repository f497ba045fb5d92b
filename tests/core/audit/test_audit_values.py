"""What reaches a column: the one text of times and decimals, and JSON types only."""

import enum
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from torghut_core.audit.tables import controls, metadata, trade_decisions
from torghut_core.audit.types import Json, Money, Nanoseconds
from torghut_core.audit.values import decimal_text, json_text, json_value, plain, time_ns, time_text
from torghut_core.errors import InputError
from torghut_core.timestamps import parse_timestamp

FIRST, LAST = parse_timestamp("0001-01-01T00:00:00Z"), parse_timestamp("9999-12-31T23:59:59.999999999Z")
times = st.integers(FIRST, LAST)
decimals = st.decimals(allow_nan=False, allow_infinity=False)


class Color(enum.Enum):
    RED = "red"
    DEEP = Decimal("1.5")


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: UUID


@given(times)
def test_time_comes_back_to_the_nanosecond(ns):
    """A time's text has 30 characters, is RFC 3339, and gives the time back."""
    text = time_text(ns)
    assert len(text) == 30
    assert parse_timestamp(text) == ns == time_ns(text)


@given(times, times)
def test_times_sort_as_their_texts(a, b):
    """The database compares times as text: the order is the same."""
    assert (a < b) == (time_text(a) < time_text(b))


@given(decimals)
def test_decimal_comes_back_equal(value):
    """A decimal's text has no exponent and no minus before zero, and gives the value back with its digits."""
    text = decimal_text(value)
    assert "E" not in text
    assert not text.startswith("-") or value < 0
    back = Decimal(text)
    assert back == value
    assert back.as_tuple().exponent == min(value.as_tuple().exponent, 0)


def test_float_is_no_money():
    """A float where money belongs is refused: its digits are not the ones that were meant."""
    with pytest.raises(InputError, match=r"0\.1 is a float where money is written down \(use Decimal\)"):
        decimal_text(0.1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), None),
        (datetime(2026, 1, 5, 9, 30, tzinfo=timezone(timedelta(hours=-5))), "2026-01-05T14:30:00Z"),
        (datetime(2026, 1, 5, 14, 30, 0, 250000, tzinfo=UTC), "2026-01-05T14:30:00.250Z"),
        (date(2026, 1, 5), "2026-01-05"),
        (Color.RED, "red"),
        (Color.DEEP, "1.5"),
        (Level.HIGH, 3),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.25), 0.25),
        (np.int64(2**62), 2**62),
        (np.uint8(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2026-01-05T14:30:00.000000001", "ns"), "2026-01-05T14:30:00.000000001Z"),
        (np.datetime64("NaT"), None),
        (float("nan"), None),
        (np.float64("nan"), None),
        (float("-inf"), None),
        (Point(1, UUID(int=2)), [1, "00000000-0000-0000-0000-000000000002"]),
        ({Color.RED.value: (1, 2)}, {"red": [1, 2]}),
        (2**70, 2**70),
        ("\ud800", "?"),
    ],
    ids=repr,
)
def test_value_becomes_its_json_type(value, expected):
    """Each of the kinds that ever reached a JSON column raw becomes text, number, list or null."""
    result = plain({"deep": [value]})["deep"][0]
    assert result == expected
    assert type(result) is type(expected)
    assert json.loads(json_text(plain(value))) == expected if expected is not None else json_text(plain(value)) is None


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"x", 1j, timedelta(1), np.zeros(2), Exception("e"), datetime(2026, 1, 5), {1: 2}, range(3)],  # noqa: DTZ001 - the naive one
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_its_place(value):
    """What is not JSON, nor one of those kinds, is refused; the error names where it is."""
    with pytest.raises(InputError, match=r"^signal\.deep\[1\]: "):
        plain({"deep": [0, value]}, "signal")


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | decimals | st.uuids()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_plain_value_survives_the_column(value):
    """What `plain` gives is what is read back, and is plain already."""
    once = plain(value)
    assert plain(once) == once
    assert json_value(json_text(once)) == once


@pytest.fixture
def connection():
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def test_raw_uuid_never_reaches_a_json_column(connection):
    """Whoever writes through the tables meets the same boundary: the production failure of 2026."""
    value = {"id": UUID(int=3), "price": Decimal("1.10")}
    connection.execute(controls.insert().values(name="x", value=value, actor="a", updated_at=1))
    stored = connection.exec_driver_sql("SELECT value FROM controls").scalar_one()
    assert stored == '{"id":"00000000-0000-0000-0000-000000000003","price":"1.10"}'
    with pytest.raises(sqlalchemy.exc.StatementError, match="a set cannot be written down as JSON"):
        connection.execute(controls.insert().values(name="y", value={1}, actor="a", updated_at=1))


def test_columns_store_text_and_give_values(connection):
    """Times, money and JSON go in and come out as themselves, and are text in between; null stays null."""
    row = {
        **{column.name: "x" for column in trade_decisions.c if isinstance(column.type, sqlalchemy.Text)},
        **{column.name: 1 for column in trade_decisions.c if isinstance(column.type, Nanoseconds)},
        **{column.name: [1.0] for column in trade_decisions.c if isinstance(column.type, Json)},
        **{column.name: Decimal("0.10") for column in trade_decisions.c if isinstance(column.type, Money)},
        "id": 1,
        "generation": 1,
        "executed_at": None,
    }
    connection.execute(trade_decisions.insert().values(row))
    raw = connection.exec_driver_sql("SELECT event_ts, price, params, executed_at FROM trade_decisions").one()
    assert tuple(raw) == ("1970-01-01T00:00:00.000000001Z", "0.10", "[1.0]", None)
    assert dict(connection.execute(trade_decisions.select()).mappings().one()) == row
    later = trade_decisions.select().where(trade_decisions.c.event_ts > 1)
    assert connection.execute(later).all() == []
