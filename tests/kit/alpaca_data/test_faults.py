"""What goes wrong with the stream, before an event of the playback or at once."""

import time
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing.alpaca_data import FakeMarketData, Fault
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.effort import examples
from support.waiting import PATIENCE

SYMBOLS = ("BTC/USD",)


def ends(client, code=None):
    """Whether the connection ends with a close frame of this code, or without any."""
    with pytest.raises(ConnectionClosed) as raised:
        client.receive()
    return (None if raised.value.rcvd is None else raised.value.rcvd.code) == code


def silent(client):
    with pytest.raises(TimeoutError):
        client.frame(timeout=0.1)
    return True


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="cut", at=2, lost=3), None),
        (Fault(kind="close", at=2, lost=3), 1001),
        (Fault(kind="close", at=2, lost=3, code=1011), 1011),
        (Fault(kind="restart", at=2, lost=3, seconds=0.01), None),
    ],
)
def test_ended_connections(market, listen, trades, fault, code):
    """The connection ends before its event, what is lost is in the history only, and the rest waits for the next client."""
    client = listen(market)
    playback = market.play(trades(8), faults=[fault], wait_for=SYMBOLS)
    assert client.numbers(2) == [0, 1]
    assert ends(client, code)
    market.wait_until(lambda: playback.played == 5 and market.attempts)
    if fault.kind == "restart":
        market.wait_until(lambda: market.is_listening)
    assert listen(market).numbers(3) == [5, 6, 7]
    assert playback.wait() == 8


def test_restart_refuses_meanwhile(market, listen, trades):
    """A restart leaves the port, REST's too, without a listener for its time, and comes back on the same."""
    client = listen(market)
    began = time.monotonic()
    playback = market.play(trades(1), faults=[Fault(kind="restart", seconds=0.3)])
    assert ends(client)
    with pytest.raises(ConnectionRefusedError):
        connect(market.url)
    playback.wait()
    assert time.monotonic() - began >= 0.3
    listen(market)


@pytest.mark.parametrize("pings", [True, False])
def test_mute(market, listen, trades, pings):
    """A mute connection stays open and silent; pings are answered or not; the tape continues for the next client."""
    client = listen(market)
    playback = market.play(trades(6), faults=[Fault(kind="mute", at=1, lost=2, pings=pings)], wait_for=SYMBOLS)
    assert client.numbers(1) == [0]
    assert silent(client)
    assert client.socket.ping().wait(5 if pings else 0.1) is pings
    assert playback.played == 3
    assert listen(market).numbers(3) == [3, 4, 5]
    playback.wait()
    assert silent(client)


def test_mute_for_a_while(market, listen, trades):
    """After its time a mute connection sends again, and reads what the client sent meanwhile."""
    client = listen(market)
    playback = market.play(trades(3), faults=[Fault(kind="mute", at=1, lost=1, seconds=0.2)], wait_for=SYMBOLS)
    assert client.numbers(1) == [0]
    market.wait_until(lambda: market.listeners == 0)
    pong = client.socket.ping()
    assert client.numbers(1) == [2]
    assert pong.wait(PATIENCE)
    playback.wait()


def test_mute_connection_that_is_given_up_counts_no_more(dial, trades):
    """Its end is noticed, so that the next login is let in."""
    with FakeMarketData() as market:
        client = dial(market).log_in(market)
        market.strike(Fault(kind="mute"))
        client.socket.close()
        market.wait_until(lambda: not market.connections)
        dial(market).log_in(market)


def test_half_open(dial, trades):
    """Its end is not noticed: it holds the only place (406) while it lasts."""
    with FakeMarketData() as market:
        client = dial(market).log_in(market)
        client.subscribe(trades=["BTC/USD"])
        playback = market.play(trades(4), faults=[Fault(kind="half_open", at=1, lost=1)], wait_for=SYMBOLS)
        assert client.numbers(1) == [0]
        assert not client.socket.ping().wait(0.05)
        client.socket.close()
        second = dial(market)
        second.receive()
        second.say(action="auth", key=market.key, secret=market.secret)
        assert second.receive()["code"] == 406
        market.drop_connections()
        third = dial(market).log_in(market)
        third.subscribe(trades=["BTC/USD"])
        assert third.numbers(2) == [2, 3]
        playback.wait()


def test_half_open_for_a_while(market, listen):
    """After its time a half-open connection is aborted, and its place is free."""
    client = listen(market)
    market.strike(Fault(kind="half_open", seconds=0.05))
    assert ends(client)
    market.wait_until(lambda: not market.connections)


