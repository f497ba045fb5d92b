"""The registry's client says what went wrong and what to do, and never hangs, follows or swallows."""

import base64
import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from support.waiting import PATIENCE
from torghut_core.bus.envelope import Envelope
from torghut_core.bus.registry import LARGEST_ANSWER, Registry, RegistryError
from torghut_core.bus.schema import CHANNELS, AvroCodec, check_schemas, register_schemas, schema_text
from torghut_core.errors import SettingsError


class Server(ThreadingHTTPServer):
    """A registry on loopback, with subjects in memory; `answer` overrides what it says to anything."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answer = None
        self.subjects = {}
        self.texts = []
        self.requests = []
        self.released = threading.Event()

    def say(self, method, parts, body):
        if parts[:2] == ["schemas", "ids"]:
            number = int(parts[2]) - 1
            return (200, {"schema": self.texts[number]}) if number < len(self.texts) else gone(40403)
        texts = self.subjects.setdefault(parts[1], [])
        if method == "GET":
            return (200, self.version(parts[1], texts[-1])) if texts else gone(40401)
        schema = json.loads(body)["schema"]
        if parts[2:] == ["versions"]:
            if schema not in self.texts:
                self.texts.append(schema)
            if schema not in texts:
                texts.append(schema)
            return 200, {"id": self.texts.index(schema) + 1}
        return (200, self.version(parts[1], schema)) if schema in texts else gone(40403)

    def version(self, subject, schema):
        number = self.subjects[subject].index(schema) + 1
        return {"subject": subject, "version": number, "id": self.texts.index(schema) + 1, "schema": schema}


def gone(code):
    """What a registry says of what it does not have."""
    return 404, {"error_code": code, "message": "not found."}


class Handler(BaseHTTPRequestHandler):
    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.answer == "nothing":
            self.server.released.wait(PATIENCE)
            return
        status, value = self.server.answer or self.server.say(self.command, self.path.strip("/").split("/"), body)
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = handle_any  # noqa: N815 - http.server's name
    do_POST = handle_any  # noqa: N815 - http.server's name

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def registry(server):
    registry = Registry(server.url, timeout_seconds=5)
    yield registry
    registry.close()


def test_schemas_are_registered_checked_and_used(server, registry):
    """Over HTTP, from an empty registry to a message and back."""
    assert registry.latest("torghut.trades.v1-value") is None
    ids = register_schemas(registry)
    assert len(set(ids.values())) == len(CHANNELS)
    assert check_schemas(registry) == []
    assert registry.latest("torghut.trades.v1-value").schema == schema_text("trades")

    codec = AvroCodec(registry)
    envelope = Envelope.decode(
        '{"ingest_ts": "2026-01-05T14:30:00Z", "event_ts": "2026-01-05T14:30:00Z", "feed": "iex", "channel": "status",'
        ' "symbol": "AAPL", "seq": 1, "is_final": true, "source": "ws", "payload": {"sc": "H"}}'
    )
    data = codec.encode(envelope)
    assert int.from_bytes(data[1:5], "big") == ids["torghut.status.v1-value"]
    assert AvroCodec(registry).decode(data) == envelope
    before = len(server.requests)
    assert AvroCodec(registry).decode(data) == envelope
    assert len(server.requests) == before  # `Registry` caches the schema of an id


def test_subject_may_have_any_name(server, registry):
    """A topic's name is quoted, so that it cannot lead elsewhere."""
    registry.register("a/b c-value", '"string"')
    assert server.requests[-1][1] == "/subjects/a%2Fb%20c-value/versions"


def test_user_and_password_are_sent_and_never_shown(server):
    """Basic authentication, and no message with the password in it."""
    registry = Registry(server.url, "jane", SecretStr("sesame-open"))
    registry.latest("x")
    assert server.requests[-1][2]["Authorization"] == "Basic " + base64.b64encode(b"jane:sesame-open").decode()
    server.answer = (401, {"error_code": 40101, "message": "Unauthorized"})
    with pytest.raises(RegistryError, match=r"answers 401: Unauthorized .*SCHEMA_REGISTRY_PASSWORD") as caught:
        registry.latest("x")
    assert "sesame" not in str(caught.value)
    registry.close()


