"""The REST API: a request in, the venue's answer out."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from torghut_testing.alpaca import rules
from torghut_testing.alpaca.rules import Refusal
from torghut_testing.alpaca.venue import FakeVenue
from torghut_testing.alpaca.wire import read_timestamp

_READ = msgspec.json.Decoder(float_hook=Decimal)
MOST_ORDERS = 500
MOST_ACTIVITIES = 100


class Call(NamedTuple):
    """A parsed request: the part of the path that its route captures, the query, the body."""

    key: str
    query: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body's object.

        Raises
        ------
        Refusal : 400, not a JSON object.
        """
        try:
            value = _READ.decode(self.body)
        except msgspec.DecodeError:
            value = None
        if not isinstance(value, dict):
            raise Refusal(400, 40010000, "request body format is invalid")
        return value

    def time(self, name: str) -> int | None:
        """A time of the query, nanoseconds since the epoch.

        Raises
        ------
        Refusal : 422, not a time.
        """
        given = self.query.get(name)
        try:
            return read_timestamp(given) if given else None
        except ValueError:
            raise rules.malformed(f"invalid {name}") from None

    def flag(self, name: str) -> bool:
        """Whether the query has a name as true."""
        return self.query.get(name, "").lower() == "true"

    def rows(self, name: str, default: int, most: int) -> int:
        """A row count of the query.

        Raises
        ------
        Refusal : 422, not a number, or out of bounds.
        """
        given = self.query.get(name, str(default))
        if not given.isdecimal() or not 0 < int(given) <= most:
            raise rules.unprocessable(f"{name} must be between 1 and {most}")
        return int(given)


Answer = tuple[int, Any]
Handler = Callable[[Call], Answer]


