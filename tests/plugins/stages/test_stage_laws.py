"""The laws of every stage, on random streams: chunking, hand-over, no look-ahead, independence, conservation."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.microbars import Microbars
from torghut_sources.stages.resample import Resample

from support.effort import examples
from torghut_core import SymbolTable

TIMEFRAMES = ["1Min", "5Min", "1Day"]
CALENDARS = {"BTC/*": "24/7", "*": "XNYS"}

SETTINGS = examples(60)


def stages(lateness_ms=2000, seed="first"):
    return [
        Microbars(Microbars.Params(max_out_of_order_ms=lateness_ms)),
        Resample(Resample.Params(timeframes=TIMEFRAMES, max_out_of_order_ms=lateness_ms)),
        Indicators(Indicators.Params(calendars=CALENDARS, seed=seed)),
    ]


def pipelines():
    return st.builds(
        lambda ms, seed: (ms, seed), st.sampled_from([0, 500, 2000, 60_000]), st.sampled_from(["first", "sma"])
    )


@given(st.data())
@SETTINGS
def test_any_cut_of_the_stream_gives_the_same_output(tape, data):
    """Fed one by one, in any batches or all at once, the events give the same rows, positions and counts to the bit."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=400 * tape.SECOND)
    pipeline = data.draw(pipelines())
    whole = stream.run(stages(*pipeline))
    assert stream.run(stages(*pipeline), cuts=range(1, len(stream))) == whole
    assert stream.run(stages(*pipeline), cuts=data.draw(st.sets(st.integers(1, len(stream))))) == whole


@given(st.data())
@SETTINGS
def test_state_saved_and_loaded_in_between_changes_nothing(tape, data):
    """An instance that loads the state gives the rows that the old one would, also where symbols have other numbers."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=400 * tape.SECOND)
    pipeline = data.draw(pipelines())
    shuffled = data.draw(st.permutations(tape.SYMBOLS))

    def hand_over(old, _):
        new = stages(*pipeline)
        for one, other in zip(old, new, strict=True):
            other.load_state(copy.deepcopy(one.save_state()), one.state_version)
        symbols = SymbolTable()
        for name in shuffled:
            symbols.number(name)
        return new, symbols

    cuts = data.draw(st.sets(st.integers(1, len(stream)), max_size=3))
    assert stream.run(stages(*pipeline), cuts, hand_over) == stream.run(stages(*pipeline))


@given(st.data())
@SETTINGS
def test_later_events_change_no_earlier_output(tape, data):
    """Later events change no earlier output."""
    shared, tails = data.draw(tape.events()), [data.draw(tape.events()) for _ in range(2)]
    pipeline = data.draw(pipelines())
    outcomes = [tape.Stream([*shared, *tail]).run(stages(*pipeline)) for tail in tails]
    assert outcomes[0].until(len(shared)) == outcomes[1].until(len(shared))


@given(st.data())
@SETTINGS
def test_symbols_do_not_affect_each_other(tape, data):
    """Another symbol's events, put between as clock ticks, leave a symbol's rows as they are."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=400 * tape.SECOND)
    pipeline = data.draw(pipelines())
    whole = stream.run(stages(*pipeline))
    for symbol in tape.SYMBOLS:
        alone = copy.copy(stream)
        alone.events = [e if e.symbol == symbol else tape.Event("tick") for e in stream.events]
        assert alone.run(stages(*pipeline)).of(symbol) == whole.of(symbol)


@given(st.data())
@SETTINGS
def test_every_trade_is_in_a_bar_or_accounted_for(tape, data):
    """Trades in = trades in bars of a second + late + duplicates + excluded, once a clock has closed the last window."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=61 * tape.SECOND)
    outcome = stream.run(stages(data.draw(pipelines())[0])[:1])
    in_bars = sum(row[5] for row in outcome.bars)
    trades = sum(event.kind == "trade" for event in stream.events)
    assert trades == in_bars + outcome.late + outcome.duplicates + outcome.excluded


@given(st.data())
@SETTINGS
def test_derived_rows_are_in_order(tape, data):
    """Rows come in order of (position, time, symbol name, step), and a signal row stands for each bar."""
    stream = tape.Stream(data.draw(st.one_of(tape.events(), tape.bursts())), drain=400 * tape.SECOND)
    outcome = stream.run(stages())
    for rows in (outcome.bars, outcome.signals):
        keys = [(at, ts, name, step) for name, at, ts, _, step, *_ in rows]
        assert keys == sorted(keys)
    bars = sum(event.kind == "bar" for event in stream.events)
    assert len(outcome.signals) == len(outcome.bars) + bars


def test_state_with_other_shape_is_refused():
    """State that does not fit is a ValueError at hand-over, not a surprise at the first batch."""
    for stage in stages():
        with pytest.raises(ValueError, match="version"):
            stage.load_state(stage.save_state(), stage.state_version + 1)
    saved = stages()[2].save_state()
    with pytest.raises(ValueError, match="words"):
        stages()[2].load_state(saved | {"closes": np.zeros((1, 3), np.int64)}, 2)
