"""The stream as clients use it: login, subscriptions, both encodings, errors, limits."""

import time
from datetime import datetime

import msgspec
import pytest
from torghut_testing.alpaca_data import ERRORS, FakeMarketData, Fault
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.waiting import PATIENCE

STOCKS = "/v2/iex"


class Packed(msgspec.Struct):
    """A message of which only the time is read, as it came: without a type msgspec cuts it to microseconds."""

    t: msgspec.msgpack.Ext


def stamp(frame):
    """Nanoseconds of the first message's time: a MessagePack timestamp of 64 bits."""
    time = msgspec.msgpack.decode(frame, type=list[Packed])[0].t
    assert time.code == -1
    assert len(time.data) == 8
    value = int.from_bytes(time.data)
    return (value & 0x3FFFFFFFF) * 1_000_000_000 + (value >> 34)


@pytest.mark.parametrize("is_msgpack", [False, True])
@pytest.mark.parametrize("path", ["/v2/iex", "/v2/sip", "/v2/test", "/v1beta3/crypto/us", "/v1beta3/crypto/eu-1"])
def test_every_feed_is_served(market, listen, path, is_msgpack, trades):
    """Each path of the real stream takes a login and a subscription, in both encodings, and tells what is played."""
    symbol = "BTC/USD" if "crypto" in path else "AAPL"
    client = listen(market, path, is_msgpack=is_msgpack, trades=[symbol])
    assert market.play(trades(3, symbol)).wait() == 3
    assert client.numbers(3) == [0, 1, 2]
    assert market.attempts[0].path == path
    assert market.attempts[0].is_msgpack is is_msgpack


def test_login_by_headers(market, dial):
    """Keys in the handshake log in without a message."""
    keys = {"APCA-API-KEY-ID": market.key, "APCA-API-SECRET-KEY": market.secret}
    client = dial(market, headers=keys)
    assert [client.receive()["msg"] for _ in range(2)] == ["connected", "authenticated"]


def test_answer_is_the_whole_list(market, listen):
    """Every answer to a subscription is everything that is subscribed now; corrections and cancels follow trades."""
    client = listen(market, STOCKS, trades=["AAPL"], bars=["*"])
    answer = client.subscribe(quotes=["AMD", "CLDR"], statuses=["*"])
    empty = {name: [] for name in ("updatedBars", "dailyBars", "lulds")}
    follow = {name: ["AAPL"] for name in ("trades", "corrections", "cancelErrors")}
    assert answer == {"T": "subscription", "quotes": ["AMD", "CLDR"], "bars": ["*"], "statuses": ["*"]} | empty | follow
    client.say(action="unsubscribe", trades=["AAPL"], bars=["*"], statuses=["*"])
    answer = client.receive()
    assert {name: symbols for name, symbols in answer.items() if symbols} == {
        "T": "subscription",
        "quotes": ["AMD", "CLDR"],
    }


def test_only_what_is_wanted_comes(market, listen, trade):
    """A client receives the channels and symbols that it subscribed to; a star is all symbols of its market, none of the other."""
    some = listen(market, trades=["ETH/USD"])
    every = listen(market, trades=["*"], quotes=["BTC/USD"])
    quote = {"T": "q", "S": "BTC/USD", "bp": 1, "bs": 1, "ap": 2, "as": 1, "t": 5}
    market.play([trade(0), quote, trade(1, "ETH/USD"), trade(2, "AAPL"), trade(3, "ETH/USD")]).wait()
    assert some.numbers(2) == [1, 3]
    assert [every.receive().get("S") for _ in range(4)] == ["BTC/USD", "BTC/USD", "ETH/USD", "ETH/USD"]


