"""Every way to break a plugin's code, edited into a folder that a trading loop has its plugin from."""

import itertools

import pytest

from torghut_core.plugin_host import PluginHost

TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
strategies:
  - {name: other, use: flip, base_timeframe: 1Min, symbols: [ES], params: {every: 2}}
  - {name: mine, use: acme, base_timeframe: 1Min, symbols: [ES, BTC/USD], params: {quantity: 2}}
"""

CODE = '''
"""A strategy in a plugin folder."""
import acme_helper
from torghut_core import Strategy, hookimpl, param

class Acme(Strategy):
    columns = ("ema12",)
    state = ("rows",)

    class Params(Strategy.Params):
        quantity: int = param(1, gt=0, help="units")

    def __init__(self, params):
        super().__init__(params)
        self.rows = 0

    def on_signal(self, signal, context):
        self.rows += 1
        return context.buy(self.params.quantity, because=acme_helper.WHY) if context.is_flat else context.close("enough")

@hookimpl
def register_strategies(register):
    register("acme", Acme)
'''
HELPER = "WHY = 'version 1'\n"

numbers = itertools.count()


class Site:
    """A plugin folder whose modules have unique names."""

    def __init__(self, folder):
        self.folder = folder
        self.name = f"acme{next(numbers)}"
        self.write()

    def write(self, code=CODE, helper=HELPER):
        (self.folder / f"{self.name}_helper.py").write_text(helper)
        (self.folder / f"{self.name}.py").write_text(code.replace("acme_helper", f"{self.name}_helper"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", [*sys.path])
    made = Site(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.startswith(made.name)]:
        del sys.modules[name]


BROKEN = {
    "syntax error": (CODE.replace("def on_signal(self", "def on_signal(self,,"), HELPER, "SyntaxError"),
    "indentation": (CODE.replace("    columns", "  columns"), HELPER, "IndentationError"),
    "import of nothing": ("import no_such_module_anywhere\n" + CODE, HELPER, "no_such_module_anywhere"),
    "raise at import": (CODE + "\nraise RuntimeError('in a hurry')\n", HELPER, "RuntimeError: in a hurry"),
    "exit at import": (CODE + "\nraise SystemExit(3)\n", HELPER, "SystemExit"),
    "name error": (CODE.replace("class Acme(Strategy)", "class Acme(Strategi)"), HELPER, "NameError"),
    "helper broken": (CODE, "WHY = \n", "SyntaxError"),
    "helper lacks a name": (CODE.replace("import acme_helper", "from acme_helper import WHAT"), HELPER, "WHAT"),
    "hook unmarked": (CODE.replace("@hookimpl\n", ""), HELPER, ""),
    "hook misspelt": (CODE.replace("def register_strategies", "def register_strategy"), HELPER, "register_strategy"),
    "hook without parameter": (CODE.replace("(register):", "():"), HELPER, "register"),
    "not a strategy": (CODE.replace('register("acme", Acme)', 'register("acme", object)'), HELPER, "not a subclass"),
    "bad name": (CODE.replace('register("acme"', 'register("Acme!"'), HELPER, "name"),
    "registered twice": (CODE + '    register("acme", Acme)\n', HELPER, "twice"),
    "unknown column": (CODE.replace('("ema12",)', '("ema13",)'), HELPER, "ema13"),
    "state is text": (CODE.replace('("rows",)', "7"), HELPER, "`state`"),
    "bad default": (CODE.replace("param(1, gt=0", "param(-1, gt=0"), HELPER, "quantity"),
    "newer api": ("torghut_api = 99\n" + CODE, HELPER, "99"),
    "method left out": (CODE.replace("def on_signal", "def on_signals"), HELPER, "on_signal"),
    "constructor raises": (CODE.replace("self.rows = 0", "raise OSError('no disk')"), HELPER, "OSError: no disk"),
    "parameter gone": (CODE.replace("quantity: int = param(1", "units: int = param(1"), HELPER, "quantity"),
    "warmup is text": (CODE.replace("    state =", "    warmup = 'long'\n    state ="), HELPER, "warmup"),
    "load_state raises": (
        CODE.replace("    def on_signal", "    def load_state(self, state, version):\n        1 / 0\n\n    def on_signal"),
        HELPER, "ZeroDivisionError",
    ),
    "first row raises": (CODE.replace("self.rows += 1", "self.rows.append(1)"), HELPER, "AttributeError"),
    "first row gives nonsense": (CODE.replace("self.rows += 1", "return 'buy'"), HELPER, "not a Decision"),
    "source beside it": (
        CODE + """
from torghut_core import Source
class Feed(Source):
    async def batches(self, size):
        return
        yield
@hookimpl
def register_sources(register):
    register("acme-feed", Feed)
""", HELPER, "restart required",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_old_code_trades_on_and_the_next_good_code_is_applied(case, site, live, flip_module):
    """The status says why, the other strategy is not affected, and the fixed code replaces the old."""
    code, helper, reason = BROKEN[case]

    def load(_allow, before):
        return PluginHost.load((), [("fakes", flip_module)], folders=[site.folder], previous=before)

    loop = live(TEXT, "", host=load((), None), load_host=load)
    loop.trade(3)
    old = next(each for each in loop.engine.generation.strategies if each.name == "mine").strategy
    made = len(loop.decisions("mine"))
    assert made

    site.write(code, helper)
    loop.apply(TEXT)
    loop.trade(3)
    if loop.engine.reverted:
        loop.reloader.reject_reverted()
        loop.apply(TEXT, releases=False)
    assert reason in " ".join(loop.status.problems)
    assert not loop.status.is_good
    assert not loop.engine.roster.quarantined
    now = next(each for each in loop.engine.generation.strategies if each.name == "mine").strategy
    assert now is old
    assert len(loop.decisions("mine")) > made
    assert [because for *_, because, _ in loop.decisions("mine")].count("version 1")

    site.write(helper="WHY = 'version 2'\n")
    assert loop.apply(TEXT).problems == []
    loop.trade(4)
    assert "version 2" in [because for *_, because, _ in loop.decisions("mine")]
    assert loop.decisions("other")