@pytest.mark.parametrize(
    ("answer", "error_class", "is_passing"),
    [
        ((401, {}), "auth", False),
        ((403, {}), "auth", False),
        ((404, b"<html>"), "nonsense", False),
        ((409, {"error_code": 409, "message": "incompatible"}), "incompatible", False),
        ((422, {"error_code": 42201, "message": "Invalid schema"}), "invalid-schema", False),
        ((429, {}), "server", True),
        ((500, {"error_code": 50001, "message": "store"}), "server", True),
        ((503, b""), "server", True),
        ((302, b""), "nonsense", False),
        ((200, b"<html>"), "nonsense", False),
        ((200, b"[]"), "nonsense", False),
        ((200, b"\xff"), "nonsense", False),
        ((200, 20_000 * b"["), "nonsense", False),
        ((500, 20_000 * b"["), "server", True),
        ((200, b'{"id": 1}' + b" " * LARGEST_ANSWER), "nonsense", False),
    ],
)
def test_every_refusal_has_its_class_and_a_hint(server, registry, answer, error_class, is_passing):
    """The error says whether a retry can help, and what to fix."""
    server.answer = answer
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1.* \(|bytes") as caught:
        registry.register("x", '"string"')
    assert (caught.value.error_class, caught.value.is_passing) == (error_class, is_passing)


def test_unknown_id_is_an_error(registry):
    """The error for an unknown schema id asks whether the message was written for another registry."""
    with pytest.raises(
        RegistryError, match=r"knows no schema 99 \(was the message written for another registry"
    ) as caught:
        registry.schema(99)
    assert caught.value.error_class == "not-found"


def test_schema_of_another_kind_is_an_error(server, registry):
    """A registry also holds Protobuf and JSON Schema; the error names the kind."""
    server.answer = (200, {"schema": "{}", "schemaType": "JSON"})
    with pytest.raises(RegistryError, match="schema 1 is JSON, not Avro"):
        registry.schema(1)


def test_mute_registry_is_a_timeout(server):
    """A registry that accepts the request and never answers is an error after `timeout_seconds`."""
    registry = Registry(server.url, timeout_seconds=0.2)
    server.answer = "nothing"
    with pytest.raises(RegistryError, match="does not answer in time") as caught:
        registry.latest("x")
    assert (caught.value.error_class, caught.value.is_passing) == ("timeout", True)
    server.released.set()
    registry.close()


def test_registry_that_is_not_there_is_unreachable():
    """Where nothing listens, the error names the setting to check."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        registry = Registry(f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(RegistryError, match=r"cannot be reached.*SCHEMA_REGISTRY_URL") as caught:
            registry.latest("x")
    assert caught.value.error_class == "unreachable"
    registry.close()


@pytest.mark.parametrize("url", ["", "registry:8081", "ftp://registry", "http://", "http://jane:sesame@registry", " "])
def test_url_that_is_none_is_refused(url):
    """A malformed URL is an error before anything is sent, and a password in it is not repeated."""
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_URL") as caught:
        Registry(url)
    assert "sesame" not in str(caught.value)


def test_environment_says_where_it_is(monkeypatch, tmp_path, server):
    """URL, user, and the password from a file; an argument comes before the setting, and without either there is none."""
    assert Registry.from_environment() is None
    (tmp_path / "password").write_text("sesame-open\n")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCHEMA_REGISTRY_USER", "jane")
    monkeypatch.setenv("SCHEMA_REGISTRY_PASSWORD_FILE", str(tmp_path / "password"))
    registry = Registry.from_environment(server.url)
    registry.latest("x")
    assert server.requests[-1][2]["Authorization"] == "Basic " + base64.b64encode(b"jane:sesame-open").decode()
    registry.close()
    configured = Registry.from_environment()
    assert configured.url == "http://127.0.0.1:1"
    configured.close()
