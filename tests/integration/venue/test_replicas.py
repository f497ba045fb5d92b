"""Two replicas on one Postgres: one trades. The database goes and comes back: nothing is lost."""

import signal
import time
from decimal import Decimal
from functools import partial

import pytest
import sqlalchemy

from support.postgres import execute
from torghut_core.execution.executor import THREADS
from torghut_core.execution.lease import INTERVAL_SECONDS, VALID_SECONDS


@pytest.fixture
def pair(make, fake, dsn):
    """Two replicas with a state directory each, on one database and one account; the second is not started."""
    first, second = (make(fake, name, DB_DSN=dsn) for name in ("first", "second"))
    return first.begin(), second


@pytest.fixture
def server(dsn):
    """Asks the database as its owner would."""
    return partial(execute, dsn)


def test_the_second_stands_by_and_takes_over_with_the_books_of_the_first(pair):
    """It sends nothing while the first lives; when that is killed it trades on from its position and orders."""
    first, second = pair
    first.trade("buy")
    first.trade("bid", ("ETH/USD",))
    first.until(lambda: first.held and first.working)
    first.agrees()
    second.start()
    time.sleep(2)  # it waits, and there is nothing to be seen of it
    assert second.process.poll() is None
    assert "admin API" not in second.log
    sent = len(first.sent)
    first.kill()
    began = time.monotonic()
    assert second.listens(), second.log
    print(f"taken over {time.monotonic() - began:.1f} s after the first was killed")  # noqa: T201 - for -rP
    second.told = first.told
    second.trade("nothing")
    second.agrees()
    assert (second.books, len(second.working), len(second.sent)) == ({"BTC/USD": Decimal(1)}, 1, sent)
    second.trade("close")
    second.until(lambda: not second.held)
    second.agrees()
    assert second.findings == []


def test_the_second_gives_up_with_the_name_of_the_first(pair):
    """After a while it ends, and says which process trades the account."""
    first, second = pair
    second.start(launcher=True)
    assert second.ended(60) == 1
    assert "is traded by" in second.log
    assert f"process {first.process.pid}" in second.log
    assert str(first.state) in second.log
    first.trade("buy")
    first.until(lambda: first.held)
    first.agrees()


def test_a_lost_lease_stops_sends_until_it_is_had_again(make, fake, dsn, server):
    """The lease's session is cut off at the server: sends stop within the bound, entries are not forgotten but not sent.

    Soon after it has the lease again, has looked at the venue, and trades on.
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
