"""In whatever order rows are stored and read: each is given once, none is lost, and time never goes back."""

from collections import defaultdict

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from support.effort import examples
from tests.plugins.signal_store.conftest import SECOND, Stored, Story, keys

LOOK_BACK_S = 10

rows = st.builds(
    Stored,
    symbol=st.sampled_from(["ES", "NQ"]),
    start=st.integers(0, 6),
    step=st.sampled_from([SECOND, 2 * SECOND]),
    is_priced=st.sampled_from([True, True, True, False]),
    version=st.integers(0, 1),
)
deliveries = st.lists(st.lists(rows, max_size=6), min_size=1, max_size=6)
jumps = st.lists(
    st.lists(
        st.builds(
            Stored,
            symbol=st.just("ES"),
            start=st.integers(0, 60),
            step=st.just(SECOND),
            is_priced=st.booleans(),
            version=st.just(0),
        ),
        max_size=4,
    ),
    max_size=6,
)
few = examples(30)


def by_series(given_rows):
    series = defaultdict(list)
    for symbol, event_ts, step in given_rows:
        series[symbol, step].append(event_ts)
    return series


@few
@given(deliveries)
def test_each_row_is_given_once_and_series_never_run_back(story):
    """In whatever order rows arrive within the look-back, and however often they are written: each series ascends."""
    played = Story(story).run()
    for times in by_series(played.given).values():
        assert times == sorted(set(times))
    assert played.now == sorted(played.now)


@few
@given(deliveries, st.integers(1, 7), st.lists(st.integers(0, 3)), st.integers(1, 5))
def test_the_gate_is_open_for_a_batch_if_all_of_it_is_fresh(story, size, waits, fresh_after_s):
    """However slowly batches are traded meanwhile, none has a row that is too old with the gate open, or closed without."""
    limit = fresh_after_s * SECOND

    def trade(batch):
        if len(batch.bars):
            oldest = int((batch.bars.event_ts + batch.bars.step).min())
            is_open = played.source.gates()["freshness"] is None
            is_fresh = played.wall - oldest <= limit and newest() - played.wall <= limit
            assert is_open == is_fresh
        played.wall += (waits.pop() if waits else 0) * SECOND

    def newest():
        return max(track.newest for track in played.source._tracks.values() if track.seen)

    played = Story(story, size=size, fresh_after_s=fresh_after_s, trade=trade)
    played.run()


@few
@given(deliveries)
def test_no_row_is_lost_without_a_count(story):
    """Every row that has a bar is given, or counted as late; the rest waits for its bar, and what came after it."""
    played = Story(
        [[row._replace(is_priced=True, of_venue=False) for row in delivery] for delivery in story], look_back_s=20
    ).run()
    stored = {key for delivery in story for key in keys(*delivery)}
    assert set(played.given) <= stored
    assert len(played.given) + played.counted["clickhouse_signals_late_total"] == len(stored)


@few
@given(deliveries, st.integers(1, 7), st.integers(1, 7))
def test_sizes_change_nothing(story, size, batch):
    """However many rows are asked for, and given, at a time: the same rows of each series, and the same counts."""
    first, second = Story(story).run(), Story(story, size=size, batch=batch).run()
    assert by_series(first.given) == by_series(second.given)
    for name in ("late", "rows", "unpriced"):
        assert first.counted[f"clickhouse_signals_{name}_total"] == second.counted[f"clickhouse_signals_{name}_total"]
    assert all(len(each) <= size for each in second.batches)
    starts = [each.start for each in second.batches]
    assert starts == [0, *(each.stop for each in second.batches)][: len(starts)]


@few
@given(deliveries, st.integers(1, 4), st.integers(1, 5), st.sets(st.integers(1, 20)))
def test_restarts_change_nothing(story, size, batch, restarts):
    """A source that is restarted after any batch gives the same rows as one that ran on."""
    whole = Story(story, size=size, batch=batch).run()
    broken = Story(story, size=size, batch=batch, restarts=restarts).run()
    assert by_series(broken.given) == by_series(whole.given)
    for name in ("late", "duplicates", "rows", "unpriced"):
        assert broken.counted[f"clickhouse_signals_{name}_total"] == whole.counted[f"clickhouse_signals_{name}_total"]
    assert [each.start for each in broken.batches] == [0, *(each.stop for each in broken.batches)][
        : len(broken.batches)
    ]


@few
@given(jumps, st.integers(1, 7))
def test_a_series_waits_for_no_bar_beyond_the_look_back(story, batch):
    """Where time jumps and bars are missing: what has a bar is given, late or lies before the look-back when it comes."""
    played = Story([*story, [Stored("ES", 200)]], batch=batch).run()
    reached, lost, known = -1000, set(), {}
    for delivery in story:
        for row in delivery:
            known[row.start] = known.get(row.start, False) or row.is_priced
            if row.start + 1 < reached - LOOK_BACK_S:
                lost.add(row.start)
        reached = max([reached, *(row.start + 1 for row in delivery)])
    priced = {start for start, is_priced in known.items() if is_priced} | {200}
    given_starts = {(event_ts - Stored("ES", 0).event_ts) // SECOND for _, event_ts, _ in played.given}
    assert given_starts <= priced
    late = played.counted["clickhouse_signals_late_total"]
    unpriced = played.counted["clickhouse_signals_unpriced_total"]
    assert len(given_starts) + late + unpriced + len(lost) >= len(known | {200: True})


@few
@given(deliveries)
def test_seen_rows_are_forgotten_behind_the_look_back(story):
    """The cursor holds no more than the look-back, however long the source has run."""
    played = Story([*story, [Stored("ES", 500), Stored("NQ", 500)], []]).run()
    kept = played.source.cursor()["symbols"]
    assert all(len(kept[symbol]["seen"]) == 1 for symbol in ("ES", "NQ"))


@few
@given(deliveries)
def test_columns_of_a_signal_are_its_bar_s(story):
    """A signal shares the integers of its bar, and has its close; values belong to their rows."""
    for batch in Story(story).run().batches:
        assert batch.signals.ints is batch.bars.ints
        np.testing.assert_array_equal(batch.signals.close, batch.bars.close)
        np.testing.assert_array_equal(batch.signals.macd, batch.bars.close)
        np.testing.assert_array_equal(batch.signals.rsi14, batch.bars.close + 5)
