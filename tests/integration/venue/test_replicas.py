"""Two replicas on one Postgres: one trades. The database goes and comes back: nothing is lost."""

import json
import signal
import time
from decimal import Decimal
from functools import partial

import pytest
import sqlalchemy

from support.postgres import execute
from torghut_core.execution.executor import THREADS
from torghut_core.execution.lease import INTERVAL_SECONDS, VALID_SECONDS

GIVEN_BACK_S, TAKEN_OVER_S = 5.0, 8.0
"""How long the next process may take to trade, seconds, on a slow machine: after one that ended well, and one that was killed."""


@pytest.fixture
def pair(make, fake, dsn):
    """Two replicas with a state directory each, on one database and one account; the second is not started."""
    first, second = (make(fake, name, past=3600, DB_DSN=dsn) for name in ("first", "second"))
    return first.begin(), second


@pytest.fixture
def server(dsn):
    """Asks the database as its owner would."""
    return partial(execute, dsn)


def shown(trader):
    """What the quantity of the strategy is in the catalog that it has."""
    return trader.get("/catalog")["content"]["strategies"][0]["params"].get("quantity")


@pytest.mark.parametrize(
    ("kind", "end", "bound"),
    [
        ("postgres", signal.SIGKILL, TAKEN_OVER_S),
        ("sqlite", signal.SIGTERM, GIVEN_BACK_S),
        pytest.param("postgres", signal.SIGTERM, GIVEN_BACK_S, marks=pytest.mark.proof),
        pytest.param("sqlite", signal.SIGKILL, TAKEN_OVER_S, marks=pytest.mark.proof),
    ],
)
def test_the_second_stands_by_and_takes_over_with_the_books_of_the_first(
    make, fake, request, tmp_path, kind, end, bound
):
    """It is alive and not ready, follows market data and catalog, and sends nothing; then it trades the same books."""
    database = request.getfixturevalue("dsn") if kind == "postgres" else f"sqlite:///{tmp_path}/shared.db"
    first, second = (make(fake, name, DB_DSN=database) for name in ("first", "second"))
    second.env["HEALTH_NOT_READY_KILL_AFTER_MS"] = "1"
    first.begin().trade("buy")
    first.trade("bid", ("ETH/USD",))
    first.until(lambda: first.held and first.working)
    first.agrees()
    decided, sent = len(first.rows("trade_decisions")), len(first.sent)

    assert second.start().listens(), second.log
    second.told = first.told
    second.trade("flip", ("BTC/USD", "SOL/USD"), times=3)
    second.write(quantity=2)
    second.until(lambda: shown(second) == 2)
    holder = f"process {first.process.pid} ({first.state})"
    code, text = second.ask("/readyz")
    assert (code, second.ask("/healthz")[0]) == (503, 200)
    assert holder in json.loads(text)["gates"]["standby"]
    status = second.status
    assert (status["role"], status["positions"]) == ("standby", [])
    assert holder in status["standby"]["holder"]
    assert status["standby"]["age_seconds"] > 0
    assert second.ask("/trading/reconcile", {"accept": [], "reason": ""}, "POST")[0] >= 400
    assert (len(second.rows("trade_decisions")), len(second.sent)) == (decided, sent)

    first.process.send_signal(end)
    began = time.monotonic()
    second.until(lambda: second.status["role"] == "trading")
    took = time.monotonic() - began
    print(f"{kind}, {end.name}: taken over after {took:.1f} s")  # noqa: T201 - for -rP
    assert took < bound
    first.ended()
    second.agrees()
    assert second.ask("/readyz")[0] == 200
    assert (second.books, len(second.working), len(second.sent)) == ({"BTC/USD": Decimal(1)}, 1, sent)
    second.trade("close")
    second.until(lambda: not second.held)
    second.agrees()
    assert shown(second) == 2
    assert second.findings == []
    assert len(second.rows("trade_decisions")) == decided + 1
    numbers = [row["number"] for row in second.rows("catalog_generations")]
    assert numbers == [1, 2]


