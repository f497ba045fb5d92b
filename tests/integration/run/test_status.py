"""What `torghut status` says of a process, and that everything else says the same of it."""

import json
import re
import signal

AGE = re.compile(r" \(\d[\d,]* \w+ ago\)")


def lines(text):
    """Lines of a text without ages, which pass."""
    return [AGE.sub("", line) for line in text.splitlines()]


def test_everything_says_the_same(kernel):
    """`status`, `doctor`, `catalog status` and `/trading/status` begin alike, while it trades and while it is halted."""
    kernel.begin()
    kernel.trade(3)
    for code in (0, 1):
        told = lines(kernel.output("status", code=code))
        assert told == lines("\n".join(kernel.get("/trading/status")["summary"]))
        assert lines(kernel.output("doctor", code=None))[: len(told)] == told
        assert lines(kernel.output("catalog", "status", code=code))[: len(told)] == told
        shown = kernel.printed("status", code=code)
        assert (shown["ok"], lines("\n".join(shown["summary"]))) == (not code, told)
        kernel.output("kill", "--reason", "fat finger")
    assert told[0].startswith("halted: fat finger (")
    assert " since 20" in told[0]
    assert "generation 1, " in told[1]
    assert "changed by: start" in told[1]
    assert next(line for line in told if line.startswith("positions: ")) == "positions: ES 1 (one), ES 2 (two)"
    assert "allowed" in next(line for line in told if line.startswith("last decision: "))


def test_halted_process_says_so_when_it_starts(kernel):
    """The line of a start says that nothing is sent, by whom, why and since when."""
    kernel.begin()
    kernel.output("kill", "--reason", "fat finger")
    kernel.send()
    assert "control: halted: fat finger" in kernel.output("status", code=1)
    kernel.start("run", "--catalog", kernel.catalog, "--state", kernel.state, "--port", 0)
    line = kernel.process.stdout.readline()
    assert line.startswith("halted: fat finger (")
    assert " since 20" in line
    assert "admin API at http://" in line
    shown = [kernel.process.stdout.readline().strip() for _ in range(7)]
    assert "last decision: none since the start" in shown
    kernel.until(lambda: re.search(r"\[warning  \] trading .*control='halted: fat finger", kernel.log))


def test_process_that_was_killed_is_dead(kernel):
    """After kill -9 `status` fails, says so, and shows what was held; `doctor` fails as well."""
    kernel.begin()
    kernel.trade(3)
    kernel.send(signal.SIGKILL)
    told = kernel.output("status", code=1)
    assert told.startswith("dead: ")
    assert "generation 1, " in told
    assert "positions: ES" in told
    shown = json.loads(kernel.output("doctor", "--json", code=1))
    assert shown["summary"][0].startswith("dead: ")
    assert "end of the last process" in [each["subject"] for each in shown["checks"] if not each["is_ok"]]


def test_process_that_ended_in_order_is_not_running(kernel):
    """Nothing trades: that is not well, and nothing is wrong with what was left."""
    kernel.begin()
    assert kernel.send() == 0
    shown = kernel.printed("status", code=1)
    assert (shown["running"], shown["reasons"], shown["summary"][0]) == (False, [], "not running: nothing trades")


def test_degraded_process_fails(kernel):
    """A wrong entry makes `status` fail, and the next good file lets it pass again."""
    kernel.begin()
    kernel.write({"one": 1, "two": 0})
    kernel.until(lambda: kernel.status["degraded"])
    assert "catalog: " in kernel.output("status", code=1)
    kernel.write({"one": 1, "two": 2})
    kernel.until(lambda: not kernel.status["degraded"])
    assert kernel.output("status").startswith("trading\n")


def test_path_that_is_not_there_is_refused_whatever_traded_before(kernel):
    """A slip in `--catalog` ends a start with 2, and trades nothing; the last generation does not take its place."""
    kernel.begin()
    kernel.send()
    for path in (kernel.folder / "catalgo", kernel.catalog / "tradng.yaml"):
        done = kernel.command("run", "--catalog", path, "--state", kernel.state, "--port", 0)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{path}" in done.stderr
        assert "there is no such file or folder" in done.stderr


def test_fallback_is_the_first_thing_said(kernel):
    """Where the files are refused and the last good generation trades, console, log, `/readyz` and `status` say so first."""
    kernel.begin()
    kernel.send()
    kernel.file.write_text("version: 1\nmode: snyc\n")
    kernel.start("run", "--catalog", kernel.catalog, "--state", kernel.state, "--port", 0)
    line = kernel.process.stdout.readline()
    assert line.startswith("fallback: catalog ")
    assert "is refused, generation 2 trades on: " in line
    assert "trading.yaml:2:7: mode" in line
    kernel.url = re.search(r"http://\S+", line)[0]
    kernel.token = json.loads((kernel.state / "admin.json").read_text())["token"]
    assert "[error" in kernel.complaints[0]
    assert "fallback: the catalog is refused" in kernel.complaints[0]
    ready = kernel.until(lambda: json.loads(kernel.ask("/readyz")[1]))
    assert "is refused, generation 2 trades on" in str(ready)
    assert kernel.output("status", code=1).startswith("fallback: catalog ")
    assert kernel.output("catalog", "status", code=1).startswith("fallback: catalog ")
    kernel.write({"one": 1, "two": 2})
    kernel.until(lambda: not kernel.status["degraded"])
    assert kernel.output("status").startswith("trading\n")
    assert "catalog problem is over" in kernel.log


