"""The signal store as a source: where it begins, what it does when the store fails, what it reports."""

import asyncio

import pytest
from torghut_sources.signal_store import ClickHouseSignals

from support.waiting import PATIENCE
from tests.plugins.signal_store.conftest import SECOND, T0, Stored, Story, keys, store_rows
from torghut_core import Connection, InputError, SettingsError, StateError

MINUTE = 60 * SECOND


def es(*starts, **fields):
    return [Stored("ES", start, **fields) for start in starts]


def test_rows_come_with_their_bars_when_they_were_known():
    """A row is an event: its bar as a source event, its signal beside it, known at the bar's end."""
    batch = Story([es(0, 1)]).run().batches[0]

    assert (batch.start, len(batch), len(batch.bars), len(batch.signals)) == (0, 2, 2, 2)
    assert batch.now.tolist() == [T0 + SECOND, T0 + 2 * SECOND]
    assert batch.bars.at.tolist() == [0, 1]
    assert batch.bars.close.tolist() == batch.signals.close.tolist() == [100.0, 101.0]
    assert batch.bars.count.tolist() == [3, 3]
    assert batch.signals.seq.tolist() == [T0 // SECOND, T0 // SECOND + 1]


def test_bars_of_every_length_come_when_they_end():
    """A minute's bar ends with its last second: it is found there, though it began long before the look-back."""
    played = Story([es(*range(59)), [*es(59), Stored("ES", 0, step=MINUTE)], es(60)]).run()

    assert played.given[-3:] == keys(Stored("ES", 0, step=MINUTE), *es(59, 60))
    assert len(played.given) == 62
    assert played.counted["clickhouse_signals_late_total"] == 0


def test_a_symbol_that_lags_loses_nothing():
    """Where one partition is ten minutes behind another, each is read from its own place."""
    played = Story([es(0, 600), [Stored("NQ", start) for start in (0, 1, 2)], [Stored("NQ", 3)]]).run()

    assert played.given == keys(*es(0, 600), *(Stored("NQ", start) for start in range(4)))
    assert played.now[-1] == T0 + 601 * SECOND


def test_a_late_row_is_counted_and_not_given():
    """A row older than the last one is not given to strategies: the next batch and a metric count it."""
    played = Story([es(0, 2), es(1), es(3)]).run()

    assert played.given == keys(*es(0, 2, 3))
    assert [batch.late for batch in played.batches] == [0, 1]
    assert played.counted["clickhouse_signals_late_total"] == 1


def test_a_row_that_was_written_again_is_counted_and_not_given():
    """Reading a row again in each look-back is no duplicate; a new version of it is one."""
    played = Story([es(0), [], es(0, version=5), [], es(1)]).run()

    assert played.given == keys(*es(0, 1))
    assert [batch.duplicates for batch in played.batches] == [0, 1]


def test_a_signal_waits_for_its_bar():
    """Where the bar comes a poll later than the signal, both and the rows after them are given then, in order."""
    played = Story([es(0), [*es(1, is_priced=False), *es(2)], es(1)]).run()

    assert played.given == keys(*es(0, 1, 2))
    assert played.counted["clickhouse_signals_unpriced_total"] == 0


def test_a_signal_without_a_bar_is_left_out_after_the_look_back():
    """A signal without a price is skipped after the look-back, and a metric counts it."""
    played = Story([es(0), es(1, is_priced=False), es(2), es(20), es(21)]).run()

    assert played.given == keys(*es(0, 2, 20, 21))
    assert played.counted["clickhouse_signals_unpriced_total"] == 1


def test_signals_of_a_venues_own_bars_hold_nothing_back():
    """They are a series without prices in the store: left out and counted, and the minutes made of trades come at once."""
    minutes = [
        Stored("ES", minute, 60 * SECOND, of_venue=of_venue) for minute in range(3) for of_venue in (True, False)
    ]
    played = Story([[row] for row in minutes]).run()

    assert played.given == keys(*(row for row in minutes if not row.of_venue))
    assert played.counted["clickhouse_signals_unpriced_total"] == 3


def test_a_signal_without_a_bar_is_left_out_when_nothing_follows_it():
    """The last signal of a silent symbol is skipped when the look-back has passed by the clock, so time goes on."""

    def wait(story):
        story.mono += 6.0

    played = Story([[*es(0), *es(1, is_priced=False)], wait, wait, []]).run()

    assert played.given == keys(*es(0))
    assert played.counted["clickhouse_signals_unpriced_total"] == 1
    assert [int(batch.now[0]) - T0 for batch in played.batches] == [SECOND, 3 * SECOND]


def test_it_begins_with_what_is_new():
    """Without a cursor only what is stored from now on is traded, and the look-back before it."""
    played = Story([es(*range(100)), es(100)], start="newest", look_back_s=3).run()

    assert played.given == keys(*es(96, 97, 98, 99, 100))


def test_an_empty_store_has_nothing_old():
    """Everything that comes into a store that was empty is new."""
    assert Story([[], es(0), es(1)], start="newest", look_back_s=3).run().given == keys(*es(0, 1))


def test_a_symbol_that_becomes_wanted_begins_with_what_is_new():
    """Rows from before a symbol was wanted are not given, nor those from a time in which it was not wanted."""
    played = Story(
        [
            [*es(0, 50), Stored("NQ", 0), Stored("NQ", 49)],
            lambda story: story.universe.become("ES", "NQ"),
            lambda story: story.universe.become("NQ"),
            es(51, 52),
            [Stored("NQ", 100)],
            lambda story: story.universe.become("ES", "NQ"),
            es(100),
        ],
        symbols=("ES",),
        start="newest",
    ).run()

    assert played.given == keys(*es(50), Stored("NQ", 49), Stored("NQ", 100), *es(100))


def test_the_setting_says_how_far_back_it_starts(monkeypatch):
    """Without a cursor it starts so many minutes before the newest row; late rows are looked for in the look-back alone."""
    rows = [es(*range(200)), es(200)]
    short = Story(rows, start="newest", look_back_s=3).run()
    monkeypatch.setenv("TRADING_SIGNAL_LOOKBACK_MINUTES", "2")
    long = Story(rows, start="newest", look_back_s=3).run()
    assert len(long.given) == len(short.given) + 117
    assert long.given[-len(short.given) :] == short.given


def test_a_restart_resumes_where_it_was():
    """Rows that came during the restart are given, those that were given before are not."""
    first = Story([es(0, 1, 2)]).run()
    second = Story([es(0, 1, 2, *range(3, 90))], cursor=first.cursors[-1], start="newest").run()

    assert second.given == keys(*es(*range(3, 90)))
    assert second.batches[0].start == 3


def test_a_store_that_fails_closes_a_gate_and_is_asked_again():
    """The source retries with growing pauses, the gate says why, and rows that came meanwhile are given afterwards."""
    failures = [StateError("ClickHouse at x: cannot read (fix it)") for _ in range(4)]
    played = Story([es(0), *failures, es(1), []], poll_ms=1000).run()

    assert played.given == keys(*es(0, 1))
    reasons = [gates["store"].reason if gates["store"] else "" for gates in played.gates]
    assert reasons == ["", *["ClickHouse at x: cannot read (fix it)"] * 4, "", ""]
    assert played.slept[1] < 2 < played.slept[3]
    assert max(played.slept) <= 30
    assert played.counted["clickhouse_signals_errors_total"] == 4


def test_error_classes_of_the_store_are_kept():
    """The gate has the store's error class, so that metrics have few and meaningful labels."""

    class Classed(StateError):
        error_class = "too-many-parts"

    assert Story([es(0), Classed("x"), []]).run().gates[1]["store"].error_class == "too-many-parts"


def test_other_errors_are_not_swallowed():
    """An unexpected exception ends the source."""

    class Broken(Story):
        def signals_since(self, *_args, **_options):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Broken([es(0)]).run()


def test_old_rows_close_the_freshness_gate():
    """The freshness gate closes without rows and on old ones; a rehearsal with an old tape switches it off."""

    def later(story):
        story.wall = T0 + 300 * SECOND

    played = Story([[], es(0), later]).run()
    assert [gates["freshness"] and gates["freshness"].error_class for gates in played.gates] == [
        "no-rows",
        None,
        "stale",
    ]
    assert played.source.metrics()["clickhouse_signals_lag_ms"] == 299_000
    assert Story([[], later], fresh_after_s=None).run().gates[-1]["freshness"] is None


def test_old_rows_are_never_given_with_the_gate_open():
    """After a restart, or when TA catches up, a page holds hours: its old rows are not traded as if they were new.

    That the newest row of a page is fresh says nothing of those before it: they come in batches of their own.
    """
    given = []

    def catch_up(story):
        story.wall = T0 + 480 * MINUTE + 30 * SECOND
        store_rows(story.store, es(*range(480), step=MINUTE))

    def trade(batch):
        closed = played.source.gates()["freshness"]
        given.append((len(batch), closed and closed.error_class, closed.reason if closed else ""))

    played = Story([catch_up, []], trade=trade)
    played.run()

    assert [(rows, error_class) for rows, error_class, _ in given] == [(478, "stale"), (2, None)]
    assert "28,770 s old, more than 120 s" in given[0][2]
    assert played.gates[-1]["freshness"] is None


def test_a_symbol_that_lags_closes_the_gate_for_its_own_rows_alone():
    """The gate is closed for the batch with one symbol's old rows, and open for the other symbol's fresh ones."""
    is_open = []

    def begin(story):
        story.wall = T0 + 601 * SECOND
        store_rows(story.store, es(600))

    def trade(batch):
        is_open.append((batch.symbols.names[batch.bars.symbol[0]], played.source.gates()["freshness"] is None))

    played = Story([begin, [Stored("NQ", 0), Stored("NQ", 1)], es(601), []], trade=trade)
    played.run()

    assert is_open == [("ES", True), ("NQ", False), ("ES", True)]
    assert [gates["freshness"] for gates in played.gates] == [None, None, None, None]


def test_a_clock_that_is_slow_makes_nothing_fresh():
    """Where the newest row is ahead of this machine's clock, the gate says that a clock is wrong."""

    def behind(story):
        story.wall -= 3600 * SECOND
        store_rows(story.store, es(0, 3599))

    played = Story([behind, []]).run()
    closed = played.gates[-1]["freshness"]
    assert closed.error_class == "ahead"
    assert "7,200 s ahead" in closed.reason


def test_time_advances_when_nothing_comes():
    """After the look-back each poll gives a tick, as far behind as rows may be late, so that it overtakes no row."""

    def wait(story):
        story.mono += 4.0

    played = Story([es(0), wait, wait, wait, wait, es(5)]).run()
    ticks = [batch for batch in played.batches if not len(batch.bars)]

    assert [int(tick.now[0]) - T0 for tick in ticks] == [3 * SECOND, 7 * SECOND]
    assert [batch.start for batch in played.batches] == [0, 1, 2, 3]
    assert played.now == sorted(played.now)


def test_no_tick_passes_over_a_gap():
    """While the store does not answer, or a signal waits for its bar, there are no ticks."""

    def wait(story):
        story.mono += 11.0

    def fail_after_a_wait(story):
        wait(story)
        story._error = StateError("gone")

    def wait_with_a_signal(story):
        wait(story)
        store_rows(story.store, es(1, is_priced=False))

    assert len(Story([es(0), fail_after_a_wait]).run().batches) == 1
    assert len(Story([es(0), wait_with_a_signal]).run().batches) == 1


def test_the_environment_says_how_often_to_poll(monkeypatch):
    """TRADING_POLL_MS is the default of `poll_ms`; an invalid value is an error at once."""
    monkeypatch.setenv("TRADING_POLL_MS", "250")
    assert Story([[]], poll_ms=None).run().slept == [0.25]
    for nonsense in ("often", "0", "-3"):
        monkeypatch.setenv("TRADING_POLL_MS", nonsense)
        with pytest.raises(SettingsError, match="TRADING_POLL_MS"):
            Story([[]], poll_ms=None)


def test_it_needs_a_store_and_a_connection():
    """A missing store, and a source that is not connected, are errors before anything is traded."""
    source = ClickHouseSignals(ClickHouseSignals.Params())
    with pytest.raises(SettingsError, match="needs a signal store"):
        source.connect(Connection(is_live=False, secret=lambda _name: pytest.fail("no secrets")))

    async def first():
        async with asyncio.timeout(PATIENCE):
            await anext(source.batches(10))

    with pytest.raises(InputError, match="not connected"):
        asyncio.run(first())