def test_a_process_that_may_not_trade_never_asks_for_the_lease(make, fake, dsn):
    """With `TRADING_ENABLED=false` nothing is decided or sent, also once the account is free, and it says why."""
    paused, other = (make(fake, name, DB_DSN=dsn) for name in ("paused", "other"))
    paused.env["TRADING_ENABLED"] = "false"
    assert paused.start().listens(), paused.log
    paused.trade("buy", times=3)
    assert (paused.ask("/readyz")[0], paused.ask("/healthz")[0]) == (503, 200)
    assert "TRADING_ENABLED" in json.loads(paused.ask("/readyz")[1])["gates"]["disabled"]
    assert paused.status["role"] == "disabled"
    assert paused.rows("leases") == []
    other.begin().trade("buy")
    other.until(lambda: other.held)
    other.agrees()
    assert other.send() == 0
    paused.trade("close", times=3)
    assert paused.send() == 0
    assert (len(paused.sent), len(paused.rows("trade_decisions"))) == (1, 1)
    assert paused.findings == []


def test_a_lost_lease_stops_sends_until_it_is_had_again(make, fake, dsn, server):
    """The lease's session is cut off at the server: sends stop within the bound, entries are not forgotten but not sent.

    Soon after it has the lease again, has a snapshot of the venue, and trades on.
    """
    trader = make(fake, DB_DSN=dsn).begin()
    blocker = sqlalchemy.create_engine(dsn, poolclass=sqlalchemy.NullPool)
    (pid,) = server("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
    with blocker.begin() as other:  # whoever takes the lease writes it down, and waits for its row
        other.exec_driver_sql("SELECT FROM leases FOR UPDATE")
        cut = time.monotonic()
        server(f"SELECT pg_terminate_backend({pid})")
        trader.until(lambda: trader.metric("lease_held") == 0)
        took = time.monotonic() - cut
        moment = time.time_ns()
        print(f"sends stopped {took:.2f} s after the session was cut")  # noqa: T201 - for -rP
        assert took < VALID_SECONDS + INTERVAL_SECONDS
        assert "lease" in trader.ask("/readyz")[1]
        trader.trade("buy")
        trader.until(lambda: trader.rows("executions"))
        trader.until(lambda: not trader.status["orders_working"])
        assert [each for each in trader.sent if each.at > moment] == []
    blocker.dispose()
    trader.until(lambda: trader.metric("lease_held") == 1)
    trader.until(lambda: trader.ask("/readyz")[0] == 200)
    trader.trade("buy", ("ETH/USD",))
    trader.until(lambda: trader.held)
    trader.agrees()


@pytest.fixture
def woken(pair, server):
    """The first froze while it was busy, the second took over and traded, the first is awake again."""
    first, second = pair
    first.say("flip", times=300)
    first.fake.wait_until(lambda: len(first.sent) > 20)
    first.process.send_signal(signal.SIGSTOP)  # it cannot notice
    server(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    second.start()
    assert second.listens(), second.log
    second.until(lambda: second.status["role"] == "trading")
    second.told = first.told
    second.say("flip", ("ETH/USD",), times=20)
    second.fake.wait_until(lambda: any("ETH/USD" in each.body for each in second.sent), timeout=20)
    first.process.send_signal(signal.SIGCONT)
    return first, second


def test_never_do_two_send_at_once(woken):
    """Who has lost the lease in its sleep sends nothing more but what had passed its last look: a request per thread."""
    first, _ = woken
    time.sleep(1)  # it would send on now, if it believed to be the one
    ours = min(each.at for each in first.sent if "ETH/USD" in each.body)
    late = [each.at for each in first.sent if "BTC/USD" in each.body and each.at > ours]
    assert len(late) <= THREADS


def test_who_has_lost_the_lease_writes_nothing_more(woken):
    """The books are the second's: each fill is in them once, also for whoever starts next."""
    first, second = woken
    time.sleep(1)
    second.agrees()
    first.kill()
    second.kill()
    second.begin()
    second.agrees()
