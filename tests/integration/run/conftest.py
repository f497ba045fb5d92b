"""`torghut run` as a process of its own, on a tape that grows as the test says, with its admin API at hand."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from support.processes import Running
from torghut_core.audit import SqlAuditStore

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)

FLIP = '''
"""Buys and closes in turn, one decision a row."""
from torghut_core import Strategy, hookimpl, param

NOTE = "first"


class Flip(Strategy):
    state = ("rows",)

    class Params(Strategy.Params):
        quantity: int = param(1, gt=0, help="units per entry")

    def __init__(self, params):
        super().__init__(params)
        self.rows = 0

    def on_signal(self, signal, context):
        self.rows += 1
        because = f"{NOTE} row {self.rows}"
        if context.is_flat:
            return context.buy(self.params.quantity, because=because)
        return context.close(because=because)


@hookimpl
def register_strategies(register):
    register("flip", Flip)
'''


def strategy(name, fields):
    """The entry of a strategy, as a line of YAML; a number stands for the quantity of a `flip`."""
    fields = fields if isinstance(fields, dict) else {"params": {"quantity": fields}}
    entry = {"name": name, "use": "flip", "base_timeframe": "1Sec", "symbols": ["ES"], **fields}
    return f"  - {json.dumps(entry)}\n"


class Mount:
    """A directory as the kubelet mounts a ConfigMap: the file is a link into ``..data``, a link to a revision."""

    def __init__(self, directory, text):
        self.directory = directory
        self.revision = 0
        self.swap(text)
        (directory / "trading.yaml").symlink_to("..data/trading.yaml")

    def swap(self, text):
        """Update it as the kubelet does."""
        self.revision += 1
        new = self.directory / f"..2026_01_05_14_30_00.{self.revision}"
        new.mkdir(parents=True)
        (new / "trading.yaml").write_text(text)
        data, old = self.directory / "..data", self.directory / f"..2026_01_05_14_30_00.{self.revision - 1}"
        (self.directory / "..data_tmp").symlink_to(new.name)
        (self.directory / "..data_tmp").rename(data)
        if self.revision > 1:
            (old / "trading.yaml").unlink()
            old.rmdir()


class Kernel(Running):
    """A catalog, a tape, a plugin folder and a state directory, and the process that trades on them."""

    FLIP = FLIP

    def __init__(self, folder, *, real=False):
        self.tape = folder / "tape.csv"
        self.catalog = folder / "catalog"
        self.file = self.catalog / "trading.yaml"
        self.plugins = folder / "plugins"
        env = {"TRADING_ENABLED": "true", "TORGHUT_PLUGIN_PATH": str(self.plugins)}
        super().__init__(folder, folder / "state", env=env, real=real)
        self.source = {"follow": True}
        self.fed = 0
        for directory in (self.catalog, self.plugins):
            directory.mkdir()
        self.tape.write_text("symbol,event_ts,open,high,low,close,volume\n")
        self.grow()
        self.write_plugin()

    # What is on disk.

    def text(self, strategies, **head):
        """A catalog of these strategies, on the tape."""
        params = json.dumps({"paths": [str(self.tape)], "bar_step": "1Sec", **self.source})
        lines = [f"{key}: {value}\n" for key, value in head.items()]
        return (
            "version: 1\n"
            + "".join(lines)
            + "pipelines:\n  trading:\n"
            + f"    source: {{use: replay, params: {params}}}\n"
            + '    stages: [{use: indicators, params: {calendars: {"ES": "24/7"}}}]\n'
            + '    broker: {use: simulated, params: {cash: "1000000"}}\n'
            + "strategies:\n"
            + "".join(strategy(name, fields) for name, fields in strategies.items())
        )

    def write(self, strategies, **head):
        """Put a catalog of these strategies in the place of the old one, in one step."""
        new = self.folder / "new.yaml"
        new.write_text(self.text(strategies, **head))
        new.rename(self.file)

    def write_plugin(self, name="flip", text=FLIP):
        """Put a plugin module into the plugin folder, in one step."""
        new = self.folder / "new.py"
        new.write_text(text)
        new.rename(self.plugins / f"{name}.py")

    def grow(self, rows=1):
        """Append bars to the tape."""
        with self.tape.open("a") as tape:
            for number in range(self.fed, self.fed + rows):
                at = (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
                tape.write(f"ES,{at},100,101,99,{100 + number % 2},10\n")
        self.fed += rows

    # The process.

    def run(self, *arguments):
        """Run it where it ends by itself: exit code, and what it said on standard error."""
        done = self.command("run", "--catalog", self.catalog, "--state", self.state, *arguments)
        return done.returncode, done.stderr

    def begin(self, *, waits=True, state=None):
        """Start it, and wait until it has traded what is on the tape; `state` is the directory as it is given to it."""
        self.start("run", "--catalog", self.catalog, "--state", state or self.state, "--port", 0)
        assert self.listens(), self.log
        self.token = json.loads((self.state / "admin.json").read_text())["token"]
        if waits:
            self.until(lambda: self.metric("events_total") == self.fed)
        return self

    # The admin API.

    @property
    def status(self):
        """What trades, and how it is."""
        return self.get("/catalog")["status"]

    @property
    def strategies(self):
        """What the status says of each strategy."""
        return {each["name"]: each for each in self.status["strategies"]}

    @property
    def codes(self):
        """The code digest of each strategy."""
        return {name: each["code_digest"] for name, each in self.strategies.items()}

    @property
    def problems(self):
        """What the status complains about, as one text."""
        return "\n".join(self.status["problems"])

    @property
    def quantities(self):
        """The parameter of each strategy: what a catalog of these tests is known by."""
        return {name: each["params"].get("quantity") for name, each in self.strategies.items()}

    def until(self, is_so):
        """Wait until something is true while it runs; what it was then."""
        return super().until(is_so, lambda: self.status)

    def reaches(self, generation):
        """Wait until a generation trades; its status."""

        def status():
            found = self.status
            return found if found["generation"] >= generation else None

        return self.until(status)

    def rows(self, table, **where):
        """Rows of its audit database, once it has ended."""
        assert self.process is None
        with closing(SqlAuditStore(self.state / "audit.db")) as audit:
            return audit.rows(table, **where)

    @property
    def findings(self):
        """What `audit verify` finds, once it has ended."""
        assert self.process is None
        with closing(SqlAuditStore(self.state / "audit.db")) as audit:
            return audit.verify()

    def logged(self, table, key="%"):
        """Who wrote each version of the rows of a table, in order, as the audit log has it."""
        with closing(sqlite3.connect(self.state / "audit.db")) as database:
            select = "SELECT actor FROM audit_log WHERE table_name = ? AND row_key LIKE ? ORDER BY seq"
            return [actor for (actor,) in database.execute(select, (table, key))]

    def trade(self, rows=2):
        """Trade some bars; how many decisions each strategy made of them."""
        before = {name: each["decisions"] for name, each in self.strategies.items()}
        self.grow(rows)
        self.until(lambda: self.metric("events_total") == self.fed)
        return {name: each["decisions"] - before.get(name, 0) for name, each in self.strategies.items()}


@pytest.fixture
def kernel(tmp_path):
    """A kernel of the test's own, not started."""
    kernel = Kernel(tmp_path)
    kernel.write({"one": 1, "two": 2})
    yield kernel
    kernel.kill()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A kernel that runs on a plain file for all tests of a module: each has to leave a catalog that is right."""
    kernel = Kernel(tmp_path_factory.mktemp("plain"))
    kernel.write({"one": 1, "two": 2})
    yield kernel.begin()
    kernel.kill()


@pytest.fixture(scope="module")
def make_mounted():
    """Start kernels that run on a ConfigMap, each in a folder; their `mount` swaps it."""
    made = []

    def make(folder):
        kernel = Kernel(folder)
        made.append(kernel)
        kernel.mount = Mount(kernel.catalog, kernel.text({"one": 1}))
        return kernel.begin()

    yield make
    for kernel in made:
        kernel.kill()


@pytest.fixture(scope="module")
def mounted(make_mounted, tmp_path_factory):
    """A kernel that runs on a ConfigMap; its `mount` swaps it."""
    return make_mounted(tmp_path_factory.mktemp("mounted"))
