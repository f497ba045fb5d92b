"""The REST API: its routes, and the shapes of what it answers."""

import threading

import pytest
from torghut_testing.alpaca import FakeAlpaca, FakeVenue


def kind(value):
    """What a JSON value is, as far as a reader minds."""
    return type(value).__name__


def assert_like(made, recorded, but=()):
    """The same keys, and under each the same kind of value; a value that may be null may be null or not."""
    assert made.keys() == recorded.keys() | set(but)
    for name, value in recorded.items():
        if value is not None and made[name] is not None:
            assert kind(made[name]) == kind(value), name


def test_order_is_taken_and_found(fake, api):
    """An order is found by its id, by the client's id, and in the list."""
    status, order = api.post("it")
    assert (status, order["status"]) == (200, "pending_new")
    for path in (f"/v2/orders/{order['id']}", "/v2/orders:by_client_order_id?client_order_id=it"):
        assert api("GET", path) == (200, fake.venue.order("it"))
    assert api("GET", "/v2/orders?status=closed") == (200, fake.venue.orders())


def test_unknown_order(fake, api):
    """What is not there is 404, and an id of one kind is not one of the other."""
    _, order = api.post("it")
    for path in (
        "/v2/orders/it",
        f"/v2/orders:by_client_order_id?client_order_id={order['id']}",
        "/v2/positions/AAPL",
        "/v2/assets/NOPE",
    ):
        status, body = api("GET", path)
        assert (status, body["code"]) == (404, 40410000)
    assert api("GET", "/v2/nothing")[0] == 404
    assert api("PUT", "/v2/orders")[0] == 405


def test_list_is_filtered(fake, api):
    """Status, symbols, side, direction, limit and times choose among the orders."""
    fake.venue.hold("AAPL")
    for number in range(3):
        api.post(f"btc-{number}")
        api.post(f"aapl-{number}", symbol="AAPL", qty="2")

    def listed(query):
        return [order["client_order_id"] for order in api("GET", f"/v2/orders?{query}")[1]]

    assert listed("") == ["aapl-2", "aapl-1", "aapl-0"]
    assert listed("status=closed&direction=asc") == ["btc-0", "btc-1", "btc-2"]
    assert listed("status=all&limit=2") == ["aapl-2", "btc-2"]
    assert listed("status=all&symbols=BTCUSD,SPY&limit=1") == listed("status=all&symbols=BTC/USD&limit=1") == ["btc-2"]
    assert listed("status=all&side=sell") == []
    middle = fake.venue.order("aapl-1")["submitted_at"].replace("+", "%2B")
    assert listed(f"status=all&after={middle}") == ["aapl-2", "btc-2"]
    assert listed(f"status=all&direction=asc&until={middle}") == ["btc-0", "aapl-0", "btc-1"]
    assert api("GET", "/v2/orders?limit=501")[0] == 422
    assert api("GET", "/v2/orders?after=yesterday")[0] == 422


def test_cancel(fake, api):
    """A cancel is 204 without a body; a second one, or one of a done order, is 422."""
    _, order = api.post(type="limit", limit_price="90")
    assert api("DELETE", f"/v2/orders/{order['id']}") == (204, None)
    assert fake.venue.order(order["id"])["status"] == "canceled"
    assert api("DELETE", f"/v2/orders/{order['id']}") == (
        422,
        {"code": 42210000, "message": 'order is already in "canceled" state'},
    )


def test_cancel_all(fake, api):
    """All open orders are canceled, and each is listed in the answer."""
    fake.venue.hold("AAPL")
    _, first = api.post(symbol="AAPL")
    _, second = api.post(symbol="AAPL")
    assert api("DELETE", "/v2/orders") == (207, [{"id": order["id"], "status": 200} for order in (first, second)])
    assert api("GET", "/v2/orders") == (200, [])


def test_replace(fake, api):
    """PATCH gives the new order."""
    _, old = api.post(type="limit", limit_price="90")
    status, new = api("PATCH", f"/v2/orders/{old['id']}", {"limit_price": "91", "client_order_id": "next"})
    assert (status, new["replaces"], new["client_order_id"], new["limit_price"]) == (200, old["id"], "next", "91")
    assert api("PATCH", f"/v2/orders/{old['id']}", {"limit_price": "92"})[0] == 422


