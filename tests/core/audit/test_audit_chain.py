"""`verify` finds whatever was changed behind the audit's back."""

import re
import shutil
import sqlite3

import psycopg
import pytest
import sqlalchemy

from torghut_core.audit.chain import ENTRY, GENESIS, Head, HeadFile, entry_hash, row_hash, verify
from torghut_core.audit.rows import KEYS
from torghut_core.audit.tables import COVERED, audit_log
from torghut_core.errors import StateError
from torghut_core.model.trading import Outcome, Position, Verdict, canonical_json

WITH_LOG = (*COVERED, audit_log)

each_table = pytest.mark.parametrize("table", WITH_LOG, ids=lambda table: table.name)
on_sqlite = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.proof)], indirect=True
)


def fill(store, make):
    """Put rows into every table, some of them in several versions, in several commits."""
    store.record_generation({"digest": "d", "diff": {"added": ["a"]}}, "ops", "applied")
    store.record_strategies([{"name": "a", "version": ">=1", "base_timeframe": "1Min", "on_remove": "freeze"}], "sync")
    store.commit()
    for n in (1, 2):
        decision, intent = make.decide(store, n)
        store.record_review("paper-1", decision.decision_hash, "llm", Verdict("llm", Outcome.ALLOW, "ok"), {"m": 1})
        store.commit()
        make.accept(store, intent)
        make.execute(store, intent)
        store.commit()
    intent = make.intent(make.decision(2))
    make.execute(store, intent, number=2, strategy_id="heir")
    store.record_account("paper-1", make.books(), {"BTC/USD": Position()}, make.START)
    store.record_position("paper-1", "heir", "BTC/USD", Position(), make.START, "adjusted")
    store.record_cursor("paper-1", "tape", {"at": 9})
    store.record_control("kill", value=False, actor="ops")
    store.commit()
    store.take_lease("trading", "one", 30)


@pytest.fixture
def written(database, opened, make):
    """A store of each kind with rows in every table."""
    store = opened(database)
    fill(store, make)
    return store


@pytest.fixture
def tamper(database):
    """Runs statements on the database past the kernel, the triggers dropped first."""

    def run(*statements):
        if isinstance(database, str):
            with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("ALTER TABLE audit_log DISABLE TRIGGER ALL")
                for statement in statements:
                    connection.execute(statement)
                connection.execute("ALTER TABLE audit_log ENABLE TRIGGER ALL")
            return
        connection = sqlite3.connect(database, isolation_level=None)
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0
        for _, sql in triggers:
            connection.execute(sql)
        connection.close()

    return run


def found(store):
    return [str(finding) for finding in store.verify()]


def test_untouched_audit_has_no_findings(written):
    """Rows in every table, in several versions, are as they were written."""
    assert all(written.rows(table) for table in KEYS)
    assert written.verify() == []


def test_log_says_who_wrote_which_row_when(database, opened, make, clock):
    """An entry has the actor and the account of its row, whether the row was new, and the time of the commit."""
    store = opened(database, clock)
    store.record_control("kill", value=True, actor="alice")
    _, intent = make.decide(store)
    store.commit()
    first = clock.now
    store.record_control("kill", value=False, actor="bob")
    make.accept(store, intent)
    store.commit()
    columns = ("actor", "account", "action", "table_name", "row_key", "at")
    with store._engine.connect() as connection:
        log = connection.execute(sqlalchemy.select(*(audit_log.c[name] for name in columns)).order_by("seq")).all()
    decision, order = f"paper-1/{intent.decision_hash}", f"paper-1/{intent.client_order_id}"
    assert [tuple(row) for row in log] == [
        ("torghut", "paper-1", "insert", "trade_decisions", decision, first),
        ("torghut", "paper-1", "insert", "executions", order, first),
        ("alice", None, "insert", "controls", "kill", first),
        ("torghut", "paper-1", "update", "executions", order, clock.now),
        ("torghut", "paper-1", "insert", "execution_events", "5", clock.now),
        ("bob", None, "update", "controls", "kill", clock.now),
    ]


def test_reopened_audit_continues_the_chain(written, database, opened, make):
    """A new process continues the log where the last one ended."""
    written.close()
    again = opened(database)
    make.decide(again, 3)
    again.commit()
    assert again.verify() == []
    assert again.head().seq == written.head().seq > 2


def test_two_writers_continue_one_chain(written, database, opened, make):
    """The command line may change a control while the kernel trades: each continues where the other ended."""
    other = opened(database)
    for n in (10, 11):
        make.decide(written, n)
        written.commit()
        other.record_control("kill", n, "ops")
        other.commit()
    assert written.verify() == []


