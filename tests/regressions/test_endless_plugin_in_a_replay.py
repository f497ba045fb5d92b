"""A strategy that did not return hung a replay for ever, and nothing said which one."""

import signal
import threading

import pytest

from torghut_core import Strategy
from torghut_core.features import close, sma
from torghut_core.research import backtest, backtests
from torghut_core.timestamps import MINUTE

BARS = {
    "event_ts": [minute * MINUTE for minute in range(20)],
    **dict.fromkeys(("open", "high", "low", "close", "volume"), [100.0] * 20),
}


class Endless(Strategy):
    """Never answers its third row."""

    def features(self):
        return {"average": sma(close, 3)}

    def on_signal(self, signal, context):
        while signal.event_ts >= 4 * MINUTE:
            pass


@pytest.fixture
def bars():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table(BARS)


def test_it_is_quarantined_by_name_and_the_replay_ends(bars, monkeypatch):
    """The reason says that a call took too long; the alarm is as it was before."""
    monkeypatch.setattr(backtests, "LONGEST_CALL_S", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    done = backtest(Endless, bars)
    ((_, strategy),) = done.totals.strategies.items()
    assert strategy.failure == "Overrun: it took more than 0.2 s of one call"
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class Still(Strategy):
    """Never decides."""

    def on_signal(self, signal, context):
        return None


def test_a_replay_in_a_thread_runs_unwatched(bars):
    """Only the main thread can be interrupted."""
    done = []
    thread = threading.Thread(target=lambda: done.append(backtest(Still, bars)))
    thread.start()
    thread.join()
    assert done[0].result.events == 20


def test_an_alarm_of_the_process_itself_is_left_alone(bars):
    """Such as the time limit of a test."""

    def mine(*_):
        raise AssertionError

    before = signal.signal(signal.SIGALRM, mine)
    try:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        backtest(Still, bars)
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
