"""ClickHouse's HTTP interface over the embedded engine, spoken to by the real client."""

import threading

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from torghut_testing.clickhouse import ClickHouseProcess, Fault

from support.waiting import PATIENCE

ROWS = pa.table({"x": [1, 2], "s": ["a", "it's\\"]})


def count(client):
    return int(client.command("SELECT count() FROM t"))


def test_the_client_is_content(clickhouse, connect):
    """It pings, knows the version, and has no session, so that two threads may ask at the same time."""
    client = connect(clickhouse)
    assert client.ping()
    assert client.server_version == client.command("SELECT version()")
    slow = threading.Thread(target=client.command, args=("SELECT sleep(0.3)",))
    slow.start()
    assert client.command("SELECT 1") == 1
    assert slow.is_alive()
    slow.join()


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_rows_go_in_and_come_out(clickhouse, connect, client, compress):
    """Arrow, Native and text, however the client packs them."""
    client = connect(clickhouse, compress=compress)
    client.insert_arrow("t", ROWS)
    client.insert("t", [[3, "c"]], column_names=["x", "s"])
    client.raw_insert("t", ["x", "s"], "4,d\n", fmt="CSV")
    client.command("INSERT INTO t VALUES (5, 'e')")

    assert client.query_arrow("SELECT * FROM t ORDER BY x")["x"].to_pylist() == [1, 2, 3, 4, 5]
    assert client.query("SELECT s FROM t WHERE x <= 2 ORDER BY x").result_columns == [["a", "it's\\"]]
    assert client.query("SELECT * FROM t LIMIT 0").column_names == ("x", "s")


def test_values_are_bound(client):
    """Text with quotes, lists and numbers beyond double precision arrive as they are."""
    values = {"text": "it's\\\n", "list": ["a'", "b"], "number": 2**62 + 1}
    row = client.query("SELECT {text:String}, {list:Array(String)}, {number:Int64}", parameters=values).first_row
    assert row == ("it's\\\n", ["a'", "b"], 2**62 + 1)


def test_settings_hold_for_one_statement(client):
    """What one statement sets, the next does not see; a setting that is none is refused."""
    sql = "SELECT value FROM system.settings WHERE name = 'max_threads'"
    assert client.command(sql, settings={"max_threads": 3}) == 3
    assert client.command(sql) != 3
    with pytest.raises(DatabaseError) as raised:
        client.command("SELECT 1 SETTINGS nonsense = 1")
    assert raised.value.code == 115


def test_a_block_sent_again_adds_nothing(client):
    """The deduplication token reaches the engine."""
    for token in ("a", "a", "b"):
        client.insert_arrow("t", ROWS, settings={"insert_deduplication_token": token})
    assert count(client) == 4


def test_errors_have_their_numbers(client):
    """What the engine refuses is answered as by a server."""
    for sql, code in (("SELECT * FROM nothing", 60), ("SELECT FROM WHERE", 62), ("SELECT * FROM no.t", 81)):
        with pytest.raises(DatabaseError) as raised:
            client.command(sql)
        assert raised.value.code == code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.too_many_parts, 252),
        (Fault.disk_full, 243),
        (Fault.table_read_only, 242),
        (Fault.read_only, 164),
        (Fault.memory_limit, 241),
        (Fault.timed_out, 159),
    ],
)
def test_errors_on_demand(clickhouse, client, fault, code):
    """Each error comes as often as demanded, for the statements that match."""
    clickhouse.add(fault(statement="INSERT INTO `?t", times=2))
    for _ in range(2):
        with pytest.raises(DatabaseError) as raised:
            client.insert_arrow("t", ROWS)
        assert raised.value.code == code
    client.insert_arrow("t", ROWS)
    assert count(client) == 2