def test_followers_come_with_trades(market, listen):
    """Corrections and cancels go to subscribers of trades, and statuses to subscribers of statuses."""
    client = listen(market, STOCKS, trades=["AAPL"])
    correction = {"T": "c", "S": "AAPL", "oi": 2**60, "ci": 2**60 + 1, "t": "2023-04-06T14:25:06.542305024Z"}
    status = {"T": "s", "S": "AAPL", "sc": "H", "t": "2023-04-06T14:25:06Z"}
    cancel = {"T": "x", "S": "AAPL", "i": 465, "a": "C", "t": "2023-04-06T13:15:42.83540958Z"}
    market.play([correction, status, cancel]).wait()
    assert [client.receive(), client.receive()] == [correction, cancel]


def test_encodings_agree(market, listen, trade):
    """MessagePack says what JSON says, times and large ids to the last digit."""
    text, packed = listen(market), listen(market, is_msgpack=True)
    at = 1_700_000_000_123_456_789
    market.play([trade(7, at=at)]).wait()
    said, frame = text.receive(), packed.socket.recv(timeout=PATIENCE)
    assert said["t"] == "2023-11-14T22:13:20.123456789Z"
    assert stamp(frame) == at
    unpacked = msgspec.msgpack.decode(frame)[0]
    assert said["i"] == 2**60 + 7
    assert said | {"t": None} == unpacked | {"t": None}


def test_frames_carry_several(dial, trades):
    """As many messages as asked come in a frame, and order is kept."""
    with FakeMarketData(per_frame=7) as market:
        client = dial(market).log_in(market)
        client.subscribe(trades=["*"])
        market.play(trades(16)).wait()
        assert [len(client.frame()) for _ in range(3)] == [7, 7, 2]


def test_time_is_printed_as_it_was(market, listen, trade):
    """A time that is text stays as it is, and nanoseconds become text without trailing zeros."""
    client = listen(market)
    texts = ["2024-03-12T10:27:48.85822814Z", "2024-03-12T10:27:48.1Z"]
    market.play([trade(0, at=texts[0]), trade(1, at=1_710_239_268_100_000_000)]).wait()
    assert [client.receive()["t"], client.receive()["t"]] == texts


# Errors.


def errors(client, count=1):
    received = [client.receive() for _ in range(count)]
    for message in received:
        assert message == {"T": "error", "code": message["code"], "msg": ERRORS[message["code"]]}
    return [message["code"] for message in received]


def is_closed(client):
    with pytest.raises(ConnectionClosed) as raised:
        client.receive()
    return raised.value.rcvd is not None and raised.value.rcvd.code == 1000


@pytest.mark.parametrize("said", ["no json", "[]", '{"action": "dance"}'])
def test_400_for_what_makes_no_sense(market, listen, said):
    """What is not a request gets an error, and the connection stays open."""
    client = listen(market)
    client.socket.send(said)
    assert errors(client) == [400]
    assert client.subscribe(trades=["ETH/USD"])["trades"] == ["BTC/USD", "ETH/USD"]


@pytest.mark.parametrize("channels", [{"trade": ["AAPL"]}, {"trades": "AAPL"}, {"trades": [1]}])
def test_400_for_a_subscription_that_is_none(market, listen, channels):
    """An unknown channel, and symbols that are no list of text, change nothing."""
    client = listen(market)
    client.say(action="subscribe", **channels)
    assert errors(client) == [400]


def test_401_before_login(market, dial):
    """Nothing can be subscribed before the login, which may come after it."""
    client = dial(market)
    client.receive()
    client.say(action="subscribe", trades=["BTC/USD"])
    assert errors(client) == [401]
    client.say(action="auth", key=market.key, secret=market.secret)
    assert client.receive()["msg"] == "authenticated"


def test_402_for_wrong_keys(market, dial):
    """Wrong keys get an error, and the connection ends; what the client said is kept without its secret."""
    client = dial(market)
    client.receive()
    client.say(action="auth", key=market.key, secret="wrong")
    assert errors(client) == [402]
    assert is_closed(client)
    assert market.attempts[0].errors == [402]
    assert market.attempts[0].said == [{"action": "auth", "key": market.key}]


def test_403_for_a_second_login(market, listen, trades):
    """To log in again is refused, and harmless."""
    client = listen(market)
    client.say(action="auth", key=market.key, secret=market.secret)
    assert errors(client) == [403]
    market.play(trades(1)).wait()
    assert client.numbers(1) == [0]


