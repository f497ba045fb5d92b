"""Ready is when every gate is open; not alive is when that takes too long."""

import urllib.error
import urllib.request

import msgspec
import pytest

from support.waiting import PATIENCE
from torghut_core.admin.api_process import Routes
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.server import AdminServer
from torghut_core.ports import Closed

AWAY = Closed("no broker answers (start it)", "connection")


class Part:
    def __init__(self, **gates):
        self.gates = gates

    def __call__(self):
        return self.gates


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


def test_all_gates_have_to_be_open():
    """One closed gate makes the process not ready, and the reason names the gate."""
    part = Part(auth=None, bus=AWAY)
    readiness = Readiness(part, Part(store=None))
    assert readiness.reasons() == ["bus: no broker answers (start it)"]
    assert list(readiness.poll()) == ["auth", "bus", "store"]
    part.gates["bus"] = None
    assert readiness.reasons() == []


def test_of_two_gates_with_one_name_the_closed_one_counts():
    """An open gate of the sink does not hide a closed one of the source, whichever is read first."""
    assert Readiness(Part(bus=AWAY), Part(bus=None)).reasons()
    assert Readiness(Part(bus=None), Part(bus=AWAY)).reasons()


def test_not_ready_is_not_dead_until_it_takes_too_long():
    """Liveness fails after `kill_after_s` of not being ready; being ready in between restarts the time."""
    part, clock = Part(bus=AWAY), Clock()
    readiness = Readiness(part, kill_after_s=60, clock=clock)
    assert readiness.health() == []
    clock.now = 59
    assert readiness.health() == []
    part.gates["bus"] = None
    assert readiness.health() == []
    part.gates["bus"] = AWAY
    assert readiness.health() == []
    clock.now = 119
    [reason] = readiness.health()
    assert "HEALTH_NOT_READY_KILL_AFTER_MS" in reason
    assert AWAY.reason in reason


def test_another_reason_does_not_start_the_time_anew():
    """A process that is never ready is ended, though what closes its gates changes."""
    part, clock = Part(bus=AWAY), Clock()
    readiness = Readiness(part, kill_after_s=60, clock=clock)
    readiness.poll()
    clock.now = 40
    part.gates = {"auth": AWAY}
    readiness.poll()
    clock.now = 60
    assert readiness.health()


def test_old_data_is_no_reason_to_end():
    """A closed market makes a process not ready, and never not alive; what else is wrong counts from its own beginning."""
    part, clock = Part(freshness=AWAY), Clock()
    readiness = Readiness(part, kill_after_s=60, clock=clock)
    assert readiness.reasons()
    clock.now = 1e6
    assert readiness.health() == []
    part.gates["bus"] = AWAY
    assert readiness.health() == []
    clock.now += 60
    assert readiness.health()


def test_without_a_time_it_never_dies():
    """0 turns it off."""
    clock = Clock()
    readiness = Readiness(Part(bus=AWAY), clock=clock)
    readiness.poll()
    clock.now = 1e9
    assert readiness.health() == []


def test_history_tells_when_which_gates_were_closed():
    """Each change is remembered once."""
    part, clock = Part(bus=AWAY), Clock()
    readiness = Readiness(part, clock=clock)
    readiness.poll()
    readiness.poll()
    clock.now = 3
    part.gates["bus"] = None
    readiness.poll()
    assert list(readiness.history) == [(0, ("bus",)), (3, ())]


def test_metrics_are_those_of_the_observability_page():
    """Gates by name, the class of what closes one, and whether all are open."""
    metrics = Readiness(Part(auth=None, bus=AWAY)).metrics()
    assert metrics == {
        "ws_readyz_status": 0.0,
        "ws_readyz_gate_status": {"auth": 1.0, "bus": 0.0},
        "ws_readyz_error_class": {"connection": 1.0},
    }


class Forwarder:
    metric_specs = Readiness.metric_specs

    def __init__(self):
        self.readiness_of = Readiness(Part(auth=None, bus=AWAY))

    def health(self):
        return []

    def readiness(self):
        return self.readiness_of.reasons()

    def gates(self):
        return {name: gate.reason if gate else "" for name, gate in self.readiness_of.poll().items()}

    def error_class(self):
        return self.readiness_of.error_class()

    def metrics(self):
        return self.readiness_of.metrics() | {"ws_reconnects_total": 3}


@pytest.fixture
def url(tmp_path):
    server = AdminServer(state_dir=tmp_path, port=0)
    server.start(Forwarder(), Routes.PROBES)
    yield server.url
    server.stop()


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_probes_are_served_without_a_kernel(url):
    """A process that only forwards answers the same three routes, and no others."""
    status, body = ask(f"{url}/readyz")
    assert status == 503
    assert msgspec.json.decode(body) == {
        "ok": False,
        "status": "not_ready",
        "ready": False,
        "error_class": "kafka_produce",
        "reasons": ["bus: no broker answers (start it)"],
        "gates": {
            "auth": "",
            "bus": "no broker answers (start it)",
            "alpaca_ws": True,
            "kafka": False,
            "trade_updates": True,
        },
    }
    assert ask(f"{url}/healthz") == (200, b'{"ok":true,"reasons":[]}')
    assert ask(f"{url}/catalog")[0] == 404
    text = ask(f"{url}/metrics")[1].decode()
    assert 'torghut_ws_readyz_gate_status{gate="bus"} 0.0' in text
    assert 'torghut_ws_readyz_error_class{error_class="connection"} 1.0' in text
    assert "torghut_ws_reconnects_total 3.0" in text


def test_each_class_of_trouble_is_logged_once(monkeypatch):
    """The log tells why a gate stays closed when the reason becomes another one, and is not filled by two that take turns."""
    told = []
    monkeypatch.setattr(
        "torghut_core.admin.readiness.logs.warning", lambda event, **fields: told.append((event, fields))
    )
    starting = Closed("not connected yet", "connecting")
    part = Part(bus=starting)
    readiness = Readiness(part)
    for gate in (starting, AWAY, starting, AWAY, None, AWAY):
        part.gates["bus"] = gate
        readiness.poll()
        readiness.poll()
    assert told == [
        ("not ready", {"bus": starting.reason}),
        ("not ready", {"bus": AWAY.reason}),
        ("ready again", {}),
        ("not ready", {"bus": AWAY.reason}),
    ]
    assert [names for _, names in readiness.history] == [("bus",), (), ("bus",)]


@pytest.mark.parametrize(
    ("name", "error_class", "shown"),
    [
        ("auth", "connection-limit", "alpaca_406_second_connection"),
        ("auth", "auth", "alpaca_auth"),
        ("bus", "auth", "kafka_auth"),
        ("bus", "unreachable", "kafka_metadata"),
        ("bus", "unknown-topic-or-part", "kafka_metadata"),
        ("bus", "msg-size-too-large", "kafka_produce"),
        ("bus", "misdated", "unknown"),
        ("store", "auth", "unknown"),
        ("freshness", "stale", "unknown"),
    ],
)
def test_class_of_a_check_that_fails_is_one_of_the_runbooks(name, error_class, shown):
    """Alerts and runbooks know six classes; what is known comes before ``unknown``, and nothing where all is well."""
    parts = [Part(aaa=Closed("old", "stale"), **{name: Closed("why", error_class)})]
    assert Readiness(*parts).error_class() == shown
    assert Readiness(Part(**{name: None})).error_class() == ""
