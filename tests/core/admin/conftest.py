"""A kernel that does nothing but remember, and the admin API in front of it, asked over real HTTP."""

import http.client
import json
import threading
from types import SimpleNamespace
from urllib.parse import urlsplit

import msgspec
import pytest
from pydantic import SecretStr

from support.waiting import PATIENCE
from torghut_core.admin.auth import parse_tokens
from torghut_core.admin.server import AdminServer
from torghut_core.admin.trading_state import TradingState
from torghut_core.catalog import load
from torghut_core.errors import NotFoundError
from torghut_core.telemetry.metrics import MetricSpec

TOKENS = {
    "viewer": "viewer-token-0123456789",
    "operator": "operator-token-0123456789",
    "admin": "admin-token-0123456789",
}

CATALOG = """
version: 1
strategies:
  - {name: macd-rsi-es, use: macd-rsi, base_timeframe: 1Min, symbols: [ES], params: {rsi_buy: 45}}
"""


class FakeKernel:
    """Answers with plain values; `calls` has every change that was asked for, `raises` the error of each method."""

    def __init__(self):
        self.calls = []
        self.raises = {}
        self.unwell = []
        self.unready = []
        self.metric_specs = (
            MetricSpec("decisions_total", "Decisions that strategies made."),
            MetricSpec("denials_total", "Decisions denied, by the code of the verdict.", "name"),
        )
        self.counted = {"decisions_total": 12, "event_lag_seconds": 0.25, "denials_total": {"cooldown": 3}}
        self.release = threading.Event()
        self.entered = threading.Event()
        self.said = {
            "generation": 7,
            "digest": "d" * 64,
            "since": "2026-01-05T14:30:00Z",
            "actor": "watch",
            "standby": "",
            "degraded": False,
            "problems": [],
            "pending": [],
            "quarantined": {},
            "restriction": "",
            "pinned": False,
            "path": "catalog.yaml",
            "is_polling": False,
            "last_reload": {"at": "2026-01-05T15:00:00Z", "outcome": "applied", "successful": True, "pause_ms": 0.4},
            "strategies": [
                {
                    "name": "macd-rsi-es",
                    "use": "macd-rsi",
                    "version": "0.1.0",
                    "code_digest": "c" * 64,
                    "enabled": True,
                    "state": "trading",
                    "symbols": ["ES"],
                    "params": {"rsi_buy": 45},
                    "on_remove": "flatten",
                    "rows": 100,
                    "decisions": 5,
                    "fills": 2,
                }
            ],
        }

    def _asked(self, method):
        if method in self.raises:
            raise self.raises[method]

    def status(self):
        self._asked("status")
        return self.said

    def catalog(self):
        return load({"catalog.yaml": CATALOG}).model_dump(mode="json")

    def generations(self, limit, before):
        numbers = range(min(self.said["generation"], (before or 99) - 1), 0, -1)
        return [{"number": number, "digest": "d" * 64} for number in numbers][:limit]

    def schema(self):
        return {"title": "Torghut catalog"}

    def plugins(self):
        self._asked("plugins")
        return {"plugins": [], "failures": [], "kept": []}

    def health(self):
        return self.unwell

    def gates(self):
        return {"auth": "", "bus": "no broker answers"}

    def error_class(self):
        return "kafka_metadata"

    def readiness(self):
        return self.unready

    def validate(self, text):
        self.calls.append(("validate", text))
        return {"valid": True, "problems": [], "diff": {"changes": []}}

    def reload(self, actor):
        self._asked("reload")
        self.calls.append(("reload", actor))
        return {"generation": 8, "outcome": "applied", "problems": []}

    def rollback(self, to, actor):
        self._asked("rollback")
        if to is not None and to >= self.said["generation"]:
            raise NotFoundError(f"there is no generation {to} (`torghut catalog status` shows which trades)")
        self.calls.append(("rollback", to, actor))
        return {"generation": 8, "outcome": f"rolled back to {to}", "problems": []}

    def trading(self):
        said = self.said
        found = TradingState(
            account="paper-1",
            broker="paper",
            role="trading",
            **{name: said[name] for name in ("generation", "digest", "since", "actor", "restriction")},
            control={"state": "running", "reason": "", "actor": "", "at": None, "flatten": False},
            checks={
                "catalog": said["problems"],
                "quarantine": [f"{name}: {why}" for name, why in said["quarantined"].items()],
            },
        )
        return msgspec.to_builtins(found) | {"orders_working": 2}

    def trading_health(self):
        return {"ok": not self.unwell, "checks": {"loop": self.unwell, "venue": []}}

    def rows(self, table, *, symbol, strategy, since, before, limit):
        self._asked("rows")
        self.calls.append((table, symbol, since, limit))
        symbols = ("ES", "NQ")
        rows = [{"id": number, "symbol": symbols[number % 2]} for number in range(14, 0, -2 if symbol else -1)]
        return [row for row in rows if before is None or row["id"] < before][:limit]

    def kill(self, reason, *, flatten, actor):
        self._asked("kill")
        self.calls.append(("kill", reason, flatten, actor))
        return {
            "control": {"state": "halted"},
            "written": ["file"],
            "problems": [],
            "role": "trading",
            "orders_working": 2,
        }

    def unkill(self, reason, state, actor):
        self._asked("unkill")
        self.calls.append(("unkill", reason, state, actor))
        return {
            "control": {"state": state},
            "written": ["file"],
            "problems": [],
            "role": "trading",
            "orders_working": 2,
        }

    def reconcile(self, accept, reason, actor):
        self._asked("reconcile")
        self.calls.append(("reconcile", accept, reason, actor))
        return {"differences": {}}

    def metrics(self):
        return self.counted

    def hang(self):
        self.entered.set()
        self.release.wait(PATIENCE)
        return []


