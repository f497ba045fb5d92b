"""The commands around trading at a venue, each as an operator types it, against a kernel that runs."""

import json
import os
import time
from decimal import Decimal
from pathlib import Path

import pytest

WAYS = (
    "busy",
    "asleep",
    pytest.param("idle", marks=pytest.mark.proof),
    pytest.param("spinning", marks=pytest.mark.proof),
)


def sent_after(trader, moment):
    """Requests for orders that began at the venue after a wall time, ns."""
    return [each for each in trader.sent if each.at > moment]


class TestTrading:
    def test_a_decision_is_an_order_at_the_venue_and_a_position_in_the_books(self, trader):
        """What is decided is ordered once, filled, held, and written down as the venue has it."""
        trader.begin().trade("buy")
        trader.until(lambda: trader.held)
        trader.agrees()
        assert trader.books == {"BTC/USD": Decimal(1)}
        assert [json.loads(each.body)["symbol"] for each in trader.sent] == ["BTC/USD"]
        assert trader.send() == 0
        assert trader.findings == []

    def test_routes_tell_how_trading_stands(self, trader):
        """Status, health, decisions, executions and metrics agree on an order that works."""
        trader.begin().trade("bid", ("ETH/USD",))
        trader.until(lambda: trader.working)
        trader.agrees()
        status, health, metrics = (trader.get(f"/trading/{name}") for name in ("status", "health", "metrics"))
        assert (status["broker"], status["orders_working"], status["control"]["state"]) == ("paper", 1, "running")
        assert health["ok"], health
        assert (metrics["orders_working"], metrics["order_requests_total"]["sent"], metrics["lease_held"]) == (1, 1, 1)
        (number,) = trader.working
        (execution,) = trader.get("/trading/executions?symbol=ETH/USD")["executions"]
        (decision,) = trader.get("/trading/decisions?symbol=ETH/USD")["decisions"]
        assert (execution["client_order_id"], execution["state"]) == (number, "accepted")
        assert execution["decision_hash"] == decision["decision_hash"]
        assert trader.ask("/readyz")[0] == 200

    def test_an_order_is_explained_and_its_checks_come_out_the_same(self, trader):
        """`explain --verify` takes the id that the venue shows, beside the kernel and after it; the log is intact."""
        trader.begin().trade("buy")
        trader.until(lambda: trader.held)
        trader.agrees()
        (number,) = [json.loads(each.body)["client_order_id"] for each in trader.sent]
        for _ in range(2):
            found = trader.printed("explain", number, "--verify")
            assert found["verification"]["is_same"], found["verification"]
            assert trader.printed("audit", "verify")["intact"]
            trader.kill()

    def test_everything_answers_while_the_loop_is_busy(self, trader):
        """Routes and commands, while it decides at every bar as quick as bars come; the books agree all the time."""
        trader.begin()
        with trader.busy():
            trader.until(lambda: len(trader.sent) > 20)
            (number, *_) = [json.loads(each.body)["client_order_id"] for each in trader.sent]
            assert trader.printed("explain", number, "--verify")["verification"]["is_same"]
            assert trader.printed("audit", "verify")["intact"]
            assert trader.printed("reconcile")["differences"] == {}
            for name in ("status", "health", "metrics", "decisions", "executions"):
                trader.get(f"/trading/{name}")
            trader.until(lambda: not any(trader.health.values()))
        trader.caught_up()
        trader.agrees()

    def test_doctor_says_that_all_is_well(self, trader):
        """`doctor` is of use where no kernel runs: with keys, plugins and stores that are right it finds nothing wrong."""
        trader.begin().send()
        assert trader.printed("doctor", "--catalog", trader.catalog)["ok"]


class TestReconcile:
    def test_nothing_differs(self, trader):
        """`reconcile` says so, and exits with 0; the second time nothing has changed."""
        trader.begin().trade("buy")
        trader.until(lambda: trader.held)
        trader.agrees()
        assert "agree" in trader.output("reconcile")
        assert trader.printed("reconcile")["changes"] == 0

    def test_a_difference_waits_until_it_is_accepted(self, trader):
        """A position that was changed at the venue is reported, and entries in the symbol wait until it is accepted."""
        trader.begin().trade("buy")
        trader.until(lambda: trader.held)
        trader.agrees()
        trader.fake.venue.set_position("BTC/USD", 3)
        assert "1 here, 3 at the venue" in trader.output("reconcile", code=1)
        assert any(trader.health.values())
        sent = len(trader.sent)
        trader.trade("bid")
        trader.trade("bid", ("ETH/USD",))
        trader.until(lambda: len(trader.sent) > sent)
        assert [json.loads(each.body)["symbol"] for each in trader.sent[sent:]] == ["ETH/USD"]
        assert trader.printed("reconcile", "--accept", "BTC/USD", "--reason", "jane's")["differences"] == {}
        assert trader.books == trader.held
        trader.send()
        trader.begin()
        trader.agrees()
        assert trader.books == {"BTC/USD": Decimal(3)}

    def test_a_foreign_order_is_listed_and_left_alone(self, trader):
        """An order that torghut did not send is listed as foreign, and no command cancels it, not even a kill."""
        trader.begin()
        number = trader.fake.venue.place("ETH/USD", "buy", 1, type="limit", limit_price="10")["client_order_id"]
        assert trader.printed("reconcile")["foreign"] == [number]
        trader.output("kill", "--reason", "test")
        trader.until(lambda: trader.get("/trading/status")["control"]["state"] == "halted")
        trader.output("reconcile")
        assert trader.fake.venue.order(number)["status"] == "new"


