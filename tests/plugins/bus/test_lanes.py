"""The order of a lane's events, as laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.bus import lanes
from torghut_sources.bus.lanes import Lane
from torghut_sources.rows import BARS, QUOTES, TRADES

from torghut_core import Bars, Quotes, Trades

from .conftest import events

KINDS = {"t": TRADES, "q": QUOTES, "b": BARS}
ORDER = {"b": 0, "q": 1, "t": 2}
START = {"t": 10, "q": 20, "b": 30}
SECOND = 1_000_000_000

times = st.lists(st.integers(0, 12), max_size=12)


def table(topic, times, first, symbol):
    """Events of these times, numbered from `first` on."""
    numbers = np.arange(first, first + len(times))
    if topic == "t":
        columns = {"price": numbers + 1, "size": np.ones(len(times))}
        return Trades.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, **columns)
    if topic == "q":
        return Quotes.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, bid_price=numbers + 1)
    return Bars.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, step=[2] * len(times))


def make(cursor=None, topics=KINDS, tick=0.0):
    kinds = {topic: KINDS[topic] for topic in topics}
    offsets = {topic: START[topic] for topic in topics} if cursor is None else cursor["offsets"]
    return Lane("0", kinds, offsets, 0.0, idle=1.0, tick=tick, cursor=cursor)


def feed(lane, topic, times, start, stop):
    """Records `start` to `stop` of a topic, one event each."""
    symbol = lane.symbols.number("ES")
    offsets = np.arange(start, stop) + START[topic]
    lane.add(topic, table(topic, times[start:stop], start, symbol), offsets, START[topic] + stop, 0.0)


def drain(lane, size, now=0.0):
    found = []
    while (batch := lane.next(size, now)) is not None:
        assert len(batch) <= size
        assert batch.lane == "0"
        found += events(batch)
    return found


def merged(series):
    """What the stream has to be: by time known, bars before quotes before trades, each topic in its own order."""
    rows = []
    for topic, times in series.items():
        known = np.maximum.accumulate(np.array(times, np.int64) + (2 if topic == "b" else 0)) if times else []
        rows += [(int(moment), ORDER[topic], number, topic) for number, moment in enumerate(known)]
    return [(known, KINDS[topic].name, number, "ES") for known, _, number, topic in sorted(rows)]


@given(st.fixed_dictionaries({"t": times, "q": times, "b": times}), st.data())
def test_fetching_changes_nothing(series, data):
    """However the topics are fetched and given out, what has piled up comes in one order, also over a restart."""
    lane, found = make(), []
    done = dict.fromkeys(series, 0)
    while pending := [topic for topic in sorted(series) if done[topic] < len(series[topic])]:
        topic = data.draw(st.sampled_from(pending))
        stop = data.draw(st.integers(done[topic] + 1, len(series[topic])))
        feed(lane, topic, series[topic], done[topic], stop)
        done[topic] = stop
        if data.draw(st.booleans()):
            found += drain(lane, data.draw(st.integers(1, 5)))
        elif data.draw(st.booleans()) and (batch := lane.next(2, 0.0)) is not None:
            found += events(batch)
        if data.draw(st.booleans()):
            cursor = lane.cursor()
            assert sum(cursor["offsets"].values()) - sum(START.values()) == len(found)
            lane = make(cursor)
            done = {topic: offset - START[topic] for topic, offset in cursor["offsets"].items()}
    for topic in series:
        lane.end(topic)
    found += drain(lane, 4, now=1.0)
    assert found == merged(series)


@given(times, times)
def test_nothing_is_given_out_too_early(trades, quotes):
    """Before a topic has shown that nothing earlier is to come, the other waits."""
    lane = make(topics="tq")
    if trades:
        feed(lane, "t", trades, 0, len(trades))
    assert drain(lane, 3) == [], "nobody knows of quotes yet"
    if quotes:
        feed(lane, "q", quotes, 0, len(quotes))
    found = drain(lane, 3)
    assert found == merged({"t": trades, "q": quotes})[: len(found)]
    horizon = min(max(trades, default=-1), max(quotes, default=-1))
    assert len([event for event in found if event[0] < horizon]) == sum(
        known < horizon for known, *_ in merged({"t": trades, "q": quotes})
    )


def test_one_topic_waits_for_nobody():
    """Where a lane has one topic, its events come at once."""
    lane = make(topics="t")
    feed(lane, "t", [5, 6, 6], 0, 3)
    assert [known for known, *_ in drain(lane, 10)] == [5, 6, 6]


def test_what_holds_others_up_comes_itself():
    """The topic that is furthest behind gives its events at once: nothing earlier can come of the other."""
    lane = make(topics="tq")
    feed(lane, "t", [5, 7], 0, 2)
    feed(lane, "q", [9], 0, 1)
    assert [(known, channel) for known, channel, *_ in drain(lane, 10)] == [(5, "trades"), (7, "trades")]


def test_idle_topic_holds_nobody_up():
    """A topic at its end holds others up for a while, and not longer; one that is behind always does."""
    lane = make(topics="tq")
    feed(lane, "t", [5], 0, 1)
    lane.end("t")
    assert drain(lane, 10, now=9.0) == []
    lane.end("q")
    assert drain(lane, 10, now=0.9) == []
    assert len(drain(lane, 10, now=1.0)) == 1


def test_late_events_come_late():
    """What comes after an idle while, earlier than what was given out, does not turn time back."""
    lane = make(topics="tq")
    feed(lane, "t", [5], 0, 1)
    lane.end("t")
    lane.end("q")
    assert [known for known, *_ in drain(lane, 10, now=1.0)] == [5]
    feed(lane, "q", [3], 0, 1)
    lane.end("q")
    assert [known for known, *_ in drain(lane, 10, now=1.0)] == [5]


@pytest.mark.parametrize("both", [False, True])
def test_what_waits_is_bounded(monkeypatch, both):
    """A topic that is far ahead is not fetched any more; two that show no later time do not wait for ever."""
    monkeypatch.setattr(lanes, "MOST", 10)
    lane = make(topics="tq")
    feed(lane, "t", [7] * 10, 0, 10)
    assert lane.full == {"t"}
    assert drain(lane, 100) == []
    feed(lane, "q", [7 if both else 8] * 10, 0, 10)
    assert len(drain(lane, 100)) == (20 if both else 10)
    assert lane.full == (set() if both else {"q"})


def test_clock_ticks_while_all_is_quiet():
    """Time goes on from the last event by what has passed since it came, and only where all topics are at their ends."""
    lane = make(topics="tq", tick=0.5)
    assert drain(lane, 10, now=5.0) == [], "without an event nobody knows the time"
    feed(lane, "t", [5], 0, 1)
    lane.end("t")
    assert lane.next(10, 9.0) is None, "the quotes may be far behind"
    lane.end("q")
    assert len(lane.next(10, 9.0)) == 1
    tick = lane.next(10, 9.0)
    assert (tick.start, tick.now.tolist(), len(tick.trades)) == (1, [5 + 9 * SECOND], 0)
    assert lane.next(10, 9.4) is None, "the next is due half a second later"
    assert lane.next(10, 9.5).now.tolist() == [5 + 9 * SECOND + SECOND // 2]


def test_no_tick_while_behind():
    """A lane that is still fetching what has piled up makes no time of its own."""
    lane = make(topics="t", tick=0.5)
    feed(lane, "t", [5], 0, 1)
    assert len(drain(lane, 10)) == 1
    assert lane.next(10, 100.0) is None


def test_numbers_outlive_a_restart():
    """Symbols, conditions and series have the same numbers after a restart, since the states of stages use them."""
    lane = make()
    for name in ("ES", "NQ"):
        lane.symbols.number(name)
    lane.symbols.condition("@,F", True)
    lane.symbols.series(1, 60)
    again = make(lane.cursor())
    assert again.symbols.names == lane.symbols.names
    assert again.symbols.conditions == lane.symbols.conditions
    assert (again.symbols.series_symbol, again.symbols.series_step) == ([1], [60])
