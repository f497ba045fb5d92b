"""Stores of every kind, and decisions and orders to put into them."""

import hashlib
import itertools
import shutil
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy

from support.postgres import empty
from torghut_core.audit import MemoryAuditStore, SqlAuditStore, upgrade
from torghut_core.audit.chain import verify
from torghut_core.audit.rows import KEYS
from torghut_core.audit.types import Json, Money
from torghut_core.model.trading import (
    Account,
    Decision,
    Fill,
    Intent,
    Limits,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Outcome,
    Position,
    Report,
    Side,
    Verdict,
    client_order_id,
)
from torghut_core.ports import OpenOrder, RiskContext

START = 1_767_623_400_000_000_000  # 2026-01-05T14:30:00Z
LATER = START + 10**18
"""After everything that a test does: of `recent_orders` since then only open orders are left."""


class Clock:
    """A wall clock that moves on by a millisecond whenever it is read."""

    def __init__(self):
        self.now = START

    def wall(self):
        self.now += 1_000_000
        return self.now


class Maker:
    """Makes the trader's words, the n-th always the same."""

    START = START
    LATER = LATER

    def decision(self, n=1, account="paper-1", **changes):
        fields = {
            "account": account,
            "strategy_id": "macd-rsi-default",
            "symbol": "BTC/USD",
            "event_ts": START + n * 1_000_000_001,
            "decided_at": START + n * 1_000_000_001 + 1_000_000_000,
            "action": Side.BUY,
            "quantity": Decimal("1.50"),
            "because": "momentum up from weakness",
            "price": Decimal("25741.02"),
            "generation": 1,
            "decision_hash": hashlib.sha256(f"{account} {n}".encode()).hexdigest(),
        }
        return Decision(**fields | changes)

    def signal(self, decision):
        return {"symbol": decision.symbol, "event_ts": decision.event_ts, "macd_hist": 0.125, "rsi14": float("nan")}

    def verdicts(self, *denials):
        passed = [Verdict("cooldown", Outcome.ALLOW, "cooldown", "61", "60")]
        return passed + [Verdict(code, Outcome.DENY, code, "38611.53", "1000") for code in denials]

    def inputs(self, decision):
        return RiskContext(
            now=decision.decided_at,
            strategy_id=decision.strategy_id,
            price=Decimal("25741.02"),
            price_ts=decision.event_ts,
            position=Decimal("-0.50"),
            strategy_position=Decimal(0),
            reserved_cash=Decimal("1E+3"),
            account=self.books(),
            limits=Limits(max_notional_per_trade=Decimal("1000.0"), cooldown_seconds=60),
            allow_shorts=True,
            last_order_at=None,
            orders=(OpenOrder(strategy_id="other", side=Side.SELL, quantity=Decimal(1)),),
        )

    def intent(self, decision, **changes):
        fields = {
            "client_order_id": client_order_id(decision.decision_hash),
            "decision_hash": decision.decision_hash,
            "account": decision.account,
            "strategy_id": decision.strategy_id,
            "symbol": decision.symbol,
            "side": decision.action,
            "quantity": decision.quantity,
            "decided_at": decision.decided_at,
            "order_type": OrderType.LIMIT,
            "limit_price": Decimal(25742),
        }
        return Intent(**fields | changes)

    def fill(self, intent, quantity="1.50", number=1):
        return Fill(
            client_order_id=intent.client_order_id,
            fill_id=f"f-{number}",
            symbol=intent.symbol,
            side=intent.side,
            quantity=Decimal(quantity),
            price=Decimal("25742.1700"),
            fee=Decimal("3.861"),
            event_ts=intent.decided_at + number * 1_000_000_007,
            slippage=Decimal("1.1500"),
        )

    def report(self, intent, event, fill=None, **changes):
        at = fill.event_ts if fill else intent.decided_at + 5
        return Report(client_order_id=intent.client_order_id, event=event, event_ts=at, fill=fill, **changes)

    def order(self, intent, state, filled="0"):
        return Order(
            intent=intent,
            state=state,
            venue_order_id="v-1",
            filled_quantity=Decimal(filled),
            average_price=Decimal("25742.1700") if Decimal(filled) else Decimal(0),
            fees=Decimal("3.861") if Decimal(filled) else Decimal(0),
            updated_at=intent.decided_at + 5,
        )

    def decide(self, store, n=1, denied=(), **changes):
        """Record the n-th decision; give it and its intent."""
        decision = self.decision(n, **changes)
        intent = None if denied else self.intent(decision)
        inputs = self.inputs(decision)
        store.record_decision(decision, self.signal(decision), self.verdicts(*denied), intent, inputs)
        return decision, intent

    def accept(self, store, intent):
        order = self.order(intent, OrderState.ACCEPTED)
        store.record_report(intent.account, order, self.report(intent, OrderEvent.ACCEPT), Position())

    def execute(self, store, intent, quantity="1.50", number=1, **whose):
        """Record a fill of an order that completes it."""
        fill = self.fill(intent, quantity, number)
        order = self.order(intent, OrderState.FILLED, str(intent.quantity))
        position = Position(Decimal(quantity), fill.price, Decimal(0), fill.fee)
        store.record_report(intent.account, order, self.report(intent, OrderEvent.FILL, fill), position, **whose)
        return fill

    def trade(self, store, n=1, **changes):
        """Record the whole life of the n-th decision."""
        decision, intent = self.decide(store, n, **changes)
        self.accept(store, intent)
        self.execute(store, intent)
        return decision, intent

    def books(self):
        return Account(cash=Decimal("61386.74"), equity=Decimal("100000.00"), buying_power=Decimal("61386.74"))


