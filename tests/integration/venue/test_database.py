"""The audit database cannot be written while it trades: entries wait, exits are sent, and it is all recorded later."""

import json
import sqlite3
import time
from contextlib import closing
from decimal import Decimal


def unwritable(trader):
    """The reasons of an answer that it is not ready, that say that the audit database cannot be written."""
    code, text = trader.ask("/readyz")
    reasons = json.loads(text)["reasons"]
    assert (code == 503) is bool(reasons)
    return [reason for reason in reasons if "the audit database cannot be written" in reason]


def test_a_database_that_is_locked_stops_entries_and_lets_exits_leave(trader):
    """Another process has SQLite locked: `/readyz` and `/trading/health` say so, and what was traded is written later."""
    trader.begin().trade("buy", ("BTC/USD", "ETH/USD"))
    trader.until(lambda: len(trader.held) == 2)
    trader.agrees()
    with closing(sqlite3.connect(trader.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        trader.say("bid", ("SOL/USD",))
        trader.until(lambda: unwritable(trader))  # other reasons may hold before, on a slow machine
        assert "another process is writing to it" in str(trader.health["database"])
        sent = len(trader.sent)
        trader.say("close")
        trader.say("bid", ("LTC/USD",))
        trader.until(lambda: "BTC/USD" not in trader.held)
        trader.caught_up()
        assert [each.body for each in trader.sent[sent:] if "BTC/USD" not in each.body] == []
        assert trader.metric("audit_writable") == 0
        other.execute("ROLLBACK")
    trader.until(lambda: trader.ask("/readyz")[0] == 200)
    trader.agrees()
    assert trader.books == {"ETH/USD": Decimal(1)}
    trader.trade("buy", ("AAVE/USD",))
    trader.until(lambda: "AAVE/USD" in trader.held)
    trader.agrees()
    trader.send()
    assert trader.findings == []


def test_a_kill_while_the_database_is_locked_stops(trader):
    """The file alone is enough; what works is canceled, and the command says what it could not write."""
    trader.begin().trade("bid", ("SOL/USD",))
    trader.until(lambda: trader.working)
    trader.agrees()
    with closing(sqlite3.connect(trader.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "written to file" in trader.output("kill", "--reason", "test")
        trader.until(lambda: not trader.working)
        other.execute("ROLLBACK")
    trader.agrees()
    assert trader.status["control"]["state"] == "halted"


def test_a_server_that_is_gone_stops_entries_and_comes_back(make, fake, dsn, postgres_server):
    """Postgres is stopped, and the lease goes with it: only exits are sent; it says so; afterwards it trades on.

    An order that works goes on working, and what it fills meanwhile is found and written down, as the exit is.
    """
    trader = make(fake, DB_DSN=dsn).begin()
    trader.trade("bid", ("BTC/USD", "ETH/USD"))
    trader.until(lambda: len(trader.working) == 2)
    trader.agrees()
    numbers = {order["symbol"]: number for number, order in trader.working.items()}
    postgres_server.stop()
    try:
        trader.until(lambda: trader.metric("lease_held") == 0)
        moment = time.time_ns()
        trader.fake.venue.fill(numbers["BTC/USD"])
        trader.say("bid", ("SOL/USD",))
        trader.until(lambda: trader.books)
        trader.until(lambda: trader.health["database"])
        trader.until(lambda: any("only exits are sent" in reason for reason in trader.health["venue"]))
        trader.say("close", ("BTC/USD",))
        trader.until(lambda: "BTC/USD" not in trader.held)
        assert trader.ask("/readyz")[0] == 503
        assert trader.ask("/healthz")[0] == 200
    finally:
        postgres_server.start()
    trader.until(lambda: trader.ask("/readyz")[0] == 200)
    trader.caught_up()
    trader.agrees()
    assert not [each for each in trader.sent if each.at > moment and "SOL/USD" in each.body]
    assert trader.books == {}
    trader.trade("buy", ("AAVE/USD",))
    trader.until(lambda: "AAVE/USD" in trader.held)
    trader.agrees()
    trader.send()
    assert trader.findings == []
