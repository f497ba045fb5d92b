"""Each fault of a request does what it says, and leaves the venue as it says."""

import http.client
import json
import threading
import time

import pytest
from torghut_testing.alpaca import FakeAlpaca, Fault

POST = {"method": "POST", "path": "/v2/orders"}


def taken(fake):
    return len(fake.venue.orders())


def test_reject(fake, api):
    """Any status with any JSON, and the order is not taken."""
    fake.faults.add(Fault.reject(418, {"code": 1, "message": "no"}, **POST))
    assert api.post() == (418, {"code": 1, "message": "no"})
    assert taken(fake) == 0
    assert api.post()[0] == 200


@pytest.mark.parametrize(("retry_after", "header"), [(None, None), (3, "3"), (0.5, "0.5")])
def test_throttle(fake, api, retry_after, header):
    """429, with or without a word on when to come back."""
    fake.faults.add(Fault.throttle(retry_after, **POST))
    assert api.post()[0] == 429
    assert api.answer.headers["Retry-After"] == header
    assert api.answer.headers["X-Ratelimit-Limit"] == "200"
    assert taken(fake) == 0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("after", [False, True])
def test_server_error(fake, api, status, after):
    """A server's error before or after the order was taken: only the venue knows."""
    fake.faults.add(Fault.server_error(status, after=after, **POST))
    assert api.post()[0] == status
    assert taken(fake) == after


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("after", [False, True])
def test_html(fake, api, status, after):
    """A page instead of JSON, even with a good status."""
    fake.faults.add(Fault.html(status, after=after, **POST))
    assert api.raw("POST", "/v2/orders", {}).startswith(b"<html>")
    assert (api.answer.status, api.answer.headers["Content-Type"]) == (status, "text/html")


@pytest.mark.parametrize("after", [False, True])
def test_timeout(fake, client_of, after):
    """No answer ever, and the connection stays open; the order is there only where it was taken."""
    fake.faults.add(Fault.timeout(after=after, **POST))
    api = client_of(fake, timeout=0.1)
    with pytest.raises(TimeoutError):
        api.post()
    fake.wait_until(lambda: fake.requests and fake.requests[0].is_taken == after)
    assert taken(fake) == after
    assert (fake.requests[0].status, fake.requests[0].fault, fake.requests[0].is_taken) == (None, "timeout", after)


@pytest.mark.parametrize("after", [False, True])
def test_cut(fake, api, after):
    """The connection ends without an answer; the order is there only where it was taken."""
    fake.faults.add(Fault.cut(after=after, **POST))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api.post()
    assert taken(fake) == after


def test_cut_mid_body(fake, api):
    """The connection ends in the middle of the answer."""
    fake.faults.add(Fault.cut(mid_body=True, **POST))
    with pytest.raises(http.client.IncompleteRead) as raised:
        api.post()
    assert raised.value.partial.startswith(b'{"id":')
    assert taken(fake) == 1


def test_truncate(fake, api):
    """Half of the JSON, as if it were whole."""
    fake.faults.add(Fault.truncate(**POST))
    with pytest.raises(json.JSONDecodeError):
        api.post()
    assert api.answer.status == 200
    assert taken(fake) == 1
    assert api.post()[0] == 200  # on the same connection


def test_drip(fake, client_of):
    """Bytes come one by one, so that no single read takes long and the whole takes very long."""
    fake.faults.add(Fault.drip(0.001, method="GET", path="/v2/clock"))
    started = time.monotonic()
    status, clock = client_of(fake)("GET", "/v2/clock")
    assert (status, clock["is_open"]) == (200, True)
    assert time.monotonic() - started > 0.3  # some 400 bytes


@pytest.mark.parametrize("after", [False, True])
def test_delay(fake, client_of, after):
    """A late answer: the order is taken at once, or late as well."""
    fake.faults.add(Fault.delay(0.5, after=after, **POST))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client_of(fake).post()))
    thread.start()
    fake.wait_until(lambda: fake.requests)
    if after:
        fake.wait_until(lambda: taken(fake))
    assert (taken(fake), answers) == (after, [])
    thread.join()
    assert (answers[0][0], taken(fake)) == (200, 1)


def test_match(fake, api):
    """A fault meets only what it is about: method, whole path, words of the body, from the nth on, so many times."""
    by_body = fake.faults.add(Fault.reject(500, {}, body="it-7", **POST))
    second = fake.faults.add(Fault.reject(501, {}, nth=2, times=2, **POST))
    always = fake.faults.add(Fault.reject(502, {}, path="/v2/orders/.+", times=None))
    assert [api.post(f"it-{number}")[0] for number in range(5)] == [200, 501, 501, 200, 200]
    assert api.post("it-7")[0] == 500
    assert [api("GET", "/v2/orders/x")[0] for _ in range(3)] == [502] * 3
    assert api("GET", "/v2/orders?status=all")[0] == 200
    assert (by_body.fired, second.fired, always.fired) == (1, 2, 3)
    fake.faults.clear()
    assert api("GET", "/v2/orders/x")[0] == 404


def test_one_fault_a_request(fake, api):
    """Of two faults that are due the first one happens, and the other to the next request."""
    fake.faults.add(Fault.reject(500, {}))
    fake.faults.add(Fault.reject(501, {}))
    assert [api("GET", "/v2/clock")[0] for _ in range(3)] == [500, 501, 200]


def test_refused_connections(fake, api, client_of):
    """While it does not listen, new connections are refused and open ones stay; then it accepts them again."""
    assert api("GET", "/v2/clock")[0] == 200
    fake.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        client_of(fake)("GET", "/v2/clock")
    assert api("GET", "/v2/clock")[0] == 200
    fake.listen_again()
    assert client_of(fake)("GET", "/v2/clock")[0] == 200


def test_dropped_connections(fake, api):
    """All connections end at once."""
    api("GET", "/v2/clock")
    fake.drop_connections()
    assert not fake.connections
    with pytest.raises(OSError, match=r"."):
        api("GET", "/v2/clock")


def test_end_in_the_middle_of_a_fault(client_of):
    """The fake ends in time although an answer is still dripping and another one never comes."""
    with FakeAlpaca() as fake:
        fake.faults.add(Fault.drip(10, path="/v2/clock"))
        fake.faults.add(Fault.timeout(path="/v2/account"))
        for path in ("/v2/clock", "/v2/account"):
            with pytest.raises(TimeoutError):
                client_of(fake, timeout=0.05)("GET", path)


def test_wait_until_gives_up(fake):
    """Waiting for what does not happen ends in an error, not in a hang."""
    with pytest.raises(TimeoutError, match="did not happen"):
        fake.wait_until(lambda: False, timeout=0.05)
