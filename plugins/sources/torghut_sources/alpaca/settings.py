"""The environment variables of Alpaca's market data, and what follows from them.

One setting, ``ALPACA_MARKET_TYPE``, chooses equities or crypto: addresses, channels and feed follow. Facts:
https://docs.alpaca.markets/docs/streaming-market-data and ``/docs/real-time-crypto-pricing-data`` (read 2026-11-21).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from torghut_core import Environment

EQUITY_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "statuses")
CRYPTO_CHANNELS = ("trades", "quotes", "bars", "updatedBars")
HISTORY_CHANNELS = ("bars", "quotes", "trades")


class AlpacaSettings(Environment):
    """Where Alpaca's market data is. The keys are secrets and not here."""

    alpaca_market_type: Literal["equity", "crypto"] = Field(
        default="equity", description="what is traded; sets addresses, channels and back-fill"
    )
    alpaca_feed: str = Field(
        default="iex", pattern=r"^[a-z][a-z_]{0,31}$", description="feed of equities: iex, sip, delayed_sip, test"
    )
    alpaca_crypto_location: str = Field(
        default="us", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="which crypto venue: us, us-1, eu-1"
    )
    alpaca_stream_url: str = Field(
        default="wss://stream.data.alpaca.markets", description="address of the stream: ws:// or wss://, without a path"
    )
    alpaca_base_url: str = Field(
        default="https://data.alpaca.markets", description="address of the history: http:// or https://, without a path"
    )
    subscribe_batch_size: int = Field(default=200, ge=1, le=10_000, description="symbols per subscribe message")
    reconnect_base_ms: int = Field(
        default=500, ge=1, description="longest pause before the first retry, milliseconds; it doubles from there"
    )
    reconnect_max_ms: int = Field(default=30_000, ge=1, description="longest pause before any retry, milliseconds")

    @field_validator("alpaca_stream_url")
    @classmethod
    def _check_stream_url(cls, url: str) -> str:
        return _base(url, ("ws://", "wss://"))

    @field_validator("alpaca_base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        return _base(url, ("http://", "https://"))

    @property
    def is_crypto(self) -> bool:
        """Whether symbols are crypto pairs, like ``BTC/USD``."""
        return self.alpaca_market_type == "crypto"

    @property
    def stream_url(self) -> str:
        """Address of the websocket."""
        path = f"v1beta3/crypto/{self.alpaca_crypto_location}" if self.is_crypto else f"v2/{self.alpaca_feed}"
        return f"{self.alpaca_stream_url}/{path}"

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that can be subscribed; corrections and cancels of equities come with ``trades``."""
        return CRYPTO_CHANNELS if self.is_crypto else EQUITY_CHANNELS

    @property
    def feed(self) -> str:
        """The envelope's `feed`."""
        return "crypto" if self.is_crypto else self.alpaca_feed

    def history_url(self, channel: str) -> str:
        """Return the address of the history of one of `HISTORY_CHANNELS`."""
        family = f"v1beta3/crypto/{self.alpaca_crypto_location}" if self.is_crypto else "v2/stocks"
        return f"{self.alpaca_base_url}/{family}/{channel}"

    def history_query(self, channel: str) -> dict[str, str]:
        """The query parameters of that address that do not depend on symbol and time."""
        query = {"sort": "asc"}
        if not self.is_crypto:
            query["feed"] = self.alpaca_feed
        if channel == "bars":
            query["timeframe"] = "1Min"
            if not self.is_crypto:
                query["adjustment"] = "raw"
        return query


def _base(url: str, schemes: tuple[str, ...]) -> str:
    scheme = next((scheme for scheme in schemes if url.startswith(scheme)), None)
    host = url.removeprefix(scheme or "").rstrip("/")
    if scheme is None or not host or set(host) & set("/?#@ "):
        raise ValueError(f"use {' or '.join(schemes)} and a host, without a path: {schemes[-1]}host")
    return f"{scheme}{host}"
