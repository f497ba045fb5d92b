"""Opening a database: new, older, newer, another's; and what that loads."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy

from torghut_core.audit import SqlAuditStore, find_decision, migration, sql, upgrade
from torghut_core.audit import database as database_module
from torghut_core.audit.database import audit_engine, prepare, writing
from torghut_core.audit.rows import KEYS, NUMBERED
from torghut_core.audit.tables import COVERED, REVISIONS, metadata
from torghut_core.errors import InputError, StateError


@pytest.fixture
def empty_postgres(postgres):
    """The URL of a Postgres schema without any table."""
    url = sqlalchemy.make_url(postgres())
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA fresh")
    yield url.update_query_dict({"options": "-csearch_path=fresh"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA fresh CASCADE")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request, tmp_path):
    """Where a database can be made."""
    return tmp_path / "audit.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgres")


@contextmanager
def closing_engines(*engines):
    try:
        yield
    finally:
        for engine in engines:
            engine.dispose()


def described(engine):
    """All that a database says of its tables."""
    inspector = sqlalchemy.inspect(engine)
    tables = {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": inspector.get_unique_constraints(table),
            "indexes": inspector.get_indexes(table),
            "checks": inspector.get_check_constraints(table),
        }
        for table in inspector.get_table_names()
    }
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            query = "SELECT name, sql FROM sqlite_master"
        else:
            query = (
                "SELECT tgname, replace(pg_get_triggerdef(t.oid), c.relnamespace::regnamespace || '.', '')"
                " FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = current_schema()::regnamespace"
                " UNION ALL SELECT proname, prosrc FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
            )
        spaces = re.compile(
            r"\s+"
        )  # SQLite keeps a statement as it was given, and puts an added column on the line before
        rest = sorted((name, spaces.sub(" ", made or "")) for name, made in connection.exec_driver_sql(query))
        rows = {
            table: connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            for table in ("controls", "alembic_version")
        }
    return tables, rest, rows


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_migrations_give_the_tables_that_the_code_has(request, kind, tmp_path):
    """A new database is made without Alembic, and is the same to the last trigger as a migrated one."""
    made = audit_engine(request.getfixturevalue(kind)())
    migrated = audit_engine(tmp_path / "a.db" if kind == "sqlite" else request.getfixturevalue("empty_postgres"))
    with closing_engines(made, migrated):
        with writing(migrated) as connection:
            migration.migrate(connection)
        assert described(migrated) == described(made)


def test_known_versions_are_the_scripts():
    """The code's list of versions is Alembic's, oldest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migration.SCRIPTS))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == REVISIONS


def test_tables_and_keys_agree():
    """What the folding calls a key is the primary key, or is unique."""
    for table in COVERED:
        key = KEYS[table.name]
        unique = [tuple(c.columns.keys()) for c in table.constraints if isinstance(c, sqlalchemy.UniqueConstraint)]
        assert key == tuple(column.name for column in table.primary_key) or key in unique
        assert ("id" in table.c) == (table.name in NUMBERED) == (table.columns[0].name == "id")


def test_upgrade_makes_a_database_and_tells_its_version(empty):
    """`torghut db upgrade` on nothing makes the tables; again, it does nothing."""
    assert upgrade(empty) == REVISIONS[-1]
    assert upgrade(empty) == REVISIONS[-1]
    with closing(SqlAuditStore(empty)) as store:
        store.record_control("kill", value=True, actor="ops")
        store.commit()
        assert store.verify() == []


def test_path_and_url_are_the_same_database(tmp_path):
    """A path may have characters that a URL gives a meaning to."""
    odd = tmp_path / "what? 100%#1"
    odd.mkdir()
    with closing(SqlAuditStore(odd / "audit.db")) as store:
        store.record_control("kill", value=True, actor="ops")
    assert {path.name for path in odd.iterdir()} >= {"audit.db", "audit.head"}
    plain = tmp_path / "audit.db"
    shutil.copy(odd / "audit.db", plain)
    with closing(SqlAuditStore(f"sqlite:///{plain}")) as store:
        assert store.control("kill") is True


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "not a url"])
def test_database_that_this_cannot_be_is_refused(url):
    """Only a SQLite file and Postgres are audit databases; the error says what to write."""
    with pytest.raises(InputError, match=r"\(use "):
        SqlAuditStore(url)


