"""Real money needs three switches: of all combinations, exactly one leads to the live address. Nothing leaves this machine."""

import itertools
import socket

import pytest
from pydantic import SecretStr
from torghut_brokers.alpaca import Alpaca

from torghut_core.errors import SettingsError, VenueError
from torghut_core.execution import venue
from torghut_core.installation.settings import Settings

LIVE, PAPER = "api.alpaca.markets", "paper-api.alpaca.markets"
SWITCHES = {"TRADING_MODE": "live", "TRADING_LIVE_ENABLED": "true", "TRADING_LIVE_ACCOUNT": "A1"}
COMBINATIONS = [dict(chosen) for n in range(4) for chosen in itertools.combinations(SWITCHES.items(), n)]


@pytest.fixture
def asked(monkeypatch):
    """Hosts whose address was asked for: none is found, so that nothing is ever connected to."""
    names = []

    def getaddrinfo(host, *_, **__):
        names.append(host)
        raise socket.gaierror("no network in this test")

    def connect(_socket, address):
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(venue, "secret", lambda name: SecretStr(f"a {name}"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    return names


def broker(**params):
    return Alpaca(Alpaca.Params(**params))


def connect(broker):
    """Connect it as `torghut run` does with the settings of the environment."""
    settings = Settings()
    return venue.connect(broker, is_live=settings.is_live, live_account=settings.trading_live_account)


@pytest.mark.parametrize("switches", COMBINATIONS, ids=lambda switches: "+".join(switches) or "none")
def test_only_all_three_switches_lead_to_the_live_address(asked, monkeypatch, switches):
    """Each of the eight combinations asks for one host: the live one where all three are set, else the paper one."""
    for name, value in switches.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VenueError):
        connect(broker())
    assert set(asked) == {LIVE if switches == SWITCHES else PAPER}


@pytest.mark.parametrize(
    "almost",
    [
        {"TRADING_MODE": "paper"},
        {"TRADING_LIVE_ENABLED": "false"},
        {"TRADING_LIVE_ENABLED": "0"},
        {"TRADING_LIVE_ACCOUNT": ""},
        {"TRADING_LIVE_ACCOUNT": "   "},
    ],
    ids=str,
)
def test_a_switch_that_is_set_to_no_is_not_set(asked, monkeypatch, almost):
    """A mode of paper, a false, or an account of spaces is as good as none."""
    for name, value in (SWITCHES | almost).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VenueError):
        connect(broker())
    assert set(asked) == {PAPER}


def test_live_trading_refuses_a_stand_in(asked, monkeypatch):
    """With all three switches set a catalog that names a stand-in is an error, and neither is asked for."""
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="stand-in"):
        connect(broker(url="http://127.0.0.1:9"))
    assert asked == []


def test_live_trading_is_for_the_account_that_was_named(fake, monkeypatch):
    """Keys of another account than TRADING_LIVE_ACCOUNT: it is refused before anything is sent, and disconnected."""
    monkeypatch.setattr("torghut_brokers.alpaca.broker.LIVE_URL", fake.url)
    keys = {"ALPACA_KEY_ID": fake.key, "ALPACA_SECRET_KEY": fake.secret}
    monkeypatch.setattr(venue, "secret", lambda name: SecretStr(keys[name]))
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="TRADING_LIVE_ACCOUNT=A1 is not the account of these keys"):
        connect(broker())
    fake.wait_until(lambda: not fake.connections)
    assert {each.method for each in fake.requests} == {"GET"}
    number = fake.venue.account()["account_number"]
    monkeypatch.setenv("TRADING_LIVE_ACCOUNT", number)
    connected = broker()
    assert connect(connected) == f"live-{number}"
    connected.close()
