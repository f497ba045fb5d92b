"""Which symbols are wanted: a list that stands, or what Jangar says, asked again and again.

Who asks Jangar is never left without an answer because Jangar is: the last list that was good holds, also over a restart,
and it is said that it is old. An empty answer is an outage too; who means to stop a pair disables it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx
import msgspec
from pydantic import Field

from torghut_core.environment import Environment
from torghut_core.errors import SettingsError, reason_of, without_secrets
from torghut_core.model.market import SYMBOL_PATTERN
from torghut_core.ports import Closed, Metric, Universe
from torghut_core.telemetry import logs

AssetClass: TypeAlias = Literal["equity", "crypto"]

LARGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read; more is an outage."""

LIST_FILE = "universe.json"
"""In the state directory: the last good list of each asset class, and when it came."""

FAILURES = (
    "timeout",
    "unreachable",
    "status",
    "not-json",
    "bad-shape",
    "too-large",
    "too-many",
    "empty",
    "bad-symbols",
    "error",
)
"""Why an answer is none: the values of ``reason`` in the metrics."""


class UniverseSettings(Environment):
    """Where the symbols come from."""

    trading_universe_source: Literal["static", "jangar"] = Field(
        default="static", description="who says which symbols are wanted: a list that stands, or Jangar"
    )
    jangar_symbols_url: str | None = Field(
        default=None, description="where Jangar says it; `assetClass` is set to ALPACA_MARKET_TYPE"
    )
    trading_static_symbols: str = Field(
        default="",
        description="symbols between commas, without them those of the catalog's strategies; with Jangar the list to begin "
        "with while it does not answer",
    )
    trading_disabled_symbols: str = Field(
        default="", description="symbols between commas that are not wanted, whoever says so"
    )
    symbols_poll_interval_ms: int = Field(default=30000, ge=100, description="how often Jangar is asked, milliseconds")
    alpaca_market_type: AssetClass = Field(
        default="equity", description="which market: symbols of the other are left out"
    )


class _Base(Universe):
    """What both have: a list, and those who wait for another one."""

    def __init__(self, disabled: Iterable[str]) -> None:
        self._disabled = frozenset(disabled)
        self._listed: frozenset[str] = frozenset()
        self._held: frozenset[str] = frozenset()
        self._symbols: tuple[str, ...] = ()
        self._turn = asyncio.Event()

    @property
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order; see `Universe.symbols`."""
        return self._symbols

    async def changed(self) -> None:
        """Wait until `symbols` are others than they were when this was called."""
        before = self._symbols
        while self._symbols == before:
            await self._turn.wait()

    def keep(self, symbols: Iterable[str]) -> None:
        """These stay wanted whatever the list says, and those of the last call no more: who holds something has to see it."""
        held = frozenset(symbols)
        if held != self._held:
            self._held = held
            self._want(self._listed)

    def _want(self, symbols: Iterable[str]) -> None:
        self._listed = frozenset(symbols)
        wanted = tuple(sorted((self._listed - self._disabled) | self._held))
        if wanted != self._symbols:
            self._symbols = wanted
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()

    def follow(self, symbols: Iterable[str]) -> None:
        """The catalog's strategies trade these now; only a list that was theirs changes."""

    @abstractmethod
    def start(self) -> None:
        """Begin to look, in the running loop; does not wait."""

    @abstractmethod
    def close(self) -> None:
        """Look no more; closing twice is harmless."""

    @abstractmethod
    def gates(self) -> dict[str, Closed | None]:
        """Gate ``universe``: closed while there is no symbol at all, for whatever reason."""

    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """As `Source.metrics`; failures by ``reason``."""


