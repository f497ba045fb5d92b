"""Five hundred swaps leave nothing behind."""

import gc
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path

import pytest

from support.effort import many
from torghut_core.catalog import load_draft
from torghut_core.hookspecs import KINDS
from torghut_core.plugin_host import PluginHost
from torghut_core.trading.subscription import TRIAL_CALLS

PIPELINE = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
strategies:
"""
STEADY = "  - {name: steady, use: flip, base_timeframe: 1Min, symbols: [ES, BTC/USD]}\n"
COUNT = "  - {name: count, use: leak-count, base_timeframe: 1Min, symbols: [ES]}\n"
CATALOGS = (
    STEADY + COUNT,
    STEADY + COUNT + "  - {name: more, use: flip, base_timeframe: 1Min, symbols: [ES], on_remove: flatten}\n",
    STEADY + COUNT + "  - {name: more, use: flip, base_timeframe: 1Min, symbols: [ES], params: {warmup: 3}}\n",
    STEADY.replace("ES, BTC/USD", "ES") + COUNT,
    STEADY.replace("]}", "], max_notional_per_trade: '500'}") + COUNT,
)
DRAFTS = [load_draft({"trading.yaml": PIPELINE + strategies}) for strategies in CATALOGS]
GENERATION = 20_000
"""Bytes that a generation here takes at least, with its catalog and instances."""
CODE = """
from leak_helper import VERSION
from torghut_core import Strategy, hookimpl

class Count(Strategy):
    state = ("rows",)

    def __init__(self, params):
        super().__init__(params)
        self.rows = 0
        self.ballast = bytearray(100_000)

    def on_signal(self, signal, context):
        self.rows += 1
        return None

    def version(self):
        return VERSION

@hookimpl
def register_strategies(register):
    register("leak-count", Count)
"""


@pytest.fixture
def folder(tmp_path):
    """A plugin folder with a module and its helper, which are removed from `sys.modules` at the end."""
    (tmp_path / "leak_count.py").write_text(CODE)
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    write_version(tmp_path, 0)
    yield tmp_path
    for name in sys.modules.keys() - modules.keys():
        if name.startswith("leak_"):
            del sys.modules[name]
    sys.path[:], sys.meta_path[:] = path, finders


@pytest.fixture
def loop(live, plugin_module, folder, flip_host):
    """A loop whose plugins come from `folder` too, with memory traced from the start."""
    fakes = plugin_module(
        "fakes",
        {KINDS[kind]: {name: each.cls for name, each in named.items()} for kind, named in flip_host.registry.items()},
    )

    hosts = {}

    def load(_allow, before):
        """Load plugins from disk, only if a file was written, because loading is slow."""
        version = (folder / "leak_helper.py").read_text()
        if version not in hosts:
            hosts.clear()
            hosts[version] = PluginHost.load((), [("fakes", fakes)], folders=[folder], previous=before)
        return hosts[version]

    tracemalloc.start()
    yield live("strategies:\n" + STEADY, load_host=load)
    tracemalloc.stop()


def write_version(folder, number):
    (folder / "leak_helper.py").write_text(f"VERSION = {number}\n")


def swap(loop, folder, number):
    """Apply another catalog, and every twentieth time new code; then trade."""
    if number % 20 == 9:
        write_version(folder, number)
    before = loop.engine.generation
    plan = loop.reloader.plan(DRAFTS[number % len(DRAFTS)], loop.reloader.begin())
    assert (loop.reloader.apply(plan, "me"), loop.status.problems) == (True, [])
    assert loop.engine.generation is not before
    if number % 25 == 0:
        loop.trade(1)


def allocated(loop):
    """Return allocated bytes, without those that books and signal store keep on purpose."""
    loop.audit.__init__()
    loop.signals.__init__()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def held():
    """Return threads, open files and modules of this process."""
    files = Path("/proc/self/fd")
    return threading.active_count(), len(list(files.iterdir())) if files.is_dir() else 0, set(sys.modules)


def counting(loop):
    return next(each.strategy for each in loop.engine.generation.strategies if each.name == "count")


def growth(loop, folder, first, swaps):
    """Return by how many bytes some swaps have made memory grow, with the new code of the last in place."""
    memory = allocated(loop)
    for number in range(first, first + swaps):
        swap(loop, folder, number)
    assert counting(loop).version() == first + swaps - 1
    return allocated(loop) - memory


@pytest.mark.examples
def test_swaps_leave_nothing_behind(loop, folder):
    """Memory grows by less than a part of a generation for each swap, and a few of them in all; threads, files and modules stay the same.

    What leaks does so each time; what other threads of the process allocate does not, so a second stretch may show it.
    """
    for number in range(50):
        swap(loop, folder, number)
    others, swaps = held(), many(500, quick=60) // 20 * 20  # the last of them has new code
    bound = swaps * GENERATION / 20 + 5 * GENERATION
    assert any(growth(loop, folder, first, swaps) < bound for first in (50, 50 + swaps))
    assert held() == others


def test_replaced_generation_is_freed(loop, folder):
    """The kernel holds no reference to an instance that was replaced."""
    swap(loop, folder, 0)
    old = weakref.ref(counting(loop))
    swap(loop, folder, 9)
    loop.trade(TRIAL_CALLS + 1)
    swap(loop, folder, 10)
    gc.collect()
    assert old() is None


def test_old_generation_still_answers(loop, folder):
    """Two generations may exist at once, each with its code and its state."""
    swap(loop, folder, 0)
    before, old = loop.engine.generation, counting(loop)
    swap(loop, folder, 9)
    new = counting(loop)
    loop.trade(3)
    assert (old.version(), new.version()) == (0, 9)
    assert (old.rows, new.rows) == (1, 4)
    old.on_signal(None, None)
    assert (old.rows, new.rows, before.strategies[0].strategy) == (2, 4, old)
