"""Which exchange calendar each symbol of a catalog has: of its instruments, or of the venue that the pipeline trades at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torghut_core.calendars import ROUND_THE_CLOCK, calendar_of
from torghut_core.catalog import Catalog, Pipeline
from torghut_core.plugin_host import PluginHost

PAIR = "*/*"
"""The pattern of pairs, like BTC/USD."""

ALL_DAYS = {PAIR: ROUND_THE_CLOCK, "*": ROUND_THE_CLOCK}
"""The calendars of symbols of which nothing is known: days of UTC. They come after all others."""

_HINT = (
    'its days are those of UTC, it is taken to trade round the clock; write `instruments: {{"{symbol}": {{asset_class: equity}}}}`,'
    " or give its `calendar`"
)


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
