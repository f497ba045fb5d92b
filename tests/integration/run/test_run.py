"""`torghut run` while its catalog, its plugins and its operator change what it trades."""

import json
import os
import re
import signal
import socket
import statistics
import time
from contextlib import ExitStack

import pytest

from support.metrics import EVERY_METRIC, OF_A_RUN, OF_A_VENUE

WRONG = "version: 1\nmode: snyc\n"
"""A catalog that is wrong as a whole."""

HANGS = {
    "a loop": "while True: pass",
    "a sleep": "import time; time.sleep(3600)",
}

DEADLOCK = """
        import ctypes
        lock = ctypes.CDLL(None).pthread_mutex_lock
        mutex = ctypes.create_string_buffer(64)
        lock(mutex), lock(mutex)
"""
"""Code that never comes back from C, and hears no signal there."""


def broken(flip, name, statement):
    """A strategy that does something else first."""
    text = flip.replace('"flip"', f'"{name}"').replace("class Flip", f"class {name.title()}")
    return text.replace("Flip)", f"{name.title()})").replace(
        "        self.rows += 1\n", f"        {statement.strip()}\n        self.rows += 1\n"
    )


# The start and the end.


def test_sigterm_closes_everything_and_exits_with_zero(kernel):
    """On SIGTERM it finishes, records its books, and leaves a complete state directory."""
    kernel.begin()
    assert kernel.trade(5) == {"one": 5, "two": 5}
    assert kernel.send() == 0
    assert kernel.complaints == []
    assert not (kernel.state / "admin.json").exists()
    last = kernel.printed("catalog", "status")
    assert (last["running"], last["generation"], last["actor"], last["outcome"]) == (False, 1, "start", "started")
    assert kernel.printed("audit", "verify")["intact"]
    *_, books = kernel.rows("position_snapshots", symbol="ES")
    assert books["quantity"] == 3


