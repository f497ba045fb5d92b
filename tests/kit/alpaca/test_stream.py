"""The stream: logins, updates and faults."""

import json

import pytest
from torghut_testing.alpaca import FakeAlpaca
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.waiting import PATIENCE


def test_updates_come_in_order(fake, api, listen):
    """A listener hears of every change, in the order of the event ids, with the order as it was then."""
    listener = listen(fake)
    api.post("it")
    received = [listener.receive()["data"] for _ in range(3)]
    assert received == fake.venue.events
    assert [update["order"]["status"] for update in received] == ["pending_new", "new", "filled"]


def test_changes_by_script_are_sent(fake, listen):
    """What a test does with the venue from its own thread is sent like every update."""
    listener = listen(fake)
    fake.venue.hold("AAPL")
    order = fake.venue.place("AAPL", "buy", 10)["id"]
    fake.venue.fill(order, 3)
    fake.venue.cancel(order)
    assert listener.events(4) == ["pending_new", "new", "partial_fill", "canceled"]


def test_frames_are_binary(fake):
    """The paper endpoint's frames are binary; text is an option."""
    for is_binary, kind in ((True, bytes), (False, str)):
        with FakeAlpaca(binary=is_binary) as other, connect(other.stream_url, close_timeout=0.2) as socket:
            socket.send(json.dumps({"action": "auth", "key": other.key, "secret": other.secret}))
            assert isinstance(socket.recv(timeout=PATIENCE), kind)


def receive(socket):
    return json.loads(socket.recv(timeout=PATIENCE))


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("is_old", [True, False])
def test_login(fake, is_right, is_old):
    """Both ways to log in work, and wrong keys are refused."""
    secret = fake.secret if is_right else "wrong"
    old = {"action": "authenticate", "data": {"key_id": fake.key, "secret_key": secret}}
    new = {"action": "auth", "key": fake.key, "secret": secret}
    with connect(fake.stream_url, close_timeout=0.2) as socket:
        socket.send(json.dumps(old if is_old else new))
        said = receive(socket)["data"]
        assert said["status"] == ("authorized" if is_right else "unauthorized")
        assert ("deprecated" in said.get("message", "")) == (is_old and is_right)


def test_nothing_is_sent_without_login(fake, api):
    """To listen without a login is refused, and no update comes."""
    with connect(fake.stream_url, close_timeout=0.2) as socket:
        socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        assert receive(socket)["data"] == {"status": "unauthorized", "action": "listen"}
        api.post()
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.1)
    assert fake.listeners == 0


def test_pings_are_answered(fake, listen):
    """A ping has its pong."""
    assert listen(fake).socket.ping().wait(PATIENCE)


@pytest.mark.parametrize("message", ["no json", "[]", '{"action": "dance"}', '{"action": "listen", "data": 1}'])
def test_strange_messages(fake, listen, message):
    """What makes no sense is answered and ends nothing."""
    listener = listen(fake)
    listener.socket.send(message)
    assert listener.receive()["stream"] in ("error", "listening")
    assert listener.socket.ping().wait(PATIENCE)


def test_drop(fake, listen):
    """So many updates are lost."""
    listener = listen(fake)
    fake.stream.drop(2)
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(1) == ["fill"]


def test_duplicate(fake, listen):
    """So many updates come twice, the same to the letter."""
    listener = listen(fake)
    fake.stream.duplicate(1)
    fake.venue.place("BTC/USD", "buy", 1)
    first, second = listener.receive(), listener.receive()
    assert first == second
    assert listener.events(2) == ["new", "fill"]


def test_reorder(fake, listen):
    """An update comes behind later ones."""
    listener = listen(fake)
    fake.stream.reorder(behind=2)
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(3) == ["new", "fill", "pending_new"]
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(3) == ["pending_new", "new", "fill"]


def test_delay(fake, listen):
    """A late update is overtaken."""
    listener = listen(fake)
    fake.stream.delay(0.1)
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(3) == ["new", "fill", "pending_new"]