@pytest.mark.parametrize("verb", ["UPDATE audit_log SET actor = 'me'", "DELETE FROM audit_log", "TRUNCATE audit_log"])
def test_log_refuses_changes(written, database, verb):
    """UPDATE and DELETE on the log are refused by the database itself."""
    if isinstance(database, str):
        with (
            psycopg.connect(database.replace("+psycopg", "")) as connection,
            pytest.raises(psycopg.errors.RaiseException, match="append-only"),
        ):
            connection.execute(verb)
    elif not verb.startswith("TRUNCATE"):  # SQLite has no such verb
        connection = sqlite3.connect(database)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(verb)
        connection.close()
    assert written.verify() == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE trade_decisions SET price = '1' WHERE id = 3",
            "trade_decisions paper-1/{hash}: edited: its content does not have the hash in the log",
        ),
        (
            "UPDATE trade_decisions SET id = 999 WHERE id = 3",
            "trade_decisions paper-1/{hash}: edited: its id is 999 and was 3",
        ),
        ("DELETE FROM trade_decisions WHERE id = 3", "trade_decisions paper-1/{hash}: missing: it is in the log"),
        (
            "INSERT INTO leases VALUES ('a', 'b', '2026-01-05T14:30:00.000000000Z')",
            "leases a: inserted: it is not in the log",
        ),
        ("UPDATE audit_log SET actor = 'me' WHERE seq = 4", "audit_log 4: edited: its content does not have its hash"),
        ("DELETE FROM audit_log WHERE seq = 4", "audit_log 4: missing"),
        ("DELETE FROM audit_log WHERE seq IN (4, 5)", "audit_log 4 to 5: missing"),
        ("DELETE FROM controls WHERE name = 'audit.head'", "controls audit.head: missing or unreadable"),
        ("UPDATE controls SET value = '[1]' WHERE name = 'audit.head'", "controls audit.head: missing or unreadable"),
        ("UPDATE controls SET actor = 'me' WHERE name = 'audit.head'", "controls audit.head: edited"),
    ],
)
def test_finding_names_place_and_problem(written, tamper, statement, finding):
    """The finding for each kind of change names the table, the row and what is wrong."""
    decision_hash = written.decisions()[0]["decision_hash"]
    tamper(statement)
    assert any(text.startswith(finding.format(hash=decision_hash)) for text in found(written))


@pytest.fixture
def intruder(written, intrude):
    """A third party that writes to the database past the kernel."""
    with intrude(written) as intruder:
        yield intruder


@each_table
@on_sqlite
def test_edit_of_any_value_is_found(intruder, table):
    """No column of any row of any table, of the log itself too, can be edited unnoticed."""
    for place in intruder.places(table):
        for column in table.c:
            edit = f'UPDATE {table.name} SET "{column.name}" = {intruder.changed(column)} WHERE {place}'
            assert intruder.findings(edit), edit


@each_table
@on_sqlite
def test_value_that_is_taken_away_is_found(intruder, table):
    """A value set to null is found, also in the last columns, whose nulls are in no hash."""
    for column in table.c:
        for place in intruder.places(table) if column.nullable else ():
            where = f'{place} AND "{column.name}" IS NOT NULL'
            if intruder.connection.exec_driver_sql(f"SELECT 1 FROM {table.name} WHERE {where}").all():
                assert intruder.findings(f'UPDATE {table.name} SET "{column.name}" = NULL WHERE {where}'), column


@each_table
@on_sqlite
def test_removal_of_any_row_is_found(intruder, table):
    """No row of any table, of the log itself too, can be taken away unnoticed: not the first, not the last."""
    for place in intruder.places(table):
        assert intruder.findings(f"DELETE FROM {table.name} WHERE {place}")


@each_table
@on_sqlite
def test_copy_of_any_row_is_found(intruder, table):
    """No row can be added to any table unnoticed, however much it looks like one that belongs there."""
    for place in intruder.places(table):
        assert intruder.findings(intruder.copied(table, place))


def test_dropped_trigger_is_found(written, database):
    """A log that could be changed is a finding before it is changed."""
    if isinstance(database, str):
        with psycopg.connect(database.replace("+psycopg", "")) as connection:
            connection.execute("ALTER TABLE audit_log DISABLE TRIGGER audit_log_no_change")
        name = "audit_log_no_change"
    else:
        connection = sqlite3.connect(database)
        connection.execute("DROP TRIGGER audit_log_no_delete")
        connection.close()
        name = "audit_log_no_delete"
    assert found(written) == [f"audit_log: the trigger {name}, which refuses changes, is missing"]


