"""Any history, in any commits: all stores answer alike, and whatever is changed behind their back is found."""

from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core.audit import MemoryAuditStore, SqlAuditStore, find_decision, list_rows
from torghut_core.audit.chain import ENTRY, entry_hash
from torghut_core.audit.rows import KEYS, NUMBERED
from torghut_core.audit.tables import COVERED, audit_log
from torghut_core.audit.values import time_text
from torghut_core.model.trading import OrderEvent, OrderState, Outcome, Position, Side, Verdict
from torghut_core.timestamps import Clock

accounts = st.sampled_from(["paper-1", "paper-2"])
numbers = st.integers(1, 4)
texts = st.text(st.characters(codec="utf-8"), max_size=5)
money = st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | money | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
contents = st.dictionaries(texts, json_values, max_size=3)
verdicts = st.lists(
    st.builds(Verdict, texts, st.sampled_from(Outcome), texts, texts, texts, st.none() | money), max_size=3
)
strategies = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc")},
        optional={"enabled": st.booleans(), "params": contents, "symbols": st.lists(texts, max_size=2), "limit": money},
    ),
    max_size=3,
    unique_by=lambda entry: entry["name"],
)
steps = st.one_of(
    st.tuples(
        st.just("decide"), numbers, accounts, st.booleans(), texts, st.none() | money, contents, verdicts, st.booleans()
    ),
    st.tuples(st.just("accept"), numbers, accounts),
    st.tuples(st.just("fill"), numbers, accounts, money, st.integers(1, 3), st.sampled_from([None, "heir", ""])),
    st.tuples(st.just("move"), accounts, st.sampled_from(["macd-rsi-default", "heir", ""]), money, texts),
    st.tuples(st.just("cancel"), numbers, accounts, texts),
    st.tuples(
        st.just("books"), accounts, st.dictionaries(st.sampled_from(["ES", "BTC/USD"]), st.builds(Position, money))
    ),
    st.tuples(st.just("strategies"), strategies, st.sampled_from(["sync", "merge"])),
    st.tuples(st.just("generation"), contents, texts),
    st.tuples(st.just("control"), st.sampled_from(["kill", "note"]), json_values, texts),
    st.tuples(st.just("cursor"), accounts, contents),
    st.tuples(st.just("review"), numbers, accounts, contents),
    st.tuples(st.just("lease"), st.sampled_from(["one", "two"]), st.sampled_from([0, 0.002, 60])),
    st.tuples(st.just("new_account")),
    st.tuples(st.just("commit")),
)


def take(store, make, step):
    """Do one step, and give what the store answers."""
    kind, *given_ = step
    if kind == "decide":
        number, account, is_denied, because, price, signal, said, has_inputs = given_
        decision = make.decision(number, account, because=because, price=price, action=Side.SELL)
        if store.is_known(account, decision.decision_hash):
            return "known"
        intent = None if is_denied else make.intent(decision)
        inputs = make.inputs(decision) if has_inputs else None
        return store.record_decision(decision, signal, said, intent, inputs)
    if kind in ("accept", "fill", "cancel"):
        number, account, *rest = given_
        intent = make.intent(make.decision(number, account))
        if kind == "accept":
            return make.accept(store, intent)
        if kind == "fill":
            return make.execute(store, intent, str(rest[0]), rest[1], strategy_id=rest[2])
        order = make.order(intent, OrderState.CANCELED)
        report = make.report(intent, OrderEvent.CANCELED, reason=rest[0], venue_order_id="v-9")
        return store.record_report(account, order, report, Position())
    if kind == "move":
        account, strategy, quantity, reason = given_
        return store.record_position(account, strategy, "BTC/USD", Position(quantity), make.START + 3, reason)
    if kind == "books":
        return store.record_account(given_[0], make.books(), given_[1], make.START + 7)
    if kind == "strategies":
        return store.record_strategies(*given_)
    if kind == "generation":
        return store.record_generation(given_[0], given_[1], "applied")
    if kind == "control":
        return store.record_control(*given_)
    if kind == "cursor":
        return store.record_cursor(given_[0], "tape", given_[1])
    if kind == "review":
        number, account, details = given_
        said = Verdict("llm", Outcome.SHRINK, "less", quantity=Decimal("0.50"))
        return store.record_review(account, make.decision(number, account).decision_hash, "llm", said, details)
    if kind == "lease":
        return store.take_lease("trading", given_[0], given_[1])
    if kind == "new_account":
        return store.new_account("paper")
    return store.commit()


