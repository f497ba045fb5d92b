"""Keys, tokens and passwords are nowhere but where they were given: not in logs, answers, stores or complaints."""

import json

import pytest
import sqlalchemy
from torghut_testing.alpaca import Fault

from support.postgres import execute
from torghut_core.audit.rows import KEYS

SECRETS = {
    "ALPACA_KEY_ID": "PKPLANTEDKEYID0001",
    "ALPACA_SECRET_KEY": "planted-alpaca-secret-0002",
    "ADMIN_TOKENS": "planted-admin-token-0000000000000003",
    "DB_DSN": "planted-database-password-0004",
    "TA_CLICKHOUSE_PASSWORD": "planted-clickhouse-password-0005",
}


@pytest.fixture
def planted(make, serve):
    """A trader whose keys, token and passwords are the planted ones."""
    return make(
        serve(key=SECRETS["ALPACA_KEY_ID"], secret=SECRETS["ALPACA_SECRET_KEY"]),
        ADMIN_TOKENS=f"jane:operator:{SECRETS['ADMIN_TOKENS']}",
        TORGHUT_TOKEN=SECRETS["ADMIN_TOKENS"],
        TA_CLICKHOUSE_PASSWORD=SECRETS["TA_CLICKHOUSE_PASSWORD"],
    )


def holds_none(text):
    """Whether none of the secrets is in a text, or in bytes."""
    data = text if isinstance(text, bytes) else text.encode()
    found = [name for name, value in SECRETS.items() if value.encode() in data]
    assert not found, f"{found} in {data[:2000]!r}"


def is_clean(trader):
    """None of them is in what was logged, kept on disk, or answered."""
    holds_none(trader.log)
    for path in trader.state.rglob("*"):
        if path.is_file():
            holds_none(path.read_bytes())
    if trader.process is not None:
        for path, methods in json.loads(trader.ask("/openapi.json")[1])["paths"].items():
            if "get" in methods:
                code, text = trader.ask(path)
                assert code in (200, 503), (path, text)
                holds_none(text)


def test_a_day_of_trouble_shows_none(planted):
    """Trades, refusals, server errors, a cut stream, a kill: with `-v` nothing of what is logged or kept has a secret."""
    trader = planted
    trader.begin()
    trader.fake.faults.add(Fault.server_error(500, method="POST", path="/v2/orders"))
    trader.fake.faults.add(Fault.html(502, after=True, method="POST", path="/v2/orders"))
    trader.fake.faults.add(Fault.cut(method="POST", path="/v2/orders"))
    echo = f"no, {SECRETS['ALPACA_KEY_ID']} {SECRETS['ALPACA_SECRET_KEY']}"
    trader.fake.faults.add(Fault.reject(403, {"code": 40310000, "message": echo}, method="POST", path="/v2/orders"))
    trader.trade("buy", ("BTC/USD", "ETH/USD"))
    trader.until(lambda: len(trader.sent) >= 4)
    trader.fake.stream.cut()
    trader.fake.stream.garbage()
    trader.agrees()
    assert trader.post("/trading/kill", {"reason": "test"})["control"]["actor"] == "jane"
    trader.trade("buy", ("SOL/USD",))
    trader.agrees()
    trader.token = "not-" + SECRETS["ADMIN_TOKENS"]
    assert trader.ask("/trading/status")[0] in (401, 403)
    trader.token = SECRETS["ADMIN_TOKENS"]
    is_clean(trader)
    for command in (
        ("doctor", "--catalog", trader.catalog),
        ("audit", "verify"),
        ("catalog", "status"),
        ("reconcile",),
    ):
        for more in ((), ("--json",)):
            said = trader.output(*command, *more, code=None)
            holds_none(said)
    trader.send()
    is_clean(trader)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ALPACA_SECRET_KEY": f"{SECRETS['ALPACA_SECRET_KEY']}-of-yesterday"},
        pytest.param(
            {"ALPACA_KEY_ID": f"{SECRETS['ALPACA_KEY_ID']}\n{SECRETS['ALPACA_SECRET_KEY']}"}, marks=pytest.mark.proof
        ),
        {"DB_DSN": f"postgresql+psycopg://torghut:{SECRETS['DB_DSN']}@127.0.0.1:1/torghut"},
        pytest.param(
            {"DB_DSN": f"postgresql://torghut:{SECRETS['DB_DSN']}@127.0.0.1:no/torghut"}, marks=pytest.mark.proof
        ),
        pytest.param({"DB_DSN": f"mysql://torghut:{SECRETS['DB_DSN']}@127.0.0.1/torghut"}, marks=pytest.mark.proof),
        pytest.param({"DB_DSN": SECRETS["DB_DSN"]}, marks=pytest.mark.proof),
        pytest.param({"TA_CLICKHOUSE_URL": "http://127.0.0.1:1"}, marks=pytest.mark.proof),
        {"TA_CLICKHOUSE_URL": f"http://torghut:{SECRETS['TA_CLICKHOUSE_PASSWORD']}@127.0.0.1:1"},
        {"ADMIN_TOKENS": SECRETS["ADMIN_TOKENS"]},
        pytest.param({"ADMIN_TOKENS": f"jane:emperor:{SECRETS['ADMIN_TOKENS']}"}, marks=pytest.mark.proof),
        pytest.param({"TRADING_RECONCILE_MS": "soon"}, marks=pytest.mark.proof),
    ],
    ids=str,
)
def test_a_start_that_fails_tells_why_and_no_secret(planted, wrong):
    """Keys that are refused, hosts that are not there, settings that do not parse: the complaint is without them."""
    planted.env |= wrong
    said = planted.output("-v", "run", "--catalog", planted.catalog, "--port", "0", code=None)
    assert "error" in said
    assert "Traceback" not in said
    holds_none(said)
    holds_none(planted.output("doctor", "--catalog", planted.catalog, code=None))
    is_clean(planted)


def test_a_venue_that_is_not_there(planted):
    """Neither a port that nobody listens on, nor one that hangs up, brings the keys to light."""
    planted.fake.stop_listening()
    holds_none(planted.output("-v", "run", "--catalog", planted.catalog, "--port", "0", code=1))
    planted.fake.listen_again()
    planted.fake.faults.add(Fault.cut(path="/v2/account", times=None))
    holds_none(planted.output("-v", "run", "--catalog", planted.catalog, "--port", "0", code=1))


def test_a_password_of_the_database_is_not_kept(planted, dsn):
    """With the books in Postgres, nor when its server cuts all connections, is the password logged, told or kept."""
    url = sqlalchemy.make_url(dsn)
    planted.env["DB_DSN"] = url.set(password=SECRETS["DB_DSN"]).render_as_string(hide_password=False)
    planted.begin().trade("buy")
    planted.until(lambda: planted.held)
    execute(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    planted.until(lambda: planted.metric("lease_held") == 0)
    planted.trade("buy", ("ETH/USD",))
    is_clean(planted)
    holds_none(planted.output("doctor", "--catalog", planted.catalog, code=None))
    for table in (*KEYS, "audit_log"):
        holds_none("\n".join(execute(dsn, f"SELECT t::text FROM {table} t")))


def test_a_plugin_that_tells_a_key(planted):
    """What a plugin raises is logged, shown and written down, and may hold anything that it could read."""
    planted.begin().trade("fail")
    planted.until(lambda: planted.get("/catalog")["status"]["quarantined"])
    is_clean(planted)