def test_cut(fake, listen):
    """The connection ends without a close frame; a new one is taken."""
    listener = listen(fake)
    fake.stream.cut()
    with pytest.raises(ConnectionClosed) as raised:
        listener.receive()
    assert raised.value.rcvd is None
    assert listen(fake)


def test_mute(fake, listen):
    """The connection is open and silent, even to a ping; updates meanwhile are lost."""
    listener = listen(fake)
    fake.stream.mute()
    fake.venue.place("BTC/USD", "buy", 1)
    pong = listener.socket.ping()
    assert not pong.wait(0.1)
    with pytest.raises(TimeoutError):
        listener.receive(timeout=0.05)
    fake.stream.unmute()
    assert pong.wait(PATIENCE)
    fake.venue.hold("BTC/USD")
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(2) == ["pending_new", "new"]


def test_refused_login(fake, listen):
    """The right keys are refused as often as asked."""
    fake.stream.refuse_auth()
    with connect(fake.stream_url, close_timeout=0.2) as socket:
        socket.send(json.dumps({"action": "auth", "key": fake.key, "secret": fake.secret}))
        assert receive(socket)["data"]["status"] == "unauthorized"
    assert listen(fake)


def test_frames_of_ones_own(fake, listen):
    """An event of an unknown kind, and a frame that is not JSON."""
    listener = listen(fake)
    fake.stream.send({"stream": "trade_updates", "data": {"event": "levitated"}})
    assert listener.events(1) == ["levitated"]
    fake.stream.garbage()
    with pytest.raises(ValueError, match=r"."):
        json.loads(listener.socket.recv(timeout=PATIENCE))
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(1) == ["pending_new"]


def test_clear(fake, listen):
    """Everything that was to go wrong is forgotten."""
    listener = listen(fake)
    fake.stream.drop(5)
    fake.stream.duplicate(5)
    fake.stream.reorder(5)
    fake.stream.mute()
    fake.stream.clear()
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(3) == ["pending_new", "new", "fill"]


def test_faults_wait_for_a_listener(fake, listen):
    """Without a listener no update counts as lost."""
    fake.stream.drop()
    fake.venue.place("BTC/USD", "buy", 1)
    listener = listen(fake)
    fake.venue.place("BTC/USD", "buy", 1)
    assert listener.events(2) == ["new", "fill"]


def test_waits_for_listeners(fake, listen):
    """A test can wait until a broker listens, and until it is gone."""
    listener = listen(fake)
    fake.wait_until(lambda: fake.listeners == 1)
    listener.socket.close()
    fake.wait_until(lambda: fake.listeners == 0)


@pytest.mark.shared
def test_recorded_shapes(fake, listen, recorded):
    """Updates have the keys of the recorded ones, and logins their words."""
    listener = listen(fake)
    fake.venue.place("BTC/USD", "buy", "0.5")
    for name in ("pending_new", "new", "fill"):
        made, was = listener.receive(), recorded[name]
        assert made["stream"] == was["stream"]
        assert made["data"].keys() == was["data"].keys()
        assert made["data"]["order"].keys() == was["data"]["order"].keys()
        for key, value in was["data"].items():
            assert type(made["data"][key]) is type(value)
            assert key == "position_qty" or len(str(made["data"][key])) > 0
        assert len(made["data"]["event_id"]) == len(was["data"]["event_id"])
    with connect(fake.stream_url, close_timeout=0.2) as socket:
        for secret, name in (("wrong", "unauthorized"), (fake.secret, "authorized")):
            socket.send(json.dumps({"action": "auth", "key": fake.key, "secret": secret}))
            assert receive(socket) == recorded[name]
        socket.send(json.dumps({"action": "authenticate", "data": {"key_id": fake.key, "secret_key": fake.secret}}))
        assert receive(socket) == recorded["authorized_with_deprecation_text"]
        socket.send(json.dumps(recorded["client_listen"]))
        assert receive(socket) == recorded["listening"]