class Intruder:
    """Changes a database past the kernel, its triggers dropped, in transactions that end in nothing."""

    def __init__(self, connection, file):
        self.connection = connection
        self._file = file
        self._is_postgres = connection.dialect.name == "postgresql"
        if self._is_postgres:
            connection.exec_driver_sql("ALTER TABLE audit_log DISABLE TRIGGER ALL")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_log_no_update")
            connection.exec_driver_sql("DROP TRIGGER audit_log_no_delete")

    def places(self, table):
        """A condition for each row of a table, in the order of its key."""
        name = "ctid" if self._is_postgres else "rowid"
        order = ", ".join(column.name for column in table.primary_key)
        rows = self.connection.exec_driver_sql(f"SELECT {name} FROM {table.name} ORDER BY {order}").scalars()
        return [f"{name} = '{place}'" for place in rows]

    def changed(self, column):
        """What is never the value of a column, in SQL."""
        name = f'"{column.name}"'
        if not self._is_postgres:
            return f"CASE typeof({name}) WHEN 'null' THEN '7' WHEN 'integer' THEN {name} + 99 ELSE {name} || ' ' END"
        if isinstance(column.type, Money):
            return f"coalesce({name}, 6) + 1"
        if isinstance(column.type, Json):
            return f"(coalesce({name}::text, '7') || ' ')::json"
        if isinstance(column.type, sqlalchemy.Boolean):
            return f"NOT {name}"
        if isinstance(column.type, sqlalchemy.Integer):
            return f"{name} + 99"
        return f"coalesce(translate({name}, '0123456789abcdef', '1234567890bcdefa') || left('x', 30 - length({name})), '7')"

    def copied(self, table, place):
        """The statement that adds a row like one that is there, under another key."""
        unique = {column.name for column in table.primary_key} | set(KEYS.get(table.name, ()))
        columns = [f'"{column.name}"' for column in table.c]
        values = [self.changed(column) if column.name in unique else f'"{column.name}"' for column in table.c]
        return f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table.name} WHERE {place}"

    def findings(self, *statements):
        """What is found after these statements, which are undone then."""
        with self.connection.begin_nested() as savepoint:
            for statement in statements:
                text = statement.replace("%", "%%") if self._is_postgres else statement
                assert self.connection.exec_driver_sql(text).rowcount, statement
            found = [str(finding) for finding in verify(self.connection, self._file)]
            savepoint.rollback()
        return [text for text in found if "the trigger" not in text]


@contextmanager
def intruder_in(store):
    """An intruder in the database of a store."""
    with store._engine.connect() as connection:
        yield Intruder(connection, store._file)
        connection.rollback()


@pytest.fixture(scope="session")
def intrude():
    """A function that lets an intruder into the database of a store."""
    return intruder_in


@pytest.fixture(scope="session")
def make():
    return Maker()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def postgres(make_database):
    """A function that gives the URL of an audit database without rows, on a real server."""
    url = make_database()

    def fresh():
        empty(url, *KEYS, "audit_log")
        return url

    return fresh


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory):
    """A function that gives the path of a new audit database."""
    template = tmp_path_factory.mktemp("template") / "audit.db"
    upgrade(template)
    numbers = itertools.count()

    def fresh() -> Path:
        folder = tmp_path_factory.mktemp(f"audit_{next(numbers)}")
        return Path(shutil.copy(template, folder / "audit.db"))

    return fresh


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    """A new audit database of each kind."""
    return request.getfixturevalue(request.param)()


@pytest.fixture
def opened():
    """Opens a database, and closes it when the test is over."""
    stores = []

    def open_database(database, clock=None):
        stores.append(SqlAuditStore(database, clock or Clock()))
        return stores[-1]

    yield open_database
    for store in stores:
        store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, opened, clock):
    """A new store of each kind."""
    if request.param == "memory":
        return MemoryAuditStore(clock)
    return opened(request.getfixturevalue(request.param)(), clock)
