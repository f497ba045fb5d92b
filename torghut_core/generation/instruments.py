"""The terms of each symbol of a catalog: of its instruments, of its class, or of the venue that the pipeline trades at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from torghut_core.calendars import ROUND_THE_CLOCK, calendar_of, first_match
from torghut_core.catalog import Catalog, InstrumentEntry, Pipeline
from torghut_core.model.instruments import Instrument
from torghut_core.plugin_host import PluginHost

PAIR = "*/*"
"""The pattern of pairs, like BTC/USD."""

ALL_DAYS = {PAIR: ROUND_THE_CLOCK, "*": ROUND_THE_CLOCK}
"""The calendars of symbols of which nothing is known: days of UTC. They come after all others."""

_HINT = (
    'its days are those of UTC, it is taken to trade round the clock with multiplier 1; write `instruments: {{"{symbol}": {{asset_class: equity}}}}`,'
    " or give its `calendar`"
)


class Instruments:
    """The terms of every symbol, each found once.

    Parameters
    ----------
    entries : of the catalog, by symbol or pattern; the first that matches a symbol counts.
    calendars : of the venue, by pattern, for symbols without an entry.
    """

    def __init__(
        self,
        entries: Mapping[str, InstrumentEntry] = MappingProxyType({}),
        calendars: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._entries = entries
        self._calendars = calendars
        self._found: dict[str, Instrument] = {}

    def __getitem__(self, symbol: str) -> Instrument:
        """Return the terms of a symbol."""
        found = self._found.get(symbol)
        if found is None:
            found = self._found[symbol] = self._find(symbol)
        return found

    def _find(self, symbol: str) -> Instrument:
        entry = first_match(symbol, self._entries)
        if entry is None:
            is_pair = fnmatchcase(symbol, PAIR)
            calendar = calendar_of(symbol, self._calendars) or ROUND_THE_CLOCK
            return Instrument(asset_class="crypto" if is_pair else "", calendar=calendar)
        return Instrument(**entry.terms)


def venue_calendars(parts: Pipeline | None, host: PluginHost) -> dict[str, str]:
    """Return the calendars that the broker and the source of a pipeline know, by symbol pattern, the broker's first."""
    found: dict[str, str] = {}
    for kind, entry in (("broker", parts.broker), ("source", parts.source)) if parts else ():
        plugin = host.registry[kind].get(entry.use) if entry else None
        for pattern, calendar in getattr(plugin.cls, "venue_calendars", {}).items() if plugin else ():
            found.setdefault(pattern, calendar)
    return found


def with_calendars(params: dict[str, Any], cls: Any, calendars: Mapping[str, str]) -> dict[str, Any]:
    """Return parameters of a plugin with these calendars behind its own, where it has a parameter `calendars`.

    A `calendar` among the parameters is its own too: that of all symbols that no narrower pattern matches.
    """
    field = cls.Params.model_fields.get("calendars")
    if field is None or not calendars:
        return params
    given = params.get("calendars", {})
    if not isinstance(given, Mapping):
        return params  # and its validation says what is wrong
    own = {} if "calendars" in params else field.get_default(call_default_factory=False) or {}
    if "calendar" in params:
        calendars = {name: calendar for name, calendar in calendars.items() if name != "*"}
    merged = {**own, **calendars, **given}
    order = dict.fromkeys([*given, *sorted(calendars, key=ALL_DAYS.__contains__), *own])
    return params | {"calendars": {name: merged[name] for name in order}}


def with_terms(params: dict[str, Any], cls: Any, entries: Mapping[str, InstrumentEntry]) -> dict[str, Any]:
    """Return parameters of a plugin with the multipliers and margins of instruments behind its own, where it has such parameters."""
    for name, term in (("multipliers", "multiplier"), ("margins", "margin")):
        terms: dict[str, Decimal] = {pattern: getattr(entry, term) for pattern, entry in entries.items()}
        given = params.get(name, {})
        if (
            name in cls.Params.model_fields
            and isinstance(given, Mapping)
            and any(value != 1 for value in terms.values())
        ):
            params = params | {name: {**given, **{key: value for key, value in terms.items() if key not in given}}}
    return params


def foreign_currencies(catalog: Catalog, host: PluginHost) -> Iterator[tuple[str, str, str]]:
    """Yield the instruments whose prices are in another currency than the account's, with their currency and the account's."""
    parts = catalog.pipelines.get("trading")
    broker = host.registry["broker"].get(parts.broker.use) if parts and parts.broker else None
    if parts is None or parts.broker is None or broker is None:
        return
    field = broker.cls.Params.model_fields.get("currency")
    own = parts.broker.params.get("currency", field.default if field else "USD")
    for name, entry in catalog.instruments.items():
        if entry.currency is not None and entry.currency != own:
            yield name, entry.currency, str(own)


def unknown_symbols(catalog: Catalog, host: PluginHost) -> Iterator[tuple[str, str]]:
    """Yield the symbols of strategies that have no calendar, each once, with the key of the entry that lists it first.

    Pairs have one, and symbols in the catalog's instruments, in a parameter `calendars` of the `trading` pipeline, or of the
    venue.
    """
    parts = catalog.pipelines.get("trading")
    known = {PAIR: ROUND_THE_CLOCK, **catalog.calendars, **venue_calendars(parts, host)}
    for use in (parts.source, *parts.stages, parts.broker) if parts else ():
        given = use.params.get("calendars") if use else None
        known |= given if isinstance(given, Mapping) else {}
    seen = set()
    for index, entry in enumerate(catalog.strategies):
        for symbol in entry.symbols:
            if symbol not in seen and calendar_of(symbol, known) is None:
                seen.add(symbol)
                yield symbol, f"{entry.place or f'strategies[{index}]'}.symbols"


def catalog_warnings(catalog: Catalog, host: PluginHost) -> list[str]:
    """Return what is not wrong with a catalog but may not be meant: symbols that are taken to trade round the clock."""
    return [
        f"{catalog.marks.problem(key, f'{symbol} is no pair and no instrument', _HINT.format(symbol=symbol))}"
        for symbol, key in unknown_symbols(catalog, host)
    ]