def test_duplicate(market, listen, trades):
    """So many events come twice, the same to the letter, and happened once."""
    client = listen(market)
    market.play(trades(5), faults=[Fault(kind="duplicate", at=1, count=2)]).wait()
    assert client.numbers(7) == [0, 1, 1, 2, 2, 3, 4]


def test_reorder(market, listen, trades):
    """So many events come in reverse order, and the others in theirs."""
    client = listen(market)
    market.play(trades(6), faults=[Fault(kind="reorder", at=1, count=3)]).wait()
    assert client.numbers(6) == [0, 3, 2, 1, 4, 5]


@pytest.mark.parametrize("is_msgpack", [True, False])
def test_slow(market, listen, trades, is_msgpack):
    """So many events trickle, each alone in a frame that comes in pieces; a pong does not tear them."""
    client = listen(market, is_msgpack=is_msgpack)
    began = time.monotonic()
    playback = market.play(trades(6), faults=[Fault(kind="slow", at=1, count=3, seconds=0.05)])
    frames = [client.frame()]
    pong = client.socket.ping()
    frames += [client.frame() for _ in range(4)]
    assert [len(frame) for frame in frames] == [1, 1, 1, 1, 2]
    assert [message["i"] - 2**60 for frame in frames for message in frame] == list(range(6))
    assert time.monotonic() - began >= 0.15
    assert pong.wait(PATIENCE)
    playback.wait()


@pytest.mark.parametrize("is_msgpack", [True, False])
def test_garbage(market, listen, trades, is_msgpack):
    """A frame that cannot be decoded comes between two events, and ends nothing."""
    client = listen(market, is_msgpack=is_msgpack)
    market.play(trades(2), faults=[Fault(kind="garbage", at=1)]).wait()
    assert client.numbers(1) == [0]
    with pytest.raises(msgspec.DecodeError):
        client.frame()
    assert client.numbers(1) == [1]


def test_unknown_type(market, listen, trades):
    """A message of an unknown type is sent between two events."""
    client = listen(market)
    market.play(trades(2), faults=[Fault(kind="unknown", at=1)]).wait()
    assert client.numbers(1) == [0]
    assert client.receive()["T"] == "zz"
    assert client.numbers(1) == [1]


def test_message_of_ones_own(market, listen):
    """Any message can be sent to the clients that are logged in."""
    client = listen(market)
    broken = {"T": "t", "S": "BTC/USD", "p": None}
    market.send(broken)
    assert client.receive() == broken


def test_error_in_the_stream(market, listen, trades):
    """An error comes before its event; where it ends the connection, events may be lost."""
    client = listen(market)
    faults = [Fault(kind="error", at=1, code=405), Fault(kind="error", at=2, code=407, lost=1)]
    playback = market.play(trades(5), faults=faults, wait_for=SYMBOLS)
    received = [client.receive() for _ in range(4)]
    assert [message.get("code", message["T"]) for message in received] == ["t", 405, "t", 407]
    assert ends(client, 1000)
    assert listen(market).numbers(2) == [3, 4]
    playback.wait()


def test_faults_of_requests_need_no_client(market, dial, trades):
    """Faults of logins and subscriptions of event 0 wait for the client that they are about."""
    faults = [Fault(kind="error", code=406, when="auth", count=2), Fault(kind="error", code=500, when="subscribe")]
    playback = market.play(trades(1), faults=faults, wait_for=SYMBOLS)
    codes = []
    for _ in range(2):
        client = dial(market)
        client.receive()
        client.say(action="auth", key=market.key, secret=market.secret)
        codes.append(client.receive()["code"])
    client = dial(market).log_in(market)
    codes.append(client.subscribe(trades=["BTC/USD"])["code"])
    assert codes == [406, 406, 500]
    client = dial(market).log_in(market)
    client.subscribe(trades=["BTC/USD"])
    assert client.numbers(1) == [0]
    assert playback.wait() == 1


def test_faults_at_the_end(market, listen, trades):
    """A fault right after the last event happens; one beyond it is left in `faults`."""
    client = listen(market)
    faults = [Fault(kind="unknown", at=2), Fault(kind="cut", at=3)]
    playback = market.play(trades(2), faults=faults)
    playback.wait()
    assert client.numbers(2) == [0, 1]
    assert client.receive()["T"] == "zz"
    assert list(playback.faults) == faults[1:]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "cut", "at": -1}, "must not be negative"),
        ({"kind": "duplicate", "count": 0}, "count at least 1"),
        ({"kind": "error", "code": 418}, "not an error of the stream"),
        ({"kind": "handshake"}, "HTTP status"),
        ({"kind": "duplicate", "lost": 1}, "lost must be 0"),
        ({"kind": "error", "code": 405, "lost": 1}, "lost must be 0"),
    ],
)
def test_faults_that_are_none(fields, said):
    """What cannot happen is refused when it is made."""
    with pytest.raises(ValueError, match=said):
        Fault(**fields)


