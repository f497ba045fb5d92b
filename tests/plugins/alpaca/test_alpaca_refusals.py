"""What each answer that is no order means."""

import json
from pathlib import Path

import pytest
from requests.structures import CaseInsensitiveDict
from torghut_brokers.alpaca.refusals import CODES, error_of

from torghut_core import DuplicateOrder, OrderRefused, Throttled, Unanswered

SHARED = Path(__file__).parents[4] / "shared" / "data" / "alpaca" / "rest_trading.json"
NOW = 1_679_411_600.0


def judged(status, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_of(status, CaseInsensitiveDict(headers), content, NOW)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_file(), reason="the recorded messages are not beside the project")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("error_insufficient_buying_power", "buying-power"),
        ("error_wash_trade", "wash-trade"),
        ("error_rejected_by_user_setting", "trading-blocked"),
        ("error_duplicate_client_order_id", "duplicate"),
        ("error_order_id_missing", "invalid-order"),
        ("error_orders_not_allowed", "invalid-order"),
        ("error_bad_body", "bad-request"),
        ("error_unauthorized", "unauthorized"),
        ("error_forbidden", "forbidden"),
        ("rate_limit_429", "throttled"),
    ],
)
def test_recorded_refusals(name, code):
    """Each recorded refusal has its code."""
    (item,) = [item for item in json.loads(SHARED.read_text()) if item["name"] == name]
    error = judged(item["http_status"], item["message"], **item.get("headers", {}))
    assert error.code == code


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (403, {"code": 40310000, "message": "insufficient buying power"}, OrderRefused, "buying-power"),
        (403, {"code": 40310000, "message": "Potential WASH TRADE detected"}, OrderRefused, "wash-trade"),
        (
            403,
            {"code": 40310000, "message": "insufficient qty available for order"},
            OrderRefused,
            "insufficient-quantity",
        ),
        (403, {"code": 40310000, "message": "insufficient balance for BTC"}, OrderRefused, "buying-power"),
        (403, {"code": 40310000, "message": "account is not allowed to short"}, OrderRefused, "shorts-forbidden"),
        (403, {"code": 40310000, "message": "a new reason"}, OrderRefused, "refused"),
        (403, {"message": "forbidden."}, OrderRefused, "forbidden"),
        (403, b"", OrderRefused, "forbidden"),
        (401, b"", OrderRefused, "unauthorized"),
        (404, {"code": 40410000, "message": "order not found"}, OrderRefused, "not-found"),
        (404, {"message": "no route"}, Unanswered, "unanswered"),
        (404, b"<html>", Unanswered, "unanswered"),
        (422, {"code": 40010001, "message": "client_order_id must be unique"}, DuplicateOrder, "duplicate"),
        (422, {"code": 40010001, "message": "client_order_id is too long"}, OrderRefused, "invalid-order"),
        (422, {"code": 42210000, "message": 'order is already in "filled" state'}, OrderRefused, "not-working"),
        (400, {"code": 40010000, "message": "request body format is invalid"}, OrderRefused, "bad-request"),
        (429, b"<html>", Throttled, "throttled"),
        (500, {"code": 50010000, "message": "internal"}, Unanswered, "unanswered"),
        (502, b"<html>", Unanswered, "unanswered"),
        (503, b"", Unanswered, "unanswered"),
        (301, b"", Unanswered, "unanswered"),
        (403, b"<html>", Unanswered, "unanswered"),
        (422, b"[1]", Unanswered, "unanswered"),
        (422, b"\xff\xfe", Unanswered, "unanswered"),
    ],
)
def test_answers(status, body, kind, code):
    """A refusal is one only where the venue itself says it; whatever else comes leaves open what happened."""
    error = judged(status, body)
    assert type(error) is kind
    assert error.code == code
    assert kind is not OrderRefused or code in CODES


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"X-Ratelimit-Reset": "1679411617"}, 17.0),
        ({"X-Ratelimit-Reset": "1679411000"}, 0.0),
        ({"Retry-After": "2", "X-Ratelimit-Reset": "1679411617"}, 2.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "X-Ratelimit-Reset": "1679411617"}, 17.0),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_wait_of_a_limit(headers, seconds):
    """How long to wait, as the headers say it."""
    assert judged(429, {"message": "too many requests"}, **headers).retry_after == seconds


def test_message_is_the_venues_and_short():
    """The operator reads what the venue said, on one line, with its status and code."""
    error = judged(403, {"code": 40310000, "message": "no\nway " + "x" * 1000})
    assert str(error).startswith("no way xxx")
    assert str(error).endswith("(HTTP 403, code 40310000)")
    assert len(str(error)) < 400
