"""`torghut run` is killed and started again: what it knew is there, and it decides as if it had never ended."""

import random
import signal
from datetime import timedelta
from functools import partial

import pytest

from support.effort import many
from torghut_core.market_data.snapshots import SnapshotStore, unpack
from torghut_core.timestamps import SECOND, parse_timestamp

from .conftest import START, Kernel

FEED = '''
"""A tape that is read as live market data is: it resumes where it is sought to."""
from torghut_core import hookimpl
from torghut_sources.tape.source import Replay


class Feed(Replay):
    is_recorded = False

    def gates(self):
        return {"feed": None}


@hookimpl
def register_sources(register):
    register("feed", Feed)
'''

COUNTS = '''
"""Counts its rows and keeps a sum; buys and closes by them."""
from torghut_core import Strategy, hookimpl
from torghut_core.features import close, ema


class Counts(Strategy):
    state = ("rows", "total")
    columns = ("ema12",)

    def __init__(self, params):
        super().__init__(params)
        self.rows, self.total = 0, 0.0

    def features(self):
        return {"slow": ema(close, 5)}

    def on_signal(self, signal, context):
        self.rows += 1
        self.total += signal.slow / 3 + signal.ema12
        if self.rows % 7 == 0:
            return context.buy(1, because=f"row {self.rows}: {self.total!r}")
        if self.rows % 7 == 3:
            return context.sell(1, because=f"row {self.rows}: {self.total!r}")


@hookimpl
def register_strategies(register):
    register("counts", Counts)
'''


def on_feed(kernel):
    """A kernel on market data that resumes from a cursor; it keeps its states all the time."""
    kernel.write_plugin("feed", FEED)
    kernel.write_plugin("counts", COUNTS)
    kernel.env["TRADING_STATE_SECONDS"] = "0.01"
    kernel.write({"counts": {"use": "counts"}})
    kernel.file.write_text(kernel.file.read_text().replace("use: replay", "use: feed"))
    return kernel


def is_level(kernel):
    """Whether it has traded what is on the tape."""
    end = START + timedelta(seconds=kernel.fed)
    last = kernel.get("/trading/status")["last_event"]
    return last is not None and parse_timestamp(last) == round(end.timestamp()) * SECOND


def decided(kernel):
    """What was decided at which row."""
    names = ("strategy_id", "symbol", "event_ts", "decided_at", "action", "params", "rationale", "decision_hash")
    return [[row[name] for name in names] for row in kernel.rows("trade_decisions")]


def kept(kernel):
    """What the last snapshot has of strategy, stage and features, to the bit."""
    snapshot = SnapshotStore(str(kernel.state / "snapshots")).load("paper-simulated")
    states = {kept.get("name", name): kept["state"] for name, _, kept in snapshot.states}
    return snapshot.at, unpack(states["counts"]), states["indicators"], unpack(states["engine"])["graph"]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 4))])
def test_killed_again_and_again_it_decides_as_one_that_was_never_killed(kernel, tmp_path_factory, seed):
    """After kill -9 at any moment what it knows, and what it decides, is the same to the bit."""
    chance, kernel = random.Random(seed), on_feed(kernel)
    kernel.grow(30)
    kernel.begin(waits=False)
    for _ in range(many(7, quick=2)):
        kernel.grow(chance.randrange(1, 30))
        if chance.random() < 0.7:
            kernel.until(partial(is_level, kernel))
        assert kernel.send(signal.SIGKILL) == -signal.SIGKILL
        kernel.grow(chance.randrange(10))
        kernel.begin(waits=False)
    kernel.grow(20)
    kernel.until(partial(is_level, kernel))
    resumed_from = kernel.get("/trading/status")["state_from"]
    assert kernel.send() == 0
    assert kernel.findings == []
    whole = on_feed(Kernel(tmp_path_factory.mktemp("whole")))
    whole.grow(kernel.fed - whole.fed)
    whole.begin(waits=False)
    whole.until(partial(is_level, whole))
    assert whole.get("/trading/status")["state_from"] is None
    assert whole.send() == 0
    assert resumed_from is not None
    assert decided(kernel) == decided(whole) != []
    assert kept(kernel) == kept(whole)