class StaticUniverse(_Base):
    """A list that stands.

    Parameters
    ----------
    symbols : in any order.
    disabled : symbols to leave out.
    follows : of which market the catalog's symbols are taken over when they change; None: the list stands.
    """

    def __init__(self, symbols: Iterable[str], disabled: Iterable[str] = (), follows: AssetClass | None = None) -> None:
        super().__init__(disabled)
        self._follows = follows
        self._want(symbols)

    def follow(self, symbols: Iterable[str]) -> None:
        """See `_Base.follow`."""
        if self._follows is not None:
            market = self._follows
            self._want(symbol for symbol in symbols if is_of(symbol, market))

    def start(self) -> None:
        """Nothing to begin."""

    def close(self) -> None:
        """Nothing to end."""

    def gates(self) -> dict[str, Closed | None]:
        """Gate ``universe``: closed where the list is empty."""
        hint = "no symbol is wanted (set TRADING_STATIC_SYMBOLS, or list symbols of ALPACA_MARKET_TYPE in the catalog)"
        return {"universe": None if self._symbols else Closed(hint, "no-symbols")}

    def metrics(self) -> Mapping[str, Metric]:
        """None: nothing is fetched."""
        return {}


class JangarUniverse(_Base):
    """What Jangar says, asked at an interval.

    It answers with a list of symbols, or an object with that list as ``symbols``. An entry is a text, or an object with
    ``symbol`` and perhaps ``enabled``; a symbol with ``enabled`` false is left out. An entry that is no symbol of the asset
    class is left out and named; when all are such, or the list is empty, that is an outage.

    Parameters
    ----------
    url : where to ask; its ``assetClass`` is set, its other parameters are kept.
    asset_class : crypto symbols have a ``/``, others none.
    path : file that keeps the last good list over a restart; None: it is not kept.
    fallback : the list while there was never a good one, from the first outage on.
    disabled : symbols to leave out, whatever Jangar says.
    interval_seconds : from one answer to the next question, give or take a tenth.
    timeout_seconds : most that one answer may take.
    most : symbols at most; more is an outage, as what to leave out would be a guess.

    Raises
    ------
    SettingsError : `url` is none.
    """

    def __init__(
        self,
        url: str,
        asset_class: AssetClass,
        *,
        path: Path | None = None,
        fallback: Iterable[str] = (),
        disabled: Iterable[str] = (),
        interval_seconds: float = 30.0,
        timeout_seconds: float = 5.0,
        most: int = 1000,
    ) -> None:
        super().__init__(disabled)
        self._url = _url_of(url, asset_class)
        self._asset_class = asset_class
        self._path = path
        self._fallback = tuple(fallback)
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._most = most
        self._task: asyncio.Task[None] | None = None
        self._has_list = False
        self._problem = "has not answered yet"
        self._error_class = "starting"
        self._said = ""
        self._successes = 0
        self._failures = dict.fromkeys(FAILURES, 0)
        self._success_at = self._failure_at = 0.0
        self._kept: tuple[str, ...] | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether `symbols` may not be what Jangar wants now."""
        return bool(self._problem)

    def start(self) -> None:
        """Take the list on disk, if there is one, and begin to ask."""
        if self._task is None:
            kept, problem = _read(self._path, self._asset_class, self._most)
            if problem:
                logs.warning("the list of symbols on disk is not used", file=str(self._path), why=problem)
            if kept is not None:
                self._has_list, self._kept = True, kept
                self._want(kept)
            client = httpx.AsyncClient(
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=self._timeout_seconds,
                trust_env=False,
                verify=ssl.create_default_context() if self._url.scheme == "https" else False,
            )
            self._task = asyncio.get_running_loop().create_task(self._look(client))

    def close(self) -> None:
        """Ask no more; closing twice is harmless."""
        if self._task is not None:
            self._task.cancel()

    def gates(self) -> dict[str, Closed | None]:
        """Gate ``universe``: closed while there is no symbol. An old list is no reason; see `is_degraded`."""
        if self._symbols:
            return {"universe": None}
        if self._problem:
            reason = (
                f"no symbol is known: Jangar {self._problem} (check JANGAR_SYMBOLS_URL, or set TRADING_STATIC_SYMBOLS)"
            )
            return {"universe": Closed(reason, self._error_class)}
        reason = "every symbol is disabled (enable one in Jangar, or take it out of TRADING_DISABLED_SYMBOLS)"
        return {"universe": Closed(reason, "no-symbols")}

    def metrics(self) -> Mapping[str, Metric]:
        """As `Source.metrics`; failures by ``reason``, times in seconds since 1970, 0 for never."""
        name = "ws_desired_symbols_fetch"
        return {
            f"{name}_degraded": float(self.is_degraded),
            f"{name}_success_total": self._successes,
            f"{name}_failures_total": dict(self._failures),
            f"{name}_last_success_ts_seconds": self._success_at,
            f"{name}_last_failure_ts_seconds": self._failure_at,
        }

    async def _look(self, client: httpx.AsyncClient) -> None:
        async with client:
            while True:
                await self._look_once(client)
                await asyncio.sleep(self._interval_seconds * random.uniform(0.9, 1.1))

    async def _look_once(self, client: httpx.AsyncClient) -> None:
        try:
            wanted, bad = _symbols_of(await self._ask(client), self._asset_class, self._most)
        except _Outage as outage:
            self._fail(outage)
            return
        except Exception as error:  # a universe that stops looking is worse than any error
            self._fail(_Outage("error", f"cannot be understood: {reason_of(error)}"))
            return
        self._successes += 1
        self._success_at = time.time()
        self._has_list = True
        self._want(wanted)
        problem, error_class = "", ""
        if bad:
            some = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
            problem = f"lists {len(bad)} that are no {self._asset_class} symbols and are left out: {some}"
            error_class = "bad-symbols"
        if self._path is not None and wanted != self._kept:
            try:
                await asyncio.to_thread(_keep, self._path, self._asset_class, wanted)
                self._kept = wanted
            except OSError as error:
                problem = problem or f"gave a list that cannot be kept in {self._path}: {error.strerror}"
                error_class = error_class or "disk"
        self._note(problem, error_class, "what else it says")

    async def _ask(self, client: httpx.AsyncClient) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._timeout_seconds), client.stream("GET", self._url) as response:
                if response.status_code != 200:
                    raise _Outage("status", f"answers {response.status_code}")
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise _Outage("too-large", f"answers more than {LARGEST_ANSWER} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise _Outage("timeout", f"does not answer within {self._timeout_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise _Outage("unreachable", f"cannot be reached: {reason_of(error)}") from None
        return body

    def _fail(self, outage: _Outage) -> None:
        self._failures[outage.reason] += 1
        self._failure_at = time.time()
        if not self._has_list:
            self._want(self._fallback)
        held = "the last list" if self._has_list else "the list of TRADING_STATIC_SYMBOLS or the catalog"
        self._note(str(outage), outage.reason, held)

    def _note(self, problem: str, error_class: str, held: str) -> None:
        """Say what is wrong once, not with every look, and say when nothing is any more."""
        self._problem, self._error_class = problem, error_class
        if problem == self._said:
            return
        if problem:
            logs.warning("Jangar " + problem, url=_shown(self._url), holds=held, symbols=len(self._symbols))
        else:
            logs.info("Jangar answers again", url=_shown(self._url), symbols=len(self._symbols))
        self._said = problem


def open_universe(
    settings: UniverseSettings, fallback: Iterable[str], state: Path, asset_class: AssetClass | None = None
) -> StaticUniverse | JangarUniverse:
    """The universe that the settings ask for; `start` it in the loop that it is used in.

    Parameters
    ----------
    fallback : the symbols where TRADING_STATIC_SYMBOLS gives none: those of the catalog's strategies.
    state : directory for the file `LIST_FILE`.
    asset_class : symbols of the other one are left out; None: ALPACA_MARKET_TYPE.

    Raises
    ------
    SettingsError : a setting is missing or wrong.
    """
    asset_class = asset_class or settings.alpaca_market_type
    disabled = _listed("TRADING_DISABLED_SYMBOLS", settings.trading_disabled_symbols)
    listed = _listed("TRADING_STATIC_SYMBOLS", settings.trading_static_symbols) or set(fallback)
    symbols = sorted(symbol for symbol in listed if is_of(symbol, asset_class))
    others = sorted(listed.difference(symbols))
    if others:
        logs.info("symbols of another market are left out", market=asset_class, symbols=others[:20])
    if settings.trading_universe_source == "static":
        return StaticUniverse(symbols, disabled, None if settings.trading_static_symbols else asset_class)
    if settings.jangar_symbols_url is None:
        raise SettingsError(
            "JANGAR_SYMBOLS_URL is not set, and TRADING_UNIVERSE_SOURCE is jangar (set it, or choose static)"
        )
    return JangarUniverse(
        settings.jangar_symbols_url,
        asset_class,
        path=state / LIST_FILE,
        fallback=symbols,
        disabled=disabled,
        interval_seconds=settings.symbols_poll_interval_ms / 1000,
    )


class _Outage(Exception):
    """An answer that is none."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(without_secrets(message))