def test_404_for_a_late_login(dial):
    """A client that does not log in in time gets an error, and its connection ends."""
    with FakeMarketData(auth_timeout=0.05) as market:
        client = dial(market)
        client.receive()
        assert errors(client) == [404]
        assert is_closed(client)


def test_405_over_the_symbol_limit(dial):
    """Too many symbols are refused all together, and subscriptions stay as they were."""
    with FakeMarketData(symbol_limit=2) as market:
        client = dial(market).log_in(market)
        client.subscribe(trades=["BTC/USD"])
        client.say(action="subscribe", trades=["ETH/USD", "SOL/USD"])
        assert errors(client) == [405]
        assert client.subscribe(quotes=["BTC/USD", "ETH/USD"])["trades"] == ["BTC/USD"]


def test_406_while_another_is_there(dial):
    """A second connection of a path is refused at its login; one of another path is not."""
    with FakeMarketData() as market:
        first = dial(market).log_in(market)
        second = dial(market)
        second.receive()
        second.say(action="auth", key=market.key, secret=market.secret)
        assert errors(second) == [406]
        assert is_closed(second)
        dial(market, STOCKS).log_in(market)
        first.socket.close()
        market.wait_until(lambda: market.listeners == 1)
        dial(market).log_in(market)


def test_406_while_the_old_one_lingers(dial):
    """A connection that ended counts until its time is over."""
    with FakeMarketData(linger=0.2) as market:
        began = time.monotonic()
        dial(market).log_in(market).socket.close()
        while True:
            client = dial(market)
            client.receive()
            client.say(action="auth", key=market.key, secret=market.secret)
            if client.receive().get("code") != 406:
                break
        assert time.monotonic() - began >= 0.2
        assert [attempt.errors for attempt in market.attempts[1:-1]] == [[406]] * (len(market.attempts) - 2)
        assert len(market.attempts) > 2


def test_407_for_a_slow_client(dial, trade):
    """At a pace no client is waited for: one that reads nothing loses its connection, and memory stays bounded."""
    with FakeMarketData(buffer_limit=1 << 16) as market:
        client = dial(market, max_queue=1).log_in(market)
        client.subscribe(trades=["BTC/USD"])
        playback = market.play((trade(number) for number in range(10**9)), speed=1e6)
        market.wait_until(lambda: market.attempts[0].errors == [407], timeout=20)
        market.wait_until(lambda: not market.connections)
        market.stop_playing()
        assert playback.played > 100
        with pytest.raises(ConnectionClosed):
            client.numbers(playback.played)


def test_as_fast_as_clients_read(dial, trade):
    """Without a pace the market waits for a client that does not read, and nothing piles up or is lost."""
    with FakeMarketData(buffer_limit=1 << 18) as market:
        client = dial(market, max_queue=1).log_in(market)
        client.subscribe(trades=["BTC/USD"])
        pulled = []
        count = 100_000
        playback = market.play(pulled.append(number) or trade(number) for number in range(count))
        seen = -1
        while seen != len(pulled):
            seen = len(pulled)
            time.sleep(0.1)  # nothing tells that nothing happens
        assert seen < count
        assert market.attempts[0].errors == []
        assert client.numbers(count) == list(range(count))
        assert playback.wait() == count


def test_409_without_the_subscription(dial):
    """A feed that the account does not have is refused at the login."""
    with FakeMarketData(entitled={"iex"}) as market:
        dial(market, STOCKS).log_in(market)
        client = dial(market, "/v2/sip")
        client.receive()
        client.say(action="auth", key=market.key, secret=market.secret)
        assert errors(client) == [409]
        assert is_closed(client)