def test_faults_are_plain_values():
    """A fault is equal to its copy from JSON, and can be a key."""
    fault = Fault(kind="mute", at=3, lost=2, seconds=0.5, pings=True)
    assert {msgspec.json.decode(msgspec.json.encode(fault), type=Fault): 1} == {fault: 1}


def test_faults_of_events_are_of_a_playback(market):
    """What is about the next events cannot strike at once."""
    for fault in (Fault(kind="duplicate"), Fault(kind="cut", lost=1)):
        with pytest.raises(ValueError, match="give it to play"):
            market.strike(fault)


ANYWHERE = st.integers(0, 60)
FAULTS = st.one_of(
    st.builds(Fault, kind=st.sampled_from(["cut", "close"]), at=ANYWHERE, lost=st.integers(0, 30)),
    st.builds(Fault, kind=st.just("mute"), at=ANYWHERE, lost=st.integers(0, 30), pings=st.just(True)),
    st.builds(Fault, kind=st.sampled_from(["duplicate", "reorder"]), at=ANYWHERE, count=st.integers(1, 30)),
    st.builds(Fault, kind=st.sampled_from(["garbage", "unknown"]), at=ANYWHERE),
    st.builds(Fault, kind=st.just("error"), at=ANYWHERE, code=st.sampled_from([405])),
    st.builds(Fault, kind=st.just("error"), at=ANYWHERE, code=st.sampled_from([407, 500]), lost=st.integers(0, 30)),
)


def expected_numbers(count, faults):
    """The numbers that a client receives which always reconnects, and ignores what makes no sense."""
    received, played = [], 0
    for fault in sorted(faults, key=lambda fault: fault.at):
        received += range(played, max(played, fault.at))
        played = max(played, fault.at)
        touched = list(range(played, min(count, played + fault.count)))
        if fault.kind == "duplicate":
            received += sorted(touched * 2)
        elif fault.kind == "reorder":
            received += touched[::-1]
        else:
            touched = range(played, min(count, played + fault.lost))
        played += len(touched)
    return [*received, *range(played, count)]


def hear_all(market, playback, expected):
    """The numbers that such a client hears until the playback is over."""
    received = []
    deadline = time.monotonic() + 30
    while not playback.is_done or len(received) < expected:
        with connect(market.url + "/v1beta3/crypto/us", compression=None, close_timeout=0.05, max_queue=None) as socket:
            client = {"action": "auth", "key": market.key, "secret": market.secret}
            socket.send(msgspec.json.encode(client).decode())
            socket.send('{"action":"subscribe","trades":["*"]}')
            is_last = False  # whether the connection is mute, and what was sent before is here
            while not (playback.is_done and len(received) >= expected):
                assert time.monotonic() < deadline, (received, playback.played)
                try:
                    messages = msgspec.json.decode(socket.recv(timeout=0 if is_last else 0.02))
                    received += [message["i"] - 2**60 for message in messages if message["T"] == "t"]
                except msgspec.DecodeError:
                    continue
                except TimeoutError:
                    if is_last:
                        break
                    with suppress(ConnectionClosed):
                        is_mute = market.attempts[-1].said[1:] and not market.listeners
                        is_last = is_mute and socket.ping(ack_on_close=True).wait(PATIENCE)
                except ConnectionClosed:
                    break
    return received


@examples(30)
@given(st.lists(FAULTS, max_size=4))
def test_schedules(trades, faults):
    """Whatever the schedule, a client that comes back hears just what it says, and history has every event once."""
    with FakeMarketData(connection_limit=None, per_frame=3) as market:
        playback = market.play(trades(60), faults=faults, wait_for=SYMBOLS)
        expected = expected_numbers(60, faults)
        assert hear_all(market, playback, len(expected)) == expected
        assert playback.wait() == 60
        happened = market.history.page("trades", "symbols=BTC/USD", is_crypto=True)["trades"]["BTC/USD"]
        assert [msgspec.json.decode(row)["i"] - 2**60 for row in happened] == list(range(60))
