"""Opens the universe of symbols that the settings ask for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from torghut_core.environment import Environment
from torghut_core.errors import SettingsError
from torghut_core.market_data.universe import AssetClass, ListedUniverse, StaticUniverse, is_of
from torghut_core.model.market import SYMBOL_PATTERN
from torghut_core.telemetry import logs


class UniverseSettings(Environment):
    """Where the symbols come from."""

    trading_universe_source: Literal["static", "jangar"] | None = Field(
        default=None,
        description="where the symbols come from: static (a list) or jangar (polled);"
        " unset: jangar where JANGAR_SYMBOLS_URL is set, else static",
    )
    jangar_symbols_url: str | None = Field(
        default=None, description="address of Jangar's list; its `assetClass` is set to ALPACA_MARKET_TYPE"
    )
    trading_static_symbols: str = Field(
        default="",
        description="symbols, comma-separated (default: those of the catalog's strategies); with Jangar the list in use "
        "while it has never answered",
    )
    symbols: str = Field(default="", description="the same as TRADING_STATIC_SYMBOLS")
    trading_disabled_symbols: str = Field(
        default="", description="symbols, comma-separated, that are left out of every list"
    )
    symbols_poll_interval_ms: int = Field(
        default=30000, ge=100, description="pause between two polls of Jangar, milliseconds"
    )
    alpaca_market_type: AssetClass = Field(
        default="equity", description="which market: symbols of the other are left out"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.symbols and self.trading_static_symbols and self.symbols != self.trading_static_symbols:
            raise ValueError("SYMBOLS and TRADING_STATIC_SYMBOLS name two lists (set one of them)")
        return self

    @property
    def universe_source(self) -> str:
        """Where the symbols come from: static or jangar."""
        return self.trading_universe_source or ("jangar" if self.jangar_symbols_url else "static")

    @property
    def static_symbols(self) -> str:
        """The list of symbols, as it is written; "" where none is set."""
        return self.trading_static_symbols or self.symbols


def open_universe(settings: UniverseSettings, fallback: Iterable[str], state: Path) -> ListedUniverse:
    """Make the universe that the settings ask for; `start` it in the event loop that uses it.

    Parameters
    ----------
    fallback : the symbols where TRADING_STATIC_SYMBOLS gives none: those of the catalog's strategies.
    state : directory where the last good list of Jangar is kept.

    Raises
    ------
    SettingsError : a setting is missing or wrong.
    """
    asset_class = settings.alpaca_market_type
    disabled = _listed("TRADING_DISABLED_SYMBOLS", settings.trading_disabled_symbols)
    name = "TRADING_STATIC_SYMBOLS" if settings.trading_static_symbols else "SYMBOLS"
    listed = _listed(name, settings.static_symbols) or set(fallback)
    symbols = sorted(symbol for symbol in listed if is_of(symbol, asset_class))
    others = sorted(listed.difference(symbols))
    if others:
        logs.info("symbols of another market are left out", market=asset_class, symbols=others[:20])
    if settings.universe_source == "static":
        return StaticUniverse(symbols, disabled, None if settings.static_symbols else asset_class)
    if settings.jangar_symbols_url is None:
        raise SettingsError(
            "JANGAR_SYMBOLS_URL is not set, and TRADING_UNIVERSE_SOURCE is jangar (set it, or choose static)"
        )
    from torghut_core.market_data.jangar import LIST_FILE, JangarUniverse  # httpx takes long to import

    return JangarUniverse(
        settings.jangar_symbols_url,
        asset_class,
        path=state / LIST_FILE,
        fallback=symbols,
        disabled=disabled,
        interval_seconds=settings.symbols_poll_interval_ms / 1000,
    )


def _listed(name: str, text: str) -> set[str]:
    """The symbols of a comma-separated setting."""
    symbols = {part.strip() for part in text.split(",")} - {""}
    bad = sorted(symbol for symbol in symbols if not SYMBOL_PATTERN.fullmatch(symbol))
    if bad:
        raise SettingsError(
            f"{name}: {bad[0]!r} is not a symbol (write A-Z, 0-9 and . _ / -, at most 32, commas between)"
        )
    return symbols