NO_DELETE = "audit_log_no_delete"
NO_CHANGE = "CREATE OR REPLACE TRIGGER audit_log_no_change"
REFUSE = "EXECUTE FUNCTION audit_log_refuse()"
SPOILED = {
    "sqlite": [
        f"CREATE TRIGGER {NO_DELETE} BEFORE DELETE ON audit_log BEGIN SELECT 1; END",
        f"CREATE TRIGGER {NO_DELETE} BEFORE DELETE ON audit_log BEGIN SELECT RAISE(IGNORE); END",
        f"CREATE TRIGGER {NO_DELETE} BEFORE DELETE ON audit_log WHEN 0 BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END",
        f"CREATE TRIGGER {NO_DELETE} AFTER INSERT ON audit_log BEGIN SELECT 1; END",
        f"CREATE TRIGGER {NO_DELETE} BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        f"{NO_CHANGE} BEFORE UPDATE ON audit_log {REFUSE}",
        f"{NO_CHANGE} BEFORE DELETE OR UPDATE OF actor OR TRUNCATE ON audit_log {REFUSE}",
        f"{NO_CHANGE} AFTER DELETE OR UPDATE OR TRUNCATE ON audit_log {REFUSE}",
        f"{NO_CHANGE} BEFORE DELETE OR UPDATE ON audit_log FOR EACH ROW WHEN (false) {REFUSE}",
        "ALTER TABLE audit_log ENABLE REPLICA TRIGGER audit_log_no_change",
    ],
}
"""Statements after which the trigger is there by its name, and does not refuse changes."""


def test_trigger_that_was_replaced_is_found(written):
    """A trigger that has the name of ours and refuses less, or nothing, is a finding."""
    with written._engine.connect() as connection:
        for statement in SPOILED[connection.dialect.name]:
            with connection.begin_nested() as savepoint:
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(f"DROP TRIGGER {NO_DELETE}")
                connection.exec_driver_sql(statement)
                (told,) = [finding.problem for finding in verify(connection, written._file)]
                savepoint.rollback()
            assert re.fullmatch(
                "the trigger audit_log_no_.*, which refuses changes, (was replaced by .*|is missing)", told
            )
            assert ("missing" in told) == ("REPLICA" in statement)
        assert list(verify(connection, written._file)) == []


def forge(store, seq, **changes):
    """Give the statement that edits a log entry, and its hash to fit."""
    columns = [sqlalchemy.type_coerce(audit_log.c[name], sqlalchemy.types.NullType()).label(name) for name in ENTRY]
    with store._engine.connect() as connection:
        entry = connection.execute(sqlalchemy.select(*columns).where(audit_log.c.seq == seq)).mappings().one()
    digest = entry_hash(store_hash(store, seq - 1), list((dict(entry) | changes).values()))
    sets = ", ".join(f"{name} = '{value}'" for name, value in (changes | {"hash": digest}).items())
    return f"UPDATE audit_log SET {sets} WHERE seq = {seq}"


def store_hash(store, seq):
    with store._engine.connect() as connection:
        return connection.execute(sqlalchemy.select(audit_log.c.hash).where(audit_log.c.seq == seq)).scalar_one()


def test_entry_with_a_fitting_hash_breaks_the_chain(written, tamper):
    """An entry edited together with its hash no longer leads to the next one."""
    tamper(forge(written, 4, actor="me"))
    assert found(written) == ["audit_log 5: does not follow from the entry before it"]


def test_last_entry_with_a_fitting_hash_is_not_the_head(written, tamper):
    """The newest entry has none behind it: the head tells."""
    head = written.head()
    tamper(forge(written, head.seq, actor="me"))
    assert f"audit_log: its last entry is not the one in audit.head of controls ({head.seq})" in found(written)


def cut(store, seq):
    """Statements that cut the log behind an entry, and the lease that its tail is about, and fix the head."""
    value = canonical_json(Head(seq, store_hash(store, seq))._asdict()).decode()
    return (
        f"DELETE FROM audit_log WHERE seq > {seq}",
        "DELETE FROM leases",
        f"UPDATE controls SET value = '{value}' WHERE name = 'audit.head'",
    )


def test_cut_end_is_found_by_the_head_in_controls(written, tamper):
    """The log and what it covers cut together: the head in controls is ahead."""
    head = written.head()
    tamper(*cut(written, head.seq - 1)[:2])
    assert f"audit_log: cut: it ends at {head.seq - 1}, but audit.head in controls is {head.seq}" in found(written)


@pytest.fixture
def cut_store(sqlite, opened, make):
    """A SQLite audit whose end was cut so well that only the head file tells."""
    database = sqlite()
    store = opened(database)
    fill(store, make)
    seq = store.head().seq
    statements = cut(store, seq - 1)
    store.close()
    connection = sqlite3.connect(database)
    trigger = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'audit_log_no_delete'").fetchone()[0]
    connection.execute("DROP TRIGGER audit_log_no_delete")
    for statement in statements:
        connection.execute(statement)
    connection.execute(trigger)
    connection.commit()
    connection.close()
    return opened(database)