@pytest.mark.parametrize(
    ("seconds", "minutes"), [("60", [30, 31, 32, 32]), pytest.param("0", [32], marks=pytest.mark.proof)]
)
def test_equity_is_written_down_at_an_interval_of_the_market_s_time(kernel, seconds, minutes):
    """A row of the account in each interval and one at the end, with what is held; none but the last where it is 0."""
    kernel.env["TRADING_SNAPSHOT_SECONDS"] = seconds
    kernel.begin()
    for _ in range(2):
        kernel.trade(70)
    assert kernel.send() == 0
    books = kernel.rows("position_snapshots", symbol=None)
    assert [books_at["at"] // 60_000_000_000 % 60 for books_at in books] == minutes
    for row in books:
        held = [each for each in kernel.rows("position_snapshots", symbol="ES") if each["at"] == row["at"]]
        quantity = held[0]["quantity"] if held else 0
        assert row["cash"] + quantity * (100 + (row["at"] // 10**9 - 1) % 2) == row["equity"]
    assert kernel.printed("audit", "verify")["intact"]


def test_sigint_ends_it_as_sigterm_does(kernel):
    """Ctrl-C ends it in good order, with exit code 0."""
    kernel.begin()
    assert kernel.send(signal.SIGINT) == 0
    assert kernel.complaints == []
    assert kernel.findings == []
    assert all(row["equity"] == 1_000_000 for row in kernel.rows("position_snapshots", symbol=None))


def test_second_sigterm_ends_at_once(kernel):
    """A second signal ends a stop that hangs, with the exit code of that signal."""
    kernel.env["TRADING_PLUGIN_BUDGET_MS"] = "10000"
    say = "import sys, time; print('stuck', file=sys.stderr, flush=True); time.sleep(10)"
    kernel.write_plugin("stuck", broken(kernel.FLIP, "stuck", say))
    kernel.write({"one": {"use": "stuck"}})
    kernel.begin(waits=False)
    kernel.until(lambda: "stuck" in kernel.log)
    kernel.process.send_signal(signal.SIGTERM)
    kernel.until(lambda: kernel.ask("/readyz")[0] == 503)
    assert kernel.send() == 128 + signal.SIGTERM


def test_end_of_source_exits_with_zero(kernel):
    """A tape is traded to its end, and the process ends."""
    kernel.source = {}
    kernel.grow(9)
    kernel.write({"one": 1})
    code, log = kernel.run("--port", 0)
    assert (code, [line for line in log.splitlines() if "[info " not in line]) == (0, [])
    assert len(kernel.rows("trade_decisions")) == 10


def broken_tape(kernel, _stack):
    with kernel.tape.open("a") as tape:
        tape.write("ES,yesterday,1,1,1,1,1\n")
    return 0, 2, "tape.csv: line 3"


def broken_catalog(kernel, _stack):
    kernel.file.write_text(WRONG)
    return 0, 2, "trading.yaml:2:7: mode"


def broken_entry(kernel, _stack):
    kernel.write({"one": 1, "two": 0})
    return 0, 2, "strategies[1].params.quantity"


def port_taken(_kernel, stack):
    listener = stack(socket.create_server(("127.0.0.1", 0)))
    return listener.getsockname()[1], 1, "cannot listen on 127.0.0.1"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(broken_tape, marks=pytest.mark.proof),
        broken_catalog,
        pytest.param(broken_entry, marks=pytest.mark.proof),
        port_taken,
    ],
)
def test_start_that_cannot_be_changes_nothing(kernel, spoil):
    """An error at the first start is one message and an exit code, and no generation is recorded."""
    with ExitStack() as stack:
        port, code, message = spoil(kernel, stack.enter_context)
        returned, said = kernel.run("--port", port)
    assert returned == code, said
    assert said.startswith("error: "), said
    assert message in said
    assert "Traceback" not in said
    assert not (kernel.state / "audit.db").exists() or kernel.rows("catalog_generations") == []


# Watching.


def test_swap_of_a_config_map_trades_within_a_second(mounted):
    """From the swap of `..data` to the new generation trading, the median of ten is under a second."""
    taken = []
    for quantity in range(11, 21):
        number = mounted.status["generation"]
        began = time.monotonic()
        mounted.mount.swap(mounted.text({"one": quantity}))
        mounted.reaches(number + 1)
        taken.append(time.monotonic() - began)
        assert mounted.quantities == {"one": quantity}
    print(f"median {statistics.median(taken):.3f} s, most {max(taken):.3f} s")  # noqa: T201 - the figure, for -rP
    assert statistics.median(taken) < 1


def test_mount_of_the_same_content_changes_nothing(mounted):
    """A ConfigMap that is swapped for one with the same content makes no new generation."""
    before = mounted.status
    mounted.mount.swap(mounted.text(mounted.quantities))
    mounted.mount.swap(mounted.text({"one": 99}))
    after = mounted.reaches(before["generation"] + 1)
    assert after["generation"] == before["generation"] + 1
    assert mounted.quantities == {"one": 99}


def in_place(file, text):
    with file.open("r+") as opened:
        opened.truncate(opened.write(text))


def by_rename(file, text):
    new = file.with_name(".new")
    new.write_text(text)
    new.rename(file)


def truncated_first(file, text):
    file.write_text("")
    file.write_text(text[: len(text) // 2])
    file.write_text(text)


def hundred_times(file, text):
    for number in range(99):
        file.write_text(f"{text}# {number}\n")
    file.write_text(text)


@pytest.mark.parametrize("write", [in_place, by_rename, truncated_first, hundred_times])
def test_every_way_of_saving_is_one_generation(plain, write):
    """However an editor writes the file, the new content trades, as one generation."""
    before, quantities = plain.status, plain.quantities
    quantities["one"] += 1
    write(plain.file, plain.text(quantities))
    plain.reaches(before["generation"] + 1)
    assert plain.quantities == quantities
    plain.write({**quantities, "two": quantities["two"] + 1})
    after = plain.until(lambda: plain.quantities["two"] > quantities["two"] and plain.status)
    assert after["generation"] == before["generation"] + 2
    assert after["problems"] == []


def test_touch_changes_nothing(plain):
    """A file that was touched, or written with the same content, makes no new generation."""
    before, quantities = plain.status, plain.quantities
    plain.file.touch()
    plain.file.write_text(plain.file.read_text())
    quantities["one"] += 1
    plain.write(quantities)
    plain.until(lambda: plain.quantities == quantities)
    assert plain.status["generation"] == before["generation"] + 1


def test_deleted_file_is_reported_until_it_is_back(plain):
    """Without its catalog the kernel trades on, degraded; the same file again clears that, without a generation."""
    before, text = plain.status, plain.file.read_text()
    plain.file.unlink()
    plain.until(lambda: plain.status["degraded"])
    assert plain.trade() == {"one": 2, "two": 2}
    plain.file.write_text(text)
    plain.until(lambda: not plain.status["degraded"])
    assert plain.status["generation"] == before["generation"]


# A catalog that is wrong.


def test_wrong_file_changes_nothing_and_is_reported(plain):
    """With a wrong file trading continues, and the status has file, line and column until the file is right."""
    before, quantities = plain.status, plain.quantities
    plain.file.write_text(WRONG)
    told = plain.until(lambda: plain.status["degraded"] and plain.status)
    assert "trading.yaml:2:7: mode" in told["problems"][0]
    assert told["generation"] == before["generation"]
    assert told["last_reload"]["outcome"] == "refused"
    assert plain.metric("catalog_last_reload_successful") == 0
    assert plain.trade() == {"one": 2, "two": 2}
    plain.write(quantities)
    plain.until(lambda: not plain.status["degraded"])
    assert plain.metric("catalog_last_reload_successful") == 1


def test_slip_in_a_number_or_an_escape_changes_nothing_and_is_reported(plain):
    """What YAML reads as a number and Python does not, or takes minutes for, is a problem at its place; trading goes on."""
    text = plain.file.read_text()
    for slip in ("90_", "1__000", "1.0e+999999999", '"\\U00110000"'):
        entry = f"  - {{name: slip, use: flip, base_timeframe: 1Sec, symbols: [ES], cooldown_seconds: {slip}}}\n"
        plain.file.write_text(text + entry)
        plain.until(lambda: plain.status["degraded"] and "trading.yaml:" in plain.problems)
        assert plain.trade() == {"one": 2, "two": 2}
        plain.file.write_text(text)
        plain.until(lambda: not plain.status["degraded"])


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_is_reported_and_reloads_come_again(plain, put):
    """A pipe or a device in the catalog's place is reported; it holds nothing up, and the file that replaces it is read."""
    quantities = plain.quantities
    beside = plain.folder / "beside"
    put(beside)
    beside.replace(plain.file)  # at once: an empty folder, even for a moment, would be reported first
    told = plain.until(lambda: plain.status["degraded"] and plain.status)
    assert "not a regular file" in told["problems"][0]
    assert plain.trade() == {"one": 2, "two": 2}
    plain.file.unlink()
    quantities["one"] += 1
    plain.write(quantities)
    plain.until(lambda: not plain.status["degraded"] and plain.quantities == quantities)


def test_wrong_entry_stays_as_it_was_and_others_change(plain):
    """One strategy with a wrong parameter keeps its last good version; the other's change is applied."""
    quantities = plain.quantities
    changed = {"one": quantities["one"] + 1, "two": -1}
    plain.write(changed)
    plain.until(lambda: plain.quantities["one"] == changed["one"])
    assert plain.status["degraded"]
    assert "strategies[1].params.quantity" in plain.problems
    assert plain.quantities["two"] == quantities["two"]
    assert plain.trade() == {"one": 2, "two": 2}
    plain.write({**changed, "two": 7})
    plain.until(lambda: plain.quantities["two"] == 7 and not plain.status["degraded"])


@pytest.mark.parametrize(
    ("on_invalid", "restriction", "code"), [("halt", "halt", "halted"), ("reduce_only", "reduce_only", "reduce-only")]
)
def test_on_invalid_denies_until_the_file_is_right(plain, on_invalid, restriction, code):
    """`on_invalid` restricts trading while the file is wrong, also when other things are applied meanwhile."""
    quantities = plain.quantities
    plain.write(quantities, on_invalid=on_invalid)
    plain.until(lambda: plain.get("/catalog")["content"]["on_invalid"] == on_invalid)
    plain.file.write_text(WRONG)
    plain.until(lambda: plain.status["restriction"] == restriction)
    before = plain.metric("denials_total", code) or 0
    plain.trade(4)
    denied = plain.metric("denials_total", code)
    assert denied > before
    number = plain.status["generation"]
    plain.write_plugin(text=plain.FLIP.replace("first", on_invalid))
    plain.reaches(number + 1)
    plain.trade(4)
    assert plain.metric("denials_total", code) > denied
    assert plain.status["restriction"] == restriction
    assert "trading.yaml:2:7" in plain.problems
    plain.write(quantities)
    plain.until(lambda: not plain.status["restriction"])
    settled = plain.metric("denials_total", code)
    plain.trade(4)
    assert plain.metric("denials_total", code) == settled


# The operator.


def test_commands_inspect_the_process_and_roll_it_back(kernel):
    """`catalog status`, `diff --against-live` and `rollback` work on a running kernel; a rollback survives a restart."""
    kernel.begin()
    kernel.write({"one": 5})
    kernel.reaches(2)
    status = kernel.printed("catalog", "status")
    assert (status["running"], status["generation"], status["actor"]) == (True, 2, "watch")
    new = kernel.folder / "other.yaml"
    new.write_text(kernel.text({"one": 6}))
    (change,) = kernel.printed("catalog", "diff", "--against-live", new)["changes"]
    assert (change["name"], change["fields"][0]["old"], change["fields"][0]["new"]) == ("one", 5, 6)
    done = kernel.printed("catalog", "rollback")
    assert (done["generation"], done["problems"]) == (3, [])
    assert kernel.quantities == {"one": 1, "two": 2}
    assert kernel.status["pinned"]
    assert kernel.send() == 0
    kernel.begin()
    assert kernel.quantities == {"one": 1, "two": 2}
    assert kernel.status["pinned"]
    kernel.write({"one": 6})
    kernel.until(lambda: kernel.quantities == {"one": 6})
    assert not kernel.status["pinned"]
    assert kernel.send() == 0
    actors = {row["actor"] for row in kernel.rows("catalog_generations")}
    (operator,) = actors - {"start", "watch"}
    assert operator.startswith("local:")
    assert {"start", "watch", operator} == set(kernel.logged("catalog_generations"))
    assert kernel.findings == []


def test_reload_ends_a_rollback_for_good(kernel):
    """An operator's reload applies the file again, and so does every start after it."""
    kernel.begin()
    kernel.write({"one": 5})
    kernel.reaches(2)
    kernel.post("/catalog/rollback", {"to": 1})
    assert kernel.quantities == {"one": 1, "two": 2}
    done = kernel.post("/catalog/reload")
    assert (done["outcome"], done["problems"]) == ("applied", [])
    assert kernel.quantities == {"one": 5}
    assert kernel.send() == 0
    kernel.begin()
    assert kernel.quantities == {"one": 5}
    assert not kernel.status["pinned"]


def test_probes_and_metrics_tell_what_runs(plain):
    """The process is alive and ready, and the metrics of the catalog agree with its status."""
    assert plain.get("/healthz") == {"ok": True, "reasons": []}
    ready = {"status": "ready", "ready": True, "error_class": None}
    assert plain.get("/readyz") == {"ok": True, **ready, "reasons": [], "gates": {}}
    status = plain.status
    before = plain.metric("catalog_last_reload_success_timestamp_seconds")
    assert plain.metric("catalog_generation") == status["generation"]
    assert plain.metric("catalog_last_reload_successful") == 1
    assert before <= time.time()
    plain.write({**plain.quantities, "one": plain.quantities["one"] + 1})
    plain.reaches(status["generation"] + 1)
    assert plain.metric("catalog_generation") == status["generation"] + 1
    plain.until(lambda: before < plain.metric("catalog_last_reload_success_timestamp_seconds") <= time.time())
    assert plain.metric("plugin_quarantined", "one") is None


def test_every_metric_is_explained(plain):
    """`/metrics` has what docs/admin-api.md lists; with a simulated broker, those of a real venue are missing."""
    _, text = plain.ask("/metrics")
    given = set(re.findall(r"^# HELP torghut_(\w+)", text, re.MULTILINE))
    of_a_run = {spec.name for spec in OF_A_RUN}
    without_series = {"denials_total", "plugin_quarantined"}
    assert of_a_run - without_series <= given <= EVERY_METRIC.keys()
    assert not given & {spec.name for spec in OF_A_VENUE}
    for name, meaning in re.findall(r"^# HELP torghut_(\w+) (.*)$", text, re.MULTILINE):
        assert meaning == EVERY_METRIC[name].help


# Containment.


@pytest.mark.parametrize(
    ("hang", "release"), [("a loop", "operator"), pytest.param("a sleep", "catalog", marks=pytest.mark.proof)]
)
def test_strategy_that_hangs_is_quarantined_until_it_is_fixed(kernel, hang, release):
    """It is quarantined by name and the other trades on; fixed code trades after a reload or the next good catalog."""
    kernel.env["TRADING_PLUGIN_BUDGET_MS"] = "200"
    kernel.write_plugin("hang", broken(kernel.FLIP, "hang", HANGS[hang]))
    kernel.write({"one": 1, "bad": {"use": "hang"}})
    kernel.begin()
    status = kernel.until(lambda: kernel.status["quarantined"] and kernel.status)
    assert list(status["quarantined"]) == ["bad"]
    assert "Overrun" in status["quarantined"]["bad"]
    assert kernel.metric("plugin_quarantined", "bad") == 1
    assert kernel.trade(3) == {"one": 3, "bad": 0}
    kernel.write_plugin("hang", broken(kernel.FLIP, "hang", "pass"))
    if release == "operator":
        kernel.post("/catalog/reload")
    else:
        kernel.write({"one": 2, "bad": {"use": "hang"}})
    kernel.until(lambda: not kernel.status["quarantined"])
    assert kernel.trade(3) == {"one": 3, "bad": 3}
    assert kernel.get("/healthz")["ok"]
    assert kernel.send() == 0
    (control,) = kernel.rows("controls", name="quarantine.bad")
    assert (control["value"], control["actor"]) == (None, "torghut")
    assert kernel.logged("controls", "quarantine.bad") == ["torghut", "torghut"]
    for event in ("strategy quarantined", "strategy released from quarantine"):
        assert re.search(rf"\] {event} .*strategy_id=bad", kernel.log), event


def test_strategy_stuck_in_compiled_code_makes_the_kernel_unwell(kernel):
    """`/healthz` fails while code that cannot be interrupted hangs, so that a supervisor restarts the process."""
    kernel.env |= {"TRADING_PLUGIN_BUDGET_MS": "100", "TRADING_STALLED_SECONDS": "1"}
    kernel.write_plugin("stuck", broken(kernel.FLIP, "stuck", DEADLOCK))
    kernel.write({"one": 1, "bad": {"use": "stuck"}})
    kernel.begin(waits=False)
    kernel.until(lambda: kernel.ask("/healthz")[0] == 503)
    (reason,) = json.loads(kernel.ask("/healthz")[1])["reasons"]
    assert "has not come back" in reason
    assert kernel.ask("/readyz")[0] == 503


# Code that changes.


def test_edited_code_trades_with_the_state_of_the_old(plain):
    """A plugin edited in its folder trades within seconds, with the state of the old code."""
    number, quantities = plain.status["generation"], plain.quantities
    plain.write_plugin(text=plain.FLIP.replace("self.rows += 1", "self.rows += 1000"))
    plain.reaches(number + 1)
    assert plain.trade(1) == {"one": 1, "two": 1}
    assert plain.quantities == quantities
    plain.write_plugin(text=plain.FLIP)
    plain.reaches(number + 2)


def test_edit_that_comes_while_another_is_imported_is_applied(plain):
    """A second edit during the import of the first is applied at once, and does not wait for the poll every 10 s."""
    sign = plain.folder / "imported"
    plain.write_plugin(text=f"open({str(sign)!r}, 'w').close()\n{plain.FLIP}")
    plain.until(sign.exists)
    began = time.monotonic()
    plain.write_plugin(
        text=plain.FLIP.replace("quantity: int", "more: int = param(7, ge=0, help='more')\n        quantity: int")
    )
    plain.until(lambda: plain.strategies["one"]["params"].get("more") == 7)
    assert time.monotonic() - began < 5
    plain.write_plugin()
    plain.until(lambda: "more" not in plain.strategies["one"]["params"])


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("syntax", "def on_signal", "def on_signal(", "SyntaxError"),
        ("import", "NOTE =", "import nowhere\nNOTE =", "nowhere"),
        ("exit", "NOTE =", "import sys; sys.exit(3)\nNOTE =", "SystemExit"),
        ("hand-over", "    state =", "    def load_state(self, state, version): raise OSError('no state')\n    state =", "no state"),
        ("first row", "        self.rows += 1", "        raise OSError('first row')", "first row"),
    ],
)  # fmt: skip
def test_broken_edit_leaves_the_old_code_trading(plain, name, old, new, complaint):
    """If new code cannot be imported, rejects the state or fails in its first row, the old trades, with the reason."""
    code = plain.codes
    plain.write_plugin(text=plain.FLIP.replace(old, new))
    plain.until(lambda: any(plain.trade(1).values()) and complaint in plain.problems)
    assert plain.status["degraded"]
    assert plain.trade(2) == {"one": 2, "two": 2}
    plain.until(lambda: plain.codes == code)
    assert plain.trade(2) == {"one": 2, "two": 2}
    plain.write_plugin(text=plain.FLIP)
    plain.until(lambda: not plain.status["degraded"])
    assert plain.trade(2) == {"one": 2, "two": 2}


def test_decision_is_explained_by_the_code_that_made_it(kernel):
    """`torghut explain` shows the digest of the code that decided, also after new code was applied and reverted."""
    kernel.env["TRADING_STRATEGY_RELOAD_SECONDS"] = "1"
    kernel.begin()
    old = kernel.codes["one"]
    kernel.write_plugin(text=kernel.FLIP.replace("first", "second"))
    kernel.until(lambda: kernel.codes["one"] != old)
    new = kernel.codes["one"]
    kernel.trade(1)
    kernel.write_plugin(text=kernel.FLIP.replace("        self.rows += 1", "        raise OSError('third')"))
    kernel.reaches(3)
    assert kernel.codes["one"] not in (old, new)
    kernel.trade(1)
    kernel.until(lambda: kernel.codes["one"] == new)
    kernel.trade(1)
    assert kernel.send() == 0
    rows = [row for row in kernel.rows("trade_decisions") if row["strategy_id"] == "one"]
    assert [row["rationale"] for row in rows] == ["first row 1", "second row 2", "second row 3", "second row 4"]
    for row, code in ((rows[0], old), (rows[1], new), (rows[2], new)):  # the third was the failing code's
        explained = kernel.printed("explain", row["decision_hash"])
        assert explained["generation"]["strategy"]["code_digest"] == code


def test_strategy_that_wants_to_end_the_process_is_quarantined(kernel):
    """`sys.exit()` in a strategy ends the strategy, not the trading."""
    kernel.write_plugin("quits", broken(kernel.FLIP, "quits", "raise SystemExit(3)"))
    kernel.write({"one": 1, "bad": {"use": "quits"}})
    kernel.begin()
    assert list(kernel.status["quarantined"]) == ["bad"]
    assert kernel.trade(3) == {"one": 3, "bad": 0}


def test_code_that_hangs_when_it_is_imported_is_reported(kernel):
    """The old code trades on, the status says what hangs, and SIGTERM still ends the process in good order."""
    kernel.env["TRADING_STALLED_SECONDS"] = "1"
    kernel.begin()
    kernel.write_plugin("endless", "import time\nfrom torghut_core import hookimpl\ntime.sleep(3600)\n")
    kernel.write({"one": 5})
    kernel.until(lambda: "hangs when it is imported" in kernel.problems)
    assert kernel.trade(3) == {"one": 3, "two": 3}
    assert kernel.quantities == {"one": 1, "two": 2}
    assert kernel.get("/healthz")["ok"]
    assert kernel.send() == 0
    assert kernel.findings == []
