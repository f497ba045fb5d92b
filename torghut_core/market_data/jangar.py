"""The symbols that Jangar lists, fetched again and again.

If Jangar does not answer, the last good list stays in use, also over a restart, and is reported as old. An empty answer
counts as an outage too: to stop a pair, disable it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import msgspec

from torghut_core.errors import SettingsError, reason_of, without_secrets
from torghut_core.files import read_file
from torghut_core.market_data.universe import AssetClass, ListedUniverse, is_of
from torghut_core.ports import Closed
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock

LARGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read; more is an outage."""

LIST_FILE = "universe.json"
"""In the state directory: the last good list of each asset class, and when it was fetched."""

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
"""Why an answer was not used: the values of ``reason`` in the metrics."""


class JangarUniverse(ListedUniverse):
    """The symbols that Jangar lists, fetched at an interval.

    Jangar answers with a list of symbols, or an object with that list as ``symbols``. An entry is a text, or an object with
    ``symbol`` and perhaps ``enabled``; a symbol with ``enabled`` false is left out. An entry that is no symbol of the asset
    class is left out and named; when all are such, or the list is empty, that is an outage.

    Parameters
    ----------
    url : address of the list; its ``assetClass`` is set, its other parameters are kept.
    asset_class : crypto symbols have a ``/``, others none.
    path : file that keeps the last good list over a restart; None: it is not kept.
    fallback : the list while there was never a good one, from the first outage on.
    disabled : symbols to leave out, whatever Jangar says.
    interval_seconds : from one answer to the next request, give or take a tenth.
    timeout_seconds : longest time for one answer.
    most : symbols at most; more is an outage, as what to leave out would be a guess.
    clock : the time of the last answer and outage.

    Raises
    ------
    SettingsError : `url` is not an HTTP address.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("ws_desired_symbols_fetch_degraded", "1 while the last known list of symbols is used."),
        MetricSpec("ws_desired_symbols_fetch_success_total", "Lists of symbols that were fetched."),
        MetricSpec(
            "ws_desired_symbols_fetch_failures_total",
            "Lists of symbols that could not be fetched, by reason.",
            "reason",
        ),
        MetricSpec(
            "ws_desired_symbols_fetch_last_success_ts_seconds",
            "When a list of symbols was last fetched, Unix time in seconds; 0 for never.",
        ),
        MetricSpec(
            "ws_desired_symbols_fetch_last_failure_ts_seconds",
            "When fetching a list of symbols last failed, Unix time in seconds; 0 for never.",
        ),
    )

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
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(disabled)
        self._url = _url_of(url, asset_class)
        self._asset_class = asset_class
        self._path = path
        self._fallback = tuple(fallback)
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._most = most
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._has_list = False
        self._problem = "has not answered yet"
        self._error_class = "starting"
        self._logged = ""
        self._successes = 0
        self._failures = dict.fromkeys(FAILURES, 0)
        self._success_at = self._failure_at = 0.0
        self._stored: tuple[str, ...] | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether `symbols` may not be what Jangar wants now."""
        return bool(self._problem)

    def start(self) -> None:
        """Use the list on disk, if there is one, and begin to poll."""
        if self._task is None:
            stored, problem = _read(self._path, self._asset_class, self._most)
            if problem:
                logs.warning("the list of symbols on disk is not used", file=str(self._path), why=problem)
            if stored is not None:
                self._has_list, self._stored = True, stored
                self._set_list(stored)
            client = httpx.AsyncClient(
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=self._timeout_seconds,
                trust_env=False,
                verify=ssl.create_default_context() if self._url.scheme == "https" else False,
            )
            self._task = asyncio.get_running_loop().create_task(self._poll(client))

    def close(self) -> None:
        """Stop polling; closing twice is harmless."""
        if self._task is not None:
            self._task.cancel()

    def gates(self) -> dict[str, Closed | None]:
        """Check ``universe``: closed while there is no symbol. An old list does not close it; see `is_degraded`."""
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
        """The numbers of `metric_specs`, by name."""
        name = "ws_desired_symbols_fetch"
        return {
            f"{name}_degraded": float(self.is_degraded),
            f"{name}_success_total": self._successes,
            f"{name}_failures_total": dict(self._failures),
            f"{name}_last_success_ts_seconds": self._success_at,
            f"{name}_last_failure_ts_seconds": self._failure_at,
        }

    async def _poll(self, client: httpx.AsyncClient) -> None:
        async with client:
            while True:
                await self._poll_once(client)
                await asyncio.sleep(self._interval_seconds * random.uniform(0.9, 1.1))

    async def _poll_once(self, client: httpx.AsyncClient) -> None:
        try:
            wanted, bad = _symbols_of(await self._fetch(client), self._asset_class, self._most)
        except _Outage as outage:
            self._fail(outage)
            return
        except Exception as error:  # a universe that stops polling is worse than any error
            self._fail(_Outage("error", f"cannot be understood: {reason_of(error)}"))
            return
        self._successes += 1
        self._success_at = self._clock.wall() / SECOND
        self._has_list = True
        self._set_list(wanted)
        problem, error_class = "", ""
        if bad:
            some = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
            problem = f"lists {len(bad)} that are no {self._asset_class} symbols and are left out: {some}"
            error_class = "bad-symbols"
        if self._path is not None and wanted != self._stored:
            try:
                await asyncio.to_thread(_store, self._path, self._asset_class, wanted, self._clock.wall() // SECOND)
                self._stored = wanted
            except OSError as error:
                problem = problem or f"gave a list that cannot be kept in {self._path}: {error.strerror}"
                error_class = error_class or "disk"
        self._report(problem, error_class, "the rest of its answer")

    async def _fetch(self, client: httpx.AsyncClient) -> bytes:
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
        self._failure_at = self._clock.wall() / SECOND
        if not self._has_list:
            self._set_list(self._fallback)
        in_use = "the last list" if self._has_list else "the list of TRADING_STATIC_SYMBOLS or the catalog"
        self._report(str(outage), outage.reason, in_use)

    def _report(self, problem: str, error_class: str, in_use: str) -> None:
        """Log a problem once, not at every poll, and its end."""
        self._problem, self._error_class = problem, error_class
        if problem == self._logged:
            return
        if problem:
            logs.warning("Jangar " + problem, url=_shown(self._url), in_use=in_use, symbols=len(self._symbols))
        else:
            logs.info("Jangar answers again", url=_shown(self._url), symbols=len(self._symbols))
        self._logged = problem


class _Outage(Exception):
    """An answer that cannot be used, or no answer."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(without_secrets(message))


class _Entry(msgspec.Struct):
    symbol: Any
    enabled: bool = True
    asset_class: str | None = msgspec.field(default=None, name="assetClass")


def _symbols_of(body: bytes, asset_class: AssetClass, most: int) -> tuple[tuple[str, ...], list[str]]:
    """The enabled symbols of an answer, and its entries that are no symbols."""
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise _Outage("not-json", "answers no JSON") from None
    entries = answer.get("symbols", answer.get("items")) if isinstance(answer, dict) else answer
    if not isinstance(entries, list):
        raise _Outage("bad-shape", "answers neither a list nor an object with a list `symbols` or `items`")
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
        if is_of(entry.symbol, asset_class) and entry.asset_class in (None, asset_class):
            is_wanted[entry.symbol] = is_wanted.get(entry.symbol, True) and entry.enabled
        else:
            bad.append(_short(entry.symbol))
    if not is_wanted:
        raise _Outage("bad-symbols", f"lists no {asset_class} symbol, but {bad[0]}")
    return tuple(sorted(symbol for symbol, wanted in is_wanted.items() if wanted)), bad


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


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
    """The stored list of an asset class (None: there is none), and why one that is there cannot be used."""
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
    lists = json.loads(read_file(path, LARGEST_ANSWER))
    if not isinstance(lists, dict):
        raise TypeError("it is no object")
    return lists


def _store(path: Path, asset_class: AssetClass, symbols: tuple[str, ...], at: int) -> None:
    """Write the list beside those of other asset classes: a process that dies leaves the old file or the new one."""
    try:
        lists = _lists(path)
    except (OSError, ValueError, TypeError, RecursionError):
        lists = {}
    lists[asset_class] = {"symbols": symbols, "at": at}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(lists, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