def answers(store):
    """Everything that can be asked of a store."""
    tables = {table: store.rows(table) for table in KEYS}
    decisions = tables["trade_decisions"]
    return {
        "tables": tables,
        "explained": [find_decision(store, row["decision_hash"]) for row in decisions],
        "called": store.decisions_called("tg-", 100),
        "rationales": [store.rationales(account) for account in ("paper-1", "paper-2", "none")],
        "fills": store.fills(),
        "filtered": [
            store.fills("paper-1", symbol=row["symbol"], strategy_id=row["strategy_id"], newest_first=True, limit=2)
            for row in tables["executions"]
        ],
        "lists": [list_rows(store, kind, limit=3) for kind in ("trade_decisions", "executions", "fills")],
        "open": store.recent_orders("paper-1", 2**62),
        "recent": store.recent_orders("paper-2", 1_767_623_403_000_000_000),
        "found": [store.find_order(row["account"], row["client_order_id"]) for row in tables["executions"]],
        "orders": store.orders(newest_first=True, limit=3),
        "positions": [store.positions(account) for account in ("paper-1", "paper-2", "none")],
        "kill": store.control("kill", "never"),
        "cursor": store.cursor("paper-1", "tape"),
        "known": [store.is_known("paper-1", row["decision_hash"]) for row in decisions],
        "newest": store.decisions("paper-1", limit=2, newest_first=True),
        "since": store.orders(since=1_767_623_402_000_000_002),
    }


@pytest.mark.examples
@pytest.mark.parametrize(("kind", "of_proof"), [("sqlite", 30), ("postgres", 10)])
def test_database_answers_as_memory_does(request, make, kind, of_proof):
    """Any sequence of records and commits is read alike from memory and from a database, reopened or not."""
    fresh = request.getfixturevalue(kind)

    @examples(of_proof, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, max_size=25))
    def check(sequence):
        database = fresh()
        now = make.START
        memory, sql = MemoryAuditStore(Clock(wall=lambda: now)), SqlAuditStore(database, Clock(wall=lambda: now))
        with closing(sql):
            for step in sequence:
                now += 1_000_000
                assert take(memory, make, step) == take(sql, make, step)
            assert answers(memory) == answers(sql)
        memory.commit()
        with closing(SqlAuditStore(database)) as again:
            assert answers(memory) == answers(again)
            assert again.verify() == []

    check()


def log_entry(intruder, seq, **changes):
    """A log entry as it is stored, with changes; and the hash that fits it and the entry before it."""
    columns = ", ".join(ENTRY)
    row = intruder.connection.exec_driver_sql(f"SELECT {columns} FROM audit_log WHERE seq = {seq}").mappings().one()
    query = f"SELECT prev_hash FROM audit_log WHERE seq = {seq}"
    previous = intruder.connection.exec_driver_sql(query).scalar_one()
    entry = dict(row) | changes
    return entry, entry_hash(previous, list(entry.values()))


def forged(intruder, seq):
    """The statement that edits an entry of the log, with a hash to fit."""
    at = time_text(1)
    _, digest = log_entry(intruder, seq, at=at)
    return f"UPDATE audit_log SET at = '{at}', hash = '{digest}' WHERE seq = {seq}"


def pushed_in(intruder, seq):
    """Statements that put an entry of the same kind before one of the log, with a hash to fit; those behind move up."""
    entry, digest = log_entry(intruder, seq, row_key="none")
    names = ", ".join([*ENTRY, "prev_hash", "hash"])
    kept = ["NULL" if value is None else "'{}'".format(value.replace("'", "''")) for value in list(entry.values())[1:]]
    query = f"SELECT prev_hash FROM audit_log WHERE seq = {seq}"
    previous = intruder.connection.exec_driver_sql(query).scalar_one()
    return (
        f"UPDATE audit_log SET seq = -seq WHERE seq >= {seq}",
        "UPDATE audit_log SET seq = 1 - seq WHERE seq < 0",
        f"INSERT INTO audit_log ({names}) VALUES ({seq}, {', '.join(kept)}, '{previous}', '{digest}')",
    )


