"""What the admin API asks of a run, while the run is in no state to answer: the loop blocked, the database gone."""

import asyncio
import json
import threading
from contextlib import closing
from types import SimpleNamespace

import msgspec
import pytest
from torghut_testing import decision
from torghut_testing.builders import intent

from support.waiting import PATIENCE
from torghut_core.admin import console as module
from torghut_core.admin.console import Console
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.routes.paging import MAX_ID
from torghut_core.audit import SqlAuditStore
from torghut_core.errors import InputError, StateError
from torghut_core.execution.controls import Controls
from torghut_core.model.trading import Account, Order, Position
from torghut_core.reload.plan import ReloadOutcome, Status
from torghut_core.trading.gates import Gates


def working(number):
    """An open order."""
    return SimpleNamespace(order=Order(intent=intent(client_order_id=number)))


class RealVenue:
    """Counts how often everything was canceled, and which control applied then."""

    is_simulated = False
    problems = ()

    def __init__(self, controls):
        self.controls = controls
        self.canceled = []
        self.differences = {"ES": "5 here, 4 there"}

    def cancel_all(self):
        self.canceled.append(self.controls.current().state)

    def status(self):
        return {"age_seconds": 1.0}


async def drained():
    """Wait for whatever else was begun."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


@pytest.fixture
def blocked():
    """An event loop whose thread is stuck in a plugin for as long as the test lasts."""
    loop, stuck, end = asyncio.new_event_loop(), threading.Event(), threading.Event()

    def hang():
        stuck.set()
        end.wait(30)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    loop.call_soon_threadsafe(hang)
    assert stuck.wait(PATIENCE)
    yield loop
    end.set()
    asyncio.run_coroutine_threadsafe(drained(), loop).result(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


@pytest.fixture
def make_run(tmp_path, blocked):
    """A function that makes a run whose loop is blocked; by default its database is gone."""
    stack = []

    def make(database="sqlite:////dev/null/audit.db", *, is_real=True):
        controls = Controls(tmp_path / "control.json", database)
        controls.poll()
        stack.append(controls)
        engine = SimpleNamespace(
            roster=SimpleNamespace(quarantined={"bad": "raised"}),
            books=SimpleNamespace(
                working={number: working(number) for number in ("tg-1", "tg-2")},
                positions={("one", "ES"): Position(quantity=3), ("two", "NQ"): Position()},
                now=0,
            ),
            gateway=SimpleNamespace(last_account=Account(cash=1, equity=1, buying_power=1)),
            generation=SimpleNamespace(number=7, strategies=[SimpleNamespace(name="one")]),
            market_time=0,
            last_decision=None,
        )
        return SimpleNamespace(
            account_label="paper-1",
            path=tmp_path / "catalog.yaml",
            plugin_folders=(),
            standby=SimpleNamespace(role="trading", is_trading=True, reason="", status=lambda: None),
            events=blocked,
            silent_s=lambda: 31.0,
            stalled_s=30,
            is_stopping=lambda: False,
            controls=controls,
            venue=RealVenue(controls)
            if is_real
            else SimpleNamespace(
                is_simulated=True, problems=(), differences={}, cancel_all=lambda: None, status=lambda: None
            ),
            engine=engine,
            gates=Gates(trading_enabled=True, unrecorded="disk full"),
            unstored=lambda: "no room",
            resumed_from=lambda: 0,
            measured=[],
            checks=Readiness(),
            reloader=SimpleNamespace(status=Status(SimpleNamespace(number=7, digest="d" * 64), ReloadOutcome.STARTED)),
            follower=SimpleNamespace(is_refused=False),
            audit=None,
        )

    yield make
    for controls in stack:
        controls.close()


def test_stop_needs_neither_loop_nor_database(make_run):
    """It is in force in the file, what works is taken back once that is so, and the answer says what failed."""
    run = make_run()
    done = Console(**vars(run)).kill("fat finger", flatten=True, actor="jane")
    assert done["control"] | {"at": None} == {
        "state": "halted", "reason": "fat finger", "actor": "jane", "at": None, "flatten": True,
    }  # fmt: skip
    assert (done["written"], done["orders_working"]) == (["file"], 2)
    assert len(done["problems"]) == 1
    assert done["problems"][0].startswith("database: ")
    assert run.venue.canceled == ["halted"]


def test_stop_of_a_simulated_broker_has_nothing_to_take_back(make_run):
    """Without a venue the kill switch holds all the same."""
    run = make_run(is_real=False)
    assert Console(**vars(run)).kill("drill", flatten=False, actor="jane")["control"]["state"] == "halted"
    assert not run.controls.current().flatten


def test_orders_are_canceled_also_where_the_stop_can_be_written_nowhere(make_run, tmp_path):
    """The operator gets an error, because the stop does not hold, and open orders are canceled all the same."""
    run = make_run()
    run.controls.path = tmp_path / "control.json" / "nowhere"
    (tmp_path / "control.json").write_text("in the way")
    with pytest.raises(StateError, match="could not be written anywhere"):
        Console(**vars(run)).kill("fat finger", flatten=False, actor="jane")
    assert len(run.venue.canceled) == 1


def test_release_needs_both_places_and_names_what_holds(make_run):
    """Without the database the release is refused, and the stop holds."""
    run = make_run()
    console = Console(**vars(run))
    console.kill("fat finger", flatten=False, actor="jane")
    with pytest.raises(StateError, match="nothing is released"):
        console.unkill("all well", "running", "jane")
    assert run.controls.current().reason == "fat finger"


def test_release_and_slowing_down(make_run, tmp_path):
    """With file and database both writable the control changes to each state, and no order is canceled."""
    with closing(SqlAuditStore(tmp_path / "audit.db")):
        run = make_run(f"sqlite:///{tmp_path / 'audit.db'}")
        console = Console(**vars(run))
        for state in ("pause_entries", "reduce_only", "running"):
            done = console.unkill("news", state, "jane")
            assert (done["control"]["state"], sorted(done["written"])) == (state, ["database", "file"])
            assert done["problems"] == []
        assert run.venue.canceled == []


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda console: console.unkill("r", "open", "jane"), "'open'"),
        (lambda console: console.unkill("  ", "running", "jane"), "reason"),
        (lambda console: console.reconcile(["ES"], " ", "jane"), "reason"),
    ],
)
def test_wrong_command_is_refused_before_anything_is_done(make_run, ask, said, tmp_path):
    """An unknown state, and a release or an acceptance without a reason, are errors before the loop is asked."""
    with closing(SqlAuditStore(tmp_path / "audit.db")):
        run = make_run(f"sqlite:///{tmp_path / 'audit.db'}")
        run.controls.change("halted", reason="stop", actor="jane")
        with pytest.raises(InputError, match=said):
            ask(Console(**vars(run)))


def test_reconcile_needs_the_loop_and_says_so(make_run, monkeypatch):
    """A loop that does not answer is waited for `ANSWER_SECONDS`, not for ever."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    run, done = make_run(), []

    async def reconcile(*asked):
        done.append(asked)

    run.venue.reconcile_now = reconcile
    with pytest.raises(StateError, match="loop does not answer"):
        Console(**vars(run)).reconcile([], "", "jane")
    assert done == []


