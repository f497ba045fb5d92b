"""No plugin ends the process, and none changes what another strategy does: exceptions, places and globals, generated."""

import asyncio
import builtins
import decimal
import gc
import itertools
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from torghut_brokers.simulated import Simulated
from torghut_testing import bar_batch

from torghut_core import (
    Advisor,
    Decision,
    Indicator,
    Observer,
    Outcome,
    PluginError,
    RiskRule,
    Source,
    Strategy,
    Verdict,
    hookimpl,
)
from torghut_core.catalog import load
from torghut_core.errors import CatalogError
from torghut_core.features import indicator as ask_for
from torghut_core.generation import build
from torghut_core.model.market import Signals
from torghut_core.plugin_host import PluginHost
from torghut_core.research.backtests import run_backtest
from torghut_core.stages import Stage
from torghut_core.timestamps import MINUTE

START = 1_767_623_400_000_000_000
ROWS = 12

# What plugins do.


class Rude(BaseException):
    """Not an `Exception`."""


class Unspeakable(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__


class Liar:
    """Raises whatever is asked of it, while a test of this module runs: other tests look at all objects."""

    lies = False

    def _raise(self, *_):
        if Liar.lies:
            raise Rude
        return Liar

    __eq__ = __ne__ = __bool__ = __len__ = __iter__ = __str__ = __repr__ = __hash__ = _raise
    __class__ = property(_raise)


class FakeDecision(Decision):
    """A decision whose terms are not what they seem."""

    @property
    def params(self):
        raise Rude


def throw(error):
    def act(*_):
        raise error()

    return act


def recurse(*_):
    return recurse()


ERRORS = {
    **{
        error.__name__: throw(error)
        for error in (
            RuntimeError,
            Rude,
            Unspeakable,
            SystemExit,
            KeyboardInterrupt,
            GeneratorExit,
            asyncio.CancelledError,
            StopIteration,
            StopAsyncIteration,
            MemoryError,
            decimal.Inexact,
        )
    },
    "exit 0": throw(lambda: SystemExit(0)),
    "endless recursion": recurse,
    "endless deep recursion": lambda *_: (sys.setrecursionlimit(10**6), recurse()),
    "a lone surrogate": throw(lambda: RuntimeError("\ud800\x00")),
}


def set_precision(*_):
    decimal.getcontext().prec = 3


def trap(*_):
    decimal.getcontext().traps[decimal.Inexact] = True


def round_up(*_):
    decimal.getcontext().rounding = decimal.ROUND_UP


def set_context(*_):
    decimal.setcontext(decimal.Context(prec=1, traps=list(decimal.getcontext().traps)))


def spoil_template(*_):
    decimal.DefaultContext.prec = 2
    decimal.DefaultContext.traps[decimal.Inexact] = True
    decimal.setcontext(decimal.DefaultContext)


def tracer(*_):
    return None


GLOBALS = {
    "precision": set_precision,
    "traps": trap,
    "rounding": round_up,
    "decimal context": set_context,
    "decimal template": spoil_template,
    "numpy errors": lambda *_: np.seterr(all="raise"),
    "recursion limit": lambda *_: sys.setrecursionlimit(len(_stack()) + 10),
    "switch interval": lambda *_: sys.setswitchinterval(30),
    "integer digits": lambda *_: sys.set_int_max_str_digits(640),
    "no collector": lambda *_: gc.disable(),
    "collector": lambda *_: gc.set_threshold(1),
    "warnings": lambda *_: warnings.simplefilter("error"),
    "random": lambda *_: (random.seed(1), np.random.seed(1)),  # noqa: NPY002 - what a plugin may do
    "no logs": lambda *_: logging.disable(),
    "no signals": lambda *_: [signal.signal(each, signal.SIG_IGN) for each in (signal.SIGTERM, signal.SIGINT)],
    "blocked signals": lambda *_: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
    "sockets": lambda *_: socket.setdefaulttimeout(0.001),
    "trace": lambda *_: sys.settrace(tracer),
    "profile": lambda *_: sys.setprofile(tracer),
    "no output": lambda *_: [setattr(sys, name, None) for name in ("stdout", "stderr")],
    "folder": lambda *_: os.chdir("/"),
    "clocks": lambda *_: [setattr(time, name, None) for name in ("time", "monotonic", "perf_counter", "sleep")],
    "built-ins": lambda *_: setattr(builtins, "breakpoint", None),
    "money": lambda *_: [setattr(decimal, name, None) for name in ("Decimal", "Context", "getcontext")],
    "zone": lambda *_: (os.environ.update(TZ="Asia/Tokyo"), time.tzset()),
}


def _stack():
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def replaced(**terms):
    def answer(_signal, context):
        return msgspec.structs.replace(context.buy(1, because="evil"), **terms)

    return answer


def fake(_signal, context):
    return FakeDecision(**msgspec.structs.asdict(context.buy(1, because="evil")))


def write_price(_signal, context):
    context.price = 0.01


def write_position(_signal, context):
    context.position = None


def change_signal(signal, _context):
    signal.ema12 = 0.0


ANSWERS = {
    "a liar": lambda *_: Liar(),
    "a class": lambda *_: Decision,
    "a fake": fake,
    "a lying symbol": replaced(symbol=Liar()),
    "a lying reason": replaced(because=Liar()),
    "a lying quantity": replaced(quantity=Liar()),
    "an astronomic quantity": replaced(quantity=Decimal("1E+999999")),
    "an infinitesimal quantity": replaced(quantity=Decimal("1E-999999")),
    "a signaling quantity": replaced(quantity=Decimal("sNaN")),
    "its own price": replaced(price=Liar()),
    "a generator": lambda *_: (each for each in ()),
    "context.price = 0.01": write_price,
    "context.position = None": write_position,
    "signal.ema12 = 0": change_signal,
}
ACTS = {**ERRORS, **GLOBALS}


# Where they do it.


class Flip(Strategy):
    """Buys fractions and closes by turns: each digit of its fills counts."""

    columns = ("ema12",)

    def __init__(self, params):
        super().__init__(params)
        self.rows = 0

    def on_signal(self, signal, context):
        self.rows += 1
        if context.is_flat:
            return context.buy(Decimal("1.23456789") + self.rows, because=f"row {self.rows}")
        return context.close(because=f"row {self.rows}")


class Tape(Source):
    is_recorded = True

    async def batches(self, size):
        for batch in made_batches():
            yield batch


class Pass(Stage):
    def update(self, batch):
        return batch


def made_batches(minutes=ROWS, parts=2):
    prices = np.random.default_rng(7).uniform(90, 110, minutes).round(4)
    symbols, position = None, 0
    for part in np.array_split(np.arange(minutes), parts):
        rows = [("ES", START + int(i) * MINUTE, *[float(prices[i])] * 4, 100.0) for i in part]
        batch = bar_batch(rows, "1Min", symbols=symbols, start=position)
        symbols, position, bars = batch.symbols, batch.stop, batch.bars
        head = {name: getattr(bars, name) for name in ("at", "event_ts", "symbol", "seq", "step", "series")}
        batch.signals = Signals.from_columns(**head, ema12=bars.close, close=bars.close)
        yield batch


def verdict(act):
    def check(self, decision, context):
        found = act(self, decision, context)
        return found if type(found) is Liar else Verdict("evil", Outcome.ALLOW, "evil")

    return check


def strategy(place, act):
    def on_signal(self, signal, context):
        return act(signal, context) if place == "call" else None

    body = {"columns": ("ema12",), "on_signal": on_signal}
    if place == "init":
        body["__init__"] = lambda self, params: act()
    if place == "property":
        body["on_signal"] = property(act)
    if place == "warmup":
        body["warmup"] = property(act)
    return type("Evil", (Strategy,), body)


async def evil_batches(act):
    for number, batch in enumerate(made_batches()):
        if number == 1:
            act()
        yield batch


def reader(feature):
    """A strategy that asks for the evil indicator, and would buy at each row."""
    body = {
        "features": lambda self: {"evil": feature},
        "on_signal": lambda self, signal, context: context.buy(1, because="it has a value"),
    }
    return type("Reader", (Strategy,), body)


def indicator(place, act):
    def update(self, close):
        return act(close) if place == "call" else 1.0

    body = {"update": update}
    if place == "init":
        body["__init__"] = lambda self, params: act()
    if place == "warmup":
        body["warmup"] = property(act)
    return type("Evil", (Indicator,), body)


KINDS = {
    "indicator": lambda place, act: ("register_indicators", indicator(place, act)),
    "strategy": lambda place, act: ("register_strategies", strategy(place, act)),
    "rule": lambda place, act: ("register_risk_rules", type("Evil", (RiskRule,), {"check": verdict(act)})),
    "advisor": lambda place, act: ("register_advisors", type("Evil", (Advisor,), {"review": verdict(act)})),
    "observer": lambda place, act: (
        "register_observers",
        type("Evil", (Observer,), dict.fromkeys(("on_decision", "on_fill"), lambda *_: act())),
    ),
    "stage": lambda place, act: (
        "register_stages",
        type("Evil", (Stage,), {"update": lambda self, batch: (act(), batch)[1]}),
    ),
    "source": lambda place, act: (
        "register_sources",
        type("Evil", (Source,), {"is_recorded": True, "batches": lambda self, size: evil_batches(act)}),
    ),
}
PLACES = [("strategy", place) for place in ("call", "init", "property", "warmup", "import", "hook")]
PLACES += [("indicator", place) for place in ("init", "warmup")]
PLACES += [(kind, "call") for kind in KINDS if kind != "strategy"]


def text_of(kind):
    def use(name, fallback=""):
        return "[{use: evil}]" if kind == name else f"[{fallback}]"

    strategies = "  - {name: good, use: flip, base_timeframe: 1Min, symbols: [ES]}\n"
    if kind in ("strategy", "indicator"):
        use_of_evil = "evil" if kind == "strategy" else "reader"
        strategies += f"  - {{name: evil, use: {use_of_evil}, base_timeframe: 1Min, symbols: [ES]}}\n"
    return f"""
version: 1
pipelines:
  trading:
    source: {{use: {"evil" if kind == "source" else "tape"}}}
    stages: {use("stage", "{use: pass}")}
    broker: {{use: simulated, params: {{cash: "1000000", fees: {{"*": {{bps: "1.234567"}}}}}}}}
strategies:
{strategies}risk: {use("rule")}
advisors: {use("advisor")}
observers: {use("observer")}
"""


def run(kind="", place="", act=lambda *_: None):
    """What the good strategy did beside an evil plugin: its decisions and fills; None where nothing could be built."""
    from types import ModuleType

    good, evil = ModuleType("good"), ModuleType("evil")
    registered = {
        "register_strategies": ("flip", Flip),
        "register_brokers": ("simulated", Simulated),
        "register_sources": ("tape", Tape),
        "register_stages": ("pass", Pass),
    }

    def hook(module, name, plugin, cls, before=lambda: None):
        def implementation(register):
            before()
            register(plugin, cls)

        setattr(module, name, hookimpl(implementation))

    for name, (plugin, cls) in registered.items():
        hook(good, name, plugin, cls)
    modules = [("good", good)]
    if kind:
        name, cls = KINDS[kind](place, act)
        hook(evil, name, "evil", cls, act if place in ("hook", "import") else lambda: None)
        modules.insert(0, ("evil", evil))
    if kind == "indicator":
        reading = ModuleType("reading")
        hook(reading, "register_strategies", "reader", reader(ask_for("evil")))
        modules.append(("reading", reading))
    host = PluginHost(modules)
    try:
        generation = build(load({"trading.yaml": text_of(kind)}), host)
    except CatalogError:
        return None
    result = run_backtest(generation)
    return story(result)


def story(result):
    """Decisions and fills of the good strategy, each digit of them."""
    mine = [row for row in result.audit.decisions(result.account) if row["strategy_id"] == "good"]
    hashes = {row["decision_hash"] for row in mine}
    fills = [fill for fill in result.audit.fills(result.account) if fill["decision_hash"] in hashes]
    return (
        [(row["event_ts"], row["action"], row["params"]) for row in mine],
        [
            (fill["event_ts"], fill["side"], str(fill["quantity"]), str(fill["price"]), str(fill["fee"]))
            for fill in fills
        ],
        str(result.positions["good", "ES"].quantity),
        str(result.positions["good", "ES"].realized_pnl),
    )


@pytest.fixture(scope="module")
def alone():
    """What the good strategy does without an evil plugin."""
    found = run()
    assert len(found[0]) == ROWS
    assert len(found[1]) == ROWS - 1
    return found


@pytest.fixture
def process():
    """The process as it was before, whatever a test has done to it."""
    Liar.lies = True
    output, folder, depth = (sys.stdout, sys.stderr), Path.cwd(), sys.getrecursionlimit()
    yield
    Liar.lies = False
    assert sys.getrecursionlimit() == depth
    assert breakpoint is not None
    logging.disable(logging.NOTSET)
    os.environ.pop("TZ", None)
    time.tzset()
    assert (sys.stdout, sys.stderr) == output
    assert Path.cwd() == folder


def survives(kind, place, act, alone, *, is_repaired=False):
    """It was left out, ended the replay by a named error where nothing goes without it, or changed nothing.

    `is_repaired`: what it has broken for itself too, so that it denies, is whole again at the next batch.
    """
    try:
        found = run(kind, place, act)
    except PluginError as error:
        found = error.plugin
    if kind in ("stage", "source") and found == "evil":
        return
    denies = kind in ("rule", "advisor") and (found[1] == [] or (is_repaired and found[1][:1] == alone[1][:1]))
    assert found is None or found == alone or denies


CASES = [(kind, place, name) for (kind, place), name in itertools.product(PLACES, ACTS)]
CASES += [("strategy", "call", name) for name in ANSWERS] + [(kind, "call", "a liar") for kind in ("rule", "advisor")]
EVERY = {**ACTS, **ANSWERS}


def chosen():
    """Every case, all but a few marked as proofs."""
    quick = set(random.Random(5).sample(CASES, 25))
    return [case if case in quick else pytest.param(*case, marks=pytest.mark.proof) for case in CASES]


@pytest.mark.parametrize(("kind", "place", "name"), chosen())
def test_nothing_that_a_plugin_does_reaches_another_strategy(kind, place, name, alone, process):
    """It is contained where it happens; the other strategy's decisions and fills have the same digits."""
    survives(kind, place, EVERY[name], alone)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_several_things_at_once_do_reaches_another_strategy(seed, alone, process):
    """A generated thousand with the cases above: several acts by one plugin, one after the other."""
    chance = random.Random(seed)
    for _ in range(35):
        kind, place = chance.choice(PLACES)
        acts = [ACTS[name] for name in chance.sample(sorted(ACTS), chance.randint(2, 4))]

        def act(*_, acts=acts):
            for each in acts:
                each()

        survives(kind, place, act, alone, is_repaired=True)


def test_signals_that_a_plugin_ignored_are_handled_again(process):
    """SIGTERM still ends the process after the batch."""
    before = signal.getsignal(signal.SIGTERM)
    run("strategy", "call", GLOBALS["no signals"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_ends_a_replay_from_inside_a_plugin():
    """A person's Ctrl-C is not the plugin's, however a plugin's own KeyboardInterrupt is contained."""
    assert threading.current_thread() is threading.main_thread()

    def busy(*_):
        for _ in range(2):  # the first asks the event loop to end, the second interrupts
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("strategy", "call", busy)