class Routes:
    """The API's routes in front of a venue."""

    def __init__(self, venue: FakeVenue) -> None:
        self.venue = venue
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        for method, path, handler in (
            ("POST", "/v2/orders", self._submit),
            ("GET", "/v2/orders", self._orders),
            ("DELETE", "/v2/orders", self._cancel_all),
            ("GET", "/v2/orders:by_client_order_id", self._by_client_order_id),
            ("GET", "/v2/orders/(.+)", self._order),
            ("PATCH", "/v2/orders/(.+)", self._replace),
            ("DELETE", "/v2/orders/(.+)", self._cancel),
            ("GET", "/v2/positions", self._positions),
            ("DELETE", "/v2/positions", self._close_all),
            ("GET", "/v2/positions/(.+)", self._position),
            ("DELETE", "/v2/positions/(.+)", self._close),
            ("GET", "/v2/account", self._account),
            ("GET", "/v2/account/activities(?:/FILL)?", self._activities),
            ("GET", "/v2/clock", self._clock),
            ("GET", "/v2/calendar", self._calendar),
            ("GET", "/v2/assets", self._assets),
            ("GET", "/v2/assets/(.+)", self._asset),
        ):
            self._routes.append((method, re.compile(path), handler))

    def answer(self, method: str, path: str, query: str, body: bytes) -> Answer:
        """Status and JSON value (None: no body) for a request."""
        decoded = unquote(path)
        is_known = False
        for candidate, pattern, handler in self._routes:
            found = pattern.fullmatch(decoded)
            if found is None:
                continue
            if candidate == method:
                try:
                    return handler(Call(found[1] if found.lastindex else "", dict(parse_qsl(query)), body))
                except Refusal as refusal:
                    return refusal.status, refusal.body
            is_known = True
        return (405, {"message": "method not allowed."}) if is_known else (404, {"message": "endpoint not found."})

    def _submit(self, call: Call) -> Answer:
        return 200, self.venue.submit(call.json())

    def _orders(self, call: Call) -> Answer:
        status = call.query.get("status", "open")
        direction = call.query.get("direction", "desc")
        if status not in ("open", "closed", "all"):
            raise rules.malformed("invalid status")
        if direction not in ("asc", "desc"):
            raise rules.malformed("invalid direction")
        return 200, self.venue.orders(
            status,
            limit=call.rows("limit", 50, MOST_ORDERS),
            after=call.time("after"),
            until=call.time("until"),
            ascending=direction == "asc",
            symbols=set(filter(None, call.query.get("symbols", "").split(","))),
            side=call.query.get("side"),
            nested=call.flag("nested"),
        )

    def _cancel_all(self, _: Call) -> Answer:
        answers = []
        for order in self.venue.orders("open"):
            try:
                self.venue.request_cancel(order["id"])
                answers.append({"id": order["id"], "status": 200})
            except Refusal as refusal:
                answers.append({"id": order["id"], "status": refusal.status, "body": refusal.body})
        return 207, answers

    def _by_client_order_id(self, call: Call) -> Answer:
        wanted = call.query.get("client_order_id", "")
        if not wanted:
            raise rules.malformed("client_order_id is required")
        return 200, self._found(wanted, "client_order_id")

    def _order(self, call: Call) -> Answer:
        return 200, self._found(call.key, "id", nested=call.flag("nested"))

    def _found(self, key: str, name: str, *, nested: bool = False) -> Any:
        try:
            order = self.venue.order(key, nested=nested)
        except LookupError:
            order = {}
        if order.get(name) != key:
            raise rules.not_found(f"order not found for {key}")
        return order

    def _replace(self, call: Call) -> Answer:
        return 200, self.venue.replace(call.key, call.json())

    def _cancel(self, call: Call) -> Answer:
        self.venue.request_cancel(call.key)
        return 204, None

    def _positions(self, _: Call) -> Answer:
        return 200, self.venue.positions()

    def _position(self, call: Call) -> Answer:
        return 200, self.venue.position(call.key)

    def _close(self, call: Call) -> Answer:
        qty = rules.decimal(call.query.get("qty"), "qty")
        percentage = rules.decimal(call.query.get("percentage"), "percentage")
        return 200, self.venue.close_position(call.key, qty, percentage)

    def _close_all(self, call: Call) -> Answer:
        if call.flag("cancel_orders"):
            self._cancel_all(call)
        answers = []
        for position in self.venue.positions():
            symbol = position["symbol"]
            try:
                answers.append({"symbol": symbol, "status": 200, "body": self.venue.close_position(symbol)})
            except Refusal as refusal:
                answers.append({"symbol": symbol, "status": refusal.status, "body": refusal.body})
        return 207, answers

    def _account(self, _: Call) -> Answer:
        return 200, self.venue.account()

    def _activities(self, call: Call) -> Answer:
        if "FILL" not in call.query.get("activity_types", "FILL").split(","):
            return 200, []
        size = call.rows("page_size", MOST_ACTIVITIES, MOST_ACTIVITIES)
        rows = self.venue.activities(call.time("after"), call.time("until"))
        if day := call.query.get("date"):
            rows = [row for row in rows if row["transaction_time"].startswith(day)]
        if call.query.get("direction", "desc") == "desc":
            rows.reverse()
        token = call.query.get("page_token")
        if token is not None:  # the page after the row with this id
            place = next((i for i, row in enumerate(rows) if row["id"] == token), len(rows))
            rows = rows[place + 1 :]
        return 200, rows[:size]

    def _clock(self, _: Call) -> Answer:
        return 200, self.venue.clock()

    def _calendar(self, call: Call) -> Answer:
        today = date.fromisoformat(self.venue.clock()["timestamp"][:10])
        try:
            start = date.fromisoformat(call.query.get("start", today.isoformat())[:10])
            end = date.fromisoformat(call.query.get("end", start.isoformat())[:10])
        except ValueError:
            raise rules.malformed("invalid date") from None
        return 200, self.venue.sessions.calendar(start, end)

    def _assets(self, call: Call) -> Answer:
        return 200, self.venue.assets(call.query.get("asset_class"))

    def _asset(self, call: Call) -> Answer:
        return 200, self.venue.asset(call.key)