def ask(url, method, path, body=None, token=None, **headers):
    """One request; the answer as `status`, `headers`, `text`, and `json` where it is that."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return SimpleNamespace(
            status=response.status, headers=response.headers, text=text, json=json.loads(text) if is_json else None
        )
    finally:
        connection.close()


@pytest.fixture
def kernel():
    """`FakeKernel`; whatever hangs in it is let go at the end."""
    fake = FakeKernel()
    yield fake
    fake.release.set()


@pytest.fixture
def serve(kernel, tmp_path):
    """Starts a server with the given settings and returns it; all are stopped at the end."""
    started = []

    def start(**settings):
        server = AdminServer(**({"port": 0, "state_dir": tmp_path} | settings))
        started.append(server)
        server.start(kernel)
        return server

    yield start
    for server in started:
        server.stop()


class Stand:
    """Stands before the servers of a session, each test's kernel behind it: a start and a stop a test would take long."""

    kernel = None

    def __getattr__(self, name):
        return getattr(self.kernel, name)


@pytest.fixture(scope="session")
def _servers(tmp_path_factory):
    stand, servers = Stand(), {}

    def url(kernel, settings):
        stand.kernel = kernel
        key = repr(settings)
        if key not in servers:
            servers[key] = AdminServer(port=0, state_dir=tmp_path_factory.mktemp("state"), **settings)
            servers[key].start(stand)
        return servers[key].url

    yield url
    for server in servers.values():
        server.stop()


@pytest.fixture
def api(_servers, kernel):
    """The url of a server with the given settings in front of `kernel`, shared with other tests."""
    return lambda **settings: _servers(kernel, settings)


@pytest.fixture
def tokens():
    """A token of each role, by the name of the role; `known` are the same, as the server takes them."""
    text = ",".join(f"{role}-ann:{role}:{token}" for role, token in TOKENS.items())
    return SimpleNamespace(**TOKENS, known=parse_tokens(SecretStr(text)))


@pytest.fixture
def ask_api():
    """`ask`."""
    return ask


@pytest.fixture
def catalog_text():
    """The catalog that trades in `FakeKernel`, as YAML."""
    return CATALOG