def test_legs_are_nested_where_asked_for(fake, api):
    """The answer to a POST has the legs; lists and look-ups have them with ``nested=true`` only."""
    fake.venue.set_position("AAPL", 2)
    prices = {"take_profit": {"limit_price": "300"}, "stop_loss": {"stop_price": "1"}}
    status, pair = api.post("ours", symbol="AAPL", side="sell", qty="2", type="limit", order_class="oco", **prices)
    (stop,) = pair["legs"]
    assert (status, stop["status"]) == (200, "held")
    assert [order["id"] for order in api("GET", "/v2/orders")[1]] == [pair["id"]]
    (listed,) = api("GET", "/v2/orders?nested=true")[1]
    _, found = api("GET", f"/v2/orders/{pair['id']}?nested=true")
    assert [leg["id"] for leg in listed["legs"]] == [leg["id"] for leg in found["legs"]] == [stop["id"]]
    assert api("GET", f"/v2/orders/{pair['id']}")[1]["legs"] is None
    assert api("DELETE", "/v2/orders")[1] == [{"id": pair["id"], "status": 200}]
    assert fake.venue.order(stop["id"])["status"] == "canceled"


def test_positions(fake, api):
    """A crypto position has no slash in its symbol, and is found and closed with or without one."""
    api.post(qty="2")
    assert [row["symbol"] for row in api("GET", "/v2/positions")[1]] == ["BTCUSD"]
    assert api("GET", "/v2/positions/BTC%2FUSD") == api("GET", "/v2/positions/BTCUSD")
    status, order = api("DELETE", "/v2/positions/BTCUSD?percentage=25")
    assert (status, order["side"], order["qty"], order["symbol"]) == (200, "sell", "0.5", "BTC/USD")
    status, closed = api("DELETE", "/v2/positions?cancel_orders=true")
    assert (status, [(row["symbol"], row["status"]) for row in closed]) == (207, [("BTCUSD", 200)])
    assert api("GET", "/v2/positions") == (200, [])


def test_activities_are_paged(fake, api):
    """Fills come newest first, in pages that continue after the last id."""
    for _ in range(5):
        api.post(qty="0.1")
    rows = api("GET", "/v2/account/activities/FILL")[1]
    assert rows == fake.venue.activities()[::-1]
    first = api("GET", "/v2/account/activities/FILL?page_size=3")[1]
    second = api("GET", f"/v2/account/activities?activity_types=FILL&page_size=3&page_token={first[-1]['id']}")[1]
    assert first + second == rows
    after = rows[2]["transaction_time"]
    assert api("GET", f"/v2/account/activities/FILL?direction=asc&after={after}")[1] == rows[1::-1]


def test_clock_and_calendar_and_assets(fake, api):
    """The rest of what a broker asks for is there."""
    assert api("GET", "/v2/clock")[1]["is_open"] is True
    days = api("GET", "/v2/calendar?start=2026-01-01&end=2026-01-09")[1]
    assert [row["date"][-2:] for row in days] == ["01", "02", "05", "06", "07", "08", "09"]
    assert api("GET", "/v2/assets/BTC/USD") == api("GET", "/v2/assets/BTCUSD")
    assert {row["class"] for row in api("GET", "/v2/assets?asset_class=crypto")[1]} == {"crypto"}


@pytest.mark.parametrize("headers", [{}, {"APCA-API-KEY-ID": "fake-key", "APCA-API-SECRET-KEY": "wrong"}])
def test_wrong_keys(fake, api, headers):
    """Without the right keys nothing is answered but 401, and nothing is taken."""
    api.headers = headers
    assert api.post() == (401, {"message": "unauthorized"})
    assert fake.venue.orders() == []


def test_bad_body(fake, api):
    """A body that is not a JSON object is 400."""
    assert api("POST", "/v2/orders", [1]) == (400, {"code": 40010000, "message": "request body format is invalid"})


def test_numbers_may_come_as_numbers(fake, api):
    """A quantity as a JSON number means what its text says, to the last digit."""
    api.post("it", qty=0.1, type="limit", limit_price=90.07)
    order = fake.venue.order("it")
    assert (order["qty"], order["limit_price"]) == ("0.1", "90.07")


def test_rate_limit(client_of):
    """Each answer has the limit, and a limit that is set is enforced."""
    with FakeAlpaca(rate_limit=2) as fake:
        api = client_of(fake)
        statuses = []
        for _ in range(6):  # the minute may turn once in between
            statuses.append(api("GET", "/v2/clock")[0])
            assert api.answer.headers["X-Ratelimit-Limit"] == "2"
        assert {200, 429} == set(statuses)
        assert statuses.count(200) <= 4