def test_status_needs_no_loop(make_run):
    """Status and health, with every check that fails, are answered while the loop is blocked."""
    run = make_run()
    console = Console(**vars(run))
    console.kill("fat finger", flatten=False, actor="jane")
    told = console.trading()
    assert told["broker"] == "paper"
    assert told["control"]["state"] == "halted"
    assert told["positions"] == [{"strategy": "one", "symbol": "ES", "quantity": "3", "average_price": "0"}]
    assert told["reconciliation"] == {"age_seconds": 1.0}
    health = console.trading_health()
    assert not health["ok"]
    assert health["checks"]["loop"][0].startswith("the trading loop has not come back for")
    assert {name: reasons for name, reasons in health["checks"].items() if name != "loop"} == {
        "venue": ["ES: 5 here, 4 there"],
        "database": ["disk full"],
        "store": ["no room"],
        "control": ["halted: fat finger (jane)"],
        "market_data": [],
        "catalog": [],
        "quarantine": ["bad: raised"],
    }


def test_lost_database_is_reported_before_anything_has_to_be_written(make_run, tmp_path):
    """A kernel that writes nothing at the moment learns of the loss by reading the control."""
    run = make_run(f"sqlite:///{tmp_path}")
    run.gates.unrecorded = ""
    (reason,) = [said for said in Console(**vars(run)).trading_health()["checks"]["database"] if str(tmp_path) in said]
    assert "cannot be opened" in reason


def test_rows_are_those_of_this_account_and_a_bad_time_is_an_error(make_run):
    """The error for a `since` without a time zone shows a correct one."""
    run, asked = make_run(), []
    run.audit = SimpleNamespace(rows=lambda table, **choice: asked.append((table, choice)) or [])
    console = Console(**vars(run))
    console.rows("executions", symbol="ES", since="1970-01-01T00:00:01Z", before=9, limit=3)
    choice = {"since": 10**9, "after": 9, "limit": 3, "newest_first": True, "account": "paper-1", "symbol": "ES"}
    assert asked == [("executions", choice)]
    for since in ("yesterday", "2026-01-05", "2026-01-05T14:30:00", "2026-13-05T14:30:00Z", ""):
        with pytest.raises(InputError, match=r"since=.*write it as 2026-01-05T14:30:00Z"):
            console.rows("executions", symbol=None, since=since, before=None, limit=3)
    assert len(asked) == 1


def test_rows_of_a_real_database_are_json_at_the_bounds(make_run, tmp_path):
    """Whatever the API lets through, the database takes: the greatest id, the last time of the calendar."""
    run = make_run()
    with closing(SqlAuditStore(tmp_path / "audit.db")) as run.audit:
        asked = decision(account="paper-1", decision_hash="d" * 64)
        run.audit.record_decision(asked, {}, [], None)
        run.audit.record_decision(msgspec.structs.replace(asked, account="other"), {}, [], None)
        run.audit.commit()
        console = Console(**vars(run))
        (row,) = console.rows("trade_decisions", symbol=None, since="1970-01-01T00:00:00Z", before=MAX_ID, limit=201)
        assert (row["account"], row["event_ts"]) == ("paper-1", "2026-01-05T14:30:00Z")
        assert json.loads(json.dumps(row)) == row
        choice = {"before": row["id"], "limit": 1}
        for since in (None, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
            assert console.rows("executions", symbol="ES", since=since, **choice) == []
        for since in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
            with pytest.raises(InputError, match="since="):
                console.rows("executions", symbol="ES", since=since, **choice)