def test_problems_of_a_reload_are_logged_once_and_their_end_too(kernel):
    """A wrong entry is one line however often the files are read, and one more when it is right again."""
    kernel.env["TRADING_STRATEGY_RELOAD_SECONDS"] = "0.3"
    kernel.begin()
    kernel.write({"one": 1, "two": 0})
    kernel.until(lambda: kernel.status["degraded"])
    kernel.post("/catalog/reload")
    kernel.post("/catalog/reload")
    kernel.write({"one": 3, "two": 2})
    kernel.until(lambda: not kernel.status["degraded"])
    told = [line for line in kernel.log.splitlines() if "catalog problem" in line]
    assert [("[error" in line, "is over" in line) for line in told] == [(True, False), (False, True)]
    assert all("strategies[1].params.quantity" in line for line in told)


def test_files_that_cannot_be_read_end_no_problem(kernel):
    """A wrong entry is not said to be over because the whole file is refused meanwhile."""
    kernel.begin()
    kernel.write({"one": 1, "two": 0})
    kernel.until(lambda: kernel.status["degraded"])
    wrong = kernel.file.read_text()
    kernel.file.write_text(wrong + ":: [\n")
    kernel.until(lambda: "outcome=refused" in kernel.log)
    assert "is over" not in kernel.log
    kernel.file.write_text(wrong)
    kernel.until(lambda: kernel.log.count("strategies[1].params.quantity") == 2)
    kernel.write({"one": 3, "two": 2})
    kernel.until(lambda: "the catalog is applied as it stands again" in kernel.log)
    assert "is over" in kernel.log


def test_run_logs_what_it_does(kernel):
    """Without any option its log has the start, decisions, orders, fills, generations, and changes of the control."""
    kernel.begin()
    kernel.trade(3)
    kernel.write({"one": 5})
    kernel.reaches(2)
    kernel.output("kill", "--reason", "fat finger")
    kernel.until(lambda: "control changed" in kernel.log)
    kernel.send()
    for event in ("trading", "decision", "order", "fill", "generation trades", "control changed", "stopping"):
        assert re.search(rf"\] {event} ", kernel.log), event


def test_lists_are_the_same_while_it_runs_and_when_it_is_down(kernel):
    """Orders, decisions, fills, positions and generations, each filter, and ids that `explain` takes."""

    def lists():
        return {
            name: kernel.printed(*name.split(" "))[name.split(" ")[0]]
            for name in (
                "orders",
                "fills --strategy two --limit 2",
                "decisions --symbol ES --since 2026-01-05T14:30:02Z",
                "decisions --symbol NQ",
                "positions",
                "positions --strategy one",
            )
        } | {"history": kernel.printed("catalog", "history")["generations"]}

    kernel.begin()
    kernel.trade(3)
    kernel.write({"one": 1, "two": 3})
    kernel.reaches(2)
    running = lists()
    assert "number" in kernel.output("catalog", "history").splitlines()[0]
    kernel.send()
    assert lists() == running
    assert [row["number"] for row in running["history"]] == [2, 1]
    assert len(running["orders"]) == 8
    assert [row["strategy_id"] for row in running["fills --strategy two --limit 2"]] == ["two", "two"]
    assert {row["event_ts"] for row in running["decisions --symbol ES --since 2026-01-05T14:30:02Z"]} == {
        f"2026-01-05T14:30:0{second}Z" for second in (2, 3)
    }
    assert running["decisions --symbol NQ"] == []
    assert [row["quantity"] for row in running["positions"]] == ["1", "2"]
    (held,) = running["positions --strategy one"]
    ids = [running["orders"][0]["client_order_id"], held["client_order_id"]]
    ids += [running["fills --strategy two --limit 2"][0]["client_order_id"]]
    for number in ids:
        assert kernel.printed("explain", number)["decision"]["symbol"] == "ES"
    assert "since=yesterday" in kernel.output("orders", "--since", "yesterday", code=2)


def test_an_exporter_finds_its_fields(kernel):
    """What a dashboard of the system before reads is in the status, with the numbers of the metrics."""
    status = kernel.begin().get("/trading/status")
    assert (status["running"], status["last_reconcile_at"], status["last_error"]) == (True, None, None)
    assert status["last_run_at"].endswith("Z")
    assert status["metrics"]["decisions_total"] == kernel.metric("decisions_total")