class TestKill:
    @pytest.mark.parametrize("way", WAYS)
    def test_after_kill_returned_no_order_leaves_and_none_works(self, trader, way):
        """Whatever the loop does: idle, busy, blocked in a plugin in C or in Python."""
        trader.env["TRADING_PLUGIN_BUDGET_MS"] = "20000"
        trader.write(seconds=4)
        trader.begin().trade("bid", ("ETH/USD", "SOL/USD"))
        trader.until(lambda: len(trader.working) == 2)
        if way == "busy":
            trader.say("flip", times=2000)
            trader.until(lambda: len(trader.sent) > 10)
        elif way != "idle":
            trader.say("sleep" if way == "asleep" else "spin")
            trader.say("buy", ("LTC/USD",))
            trader.until(lambda: trader.backlog() <= 1)
        trader.output("kill", "--reason", "fat finger")
        moment = time.time_ns()
        trader.until(lambda: not trader.working, seconds=3 if way != "busy" else 20)
        if way != "idle":
            trader.caught_up()
        trader.trade("buy", ("LTC/USD",))
        assert trader.status["control"]["reason"] == "fat finger"
        trader.until(lambda: not trader.status["orders_working"])
        assert sent_after(trader, moment) == []
        trader.agrees()

    def test_it_works_by_the_file_and_the_database_while_the_admin_api_is_down(self, trader):
        """Nobody answers at the API's address: `kill` says so, and stops trading all the same."""
        trader.begin().trade("bid", ("ETH/USD",))
        trader.until(lambda: trader.working)
        known = trader.state / "admin.json"
        text = known.read_text()
        known.write_text(text.replace(trader.url.rpartition(":")[2], "1"))
        said = trader.output("kill", "--reason", "test")
        moment = time.time_ns()
        assert "written to file and database" in said
        trader.until(lambda: not trader.working)
        trader.trade("buy")
        trader.agrees()
        assert sent_after(trader, moment) == []

    @pytest.mark.parametrize(
        "put",
        [
            lambda path: path.write_text('{"state": "running", "reason": "", "actor": "", "at": 1' + "0" * 30 + "}"),
            os.mkfifo,
            pytest.param(lambda path: path.symlink_to("/dev/zero"), marks=pytest.mark.proof),
            pytest.param(Path.mkdir, marks=pytest.mark.proof),
        ],
        ids=["no clock", "pipe", "device", "folder"],
    )
    def test_it_replaces_what_stands_in_the_place_of_the_control(self, trader, put):
        """Whatever was put there stops trading by itself; `kill --flatten` replaces it, and closes what is held."""
        trader.begin().trade("buy")
        trader.until(lambda: trader.held)
        path = trader.state / "control.json"
        put(path)
        trader.until(lambda: trader.status["control"]["state"] == "halted")
        assert "written to file and database" in trader.output("kill", "--reason", "test", "--flatten")
        trader.until(lambda: not trader.held)
        assert trader.status["control"]["reason"] == "test"
        trader.release()
        trader.trade("buy", ("ETH/USD",))
        trader.until(lambda: trader.held)
        trader.agrees()

    def test_it_needs_neither_right_settings_nor_a_file_of_the_kernel(self, trader):
        """With settings that do not parse, and a pipe where the kernel says how to reach it, it stops, and says so."""
        trader.begin().trade("bid", ("ETH/USD",))
        trader.until(lambda: trader.working)
        trader.env["TRADING_RECONCILE_MS"] = "often"
        known = trader.state / "admin.json"
        known.unlink()
        os.mkfifo(known)
        said = trader.output("kill", "--reason", "test")
        assert "written to file\n" in said
        assert "problem: database: which one is unknown: TRADING_RECONCILE_MS" in said
        trader.until(lambda: not trader.working)
        assert "TRADING_RECONCILE_MS" in trader.output("unkill", "--reason", "test", code=2)

    @pytest.mark.parametrize("way", ["file", "database"])
    def test_either_of_the_two_places_stops(self, trader, way):
        """A stop in the file alone, or in the database alone, holds within two seconds."""
        from torghut_core.execution.controls import Controls

        trader.begin().trade("bid", ("ETH/USD",))
        trader.until(lambda: trader.working)
        elsewhere = trader.folder / "elsewhere.json"
        controls = Controls(*((trader.state / "control.json", None) if way == "file" else (elsewhere, trader.database)))
        controls.change("halted", reason="one place", actor="test")
        controls.close()
        trader.until(lambda: not trader.working)
        sent = len(trader.sent)
        trader.trade("buy")
        trader.agrees()
        assert len(trader.sent) == sent

    def test_an_order_between_two_attempts_is_not_tried_again(self, trader):
        """The venue answers 503 to everything; a kill ends the attempts, and the order is reported as not sent."""
        from torghut_testing.alpaca import Fault

        trader.begin()
        trader.fake.faults.add(Fault.throttle(1.0, method="POST", path="/v2/orders", times=None))
        trader.say("buy")
        trader.until(lambda: trader.sent)
        trader.output("kill", "--reason", "test")
        moment = time.time_ns()
        trader.fake.faults.clear()
        trader.agrees()
        assert sent_after(trader, moment) == []
        (row,) = trader.rows("executions")
        assert row["state"] == "canceled"
        assert row["reason"].startswith("not sent")

    def test_flatten_closes_what_is_held(self, trader):
        """`kill --flatten` cancels open orders and closes every position, though nothing else is traded."""
        trader.begin().trade("buy", ("BTC/USD", "ETH/USD"))
        trader.trade("bid", ("SOL/USD",))
        trader.until(lambda: len(trader.held) == 2 and trader.working)
        trader.output("kill", "--reason", "leave", "--flatten")
        trader.until(lambda: not trader.held and not trader.working)
        trader.agrees()
        assert trader.books == {}
        sent = len(trader.sent)
        trader.trade("buy")
        trader.agrees()
        assert len(trader.sent) == sent

    def test_flatten_sells_no_unit_that_a_person_has_sold(self, trader):
        """What the venue holds by then counts, though the books know more."""
        trader.begin().trade("buy", ("BTC/USD", "ETH/USD"))
        trader.until(lambda: len(trader.held) == 2)
        trader.agrees()
        trader.fake.venue.place("BTC/USD", "sell", 1, type="market")
        trader.until(lambda: list(trader.held) == ["ETH/USD"])
        trader.output("kill", "--reason", "leave", "--flatten")
        trader.until(lambda: not trader.held and not trader.working)
        trader.until(lambda: "BTC/USD" in trader.status["reconciliation"]["differences"])
        sent = [json.loads(each.body) for each in trader.sent]
        assert [each["symbol"] for each in sent if each["side"] == "sell"] == ["ETH/USD"]

    def test_it_holds_over_restarts_until_it_is_released(self, trader):
        """After SIGTERM, after kill -9, and where it was turned while nothing ran; a release lets orders leave again."""
        trader.begin()
        trader.output("kill", "--reason", "test")
        trader.send()
        trader.begin().trade("buy")
        trader.kill()
        trader.begin().trade("buy")
        assert trader.sent == []
        assert any(trader.health.values())
        trader.release()
        trader.trade("buy")
        trader.until(lambda: trader.held)
        trader.send()
        assert "No kernel is running" in trader.output("kill", "--reason", "again")
        trader.begin().trade("buy", ("ETH/USD",))
        trader.agrees()
        assert len(trader.sent) == 1

    def test_a_release_needs_a_reason(self, trader):
        """Who releases says why: without it the command line refuses, and the stop holds."""
        trader.begin()
        trader.output("kill", "--reason", "test")
        trader.output("unkill", "--reason", " ", code=2)
        assert trader.status["control"]["state"] == "halted"