class _Entry(msgspec.Struct):
    symbol: Any
    enabled: bool = True


def is_of(symbol: Any, asset_class: AssetClass) -> bool:
    """Whether this is a symbol of the market: crypto's have a ``/``, those of equities none."""
    return (
        isinstance(symbol, str)
        and SYMBOL_PATTERN.fullmatch(symbol) is not None
        and ("/" in symbol) == (asset_class == "crypto")
    )


def _symbols_of(body: bytes, asset_class: AssetClass, most: int) -> tuple[tuple[str, ...], list[str]]:
    """The symbols of an answer that are enabled, and what of it is no symbol."""
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise _Outage("not-json", "answers no JSON") from None
    entries = answer.get("symbols") if isinstance(answer, dict) else answer
    if not isinstance(entries, list):
        raise _Outage("bad-shape", "answers neither a list nor an object with a list `symbols`")
    if not entries:
        raise _Outage("empty", "answers with an empty list")
    if len(entries) > most:
        raise _Outage("too-many", f"answers with more than {most} symbols")
    is_wanted: dict[str, bool] = {}
    bad = []
    for item in entries:
        try:
            entry = _Entry(item) if isinstance(item, str) else msgspec.convert(item, _Entry)
        except msgspec.ValidationError:
            bad.append(_short(item))
            continue
        if is_of(entry.symbol, asset_class):
            is_wanted[entry.symbol] = is_wanted.get(entry.symbol, True) and entry.enabled
        else:
            bad.append(_short(entry.symbol))
    if not is_wanted:
        raise _Outage("bad-symbols", f"lists no {asset_class} symbol, but {bad[0]}")
    return tuple(sorted(symbol for symbol, wanted in is_wanted.items() if wanted)), bad


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(name: str, text: str) -> set[str]:
    """The symbols between the commas of a setting."""
    symbols = {part.strip() for part in text.split(",")} - {""}
    bad = sorted(symbol for symbol in symbols if not SYMBOL_PATTERN.fullmatch(symbol))
    if bad:
        raise SettingsError(
            f"{name}: {bad[0]!r} is not a symbol (write A-Z, 0-9 and . _ / -, at most 32, commas between)"
        )
    return symbols