def test_password_is_in_no_error():
    """A DSN's password does not get into messages."""
    with pytest.raises(StateError) as caught:
        SqlAuditStore("postgresql://me:s3cret@127.0.0.1:1/none?connect_timeout=2")
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:1/none" in str(caught.value)
    with pytest.raises(StateError) as caught:
        SqlAuditStore("postgresql+psycopg:///none?host=127.0.0.1&port=1&password=s3cret")
    assert "s3cret" not in str(caught.value)
    assert "host=127.0.0.1" in str(caught.value)


def test_newer_database_is_refused_with_a_hint(database, opened):
    """A database of a newer version is left alone; the error says what to install."""
    engine = audit_engine(database)
    with closing_engines(engine):
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StateError, match=r"has version 9999, and .* up to .* \(install the newer torghut"):
            opened(database)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{REVISIONS[-1]}'")


def test_database_of_something_else_is_refused(tmp_path):
    """Tables that are not ours are left alone."""
    path = tmp_path / "audit.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (id)")
    connection.close()
    with pytest.raises(
        StateError, match=r"has tables of another program \(photos\): give torghut a database of its own"
    ):
        SqlAuditStore(path)


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """A torghut whose tables are one version further on than this one's."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migration.SCRIPTS, scripts)
    (scripts / "versions" / "9999_venue.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9999', '{REVISIONS[-1]}'\n"
        "def upgrade():\n"
        "    op.add_column('strategies', sa.Column('venue', sa.Text))\n"
        "    op.create_index('strategies_venue', 'strategies', ['venue'])\n"
    )
    monkeypatch.setattr(migration, "SCRIPTS", scripts)
    monkeypatch.setattr("torghut_core.audit.database.REVISIONS", (*REVISIONS, "9999"))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_older_database_is_brought_up_with_its_rows(request, kind, make):
    """Opening an older database migrates it: its rows are kept, and are as they were written."""
    database = request.getfixturevalue(kind)() if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    request.getfixturevalue("next_version")  # only now: it must not reach the databases that tests share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torghut_core.audit.database.REVISIONS", REVISIONS)
        with closing(SqlAuditStore(database)) as store:
            store.record_strategies([{"name": "a"}], "sync")
            make.trade(store)
    with closing(SqlAuditStore(database)) as store:
        columns = {column["name"] for column in sqlalchemy.inspect(store._engine).get_columns("strategies")}
        assert "venue" in columns
        make.trade(store, 2)
        store.commit()
        assert len(store.fills()) == 2
        assert store.verify() == []


WRITTEN_BY_0001 = Path(__file__).with_name("written_by_0001.json")
"""The rows of a SQLite database that the first version wrote, as they are stored."""


@pytest.fixture
def first_version(empty):
    """A database as the first version left it, with rows."""
    engine = audit_engine(empty)
    with closing_engines(engine), writing(engine) as connection:
        migration.migrate(connection, "0001")
        connection.exec_driver_sql("DELETE FROM controls")
        for table, written in json.loads(WRITTEN_BY_0001.read_text()).items():
            places = ", ".join(["%s" if engine.dialect.name == "postgresql" else "?"] * len(written["columns"]))
            columns = ", ".join(written["columns"])
            statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
            connection.exec_driver_sql(statement, [tuple(row) for row in written["rows"]])
    return empty


def test_database_of_the_first_version_is_brought_up(first_version, make):
    """What the first version wrote verifies as before, is read as before, and is gone on from."""
    assert upgrade(first_version) == REVISIONS[-1]
    with closing(SqlAuditStore(first_version)) as store:
        findings = [str(finding) for finding in store.verify()]
        assert [text for text in findings if "a cut tail may not show" not in text] == []  # its head file is not here
        filled, working, _ = store.decisions()
        assert [filled["inputs"], working["inputs"]] == [None, None]
        assert find_decision(store, filled["decision_hash"])["inputs"] is None
        (order,) = store.recent_orders("paper-1", make.LATER)
        assert order.intent == make.intent(make.decision(2))
        ((key, position),) = store.positions("paper-1").items()
        assert (key, position.quantity) == (("macd-rsi-default", "BTC/USD"), make.fill(order.intent).quantity)
        assert store.find_order("paper-1", filled["decision_hash"]) is None
        make.trade(store, 4)
        store.record_position("paper-1", "macd-rsi-default", "BTC/USD", position, make.START, "adjusted")
        store.commit()
        assert store.verify() == []
        assert len(store.fills()) == 2


def test_first_version_brought_up_has_the_tables_of_a_new_one(first_version, request):
    """Where rows were, the tables end up the same to the last trigger, too."""
    kind = "sqlite" if isinstance(first_version, Path) else "postgres"
    made, migrated = audit_engine(request.getfixturevalue(kind)()), audit_engine(first_version)
    with closing_engines(made, migrated):
        prepare(migrated)
        assert described(migrated)[:2] == described(made)[:2]


def test_failed_migration_changes_nothing(database, next_version):
    """A migration that fails in the middle leaves the older database whole."""
    bad = migration.SCRIPTS / "versions" / "9999_venue.py"
    bad.write_text(bad.read_text().replace("'strategies_venue', 'strategies'", "'x', 'no_such_table'"))
    with pytest.raises(StateError, match="no_such_table"):
        SqlAuditStore(database)
    engine = audit_engine(database)
    with closing_engines(engine), engine.connect() as connection:
        assert "venue" not in {column["name"] for column in sqlalchemy.inspect(connection).get_columns("strategies")}
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        assert version == REVISIONS[-1]


def test_two_processes_may_make_the_same_database(empty, monkeypatch):
    """The second finds what the first made."""
    first, second = audit_engine(empty), audit_engine(empty)
    revisions = iter([None])  # as if the second had looked before the first was done
    look = database_module._revision
    monkeypatch.setattr(database_module, "_revision", lambda connection: next(revisions, look(connection)))
    with closing_engines(first, second):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database_module, "_revision", look)
            prepare(first)
        prepare(second)
        assert set(sqlalchemy.inspect(second).get_table_names()) == set(metadata.tables)
    assert next(revisions, "looked") == "looked"


def test_commit_reaches_the_disk(sqlite):
    """Every connection writes ahead and syncs at each commit: a power cut takes back nothing that was committed."""
    engine = audit_engine(sqlite())
    with closing_engines(engine), engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import torghut_core.audit", {"sqlalchemy", "alembic", "psycopg"}),
        ("from torghut_core.audit import MemoryAuditStore; MemoryAuditStore().commit()", {"sqlalchemy", "alembic"}),
        (
            "from torghut_core.audit import SqlAuditStore; SqlAuditStore('sqlite:///audit.db').close()",
            {"alembic", "psycopg"},
        ),
    ],
    ids=["package", "memory", "sqlite"],
)
def test_start_loads_no_more_than_it_needs(tmp_path, code, modules):
    """SQLAlchemy is loaded when a database is opened, Alembic when one is migrated: a start-up pays for no more."""
    program = f"{code}\nimport sys\nprint(sorted({modules!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_package_has_no_other_names():
    """A name that is not there is the usual error."""
    import torghut_core.audit

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = torghut_core.audit.Nothing


def test_lost_connection_is_made_anew(postgres, opened, make):
    """Connections that are cut between two commits, by the server or on the way, cost nothing."""
    url = postgres()
    store = opened(url)
    make.decide(store, 1)
    store.commit()
    engine = sqlalchemy.create_engine(url)
    with closing_engines(engine), engine.connect() as connection:
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'audit' AND pid <> pg_backend_pid()"
        )
        connection.exec_driver_sql(others)
    make.decide(store, 2)
    store.commit()
    assert len(store.decisions()) == 2
    assert store.verify() == []


def test_same_decision_of_two_processes_is_written_once(database, opened, make):
    """Two traders on one account decide the same: the second commit fails, before its order could leave."""
    first, second = opened(database), opened(database)
    make.decide(first)
    make.decide(second)
    first.commit()
    with pytest.raises(StateError, match=r"another process has written to it meanwhile \(run only one\)"):
        second.commit()
    second._pending.clear()
    assert len(first.decisions()) == 1
    assert first.verify() == []


def commit_unheard(store, monkeypatch):
    """Commit, and lose the connection right after the server has committed."""
    real = sql.writing

    @contextmanager
    def broken(engine):
        with real(engine) as connection:
            yield connection
        raise StateError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(sql, "writing", broken)
        with pytest.raises(StateError, match="lost"):
            store.commit()


def test_commit_whose_success_was_not_heard_is_not_repeated(database, opened, make, monkeypatch):
    """The connection breaks after the server has committed: the next commit goes on from there, with nothing twice."""
    store = opened(database)
    make.trade(store, 1)
    commit_unheard(store, monkeypatch)
    make.trade(store, 2)
    store.commit()
    store.commit()
    make.trade(store, 3)
    store.commit()
    assert len(store.fills()) == len(store.decisions()) == 3
    assert store.verify() == []


def test_failure_after_a_commit_that_was_not_heard_loses_nothing(database, opened, make, monkeypatch):
    """The commit that finds an unheard one in the database fails itself: all that was recorded since is in the next one."""
    store = opened(database)
    make.trade(store, 1)
    commit_unheard(store, monkeypatch)
    make.trade(store, 2)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(store, "_write", lambda *_: (_ for _ in ()).throw(StateError("the disk is full")))
            with pytest.raises(StateError, match="full"):
                store.commit()
    store.commit()
    assert len(store.fills()) == len(store.decisions()) == 2
    assert store.verify() == []


def test_drop_after_a_commit_that_was_not_heard_loses_nothing(database, opened, make, monkeypatch):
    """What is recorded after a drop is committed, also where the commit before it was not heard."""
    store = opened(database)
    make.trade(store, 1)
    commit_unheard(store, monkeypatch)
    store.drop()
    make.trade(store, 2)
    store.commit()
    assert len(store.fills()) == len(store.decisions()) == 2
    assert store.verify() == []


def test_reports_go_on_from_a_commit_that_was_not_heard(database, opened, make, monkeypatch):
    """Reports change the rows as an unheard commit wrote them, and not as they were before it."""
    store = opened(database)
    _, intent = make.decide(store)
    store.commit()
    fill = make.execute(store, intent, "0.50", 1)
    commit_unheard(store, monkeypatch)
    make.execute(store, intent, "1.00", 2)
    store.commit()
    assert [row["executed_at"] for row in store.decisions()] == [fill.event_ts]
    assert store.verify() == []


def test_writers_at_the_same_time_make_one_chain(database, opened, make):
    """Two processes, here threads with a store each, commit all the while: every row is there, in one whole chain."""
    stores = [opened(database) for _ in range(2)]

    def trade(store, account):
        for n in range(15):
            make.trade(store, n, account=account)
            store.commit()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(trade, store, f"paper-{number}") for number, store in enumerate(stores)]:
            done.result()
    assert len(stores[0].fills()) == 30
    assert stores[0].verify() == []


def test_lease_of_another_process_is_respected(database, opened, clock):
    """Of two processes one holds the lease; the other gets it when it is given back."""
    first, second = opened(database, clock), opened(database, clock)
    assert first.take_lease("trading", "first", 60)
    assert not second.take_lease("trading", "second", 60)
    assert not first.take_lease("trading", "first", 0)
    assert second.take_lease("trading", "second", 60)


def test_tidied_database_is_copied_beside_its_writer(tmp_path, make):
    """What was written ahead reaches the file without a commit doing it, and is as it was written."""
    store = SqlAuditStore(tmp_path / "audit.db", is_tidied=True)
    for number in range(1, 200):
        make.decide(store, number)
        store.commit()
    before = (tmp_path / "audit.db").stat().st_size
    store.tidy()
    assert (tmp_path / "audit.db").stat().st_size > before
    make.decide(store, 200)
    store.commit()
    assert store.verify() == []
    store.close()
