"""How a script controls a fake in another process: JSON over HTTP, under ``/_fake/``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from torghut_testing.alpaca.faults import Fault, StreamFaults
from torghut_testing.alpaca.rules import Refusal
from torghut_testing.alpaca.venue import FakeVenue
from torghut_testing.loopback.faults import Faults
from torghut_testing.loopback.request import Request

VENUE_VERBS = {
    "price": "set_price",
    "hold": "hold",
    "release": "release",
    "fill": "fill",
    "cancel": "cancel",
    "expire": "expire",
    "reject": "reject",
    "reject_cancel": "reject_cancel",
    "confirm_replace": "confirm_replace",
    "reject_replace": "reject_replace",
    "report": "report",
    "place": "place",
    "position": "set_position",
    "cash": "set_cash",
    "asset": "list_asset",
    "open_market": "open_market",
    "close_market": "close_market",
}
STREAM_VERBS = frozenset(
    {"clear", "cut", "delay", "drop", "duplicate", "garbage", "mute", "refuse_auth", "reorder", "send", "unmute"}
)
SETTINGS = frozenset(
    {
        *("skew_ns", "is_open", "blocks_wash_trades", "suspended_by_user"),
        *("slow_cancels", "slow_replaces", "stops_replace"),
    }
)


class Controlled(Protocol):
    """The server that a script controls."""

    venue: FakeVenue
    faults: Faults[Fault]
    stream: StreamFaults
    requests: list[Request]

    @property
    def listeners(self) -> int:
        """How many connections of the stream listen to updates."""

    def restart(self) -> None:
        """End all connections, and come back on the same port with the state that was saved."""

    def stop_listening(self) -> None:
        """Refuse new connections."""

    def listen_again(self) -> None:
        """Accept connections again."""

    def drop_connections(self) -> None:
        """End all connections."""


class Control:
    """The routes of a script: the body's keys are the arguments of the method that has the route's name."""

    def __init__(self, server: Controlled) -> None:
        self._server = server

    def answer(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON value for a request of a script; 422 says what is wrong with it."""
        try:
            arguments = msgspec.json.decode(body or b"{}", type=dict[str, Any])
            if method == "GET" and name == "state":
                return 200, self._state()
            if method == "DELETE" and name == "faults":
                self._server.faults.clear()
                self._server.stream.clear()
                return 200, {}
            call = self._call(name) if method == "POST" else None
            if call is None:
                return 404, {"message": f"no route of a script: {method} /_fake/{name}"}
            return 200, call(**arguments) or {}
        except Refusal as refusal:
            return refusal.status, refusal.body
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            return 422, {"message": f"{name}: {error}"}

    def _call(self, name: str) -> Callable[..., Any] | None:
        group, _, verb = name.partition("/")
        if group == "stream" and verb in STREAM_VERBS:
            return getattr(self._server.stream, verb)  # type: ignore[no-any-return]
        if verb:
            return None
        if name in VENUE_VERBS:
            return getattr(self._server.venue, VENUE_VERBS[name])  # type: ignore[no-any-return]
        own: dict[str, Callable[..., Any]] = {
            "faults": lambda **fields: self._server.faults.add(msgspec.convert(fields, Fault)),
            "set": self._set,
            "restart": self._server.restart,
            "stop_listening": self._server.stop_listening,
            "listen_again": self._server.listen_again,
            "drop_connections": self._server.drop_connections,
        }
        return own.get(name)

    def _set(self, **settings: Any) -> None:
        unknown = settings.keys() - SETTINGS
        if unknown:
            raise ValueError(f"no settings: {', '.join(sorted(unknown))} (there are {', '.join(sorted(SETTINGS))})")
        for name, value in settings.items():
            setattr(self._server.venue, name, value)

    def _state(self) -> dict[str, Any]:
        venue = self._server.venue
        return {
            "account": venue.account(),
            "positions": venue.positions(),
            "orders": venue.orders(),
            "activities": venue.activities(),
            "events": venue.events,
            "requests": list(self._server.requests),
            "listeners": self._server.listeners,
        }
