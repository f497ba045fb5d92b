"""Catalogs on what was recorded: the loaded plugins that read it and simulate fills, in place of those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torghut_core.catalog import Catalog, InstrumentEntry, Pipeline, Use
from torghut_core.errors import InputError
from torghut_core.generation.instruments import venue_calendars
from torghut_core.plugin_host import PluginHost


def use_tapes(catalog: Catalog, host: PluginHost, params: Mapping[str, Any]) -> Catalog:
    """The catalog with its `trading` pipeline on tapes and a simulated broker, whatever it says.

    A source that reads tapes and a simulated broker stay as they are; others give way to the first loaded plugin of that
    kind. `params` override the source's. What the venue knows of its symbols becomes instruments.

    Raises
    ------
    InputError : no such plugin is loaded.
    """
    pipeline = catalog.pipelines.get("trading")
    if pipeline is None:
        return catalog
    source = _kept_or_first(pipeline.source, host, "source", _tape_sources(host), "reads tapes").model_dump()
    return _simulated(catalog, pipeline, host, {"source": source | {"params": source["params"] | params}})


def use_stored(
    catalog: Catalog, host: PluginHost, params: Mapping[str, Any], broker: Mapping[str, Any] = MappingProxyType({})
) -> Catalog:
    """The catalog with its `trading` pipeline on a window of the signal store and a simulated broker, whatever it says.

    What the store has was derived already, so no stage is left. `params` are the source's, see `Source.is_recorded`;
    `broker` those that override the simulated broker's.

    Raises
    ------
    InputError : no such plugin is loaded.
    """
    pipeline = catalog.pipelines.get("trading")
    if pipeline is None:
        return catalog
    names = host.names_where("source", lambda cls: cls.is_recorded and cls.is_stored)
    if not names:
        raise _missing("source", "reads a window of the signal store")
    source = Use(use=names[0], params=dict(params))
    stored = _simulated(catalog, pipeline, host, {"source": source.model_dump(), "stages": ()})
    made = stored.pipelines["trading"]
    if made.broker is None or not broker:
        return stored
    given = made.broker.model_dump()
    parts = {"broker": given | {"params": given["params"] | broker}}
    trading = Pipeline.model_validate(made.model_dump() | parts)
    return stored.with_(pipelines=MappingProxyType({**stored.pipelines, "trading": trading}))


def _simulated(catalog: Catalog, pipeline: Pipeline, host: PluginHost, parts: Mapping[str, Any]) -> Catalog:
    """The catalog with other parts of its `trading` pipeline, on a simulated broker."""
    broker = pipeline.broker
    if broker is not None:
        simulated = host.names_where("broker", lambda cls: cls.capabilities.simulated)
        broker = _kept_or_first(broker, host, "broker", simulated, "simulates fills")
    replayed = Pipeline.model_validate(pipeline.model_dump() | {**parts, "broker": broker})
    instruments = {
        name: InstrumentEntry(calendar=calendar) for name, calendar in venue_calendars(pipeline, host).items()
    }
    return catalog.with_(
        pipelines=MappingProxyType({**catalog.pipelines, "trading": replayed}),
        instruments=MappingProxyType({**instruments, **catalog.instruments}),
    )


def tape_source(host: PluginHost) -> str:
    """The name of the loaded source that reads tapes; the first of several.

    Raises
    ------
    InputError : none is loaded.
    """
    names = _tape_sources(host)
    if not names:
        raise _missing("source", "reads tapes")
    return names[0]


def _tape_sources(host: PluginHost) -> list[str]:
    return host.names_where("source", lambda cls: cls.is_recorded and not cls.is_stored)


def _kept_or_first(entry: Use, host: PluginHost, kind: str, fitting: Sequence[str], what: str) -> Use:
    if entry.use in fitting:
        return entry
    if fitting:
        return Use(use=fitting[0])
    if entry.use not in host.registry[kind]:
        return entry  # and building it says why it is not there
    raise _missing(kind, what)


def _missing(kind: str, what: str) -> InputError:
    return InputError(f"no loaded {kind} {what} (install a plugin that does, and allow it in the catalog's `plugins`)")