def cut(seq, intruder):
    """Statements that cut the end off the log from an entry on, with the rows that were new in it."""
    yield f"DELETE FROM audit_log WHERE seq >= {seq}"
    for table in NUMBERED:
        if intruder.connection.exec_driver_sql(f"SELECT 1 FROM {table} WHERE id >= {seq}").all():
            yield f"DELETE FROM {table} WHERE id >= {seq}"


WAYS = ("edit", "blank", "remove", "copy", "swap", "forge", "push in", "cut")
NULLABLE = next(number for number, column in enumerate(audit_log.c) if column.nullable)
ALWAYS = [(way, audit_log, 1, NULLABLE) for way in WAYS]
"""Tamperings that are possible with any history."""

tamperings = st.tuples(
    st.sampled_from(WAYS),
    st.sampled_from([*COVERED, audit_log]),
    st.integers(0, 99),
    st.integers(0, 99),
)


def tampered(intruder, how, table, row, column):
    """Statements that do it, to one of the rows that are there; None where there is nothing to do it to."""
    last = intruder.connection.exec_driver_sql("SELECT max(seq) FROM audit_log").scalar_one()
    seq = row % last + 1
    if how == "forge":
        return [forged(intruder, seq)]
    if how == "push in":
        return pushed_in(intruder, seq)
    if how == "cut":
        return list(cut(seq, intruder))
    places = intruder.places(table)
    if not places:
        return None
    place = places[row % len(places)]
    name = list(table.c)[column % len(table.c)]
    if how == "edit":
        return [f'UPDATE {table.name} SET "{name.name}" = {intruder.changed(name)} WHERE {place}']
    if how == "remove":
        return [f"DELETE FROM {table.name} WHERE {place}"]
    if how == "copy":
        return [intruder.copied(table, place)]
    if how == "blank":
        there = f'{place} AND "{name.name}" IS NOT NULL'
        can_be = (
            name.nullable and intruder.connection.exec_driver_sql(f"SELECT 1 FROM {table.name} WHERE {there}").all()
        )
        return [f'UPDATE {table.name} SET "{name.name}" = NULL WHERE {there}'] if can_be else None
    number = "seq" if table is audit_log else "id"
    if number not in table.c or len(places) < 2:
        return None
    found = intruder.connection.exec_driver_sql(f"SELECT * FROM {table.name} ORDER BY {number} LIMIT 2")
    two = [dict(row) for row in found.mappings()]
    first, second = (row.pop(number) for row in two)
    if two[0] == two[1]:
        return None  # then nothing would change
    return [  # two rows change their places
        f"UPDATE {table.name} SET {number} = -{first} WHERE {number} = {first}",
        f"UPDATE {table.name} SET {number} = {first} WHERE {number} = {second}",
        f"UPDATE {table.name} SET {number} = {second} WHERE {number} = -{first}",
    ]


@pytest.mark.examples
@pytest.mark.parametrize(("kind", "of_proof"), [("sqlite", 25), ("postgres", 8)])
def test_tampering_with_any_history_is_found(request, make, intrude, kind, of_proof):
    """An edited, removed, inserted or exchanged row, of any table or of the log, and a cut end: each is found alone."""
    fresh = request.getfixturevalue(kind)
    done = set()

    @examples(of_proof, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, min_size=3, max_size=20), st.lists(tamperings, min_size=12, max_size=12))
    def check(history, attacks):
        with closing(SqlAuditStore(fresh(), Clock(wall=iter(range(make.START, make.START + 10**9)).__next__))) as store:
            make.trade(store, 9)
            for step in history:
                take(store, make, step)
            store.commit()
            assert store.verify() == []
            with intrude(store) as intruder:
                assert intruder.findings() == []
                for attack in (*ALWAYS, *attacks):
                    statements = tampered(intruder, *attack)
                    if statements is not None:
                        assert intruder.findings(*statements), (attack, statements)
                        done.add(attack[0])

    check()
    assert done == set(WAYS)