def test_same_client_order_id_from_two_threads(fake, client_of):
    """Whoever comes first, one id makes one order, and everybody else hears why not."""
    rounds, statuses, together = 20, [], threading.Barrier(2)

    def post(api):
        for number in range(rounds):
            together.wait()
            statuses.append(api.post(f"it-{number}", qty="0.01")[0])

    threads = [threading.Thread(target=post, args=(client_of(fake),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * rounds + [422] * rounds
    assert len(fake.venue.orders()) == len(fake.venue.activities()) == rounds


def test_requests_are_written_down(fake, api):
    """Each request is there with what it said and what it was answered."""
    api.post("it")
    api("GET", "/v2/orders?status=all")
    first, second = fake.requests
    assert (first.method, first.path, first.status, first.is_taken) == ("POST", "/v2/orders", 200, True)
    assert '"client_order_id": "it"' in first.body
    assert second.path == "/v2/orders?status=all"
    assert 0 < first.at <= second.at


def test_state_survives_restart(fake, api, listen):
    """A restart ends all connections, and continues with the same orders on the same port."""
    fake.venue.hold("AAPL")
    api.post("open", symbol="AAPL")
    api.post("done")
    listener = listen(fake)
    before, url = fake.venue.orders(), fake.url
    fake.restart()
    with pytest.raises(Exception, match="close frame"):
        listener.receive()
    with pytest.raises(OSError, match=r"."):
        api("GET", "/v2/orders")
    assert fake.url == url
    assert api("GET", "/v2/orders?status=all&direction=asc") == (200, before)
    assert listen(fake).socket.state.name == "OPEN"
    fake.venue.fill("open")
    assert {row["symbol"] for row in api("GET", "/v2/positions")[1]} == {"AAPL", "BTCUSD"}


def test_state_file(tmp_path, client_of):
    """What one fake leaves in its file, the next one starts with."""
    path = tmp_path / "state.json"
    with FakeAlpaca(FakeVenue(cash=500), state_file=path) as fake:
        fake.venue.set_price("BTC/USD", 100)
        client_of(fake).post("it")
        before = fake.venue.account()
    with FakeAlpaca(state_file=path) as fake:
        assert client_of(fake)("GET", "/v2/account") == (200, before)
        assert client_of(fake).post("it")[0] == 422


@pytest.mark.shared
def test_recorded_shapes(fake, api, recorded):
    """Orders, positions, account, clock, assets and activities have the keys and kinds of the recorded ones."""
    _, order = api.post("it")
    assert_like(order, recorded["pending_new"]["data"]["order"])
    assert recorded["order_object_accepted"].keys() < order.keys()
    assert_like(fake.venue.order("it"), recorded["fill"]["data"]["order"])
    assert_like(api("GET", "/v2/account")[1], recorded["account"])
    api.post(symbol="AAPL")
    extra = ("qty_available", "asset_marginable")
    assert_like(api("GET", "/v2/positions/AAPL")[1], recorded["position_list"][0], but=extra)
    assert_like(api("GET", "/v2/clock")[1], recorded["clock_open"])
    assert_like(api("GET", "/v2/assets/BTCUSD")[1], recorded["asset_crypto"])
    made = api("GET", "/v2/account/activities/FILL")[1][0]
    assert_like(made, recorded["activity_fill"])
    stamp, _, name = recorded["activity_fill"]["id"].partition("::")
    assert [len(part) for part in made["id"].split("::")] == [len(stamp), len(name)]


@pytest.mark.shared
def test_recorded_errors(fake, api, recorded):
    """Refusals have the status, keys and words of the recorded ones."""
    status, body = api.post(qty="1000000")
    assert status == 403
    assert_like(body, recorded["error_insufficient_buying_power"])
    assert body["message"] == recorded["error_insufficient_buying_power"]["message"]
    api.post("it")
    assert api.post("it") == (422, recorded["error_duplicate_client_order_id"])
    fake.venue.place("BTC/USD", "sell", 1, type="limit", limit_price="200")
    assert api.post() == (403, recorded["error_wash_trade"])
    fake.venue.suspended_by_user = True
    assert api.post() == (403, recorded["error_rejected_by_user_setting"])
    assert api("POST", "/v2/orders", "text") == (400, recorded["error_bad_body"])
    api.headers = {}
    assert api.post() == (401, recorded["error_unauthorized"])
