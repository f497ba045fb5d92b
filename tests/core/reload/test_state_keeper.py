"""What stages, features and strategies know is kept over a restart, as if the process had never ended."""

import asyncio
import dataclasses
import json
from collections import deque
from contextlib import nullcontext
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torghut_sources.tape.source import Replay

from support.effort import examples
from torghut_core import Indicator, Strategy, every, param
from torghut_core import catalog as catalogs
from torghut_core.audit import MemoryAuditStore
from torghut_core.features import close, ema, rank
from torghut_core.features import indicator as named
from torghut_core.generation import build
from torghut_core.market_data.snapshots import pack, unpack
from torghut_core.plugin_host import PluginHost
from torghut_core.plugin_host.registered import Registered
from torghut_core.reload.state_keeper import StateKeeper
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import Loop

START = 1_767_623_400 * SECOND
SYMBOLS = ["BTC/USD", "ETH/USD"]
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: %s, params: {paths: %s}}
    stages:
      - {use: microbars, params: {max_out_of_order_ms: 500}}
      - {use: resample, params: {timeframes: [1Min]}}
      - {use: indicators}
    broker: {use: simulated}
strategies:
  - {name: seer, use: seer, base_timeframe: 1Sec, symbols: ["BTC/USD", "ETH/USD"], params: {scale: %s}}
  - {name: ranker, use: ranker, base_timeframe: 1Sec, symbols: ["BTC/USD", "ETH/USD"]}