def _url_of(url: str, asset_class: AssetClass) -> httpx.URL:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise SettingsError("JANGAR_SYMBOLS_URL is no address (write http://HOST/api/torghut/symbols)")
    return parts.copy_set_param("assetClass", asset_class)


def _shown(url: httpx.URL) -> str:
    return str(url.copy_with(userinfo=b""))


def _read(path: Path | None, asset_class: AssetClass, most: int) -> tuple[tuple[str, ...] | None, str]:
    """The list that is kept of an asset class (None: there is none), and why one that is there cannot be used."""
    if path is None:
        return None, ""
    try:
        lists = _lists(path)
        if asset_class not in lists:
            return None, ""
        symbols = lists[asset_class]["symbols"]
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        return None, reason_of(error)
    if not isinstance(symbols, list) or len(symbols) > most or not all(is_of(one, asset_class) for one in symbols):
        return None, f"it is not a list of at most {most} {asset_class} symbols"
    return tuple(sorted(set(symbols))), ""


def _lists(path: Path) -> dict[str, Any]:
    lists = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(lists, dict):
        raise TypeError("it is no object")
    return lists


def _keep(path: Path, asset_class: AssetClass, symbols: tuple[str, ...]) -> None:
    """Write the list beside those of other asset classes: a process that dies leaves the old file or the new one."""
    try:
        lists = _lists(path)
    except (OSError, ValueError, TypeError, RecursionError):
        lists = {}
    lists[asset_class] = {"symbols": symbols, "at": int(time.time())}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(lists, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