class TestSlowingDown:
    def test_pause_entries_lets_exits_pass_and_leaves_what_works(self, trader):
        """Entries wait; an exit leaves; a working entry goes on working."""
        trader.begin().trade("buy")
        trader.trade("bid", ("ETH/USD",))
        trader.until(lambda: trader.held and trader.working)
        trader.output("unkill", "--to", "pause_entries", "--reason", "lunch")
        trader.trade("buy", ("SOL/USD",))
        trader.trade("close")
        trader.until(lambda: not trader.held)
        trader.agrees()
        assert len(trader.working) == 1
        assert [json.loads(each.body)["symbol"] for each in trader.sent] == ["BTC/USD", "ETH/USD", "BTC/USD"]

    def test_reduce_only_cancels_working_entries_and_lets_exits_pass(self, trader):
        """Working entries are canceled, working exits stay, an exit leaves, an entry does not."""
        trader.begin().trade("buy", ("BTC/USD", "LTC/USD"))
        trader.trade("bid", ("ETH/USD",))
        trader.until(lambda: len(trader.held) == 2 and trader.working)
        trader.agrees()
        trader.trade("ask", ("LTC/USD",))
        trader.until(lambda: len(trader.working) == 2)
        trader.output("unkill", "--to", "reduce_only", "--reason", "calm down")
        trader.until(lambda: len(trader.working) == 1)
        trader.trade("buy", ("SOL/USD",))
        trader.trade("close")
        trader.until(lambda: list(trader.held) == ["LTC/USD"])
        trader.agrees()
        assert [each["side"] for each in trader.working.values()] == ["sell"]
        assert "SOL/USD" not in [json.loads(each.body)["symbol"] for each in trader.sent]
