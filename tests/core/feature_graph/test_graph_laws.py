"""Laws of the graph of features, over generated values and tapes: how it is fed changes nothing, and nothing is early."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from support.features import Pipeline, Tape, bits, find, planned, restarted, run, shown
from torghut_core import MINUTE, Bars, Batch, SymbolTable
from torghut_core.feature_graph import FeatureGraph, Planner
from torghut_core.features import (
    bollinger,
    close,
    column,
    cross_above,
    cross_below,
    ema,
    gap,
    high,
    larger,
    log,
    rank,
    sma,
    sqrt,
    volume,
    where,
)
from torghut_core.reload.warm_up import stored
from torghut_core.signals import MemorySignalStore

SYMBOLS = ("A", "B", "C")
NAN, INF = float("nan"), float("inf")

leaves = st.sampled_from(
    [close, volume, high, column("ema12"), close.of("B"), high.of("X"), close.on("5Min"), ema(3, timeframe="5Min")]
)
spans = st.integers(1, 4)


def larger_values(values):
    pairs = st.tuples(values, values)
    return st.one_of(
        st.builds(lambda value, bars: value.shift(bars), values, spans),
        st.builds(ema, values, spans),
        st.builds(sma, values, spans),
        st.builds(lambda value: gap(value, 2)["gap"], values),
        st.builds(lambda value: bollinger(value, 3)["upper"], values),
        pairs.map(lambda two: two[0] + two[1]),
        pairs.map(lambda two: two[0] / two[1] - 1.5),
        pairs.map(lambda two: where(two[0] > two[1], two[0], 2)),
        pairs.map(lambda two: where((two[0] <= two[1]) | ~(two[1] < 100), two[1].shift(1), two[0])),
        pairs.map(lambda two: cross_above(*two)),
        pairs.map(lambda two: cross_below(*two) & (two[0] >= 0)),
        pairs.map(lambda two: larger(log(two[0]), sqrt(abs(-two[1])))),
        values.map(rank),
        values.map(lambda value: unless_refused(value, value.on, "5Min")),
        values.map(lambda value: unless_refused(value, value.of, "C")),
    )


def unless_refused(value, change, name):
    """The value of another symbol, or timeframe; itself where it is of one already."""
    try:
        return change(name)
    except ValueError:
        return value


values = st.recursive(leaves, larger_values, max_leaves=5)
features = st.lists(values, min_size=1, max_size=3).map(lambda some: {f"f{i}": value for i, value in enumerate(some)})


@st.composite
def tapes(draw, symbols=("A", "B", "C", "X"), always=()):
    """Bars of some minutes: symbols come and go, but for some; prices jump, volumes are none; in any order within a minute."""
    seed, minutes = draw(st.integers(0, 2**32)), draw(st.integers(3, 25))
    rng = np.random.default_rng(seed)
    rows = [
        (minute, name)
        for minute in range(minutes)
        for name in rng.permutation(symbols).tolist()
        if name in always or rng.random() < draw(st.sampled_from([0.5, 0.9, 1.0]))
    ]
    minute, names = np.array([row[0] for row in rows], np.int64), [row[1] for row in rows]
    prices = rng.choice([0.1, 1.0, 99.5, 100.0, 100.5, 1e-9, 1e9, 101.25], len(rows)) + rng.random(len(rows)).round(1)
    return Tape(names, minute, prices, rng.choice([0.0, 1.0, 100.0], len(rows)))


def cuts(tape):
    return st.lists(st.integers(0, len(tape)), max_size=6)


@examples(300, quick=25)
@given(st.data())
def test_batches_restarts_and_other_tables_of_symbols_change_nothing(data):
    """However a tape is cut, and whatever is saved and loaded or renumbered in between: the same values, to the bit."""
    tape = data.draw(tapes())
    plan = planned(data.draw(features), SYMBOLS, finder=find)
    whole = bits(run(plan, tape))
    parts = data.draw(cuts(tape))
    assert bits(run(plan, tape, range(1, len(tape)))) == whole
    assert bits(run(plan, tape, parts, at_cut=restarted)) == whole
    assert bits(run(plan, tape, parts, other_tables=True)) == whole
    assert bits(run(plan, tape, parts, at_cut=restarted, other_tables=True)) == whole


@examples(300, quick=25)
@given(st.data())
def test_nothing_that_comes_later_is_known(data):
    """A value stays what it is when the events after it are cut off, or are others."""
    tape = data.draw(tapes())
    plan = planned(data.draw(features), SYMBOLS)
    whole = run(plan, tape)
    position = data.draw(st.integers(0, len(tape)))
    early = run(plan, tape.rows(0, position))
    assert bits(early) == bits(whole[: len(early)])
    assert all(at >= position - 1 for _, _, at, _ in whole[len(early) :])  # a slice waits for the event after it
    other = Tape(tape.symbol, tape.minute, tape.close.copy(), tape.volume.copy())
    other.close[position:] *= 3
    before = [row for row in run(plan, other) if row[2] < position]
    assert bits(before) == bits([row for row in whole if row[2] < position])


@examples(200, quick=15)
@given(st.data())
def test_order_of_symbols_within_a_minute_changes_no_value_of_slices(data):
    """Rows of one time are one slice: where other symbols are looked at, their order in the stream does not matter."""
    tape = data.draw(tapes())
    plan = planned(data.draw(features), SYMBOLS, is_sliced=True)
    order = np.lexsort((np.random.default_rng(data.draw(st.integers(0, 9))).random(len(tape)), tape.minute))
    mixed = Tape([tape.symbol[i] for i in order], tape.minute, tape.close[order], tape.volume[order])
    one, other = (run(plan, each, pipeline=Pipeline(lateness_ms=2000)) for each in (tape, mixed))
    assert values_of(one) == values_of(other)


def values_of(rows):
    return [(symbol, event_ts, np.array(found).tobytes()) for symbol, event_ts, _, found in rows]


@examples(200, quick=15)
@given(st.data())
def test_a_symbols_values_are_of_its_own_bars_alone(data):
    """Without the rows of others, a symbol's values are the same, unless it asks for those of others.

    It has a bar in each minute: else a window of five minutes may end where only others say that the time is later.
    """
    tape = data.draw(tapes(always=("A",)))
    alone = st.recursive(
        st.sampled_from([close, volume, close.on("5Min")]),
        lambda inner: st.one_of(
            st.builds(lambda value, span: ema(value, span).shift(1), inner, spans),
            inner.map(lambda value: gap(value)["gap"] + close),
        ),
        max_leaves=3,
    )
    plan = planned({"f": data.draw(alone)}, SYMBOLS)
    mine = [i for i, symbol in enumerate(tape.symbol) if symbol == "A"]
    only = Tape(["A"] * len(mine), tape.minute[mine], tape.close[mine], tape.volume[mine])
    whole = [row for row in run(plan, tape, pipeline=Pipeline(lateness_ms=2000)) if row[0] == "A"]
    assert values_of(run(plan, only, pipeline=Pipeline(lateness_ms=2000))) == values_of(whole)


@examples(200, quick=20)
@given(st.data())
def test_features_that_exist_carry_on_over_a_reload_and_new_ones_know_the_past(data):
    """After a reload all values are those of a graph that had them from the start, where the store has all bars."""
    tape = data.draw(tapes())
    old, new = data.draw(features), data.draw(features)
    both = old | {f"new{name}": value for name, value in new.items()}
    whole = run(planned(both, SYMBOLS, is_sliced=True), tape)
    position = data.draw(st.integers(1, max(1, len(tape) - 1)))
    store, pipeline = MemorySignalStore(), Pipeline()

    class Storing(Pipeline):
        def update(self, batch):
            batch = pipeline.update(batch)
            kept = Batch.of(batch.symbols, batch.start, batch.now)
            kept.microbars, kept.signals = Bars.concatenate([batch.bars, batch.microbars]), batch.signals
            store.write(kept)  # which has no bars of the venue's
            return batch

    def reload(graph, start):
        plan = planned(both, SYMBOLS, is_sliced=True)
        bars = dict.fromkeys(plan.symbols, 10_000)
        now = int(tape.batch(SymbolTable(), 0, start).now[-1])
        again = FeatureGraph(plan)
        again.update(past := stored(store, plan, bars, None, now))
        again.skip_shown(past)
        assert again.resume(graph) == plan.nodes.keys() - graph.plan.nodes.keys()
        return again

    found = run(planned(old, SYMBOLS, is_sliced=True), tape, [position], at_cut=reload, pipeline=Storing())
    mine, all_of_them = ([row for row in rows if row[0] in SYMBOLS] for rows in (found, whole))
    for (*head, values), (*expected, whole_values) in zip(mine, all_of_them, strict=True):
        assert head == expected
        assert np.array(values).tobytes() == np.array(whole_values[: len(values)]).tobytes()


def test_a_shift_into_the_future_cannot_be_written():
    """It says so where it is written."""
    with pytest.raises(ValueError, match="look ahead"):
        close.shift(-1)
    with pytest.raises(ValueError, match="look ahead"):
        (close + 1).shift(-1)


def test_equal_values_share_a_node_also_between_strategies():
    """Parameters by place, by name and by default are the same; other ones are not."""
    planner = Planner(find)
    planner.add("one", {"a": ema(20), "b": ema(close, span=20)}, MINUTE, ["A"])
    planner.add("two", {"c": ema(), "d": ema(21), "e": ema(20).shift(1)}, MINUTE, ["B"])
    one, two = planner.plan.wanted["one"], planner.plan.wanted["two"]
    assert {*one.nodes} == {two.nodes[0]}
    assert len({*two.nodes}) == 3
    assert sum(node.plugin == "ema" for node in planner.plan.nodes.values()) == 2


def test_what_is_not_finite_is_not_known():
    """No value is infinite, whatever is divided by nothing; and NaN is no true condition."""
    tape = Tape(["A"] * 4, np.arange(4), np.array([1.0, 2.0, NAN, 4.0]), np.array([0.0, 1.0, 0.0, INF]))
    asked = {
        "ratio": close / volume,
        "up": close > close.shift(1),
        "one_of": where(close > 1.5, volume, close),
        "mean": sma(2),
        "count": gap()["count"],
    }
    found = np.array([values for *_, values in run(planned(asked, ["A"]), tape)])
    assert not np.isinf(found[:, [0, 1, 3, 4]]).any()
    np.testing.assert_array_equal(found[:, 1], [NAN, 1.0, NAN, NAN])
    np.testing.assert_array_equal(found[:, 3], [NAN, 1.5, NAN, 3.0])
    np.testing.assert_array_equal(found[:, 4], [1.0, 2.0, NAN, 3.0])


def test_ranks_are_among_the_symbols_of_the_entry():
    """Another strategy's symbols, and those that are only looked at, do not count."""
    planner = Planner(find)
    planner.add("two", {"r": rank(close)}, MINUTE, ["X", "A"])
    planner.add("one", {"r": rank(close), "x": close.of("X").optional}, MINUTE, ["A", "B", "C"])
    tape = Tape(["C", "X", "A", "B", "A"], np.array([0, 0, 0, 0, 1]), np.array([3.0, 9, 1, 2, 1]), np.ones(5))
    rows = {symbol: values[0] for symbol, _, _, values in run(planner.plan, tape)}
    assert rows == {"A": 0.0, "B": 0.5, "C": 1.0, "X": pytest.approx(NAN, nan_ok=True)}


