"""What the environment says of Alpaca's market data."""

import pytest
from torghut_sources.alpaca.settings import AlpacaSettings

from torghut_core import SettingsError


def read(monkeypatch, **environment):
    for name in AlpacaSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return AlpacaSettings.read()


def test_equity_is_the_default(monkeypatch):
    """Without a word, equities of IEX at Alpaca's addresses, with statuses among the channels."""
    settings = read(monkeypatch)
    assert settings.stream_url == "wss://stream.data.alpaca.markets/v2/iex"
    assert settings.history_url("trades") == "https://data.alpaca.markets/v2/stocks/trades"
    assert (settings.feed, settings.is_crypto, settings.subscribe_batch_size) == ("iex", False, 200)
    assert settings.channels == ("trades", "quotes", "bars", "updatedBars", "statuses")
    assert settings.history_query("bars") == {"sort": "asc", "feed": "iex", "timeframe": "1Min", "adjustment": "raw"}


def test_one_setting_goes_to_crypto_and_back(monkeypatch):
    """ALPACA_MARKET_TYPE alone changes address, channels, history and feed; what else is set may stay."""
    settings = read(monkeypatch, ALPACA_MARKET_TYPE="crypto", ALPACA_FEED="sip")
    assert settings.stream_url == "wss://stream.data.alpaca.markets/v1beta3/crypto/us"
    assert settings.history_url("bars") == "https://data.alpaca.markets/v1beta3/crypto/us/bars"
    assert (settings.feed, settings.channels) == ("crypto", ("trades", "quotes", "bars", "updatedBars"))
    assert settings.history_query("bars") == {"sort": "asc", "timeframe": "1Min"}
    back = read(monkeypatch, ALPACA_FEED="sip")
    assert (back.stream_url, back.feed) == ("wss://stream.data.alpaca.markets/v2/sip", "sip")


def test_addresses_may_end_in_a_slash(monkeypatch):
    """A trailing slash of a base address changes nothing."""
    settings = read(monkeypatch, ALPACA_STREAM_URL="ws://127.0.0.1:99/", ALPACA_BASE_URL="http://127.0.0.1:99/")
    assert settings.stream_url == "ws://127.0.0.1:99/v2/iex"
    assert settings.history_url("bars") == "http://127.0.0.1:99/v2/stocks/bars"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("ALPACA_MARKET_TYPE", "futures", "equity"),
        ("ALPACA_FEED", "../sip", "match"),
        ("ALPACA_CRYPTO_LOCATION", "us/x", "match"),
        ("ALPACA_STREAM_URL", "https://stream", "wss://"),
        ("ALPACA_STREAM_URL", "wss://host/v2/iex", "without a path"),
        ("ALPACA_BASE_URL", "wss://host", "https://"),
        ("ALPACA_BASE_URL", "https://", "host"),
        ("SUBSCRIBE_BATCH_SIZE", "0", "greater"),
        ("RECONNECT_BASE_MS", "0", "greater"),
        ("RECONNECT_MAX_MS", "soon", "integer"),
    ],
)
def test_wrong_setting_is_an_error_with_a_hint(monkeypatch, name, value, hint):
    """The error for an invalid value names the variable and says what to write."""
    with pytest.raises(SettingsError, match=name) as caught:
        read(monkeypatch, **{name: value})
    assert hint in str(caught.value)