@pytest.mark.parametrize(("after", "rows"), [(False, 0), (True, 2)])
@pytest.mark.parametrize("kind", ["cut", "error"])
def test_before_or_after_it_is_done(clickhouse, client, kind, after, rows):
    """A connection that breaks, and an error, may come when the insert is done already."""
    fault = Fault.cut if kind == "cut" else Fault.timed_out
    clickhouse.add(fault(statement="INSERT", after=after))
    with pytest.raises((OperationalError, DatabaseError)):
        client.insert_arrow("t", ROWS)
    assert count(client) == rows
    assert [(each.done, each.fault) for each in clickhouse.requests("INSERT")][-1] == (after, kind)


def test_no_answer(clickhouse, connect, client):
    """The client's own timeout ends the wait; a client that waits when faults are cleared sees its connection close."""
    clickhouse.add(Fault.timeout(statement="INSERT", times=None))
    with pytest.raises(OperationalError, match="timed out"):
        connect(clickhouse, send_receive_timeout=1).insert_arrow("t", ROWS)

    raised = []

    def insert():
        try:
            client.insert_arrow("t", ROWS)
        except OperationalError as error:
            raised.append(error)

    met = len(clickhouse.requests("INSERT"))
    waiting = threading.Thread(target=insert)
    waiting.start()
    clickhouse.wait_until(lambda: len(clickhouse.requests("INSERT")) > met or raised)
    clickhouse.clear()
    waiting.join(PATIENCE)
    assert len(raised) == 1
    assert count(client) == 0


def test_a_late_answer(clickhouse, client):
    """A slow statement ends, and does not delay other connections."""
    clickhouse.add(Fault.delay(0.3, statement="INSERT"))
    inserting = threading.Thread(target=client.insert_arrow, args=("t", ROWS))
    inserting.start()
    assert count(client) == 0
    inserting.join()
    assert count(client) == 2


def test_a_server_that_does_not_listen(clickhouse, connect):
    """Connections are refused until it listens again, on the same port."""
    clickhouse.stop_listening()
    with pytest.raises(OperationalError, match="refused"):
        connect(clickhouse)
    clickhouse.listen_again()
    assert connect(clickhouse).ping()


def test_disks_as_a_script_wants_them(clickhouse, client):
    """``system.disks`` shows scripted sizes, under any alias, and those of the machine again afterwards."""
    sql = "SELECT name, free_space, total_space FROM system.disks AS d ORDER BY name"
    before = client.query(sql).result_rows
    clickhouse.set_disks(cold=(7, 100), default=(5, 10))
    assert client.query(sql).result_rows == [("cold", 7, 100), ("default", 5, 10)]
    clickhouse.set_disks()
    assert [row[::2] for row in client.query(sql).result_rows] == [row[::2] for row in before]


def test_wrong_scripts(clickhouse):
    """A wrong request of a script is answered with the reason."""
    for verb, value, said in (
        ("nothing", None, "no route of a script: POST /_fake/nothing"),
        ("faults", {"kind": "cut", "colour": "red"}, "colour"),
        ("faults", {"kind": "cut", "statement": "("}, "not a regular expression"),
    ):
        with pytest.raises(ValueError, match=said):
            clickhouse._control("POST", verb, value)


def test_a_killed_process_keeps_what_it_acknowledged(tmp_path, connect):
    """It restarts on its port with its rows; user and password are required."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path, user="trader", password="open sesame") as process:
        user = {"username": "trader", "password": "open sesame"}
        client = connect(process, **user)
        client.command("CREATE TABLE t (x Int64, s String) ENGINE = MergeTree ORDER BY x")
        client.insert_arrow("t", ROWS)
        url = process.url
        process.kill()
        process.start()
        assert process.url == url
        assert count(connect(process, **user)) == 2
        with pytest.raises(DatabaseError, match="Authentication failed"):
            connect(process, username="trader", password="wrong")


def test_a_directory_in_use_is_an_error(running, capfd):
    """Two processes cannot have one directory: the second says so in a line and ends."""
    with pytest.raises(RuntimeError, match="did not start"):
        ClickHouseProcess(running._command[running._command.index("--path") + 1]).start()
    assert "--path" in capfd.readouterr().err