@pytest.mark.parametrize(
    ("path", "channel"), [("/v1beta3/crypto/us", "statuses"), (STOCKS, "orderbooks"), (STOCKS, "corrections")]
)
def test_410_for_a_channel_of_others(market, listen, path, channel):
    """A channel that the feed does not have, or that cannot be subscribed to, is refused."""
    client = listen(market, path)
    client.say(action="subscribe", **{channel: ["X"]})
    assert errors(client) == [410]


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("when", ["stream", "auth", "subscribe"])
def test_every_error_on_demand(market, dial, code, when):
    """Each error is sent once on demand, and ends the connection or leaves it open as the real one does."""
    fault = Fault(kind="error", code=code, when=when)
    if when != "stream":
        market.strike(fault)
    client = dial(market)
    client.receive()
    if when != "auth":
        client.say(action="auth", key=market.key, secret=market.secret)
        client.receive()
    if when == "stream":
        market.strike(fault)
    elif when == "auth":
        client.say(action="auth", key=market.key, secret=market.secret)
    else:
        client.say(action="subscribe", trades=["BTC/USD"])
    assert errors(client) == [code]
    if code in (402, 404, 406, 407, 408, 409, 411, 500):
        assert is_closed(client)
        client = dial(market).log_in(market)
    elif when == "auth":
        client.say(action="auth", key=market.key, secret=market.secret)
        assert client.receive()["msg"] == "authenticated"
    assert client.subscribe(trades=["BTC/USD"])["trades"] == ["BTC/USD"]


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_refused_handshakes(market, dial, status):
    """A handshake is answered by an HTTP status, as often as asked; an unknown path always by 404."""
    market.strike(Fault(kind="handshake", code=status, count=2))
    for _ in range(2):
        with pytest.raises(InvalidStatus) as raised:
            dial(market)
        assert raised.value.response.status_code == status
    dial(market).log_in(market)
    with pytest.raises(InvalidStatus, match="404"):
        dial(market, "/v2/nothing")
    assert [attempt.status for attempt in market.attempts] == [status, status, 101, 404]


# Against what was recorded.


@pytest.mark.shared
def test_recorded_control_messages(market, dial, recorded):
    """Words and lists are those of the real stream."""
    said = {name.partition("/")[2]: message for name, message in recorded.items()}
    client = dial(market, STOCKS)
    assert client.frame() == said["connected"]
    client.say(**said["client_auth"] | {"key": market.key, "secret": market.secret})
    assert client.frame() == said["authenticated"]
    client.say(**said["client_subscribe"])
    client.frame()
    client.say(action="subscribe", dailyBars=["VOO"], statuses=["*"])
    assert client.frame() == said["subscription_full_list"]
    client.say(action="unsubscribe", bars=["*"], dailyBars=["VOO"], statuses=["*"])
    assert client.frame() == said["subscription_after_unsubscribe"]
    crypto = dial(market).log_in(market)
    crypto.say(action="subscribe", bars=["BTC/USD"])
    assert crypto.frame() == said["subscription_crypto"]
    for name, message in said.items():
        if name.startswith("error_"):
            assert message[0]["msg"] == ERRORS[message[0]["code"]]


@pytest.mark.shared
def test_recorded_messages_are_played_to_the_letter(market, listen, recorded):
    """What the real stream printed comes out as it went in, in both encodings."""
    crypto, stocks = [], []
    for name, given in recorded.items():
        if name.startswith("market_data") and "subscription" not in name:
            messages = given if isinstance(given, list) else [given]
            into = crypto if "crypto" in name else stocks
            into += [one for one in messages if "t" in one and one["T"] != "i"]
    for path, messages in (("/v1beta3/crypto/us", crypto), (STOCKS, stocks)):
        asked = ["trades", "quotes", "bars", "updatedBars", "dailyBars"]
        asked += ["orderbooks"] if "crypto" in path else ["statuses", "lulds"]
        channels = {name: ["*"] for name in asked}
        text, packed = listen(market, path, **channels), listen(market, path, is_msgpack=True, **channels)
        market.play(messages).wait()
        assert [text.receive() for _ in messages] == messages
        for message in messages:
            unpacked = packed.receive()
            assert isinstance(unpacked["t"], datetime)
            assert unpacked | {"t": message["t"]} == message
