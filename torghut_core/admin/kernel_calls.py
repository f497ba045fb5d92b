"""How the process of the API calls the kernel in another one: over sockets, with one call at a time on each.

A call is a line of JSON: the method's name, its arguments, those by name. The answer is a line: the result, or an error.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from queue import LifoQueue
from typing import Any

import msgspec

from torghut_core.admin.kernel import Kernel
from torghut_core.boundary import new_context
from torghut_core.errors import InputError, NotFoundError, StateError, TorghutError
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec

CALLS = frozenset(name for name in dir(Kernel) if not name.startswith("_"))
"""What may be called."""

_ERRORS = (NotFoundError, InputError, StateError, TorghutError)
"""What an answer tells apart; each comes before those that include it."""


class KernelDefect(Exception):
    """The kernel raised something else than a `TorghutError`; its log has the traceback."""


# In the kernel's process.


def answer_calls(kernel: Any, peer: socket.socket) -> None:
    """Call a kernel, an `admin.kernel.Kernel` or part of one, as its peer asks, until that is closed."""
    with suppress(OSError), peer, peer.makefile("rb") as calls:
        for call in calls:
            peer.sendall(new_context().run(_answer, kernel, call) + b"\n")


def _answer(kernel: Any, call: bytes) -> bytes:
    name, arguments, named = msgspec.json.decode(call)
    if name not in CALLS:
        return _encode({"error": NotFoundError.__name__, "message": f"the kernel has no {name}"})
    try:
        found = getattr(kernel, name)
        result = found(*arguments, **named) if callable(found) else found
        return _encode({"result": _plain(result) if name == "metrics" else result})
    except TorghutError as error:
        kind = next(kind for kind in _ERRORS if isinstance(error, kind))
        return _encode({"error": kind.__name__, "message": str(error)})
    except BaseException as error:  # whatever it is, it belongs to who waits for the answer
        logs.error("admin API failed", call=name, exc_info=error)
        return _encode({"error": KernelDefect.__name__, "message": ""})


def _encode(answer: dict[str, Any]) -> bytes:
    return msgspec.json.encode(answer, enc_hook=_as_json)


def _as_json(value: Any) -> Any:
    """What is no JSON by itself: a read-only mapping, or else its text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def _plain(numbers: Mapping[str, Metric]) -> dict[str, Any]:
    """Metrics as JSON, which has no number that is infinite or none, and no numpy's."""
    return {
        name: {label: _number(each) for label, each in value.items()} if isinstance(value, Mapping) else _number(value)
        for name, value in numbers.items()
    }


def _number(value: Any) -> Any:
    return value if type(value) is int else number if math.isfinite(number := float(value)) else str(number)


# In the API's process.


class RemoteKernel:
    """What an `admin.kernel.Kernel` is to the API, in another process; a call waits for a free socket, and for its answer.

    Parameters
    ----------
    sockets : to the process of the kernel.

    Raises
    ------
    StateError : of each call, once that process has ended.
    """

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self._free: LifoQueue[socket.socket] = LifoQueue()
        for peer in sockets:
            self._free.put(peer)

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)

    @property
    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """See `admin.kernel.Kernel`."""
        return tuple(MetricSpec(*spec) for spec in self._call("metric_specs"))

    def metrics(self) -> dict[str, Metric]:
        """See `admin.kernel.Kernel`."""
        return {
            name: {label: _read(each) for label, each in value.items()} if isinstance(value, dict) else _read(value)
            for name, value in self._call("metrics").items()
        }

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        call = msgspec.json.encode([name, arguments, named])
        peer, answer = self._free.get(), bytearray()
        try:
            peer.sendall(call + b"\n")
            while not answer.endswith(b"\n"):
                if not (some := peer.recv(1 << 18)):
                    raise ConnectionError
                answer += some
        except OSError:
            raise StateError("the process has ended (start it again)") from None
        finally:
            self._free.put(peer)
        return _result(msgspec.json.decode(answer))


def _result(answer: dict[str, Any]) -> Any:
    if "result" in answer:
        return answer["result"]
    kinds = {kind.__name__: kind for kind in (*_ERRORS, KernelDefect)}
    raise kinds[answer["error"]](answer["message"])


def _read(number: Any) -> float:
    return float(number) if isinstance(number, str) else number
