"""The engine on loopback: ClickHouse's HTTP interface, and the routes of a script."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pyarrow as pa

from torghut_testing.clickhouse.engine import Engine, EngineError
from torghut_testing.clickhouse.faults import Fault, Faults

HOST = "127.0.0.1"
CONTROL = "/_fake/"
KEPT_REQUESTS = 1000
_SHOWN = 500


class ClickHouseServer:
    """Serves an engine from `start` to `stop`.

    Parameters
    ----------
    engine : what answers; `stop` does not close it.
    port : 0 takes a free one.
    user, password : what a client has to show.
    """

    def __init__(self, engine: Engine, port: int = 0, user: str = "default", password: str = "") -> None:
        self.engine = engine
        self.port = port
        self.faults = Faults()
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
        self.released = threading.Event()
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._holder: socket.socket | None = None
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the HTTP interface is."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Serve; `url` is known from here on.

        Raises
        ------
        OSError : the port is taken.
        """
        self._holder = socket.socket()  # bound and never listening: the port stays ours while nobody listens
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((HOST, self.port))
        self.port = self._holder.getsockname()[1]
        self.listen_again()

    def stop(self) -> None:
        """Take no more connections, and let go of the port; stopping twice is harmless."""
        self.stop_listening()
        self.release()
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def stop_listening(self) -> None:
        """Refuse new connections; those that are there go on."""
        listener, self._listener = self._listener, None
        if listener is not None and self._thread is not None:
            listener.shutdown()
            listener.server_close()
            self._thread.join()

    def listen_again(self) -> None:
        """Take connections again, on the same port."""
        if self._listener is None:
            self._listener = _Listener(self)
            self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
            self._thread.start()

    def release(self) -> None:
        """End the connections that a time-out keeps waiting."""
        self.released.set()
        self.released = threading.Event()

    def control(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON value for a request of a script; 422 says what is wrong with it."""
        try:
            match method, name:
                case "POST", "faults":
                    self.faults.add(msgspec.json.decode(body, type=Fault))
                case "DELETE", "faults":
                    self.faults.clear()
                    self.release()
                case "POST", "disks":
                    self.engine.disks = msgspec.json.decode(body, type=dict[str, tuple[int, int]])
                case "POST", "stop_listening":
                    self.stop_listening()
                case "POST", "listen_again":
                    self.listen_again()
                case "GET", "requests":
                    return 200, list(self.requests)
                case _:
                    return 404, {"message": f"no route of a script: {method} {CONTROL}{name}"}
        except (msgspec.DecodeError, OSError, ValueError) as error:
            return 422, {"message": f"{name}: {error}"}
        return 200, {}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: ClickHouseServer) -> None:
        self.owner = owner
        super().__init__((HOST, owner.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        body = self._body()
        owner = self.server.owner
        path, query = urlsplit(self.path)[2:4]
        if path.startswith(CONTROL):
            status, value = owner.control(self.command, path.removeprefix(CONTROL), body)
            self._reply(status, msgspec.json.encode(value), {"Content-Type": "application/json"})
        elif path in ("/ping", "/replicas_status"):
            self._reply(200, b"Ok.\n")
        elif self.headers.get("Authorization", owner.authorization) != owner.authorization:
            self._fail(516, "Authentication failed: password is incorrect, or there is no user with such name.", 403)
        else:
            self._statement(dict(parse_qsl(query, keep_blank_values=True)), body)

    def _body(self) -> bytes:
        body, encoding = self._raw_body(), self.headers.get("Content-Encoding", "identity")
        if encoding == "identity" or not body:
            return body
        with pa.input_stream(pa.py_buffer(body), compression=encoding) as stream:
            plain: bytes = stream.read()
        return plain

    def _raw_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _statement(self, options: dict[str, str], body: bytes) -> None:
        owner = self.server.owner
        statement, data = (options["query"].encode(), body) if options.get("query") else (body, b"")
        shown = statement[: statement.find(b"\n")] if b"\n" in statement[:_SHOWN] and not data else statement
        text = (shown if re.match(rb"\s*INSERT", statement) else statement)[:_SHOWN].decode(errors="replace")
        fault = owner.faults.draw(text)
        request: dict[str, Any] = {"statement": text, "options": options, "at": time.time_ns(), "done": False}
        request["fault"] = None if fault is None else fault.kind
        owner.requests.append(request)
        if fault is not None and not fault.after and self._suffer(fault):
            return
        try:
            form, answer = owner.engine.run(statement, data, options)
        except EngineError as error:
            self._fail(error.code, str(error))
            return
        request["done"] = True
        if fault is not None and fault.after and self._suffer(fault):
            return
        headers = {"X-ClickHouse-Timezone": owner.engine.zone, "X-ClickHouse-Summary": "{}"}
        if form:
            headers["X-ClickHouse-Format"] = form
        self._reply(200, answer, headers)

    def _suffer(self, fault: Fault) -> bool:
        """Have the fault happen; tell whether the statement has its answer with that, or has lost it."""
        if fault.kind == "delay":
            time.sleep(fault.seconds)
            return False
        if fault.kind == "error":
            self._fail(fault.code, fault.message)
            return True
        if fault.kind == "timeout":
            self.server.owner.released.wait()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def _fail(self, code: int, message: str, status: int = 500) -> None:
        text = message if message.startswith("Code: ") else f"Code: {code}. DB::Exception: {message}"
        if "(version " not in text:
            text += f" (version {self.server.owner.engine.version} (official build))"
        self._reply(status, text.encode() + b"\n", {"X-ClickHouse-Exception-Code": str(code)})

    def _reply(self, status: int, answer: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("X-ClickHouse-Server-Display-Name", "fake")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