"""
SEEN = []
"""What strategies were shown, and what they knew then."""


class Feed(Replay):
    """Market data that resumes where it is sought to."""

    is_recorded = False

    def gates(self):
        return {"feed": None}


class Deaf(Feed):
    """Market data that comes while it is listened to, and has no cursor."""

    first = 0

    def __init__(self, params):
        super().__init__(params)
        self._position = self.first

    def cursor(self):
        return {}


class Longest(Indicator):
    """The largest value so far, in plain Python."""

    state = ("top",)

    def __init__(self, params):
        super().__init__(params)
        self.top = 0.0

    def update(self, value):
        self.top = max(self.top, value)
        return self.top


class Seer(Strategy):
    """Counts its rows, and keeps a sum."""

    state = ("rows", "total", "last")

    class Params(Strategy.Params):
        scale: float = param(1.0, help="of the sum")

    def __init__(self, params):
        super().__init__(params)
        self.rows, self.total, self.last = {}, 0.0, deque(maxlen=3)

    def features(self):
        return {
            "slow": ema(close, 9),
            "top": named("longest", close),
            "minute": ema(close, 2, timeframe="1Min").optional,
        }

    columns = ("ema12",)

    def on_signal(self, signal, context):
        self.rows[signal.symbol] = self.rows.get(signal.symbol, 0) + 1
        self.total += signal.slow * self.params.scale
        self.last.append(signal.close)
        SEEN.append((signal.to_record(), dict(self.rows), self.total, list(self.last)))


class Ranker(Strategy):
    """Ranks its symbols: a row is shown when its slice is complete; has timers, and looks back."""

    timers = (every("1Sec"),)
    history = 3

    def features(self):
        return {"place": rank(close / close.shift(2))}

    def on_start(self, context):
        SEEN.append(("start",))

    def on_timer(self, timer, context):
        SEEN.append((timer.moment,))

    def on_signal(self, signal, context):
        SEEN.append(((signal.to_record(), context.now, context.history(3).close.tolist()),))


class Broken(Seer):
    """Its state holds what cannot be kept."""

    def save_state(self):
        return {"file": object()}


@pytest.fixture(scope="module")
def host():
    host = PluginHost.load()
    for kind, name, cls in (
        ("source", "feed", Feed),
        ("source", "deaf", Deaf),
        ("strategy", "seer", Seer),
        ("strategy", "ranker", Ranker),
        ("indicator", "longest", Longest),
    ):
        host.registry[kind][name] = Registered(kind, name, cls, "", "", name)
    return host


def tape(seed, events):
    """Lines of a recorded feed of trades, some of them late."""
    random = np.random.default_rng(seed)
    moment, lines = START, []
    for seq in range(events):
        moment += int(random.choice([0, 200, 900, 2500])) * 1_000_000
        late = int(random.choice([0, 300], p=[0.85, 0.15])) * 1_000_000
        stamp = format_timestamp(moment - late)
        trade = {"i": seq, "p": round(100 + random.normal(0, 2), 2), "s": float(random.integers(1, 5)), "t": stamp}
        lines.append(
            {
                "ingest_ts": format_timestamp(moment), "event_ts": stamp, "feed": "test", "channel": "trades",
                "symbol": str(random.choice(SYMBOLS)), "seq": seq, "is_final": True, "source": "test", "version": 1,
                "payload": trade,
            }
        )  # fmt: skip
    return [json.dumps(line) for line in lines]


class Process:
    """One process after the other on a tape and a state directory."""

    def __init__(self, host, folder, lines):
        self.host, self.folder = host, folder
        self.path = folder / "tape.jsonl"
        self.path.write_text("\n".join(lines) + "\n")
        self.signals = MemorySignalStore()

    def begin(self, *, use="feed", scale=1.0, host=None):
        """Start one, as `run` does."""
        text = CATALOG % (use, json.dumps([str(self.path)]), scale)
        generation = build(catalogs.load({"kept.yaml": text}), host or self.host)
        self.engine = Engine(generation, "kept-1", MemoryAuditStore(), Gates(trading_enabled=True))
        self.loop = Loop(generation, self.engine, MemoryAuditStore(), self.signals)
        self.keeper = StateKeeper(
            "kept-1",
            self.folder,
            self.engine,
            generation.source,
            self.signals,
            every_s=1e-9,
            may_keep=lambda: True,
            around=nullcontext,
        )
        self.keeper.resume({})
        self.engine.adopt(generation.numbered(1))
        return self

    def run(self, size=7, until=None, *, keeps=lambda _position: True):
        """Trade batches up to a position, and keep the states after those that `keeps` says."""

        async def run():
            async for batch in self.engine.generation.source.batches(size):
                self.loop.step(batch)
                if keeps(batch.stop):
                    self.keeper.keep()
                    self.keeper._written.result()
                if until is not None and batch.stop >= until:
                    return

        SEEN.clear()
        asyncio.run(run())
        self.keeper.close()
        return list(SEEN)


@examples(40, quick=3)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 7, 50]),
    again=st.sampled_from([1, 7, 50]),
    kept=st.integers(1, 250),
    more=st.integers(0, 40),
)
@example(seed=115, size=50, again=1, kept=151, more=0)  # a slice of two bars of one symbol waits
def test_it_resumes_with_the_same_values_to_the_bit(host, tmp_path_factory, seed, size, again, kept, more):
    """Wherever it was killed, the next process shows the rows after the last snapshot as one does that was never killed."""
    folder, lines = tmp_path_factory.mktemp("kept"), tape(seed, 260)
    whole = Process(host, folder, lines).begin().run(13, keeps=lambda _: False)
    process = Process(host, folder, lines).begin()
    first = process.run(size, kept, keeps=lambda position: position >= kept)
    at = process.engine.market_time
    killed = process.begin()
    assert killed.keeper.resumed_from == at
    resumed = killed.run(again, kept + more, keeps=lambda _: False)  # and is killed again, before its first snapshot
    last = process.begin().run(again)
    assert last == whole[len(whole) - len(last) :]
    assert resumed == last[: len(resumed)]
    assert len(first) + len(last) == len(whole) > 50


def test_plain_values_keep_their_types():
    """What a strategy keeps comes back as it was: numbers of any size, tuples as keys, sets, arrays."""
    state = {
        "a": [1, 2.5, None, True, b"x", "y", -(2**70), Decimal("1.10")],
        ("ES", 1): (1, (2,)),
        3: {4: {5}},
        "d": deque([1, 2], 2),
    }
    again = unpack(pack(state))
    assert again == state
    assert [type(each) for each in again["a"]] == [type(each) for each in state["a"]]
    assert again["d"].maxlen == 2
    array = np.arange(6.0).reshape(2, 3)
    assert (unpack(pack({"array": array}))["array"] == array).all()
    with pytest.raises(TypeError, match="object in a state is no plain value"):
        pack([object()])


def test_a_state_that_cannot_be_kept_is_named_and_the_others_are_kept(host, tmp_path, capsys):
    """It begins anew after a restart; it is said once."""
    broken = PluginHost()
    broken.registry = {**host.registry, "strategy": {**host.registry["strategy"]}}
    broken.registry["strategy"]["seer"] = dataclasses.replace(host.registry["strategy"]["seer"], cls=Broken)
    process = Process(broken, tmp_path, tape(1, 200)).begin()
    process.run(until=150)
    logged = capsys.readouterr().err
    assert logged.count("the state of seer is not kept") == 1
    process.begin()
    assert process.engine.generation.strategies[1].strategy.rows == {}
    assert "strategy seer" in capsys.readouterr().err
    assert process.keeper.resumed_from


def test_an_entry_with_other_parameters_begins_anew_and_is_shown_the_past(host, tmp_path):
    """Its features and the other strategies resume; it has seen what the store has."""
    process = Process(host, tmp_path, tape(2, 260)).begin()
    whole = process.run(until=200)
    process.begin(scale=2.0)
    other = process.run(keeps=lambda _: False)
    first = next(each for each in other if len(each) > 1)
    assert sum(first[1].values()) == 1
    assert first[2] == 2 * first[0]["slow"]
    assert len(whole) > 50


def test_new_code_gets_the_state_of_the_old_and_begins_anew_where_it_refuses(host, tmp_path, capsys):
    """A version that it cannot read is reported; nothing of it is taken over."""

    class Next(Seer):
        state_version = 2

        def load_state(self, state, version):
            super().load_state(state, 2)
            if version == 1 and self.rows:
                self.rows, self.total = {}, -1.0
                raise ValueError("of another version")

    process = Process(host, tmp_path, tape(3, 200)).begin()
    process.run(until=150)
    newer = PluginHost()
    newer.registry = {**host.registry, "strategy": {**host.registry["strategy"]}}
    newer.registry["strategy"]["seer"] = dataclasses.replace(
        host.registry["strategy"]["seer"], cls=Next, code_digest="next"
    )
    process.begin(host=newer)
    seer = process.engine.generation.strategies[1].strategy
    assert (seer.rows, seer.total) == ({}, 0.0)
    assert "of another version" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["newest", "all"])
def test_a_damaged_snapshot_costs_a_little_work_and_nothing_else(host, tmp_path, damaged, capsys):
    """The one before it is used, or none; a warning says so."""
    lines = tape(4, 260)
    process = Process(host, tmp_path, lines).begin()
    whole = process.run()
    process.begin()  # at the end of the tape
    for file in (tmp_path / "snapshots").iterdir():
        if damaged == "all" or not file.name.endswith(".before"):
            file.write_bytes(file.read_bytes()[:-5])
    again = process.begin().run(keeps=lambda _: False)
    assert "cannot be read" in capsys.readouterr().err
    if damaged == "newest":
        assert again == whole[len(whole) - len(again) :]
        assert process.keeper.resumed_from
    else:
        assert not process.keeper.resumed_from


def test_where_the_source_has_no_cursor_the_store_fills_the_gap(host, tmp_path, monkeypatch):
    """Strategies and features are shown the bars that came after the snapshot, and resume with what comes now."""
    process = Process(host, tmp_path, tape(6, 260)).begin(use="deaf")
    whole = process.run(until=200, keeps=lambda position: position < 120)
    monkeypatch.setattr(Deaf, "first", 200)
    seer = process.begin(use="deaf").engine.generation.strategies[1].strategy
    _, rows, total, last = [each for each in whole if len(each) > 1][-1]
    assert (seer.rows, seer.total, list(seer.last)) == (rows, total, last)
    more = process.run(keeps=lambda _: False)
    assert [each[1] for each in more if len(each) > 1][-1]["BTC/USD"] > rows["BTC/USD"]


def test_a_tape_begins_anew(host, tmp_path):
    """A source that starts from its beginning again derives everything again: nothing is kept of it."""
    process = Process(host, tmp_path, tape(5, 100)).begin(use="replay")
    process.keeper.keep()
    assert not (tmp_path / "snapshots").exists()