def test_cut_end_with_its_head_is_found_by_the_head_file(cut_store):
    """Log, rows and the head in the database cut together: the head file is ahead."""
    (finding,) = found(cut_store)
    assert finding.startswith("audit_log: cut: entry ")
    assert "the newest according to" in finding


def test_nothing_is_written_on_a_cut_log(cut_store, make):
    """A commit would hide the cut: it is refused, with the way out for a backup that was put back on purpose."""
    make.decide(cut_store, 50)
    with pytest.raises(StateError, match=r"cut: entry \d+.*if you restored an older database on purpose, move"):
        cut_store.commit()
    cut_store._file.path.unlink()
    cut_store.commit()
    assert cut_store.verify() == []


def test_other_history_is_found_by_the_head_file(sqlite, opened, make):
    """A database put in place of this one, longer and whole in itself, is not the one that the head file is of."""
    database, other = sqlite(), sqlite()
    for path, trades in ((database, 1), (other, 3)):
        store = opened(path)
        for n in range(trades):
            make.trade(store, n + trades)
        store.close()
    shutil.copy(other, database)
    store = opened(database)
    (finding,) = found(store)
    assert finding.startswith("audit_log: entry 4 is not the one in ")
    make.decide(store, 50)
    with pytest.raises(StateError, match="entry 4 is not the one in"):
        store.commit()
    store._pending.clear()


def test_missing_head_file_is_found(sqlite, opened, make):
    """Without the head file a cut tail may not show: that is said."""
    database = sqlite()
    store = opened(database)
    assert store.verify() == []
    make.decide(store)
    store.commit()
    database.with_suffix(".head").unlink()
    (finding,) = found(store)
    assert "audit.head is missing, so a cut tail may not show" in finding


def test_unreadable_head_file_is_found(sqlite, opened, make):
    """A head file with something else in it is a finding, and nothing is committed over it."""
    database = sqlite()
    store = opened(database)
    database.with_suffix(".head").write_text("gone")
    assert "does not hold the head of an audit log" in found(store)[0]
    make.decide(store)
    with pytest.raises(StateError, match="does not hold the head of an audit log"):
        store.commit()
    database.with_suffix(".head").unlink()


def test_head_file_that_is_behind_is_no_finding(sqlite, opened, make):
    """A crash between the commit and the head file leaves it one commit behind: the log is longer, and right."""
    database = sqlite()
    store = opened(database)
    make.decide(store, 1)
    store.commit()
    before = database.with_suffix(".head").read_bytes()
    make.decide(store, 2)
    store.commit()
    store.close()
    database.with_suffix(".head").write_bytes(before)
    again = opened(database)
    assert again.verify() == []
    make.decide(again, 3)
    again.commit()
    assert HeadFile(database.with_suffix(".head")).read() == again.head()


def test_rewritten_database_is_found_by_a_head_kept_elsewhere(sqlite, opened, make):
    """Where database and head file are replaced together, `verify` finds nothing; a head noted elsewhere differs."""
    database, forged = sqlite(), sqlite()
    heads = []
    for path, quantity in ((database, "1"), (forged, "2")):
        store = opened(path)
        make.trade(store, because=quantity)
        store.close()
        heads.append(store.head())
    for suffix in (".db", ".head"):
        shutil.copy(forged.with_suffix(suffix), database.with_suffix(suffix))
    store = opened(database)
    assert store.verify() == []
    assert store.head().seq == heads[0].seq
    assert store.head() != heads[0]


def test_head_of_a_new_audit_is_the_genesis(database, opened):
    """An empty log has a head too, so the first row that is cut shows as well."""
    assert opened(database).head() == GENESIS


def test_column_of_a_later_version_changes_no_hash():
    """A column that a migration adds is the last, and null in older rows: they keep their hash."""
    assert row_hash(("a", None, "b")) == row_hash(("a", None, "b", None))
    assert len({row_hash(("a", "b")), row_hash(("a", None, "b")), row_hash((None, "a", "b")), row_hash(("a",))}) == 4


def test_value_that_cannot_be_read_names_the_table_and_the_way_on(sqlite, opened, make):
    """A reader that meets an edited value does not guess: it says where, and to verify."""
    database = sqlite()
    store = opened(database)
    make.decide(store)
    store.commit()
    connection = sqlite3.connect(database)
    connection.execute("UPDATE trade_decisions SET price = 'cheap'")
    connection.commit()
    connection.close()
    with pytest.raises(StateError, match=r"a row of trade_decisions cannot be read.*torghut audit verify"):
        store.decisions()