def test_a_cross_of_timeframes_compares_bars_of_the_strategys_own():
    """Before is a minute before, with what was known then; not the hour before."""
    closes = np.array([1.0, 1, 1, 1, 1, 3, 4, 5, 6, 2, 9])
    tape = Tape(["A"] * len(closes), np.arange(len(closes)), closes, np.ones(len(closes)))
    found = [values[0] for *_, values in run(planned({"up": cross_above(close, close.on("5Min") + 1)}, ["A"]), tape)]
    np.testing.assert_array_equal(found, [NAN] * 5 + [1.0, 0, 0, 0, 0, 1.0])


def test_several_bars_of_one_time_are_slices_of_their_own():
    """After a quiet spell two minutes become known at once: each is ranked, and looks at others, by itself."""
    tape = Tape(["A", "B", "A", "B", "X"], np.array([0, 0, 1, 1, 2]), np.array([10.0, 20, 40, 30, 1]), np.ones(5))
    batch = tape.batch(SymbolTable(), 0, 5)
    batch.now[:4] = batch.now[3]  # all of them are known with the last of them
    plan = planned({"place": rank(close), "other": close.of("A")}, ["A", "B", "X"], is_sliced=True)
    graph = FeatureGraph(plan)
    graph.update(Pipeline().update(batch))
    assert [(symbol, found) for symbol, _, _, found in shown(graph)] == [
        ("A", (0.0, 10.0)), ("B", (1.0, 10.0)), ("A", (1.0, 40.0)), ("B", (0.0, 40.0))
    ]  # fmt: skip
