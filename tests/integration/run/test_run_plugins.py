"""`torghut run` with plugins that raise, lie, and change the process."""

import signal

import pytest

EVIL = """
import asyncio, decimal, logging, os, signal, sys, warnings

from torghut_core import Strategy, hookimpl


class Rude(BaseException):
    pass


class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit(0)


class Evil(Strategy):
    rows = 0

    def on_signal(self, signal_, context):
        self.rows += 1
        {act}


@hookimpl
def register_strategies(register):
    register("evil", Evil)
"""

RAISE = {
    "cancelled": ("raise asyncio.CancelledError", "CancelledError"),
    "rude": ("raise Rude", "Rude"),
    "unspeakable": ("raise Unspeakable", "cannot be shown"),
    "exit": ("sys.exit(0)", "SystemExit: 0"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "surrogate": (r"raise RuntimeError('\ud800')", "RuntimeError: ?"),
    "price": ("context.price = 0.01", "AttributeError"),
}
CHANGE = {
    "precision": "decimal.getcontext().prec = 2; decimal.getcontext().traps[decimal.Inexact] = True",
    "signals": "[signal.signal(each, signal.SIG_IGN) for each in (signal.SIGTERM, signal.SIGALRM)]",
    "recursion": "sys.setrecursionlimit(60)",
    "warnings": "warnings.simplefilter('error')",
    "folder": "os.chdir('/')",
}


def chosen(cases, quick):
    """Every case, those that are not for a quick run marked as proofs."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.proof) for case in cases]


@pytest.mark.parametrize("how", chosen(RAISE, ["cancelled"]))
def test_strategy_that_raises_anything_is_quarantined_and_the_others_trade_on(kernel, how):
    """The process goes on, and says which strategy it was."""
    act, reason = RAISE[how]
    kernel.write_plugin("evil", EVIL.replace("{act}", act))
    kernel.write({"one": 1, "evil": {"use": "evil"}})
    kernel.begin()
    assert kernel.trade(3)["one"] == 3
    assert kernel.strategies["evil"]["state"] == "quarantined"
    assert reason in kernel.log
    assert kernel.send() == 0


@pytest.mark.parametrize("how", chosen(CHANGE, ["signals"]))
def test_strategy_that_changes_the_process_changes_nothing_for_others(kernel, how):
    """The fills of the others have all their digits, and SIGTERM after it still ends it in good order."""
    kernel.write_plugin("evil", EVIL.replace("{act}", f"if self.rows <= 4: {CHANGE[how]}"))
    kernel.write({"one": {"params": {"quantity": 8765}}, "evil": {"use": "evil"}})
    kernel.begin()
    assert kernel.trade(4)["one"] == 4
    assert kernel.trade(1)["one"] == 1  # and the changes of the rows before are put back
    assert kernel.send(signal.SIGTERM) == 0
    assert {str(row["quantity"]) for row in kernel.rows("executions")} == {"8765"}


def test_strategy_that_changes_the_folder_moves_no_state(kernel):
    """The default of `--state` is relative: a stop's file and the audit's head were looked for in the plugin's folder."""
    kernel.write_plugin("evil", EVIL.replace("{act}", CHANGE["folder"]))
    kernel.write({"evil": {"use": "evil"}, "one": 1})
    kernel.begin(state=kernel.state.relative_to(kernel.folder))
    assert kernel.trade(3)["one"] == 3
    assert kernel.health["database"] == []
    assert kernel.send() == 0


def test_plugin_that_ends_the_process_is_named_by_the_next_start(kernel):
    """`os._exit` cannot be caught; the next process finds out, and so does `doctor` before it."""
    kernel.write_plugin("evil", EVIL.replace("{act}", "os._exit(7)"))
    kernel.write({"one": 1, "evil": {"use": "evil"}})
    kernel.begin(waits=False)
    kernel.grow(2)
    assert kernel.ended() == 7
    told = "the last process died while strategy evil was running"
    findings = kernel.command("doctor", "--state", kernel.state, "--json")
    assert told in findings.stdout
    kernel.write({"one": 1})
    kernel.begin()
    assert told in kernel.complaints[0]
    assert kernel.send() == 0
    assert told not in kernel.command("doctor", "--state", kernel.state, "--json").stdout


def test_native_code_that_crashes_ends_the_process_at_once(kernel):
    """Handlers of the embedded store kept it for five minutes, without an answer and with the lease."""
    kernel.write_plugin("evil", EVIL.replace("{act}", "import ctypes; ctypes.string_at(0)"))
    kernel.write({"one": 1, "evil": {"use": "evil"}})
    kernel.begin(waits=False)
    kernel.grow(2)
    assert kernel.ended() == -signal.SIGSEGV
    assert "evil.py" in kernel.log  # where it was


def test_source_that_is_cancelled_by_itself_ends_the_process_loudly(kernel):
    """It ended with exit code 0 and "the source has ended"."""
    kernel.write_plugin(
        "evil",
        EVIL.replace("{act}", "return None")
        + """

from torghut_core import Source


class Rotten(Source):
    async def batches(self, size):
        raise asyncio.CancelledError
        yield


@hookimpl
def register_sources(register):
    register("rotten", Rotten)
""",
    )
    kernel.file.write_text(
        "version: 1\npipelines:\n  trading:\n    source: {use: rotten}\n    broker: {use: simulated}\n"
        "strategies:\n  - {name: one, use: flip, base_timeframe: 1Sec, symbols: [ES]}\n"
    )
    code, error = kernel.run("--port", "0")
    assert code == 1
    assert "rotten" in error
    assert "CancelledError" in error


LEAVES = """async def leave():
            sys.exit(0)
        self.left = asyncio.ensure_future(leave())"""
REACH = {
    "stop": "asyncio.get_running_loop().stop()",
    "cancel": "[task.cancel() for task in asyncio.all_tasks()]",
    "callback": "asyncio.get_running_loop().call_soon(sys.exit, 0)",
    "task": LEAVES,
}


@pytest.mark.parametrize("how", chosen(REACH, ["task"]))
def test_strategy_does_not_reach_the_kernels_event_loop(kernel, how):
    """What it left there ended the process, once with exit code 0 and no word."""
    kernel.write_plugin("evil", EVIL.replace("{act}", REACH[how]))
    kernel.write({"one": 1, "evil": {"use": "evil"}})
    kernel.begin()
    assert kernel.trade(3)["one"] == 3
    assert kernel.send() == 0


PATCHES = {
    "clock": "import time; time.monotonic = lambda: 0.0",
    "sleep": "import time; time.thread_time = time.sleep = None",
}


@pytest.mark.parametrize("how", chosen(PATCHES, ["clock"]))
def test_strategy_that_replaces_a_clock_stops_nobody(kernel, how):
    """A frozen clock that a plugin's tests have left behind kept the loop from ever trading again, without a word."""
    kernel.write_plugin("evil", EVIL.replace("{act}", PATCHES[how]))
    kernel.write({"one": 1, "evil": {"use": "evil"}})
    kernel.begin()
    kernel.grow(3)
    kernel.until(lambda: kernel.metric("events_total") == kernel.fed)
    assert kernel.strategies["one"]["state"] == "trading"
    kernel.until(lambda: "a plugin changed the process: put back" in kernel.log)  # after the batch is counted
    assert kernel.send() == 0


@pytest.mark.parametrize(
    "method", ["save_state(self)", pytest.param("load_state(self, state, version)", marks=pytest.mark.proof)]
)
def test_state_that_is_never_given_or_taken_does_not_stop_the_loop(kernel, method):
    """Code that does not return there is interrupted: the old code trades on, and the status says why."""
    endless = kernel.FLIP.replace(
        "    state =", f"    def {method}:\n        while True:\n            pass\n\n    state ="
    )
    kernel.write_plugin(text=endless)
    kernel.begin()
    kernel.write_plugin(text=endless.replace("first", "second"))
    kernel.until(lambda: "the old code stays in use" in kernel.problems)
    assert kernel.trade(2) == {"one": 2, "two": 2}
    assert kernel.send() == 0
