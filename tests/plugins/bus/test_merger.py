"""The order of a lane's events, as laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.bus import merger
from torghut_sources.bus.merger import MISSED_SECONDS, LaneMerger
from torghut_sources.bus.records import MARKS
from torghut_sources.tape.rows import BARS, QUOTES, TRADES

from torghut_core import Bars, Quotes, Trades

from .conftest import events

KINDS = {"t": TRADES, "q": QUOTES, "b": BARS}
MARKED = {"t": TRADES, "q": QUOTES, "m": MARKS}
ORDER = {"b": 0, "q": 1, "t": 2}
START = {"t": 10, "q": 20, "b": 30, "m": 40}
SECOND = 1_000_000_000

times = st.lists(st.integers(0, 12), max_size=12)
rising = st.lists(st.integers(0, 12), max_size=12, unique=True).map(sorted)


def table(topic, times, first, symbol):
    """Events of these times, numbered from `first` on."""
    numbers = np.arange(first, first + len(times))
    if topic == "t":
        columns = {"price": numbers + 1, "size": np.ones(len(times))}
        return Trades.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, **columns)
    if topic == "q":
        return Quotes.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, bid_price=numbers + 1)
    return Bars.from_columns(event_ts=times, symbol=[symbol] * len(times), seq=numbers, step=[2] * len(times))


def make(cursor=None, topics=KINDS, tick=0.0, now=0.0):
    kinds = {topic: {**KINDS, **MARKED}[topic] for topic in topics}
    offsets = {topic: START[topic] for topic in topics} if cursor is None else cursor["offsets"]
    return LaneMerger("0", kinds, offsets, now, idle=1.0, tick=tick, cursor=cursor)


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


@given(st.fixed_dictionaries({"t": times, "q": times, "b": rising}), st.data())
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
            assert sum(cursor["offsets"].values()) - sum(START[topic] for topic in series) == len(found)
            lane = make(cursor)
            done = {topic: offset - START[topic] for topic, offset in cursor["offsets"].items()}
    for topic in series:
        lane.end(topic)
    found += drain(lane, 4, now=1.0)
    assert found == merged(series)


@given(times, times)
def test_nothing_is_given_out_too_early(trades, quotes):
    """An event is held back until the other topic has shown that nothing earlier is to come."""
    lane = make(topics="tq")
    if trades:
        feed(lane, "t", trades, 0, len(trades))
    assert drain(lane, 3) == [], "it is unknown whether earlier quotes come"
    if quotes:
        feed(lane, "q", quotes, 0, len(quotes))
    found = drain(lane, 3)
    assert found == merged({"t": trades, "q": quotes})[: len(found)]
    horizon = min(max(trades, default=-1), max(quotes, default=-1))
    assert len([event for event in found if event[0] < horizon]) == sum(
        known < horizon for known, *_ in merged({"t": trades, "q": quotes})
    )


def test_one_topic_does_not_wait():
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


def test_idle_topic_does_not_hold_up_the_others():
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
    monkeypatch.setattr(merger, "MOST_WAITING", 10)
    lane = make(topics="tq")
    feed(lane, "t", [7] * 10, 0, 10)
    assert lane.full == {"t"}
    assert drain(lane, 100) == []
    feed(lane, "q", [7 if both else 8] * 10, 0, 10)
    assert len(drain(lane, 100)) == (20 if both else 10)
    assert lane.full == (set() if both else {"q"})


def test_clock_ticks_while_all_is_quiet():
    """A tick is the last event's time plus what has passed since it came, and needs all topics read to their ends."""
    lane = make(topics="tq", tick=0.5)
    assert drain(lane, 10, now=5.0) == [], "without an event the time is unknown"
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


