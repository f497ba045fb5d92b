"""Processes that write the audit are killed at any moment: what they were told is durable is there, and nothing is half there."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing

import pytest

from support.effort import many
from torghut_core.audit import SqlAuditStore

ROUNDS = many(40, quick=5)
WRITER = """
import os, sys
from decimal import Decimal
from torghut_core.audit.sql import SqlAuditStore
from torghut_core.model.trading import *

def trade(store, n):
    decision = Decision(account="paper-1", strategy_id="s", symbol="ES", event_ts=n, decided_at=n, action=Side.BUY,
                        quantity=Decimal(1), because="it goes on", decision_hash=f"{n:064x}")
    intent = Intent(client_order_id=f"tg-{n}", decision_hash=decision.decision_hash, account="paper-1",
                    strategy_id="s", symbol="ES", side=Side.BUY, quantity=Decimal(1), decided_at=n)
    fill = Fill(client_order_id=f"tg-{n}", fill_id="1", symbol="ES", side=Side.BUY, quantity=Decimal(1),
                price=Decimal("1640.25"), fee=Decimal("2.10"), event_ts=n)
    store.record_decision(decision, {"rsi14": 1.5}, [], intent)
    store.commit()
    os.write(1, f"decided {n}\\n".encode())
    order = Order(intent=intent, state=OrderState.FILLED, filled_quantity=Decimal(1), average_price=fill.price)
    report = Report(client_order_id=f"tg-{n}", event=OrderEvent.FILL, event_ts=n, fill=fill)
    store.record_report("paper-1", order, report, Position(Decimal(1), fill.price))
    store.record_cursor("paper-1", "tape", {"n": n})
    store.commit()
    os.write(1, f"filled {n}\\n".encode())

for line in sys.stdin:  # a fork for each round: only the first pays for the imports
    writer = os.fork()
    if not writer:
        store = SqlAuditStore(sys.argv[1])
        n = int(line)
        while True:
            n += 1
            trade(store, n)
    os.write(1, f"writer {writer}\\n".encode())
    os.waitpid(writer, 0)
    os.write(1, b"dead 0\\n")
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """Where a database of each kind can be made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit.db'}"
    return request.getfixturevalue("make_database")(is_empty=True)


@pytest.fixture
def nursery(url):
    """A process that forks a writer for each number it is given."""
    command = [sys.executable, "-c", WRITER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process
        process.stdin.close()


@pytest.mark.examples
def test_killed_writer_loses_nothing_that_it_acknowledged(url, nursery):
    """After SIGKILL at random moments, time and again on one database: all acknowledged rows, no finding, no orphan."""
    patience = random.Random(7)
    acknowledged = {"decided": set(), "filled": set()}
    n = 0
    for _ in range(ROUNDS):
        nursery.stdin.write(f"{n}\n")
        writer, heard, lines = 0, 0, patience.randint(1, 12)
        while True:
            word, number = nursery.stdout.readline().split()
            if word == "dead":
                break
            if word == "writer":
                writer = int(number)
            else:
                acknowledged[word].add(int(number))
                heard += 1
                n = max(n, int(number))
            if writer and heard >= lines:
                os.kill(writer, signal.SIGKILL)
                writer = 0
        with closing(SqlAuditStore(url)) as store:
            assert store.verify() == []
            decisions = {row["event_ts"]: row for row in store.decisions()}
            orders = {row["client_order_id"]: row for row in store.orders()}
            fills = {row["client_order_id"] for row in store.fills()}
            assert acknowledged["decided"] <= decisions.keys()
            assert {f"tg-{number}" for number in acknowledged["filled"]} <= fills
            assert {row["client_order_id"] for row in orders.values() if row["state"] == "filled"} == fills
            assert {
                order.intent.client_order_id for order in store.recent_orders("paper-1", 2**62)
            } == orders.keys() - fills
            assert fills <= orders.keys() == {f"tg-{number}" for number in decisions}
            for number, row in decisions.items():
                assert (row["executed_at"] is None) == (f"tg-{number}" not in fills)
            if fills:
                assert store.cursor("paper-1", "tape") == {"n": max(int(order[3:]) for order in fills)}
            n = max([n, *decisions])
    assert Counter(len(numbers) > ROUNDS for numbers in acknowledged.values()) == {True: 2}
