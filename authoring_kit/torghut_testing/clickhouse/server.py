"""The engine on loopback: ClickHouse's HTTP interface, and the routes of a script."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pyarrow as pa

from torghut_testing.clickhouse.engine import Engine, EngineError
from torghut_testing.clickhouse.faults import Fault
from torghut_testing.clickhouse.request import Request
from torghut_testing.loopback import faults
from torghut_testing.loopback.faults import Faults
from torghut_testing.loopback.http import JSON, Exchange, Http, Reply
from torghut_testing.loopback.server import Loopback

CONTROL = "/_fake/"
KEPT_REQUESTS = 1000
_SHOWN = 500


class ClickHouseServer(Loopback):
    """Serves an engine from `start` to `stop`.

    Parameters
    ----------
    engine : executes the statements, each in a thread of its own; `stop` does not close it.
    port : 0 takes a free one.
    user, password : what a client has to show; any user will do where `user` is empty.
    """

    def __init__(self, engine: Engine, port: int = 0, user: str = "", password: str = "") -> None:
        super().__init__(port, "fake-clickhouse")
        self.engine = engine
        self.faults: Faults[Fault] = Faults()
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._user, self._password = user, password

    def talk(self, head: bytes, transport: asyncio.Transport) -> asyncio.Protocol:
        """See `Loopback`."""
        del head
        return Http(self, transport)

    def _admits(self, authorization: str) -> bool:
        """Whether user and password are those that are served; a client that sends none is let in."""
        if not authorization:
            return True
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return password == self._password and user == (self._user or user)

    def register(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Exchange:
        """Note a statement and draw its fault; other requests have neither."""
        path, query = urlsplit(target)[2:4]
        body = _decompressed(body, headers.get("content-encoding", "identity"))
        if path.startswith(CONTROL):
            return _at_once(self._obey(method, path.removeprefix(CONTROL), body))
        if path in ("/ping", "/replicas_status"):
            return _at_once(_answer(b"Ok.\n"))
        if not self._admits(headers.get("authorization", "")):
            refusal = "Authentication failed: password is incorrect, or there is no user with such name."
            return _at_once(self._error(516, refusal, 403))
        options = dict(parse_qsl(query, keep_blank_values=True))
        statement, data = (options["query"].encode(), body) if options.get("query") else (body, b"")
        request = Request(statement=_text_of(statement, data), options=options, at=time.time_ns())
        fault = self.faults.draw(lambda fault: fault.matches(request.statement))
        request.fault = None if fault is None else fault.kind
        self.requests.append(request)
        return Exchange(request, fault, lambda reply: self._start(request, statement, data, reply))

    def refuse(self, fault: faults.Fault) -> Reply:
        """The answer that a fault is."""
        assert isinstance(fault, Fault)
        return self._error(fault.code, fault.message)

    def _obey(self, method: str, name: str, body: bytes) -> Reply:
        """Do what a script asks for; 422 says what is wrong with it."""
        status = 200
        value: Any = {}
        try:
            match method, name:
                case "POST", "faults":
                    self.faults.add(msgspec.json.decode(body, type=Fault))
                case "DELETE", "faults":
                    self.faults.clear()
                    self._release()
                case "POST", "disks":
                    self.engine.disks = msgspec.json.decode(body, type=dict[str, tuple[int, int]])
                case "POST", "stop_listening":
                    self.stop_listening()
                case "POST", "listen_again":
                    self.listen_again()
                case "GET", "requests":
                    value = list(self.requests)
                case _:
                    status, value = 404, {"message": f"no route of a script: {method} {CONTROL}{name}"}
        except (msgspec.DecodeError, OSError, ValueError) as error:
            status, value = 422, {"message": f"{name}: {error}"}
        return Reply(status, [JSON], msgspec.json.encode(value))

    def _release(self) -> None:
        """Close the connections whose answer was held back by a ``timeout``."""
        for connection in list(self.connections):
            if isinstance(connection.talk, Http) and connection.talk.is_stalled:
                connection.transport.close()

    def _start(self, request: Request, statement: bytes, data: bytes, reply: Callable[[Reply], None]) -> None:
        """Execute a statement beside the server's loop, which other connections need meanwhile."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            answer = self._execute(request, statement, data)
            with contextlib.suppress(RuntimeError):  # the server was stopped meanwhile
                loop.call_soon_threadsafe(reply, answer)

        threading.Thread(target=work, name="fake-clickhouse-statement", daemon=True).start()

    def _execute(self, request: Request, statement: bytes, data: bytes) -> Reply:
        try:
            form, answer = self.engine.run(statement, data, request.options)
        except EngineError as error:
            return self._error(error.code, str(error))
        except Exception as error:  # whatever it is, the client waits for an answer
            return self._error(1002, repr(error))
        request.done = True
        headers = {"X-ClickHouse-Timezone": self.engine.zone, "X-ClickHouse-Summary": "{}"}
        if form:
            headers["X-ClickHouse-Format"] = form
        return _answer(answer, headers)

    def _error(self, code: int, message: str, status: int = 500) -> Reply:
        text = message if message.startswith("Code: ") else f"Code: {code}. DB::Exception: {message}"
        if "(version " not in text:
            text += f" (version {self.engine.version} (official build))"
        return _answer(text.encode() + b"\n", {"X-ClickHouse-Exception-Code": str(code)}, status)


def _answer(body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Reply:
    return Reply(status, [*(headers or {}).items(), ("X-ClickHouse-Server-Display-Name", "fake")], body)


def _at_once(reply: Reply) -> Exchange:
    """A request that is no statement: not noted, and never faulty."""
    return Exchange(Request(statement="", options={}, at=0), None, lambda send: send(reply))


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding == "identity" or not body:
        return body
    with pa.input_stream(pa.py_buffer(body), compression=encoding) as stream:
        plain: bytes = stream.read()
    return plain


def _text_of(statement: bytes, data: bytes) -> str:
    """A statement as it is noted: its start, of an insert that has its rows with it the first line."""
    end = statement.find(b"\n", 0, _SHOWN)
    if end >= 0 and not data and re.match(rb"\s*INSERT", statement):
        statement = statement[:end]
    return statement[:_SHOWN].decode(errors="replace")