class Log:
    """What a forwarder has sent: events in order of time, and marks that say where its topics ended."""

    def __init__(self):
        self.time = 0
        self.sent = {"t": [], "q": [], "m": []}

    def send(self, topic, later):
        self.time += later
        ends = {name: START[name] + len(times) for name, times in self.sent.items() if times and name != "m"}
        self.sent[topic].append(self.time if topic != "m" else (self.time, ends))

    def read(self, lane, topic, start, stop, now):
        """What a lane gets of a topic, and whether that was the end of it."""
        sent = self.sent[topic][start:stop]
        if sent and topic == "m":
            moments, offsets = np.array([moment for moment, _ in sent]), START["m"] + np.arange(start, stop)
            lane.add_marks("m", moments, [ends for _, ends in sent], offsets, START["m"] + stop, now)
        elif sent:
            rows = table(topic, sent, start, lane.symbols.number("ES"))
            lane.add(topic, rows, START[topic] + np.arange(start, stop), START[topic] + stop, now)
        if stop == len(self.sent[topic]):
            lane.end(topic)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("tqm"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["read t", "read q", "read m"]), st.integers(0, 6)),
        st.tuples(st.sampled_from(["wait", "give", "restart"]), st.integers(1, 4)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_marks_make_nothing_late(steps, is_prompt):
    """However topics and marks are read, over restarts too: a mark comes after its events, and every event comes once.

    Where the topics are read as fast as they are written, no event comes after a later one or a later mark: not after a
    gap without marks either.
    """
    log, lane, now, found = Log(), make(topics=MARKED), 0.0, []
    done = dict.fromkeys(MARKED, 0)

    def read(topic, most):
        start = done[topic]
        done[topic] = min(start + most, len(log.sent[topic]))
        log.read(lane, topic, start, done[topic], now)

    def give(size, most=None):
        count = 0
        while count != most and (batch := lane.next(size, now)) is not None:
            count += 1
            ats = {*batch.trades.at.tolist(), *batch.quotes.at.tolist()}
            rows = iter(events(batch))
            found.extend(
                next(rows) if at in ats else (int(batch.now[at - batch.start]), "mark")
                for at in range(batch.start, batch.stop)
            )

    for step, number in [
        *steps,
        ("read t", 99),
        ("read q", 99),
        ("read m", 99),
        ("wait", 1),
        ("give", 99),
        ("wait", 1),
    ]:
        if step in log.sent:
            log.send(step, number)
        elif step.startswith("read"):
            read(step[-1], number)
        elif step == "restart":
            cursor = lane.cursor()
            lane = make(cursor, MARKED, now=now)
            done = {topic: offset - START[topic] for topic, offset in cursor["offsets"].items()}
        elif step == "give":
            give(number, most=2)
        else:
            if is_prompt:
                for topic in done:
                    read(topic, 99)
            now += 1.0
            give(number)
    given = [event for event in found if event[1] != "mark"]
    assert sorted((channel, number) for _, channel, number, _ in given) == sorted(
        (KINDS[topic].name, number) for topic in "tq" for number in range(len(log.sent[topic]))
    )
    marks = iter(log.sent["m"])
    for place, event in enumerate(found):
        if event[1] == "mark":
            moment, ends = next(marks)
            before = [(channel, number) for _, channel, number, *_ in (each for each in found[:place] if len(each) > 2)]
            assert event[0] >= moment
            for topic, end in ends.items():
                wanted = {(KINDS[topic].name, number) for number in range(end - START[topic])}
                assert wanted <= set(before), "a mark came before what it is about"
    assert next(marks, None) is None
    if is_prompt:
        for known, channel, number, _ in given:
            assert known == log.sent["t" if channel == "trades" else "q"][number], "an event came late"


def test_marks_tell_of_quiet_topics():
    """A mark releases at once what waits for a topic that has nothing newer, and advances time without events."""
    lane, log = make(topics=MARKED), Log()
    for topic, later in (("q", 1), ("t", 4), ("m", 5)):
        log.send(topic, later)
    log.read(lane, "q", 0, 1, 0.0)
    log.read(lane, "t", 0, 1, 0.0)
    lane.end("m")
    assert [known for known, *_ in drain(lane, 10)] == [1], "the trade waits for quotes"
    log.read(lane, "m", 0, 1, 0.0)
    batch = lane.next(10, 0.0)
    assert batch.now.tolist() == [5, 10]
    assert len(batch.trades) == 1


def test_mark_that_came_first_waits_for_its_events():
    """A mark that is read before its events waits for them, though their topic was silent for long; and it says so."""
    lane, log = make(topics="tm"), Log()
    for topic in "tm":
        lane.end(topic)
    log.send("t", 7)
    log.send("m", 1)
    log.read(lane, "m", 0, 1, 100.0)
    assert lane.next(10, 100.0 + MISSED_SECONDS - 1) is None
    assert lane.missed(100.0 + MISSED_SECONDS - 1) is None
    assert lane.missed(100.0 + MISSED_SECONDS) == ("t", START["t"], START["t"] + 1)
    assert lane.next(10, 1_000.0) is None
    log.read(lane, "t", 0, 1, 1_000.0)
    assert lane.missed(2_000.0) is None
    assert lane.next(10, 1_000.0).now.tolist() == [7, 8]


def test_marks_of_a_lane_that_is_behind_hold_events_up():
    """While marks are still to be fetched, events wait for them: what has piled up comes in one order."""
    lane, log = make(topics="tm"), Log()
    for topic, later in (("t", 1), ("m", 1), ("t", 1), ("m", 1)):
        log.send(topic, later)
    log.read(lane, "t", 0, 2, 0.0)
    assert lane.next(10, 0.0) is None
    log.read(lane, "m", 0, 1, 0.0)
    assert lane.next(10, 0.0).now.tolist() == [1, 2]
    log.read(lane, "m", 1, 2, 0.0)
    assert lane.next(10, 0.0).now.tolist() == [3, 4]


def bars(lane, *starts, symbol="ES", step=60):
    number = lane.symbols.number(symbol)
    n = len(starts)
    return Bars.from_columns(event_ts=starts, symbol=[number] * n, seq=range(n), step=[step] * n)


def test_a_bar_that_comes_again_is_no_row():
    """A bar that is not newer than the last of its symbol and length is left out and counted, over a restart too."""
    lane = make(topics="b")
    assert lane.add("b", bars(lane, 0, 60, 0, 60, 120), np.arange(5), 35, 0.0) == 2
    assert lane.add("b", bars(lane, 60, step=30), np.arange(1), 36, 0.0) == 0, "another length is another series"
    assert lane.add("b", bars(lane, 60, symbol="NQ"), np.arange(1), 37, 0.0) == 0
    first = lane.next(2, 0.0)
    assert first.bars.event_ts.tolist() == [0, 60]
    again = make(lane.cursor(), "b")
    assert again.add("b", bars(again, 60, 120), np.arange(2), 40, 0.0) == 1, "120 was read, and never given out"
    assert again.next(9, 0.0).bars.event_ts.tolist() == [120]


def test_an_empty_topic_is_waited_for_after_each_event():
    """What comes of one topic waits as long as what was sent before it may take to come of the others."""
    lane = make(topics="tq")
    lane.end("t")
    lane.end("q")
    feed_at(lane, "q", [9], 0, now=10.0)
    assert lane.next(10, 10.5) is None
    feed_at(lane, "t", [5], 0, now=10.6)
    assert [known for known, *_ in drain(lane, 10, now=10.6)] == [5]
    assert [known for known, *_ in drain(lane, 10, now=11.7)] == [9]


def feed_at(lane, topic, times, start, now):
    """Records of a topic at a time, and its end."""
    rows = table(topic, times, start, lane.symbols.number("ES"))
    stop = START[topic] + start + len(times)
    lane.add(topic, rows, np.arange(START[topic] + start, stop), stop, now)
    lane.end(topic)


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


def test_an_event_of_the_kept_time_comes_after_a_restart():
    """A lane that resumes from a cursor gives out events of the cursor's own time, even if nothing later comes."""
    lane = make(topics="tq")
    for topic in "tq":
        lane.end(topic)
    feed_at(lane, "t", [5], 0, now=0.0)
    assert len(drain(lane, 10, now=1.0)) == 1
    lane = make(lane.cursor(), "tq", now=2.0)
    lane.end("q")
    feed_at(lane, "t", [5], 1, now=2.0)
    assert [number for _, _, number, _ in drain(lane, 10, now=3.0)] == [1]


def test_time_does_not_pass_over_records_that_were_not_read():
    """A lane that was not read for a while gives no clock tick before it has seen its ends again."""
    lane = make(topics="tq", tick=2.0)
    feed(lane, "t", [1, 2], 0, 2)
    for topic in "tq":
        lane.end(topic)
    assert len(drain(lane, 10, now=1.0)) == 2
    lane.forget_ends()
    assert lane.next(10, 60.0) is None
    feed(lane, "t", [1, 2, 3], 2, 3)
    for topic in "tq":
        lane.end(topic)
    assert [known for known, *_ in drain(lane, 10, now=61.0)] == [3]
