"""The signal sources, sinks and stages that come with Torghut."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from torghut_core import Indicator, Register, Sink, Source, hookimpl
from torghut_sources.tape.source import Replay

if TYPE_CHECKING:  # a process that only reads tapes does not import the stage compiler
    from torghut_core.stages import Stage


@hookimpl
def register_sources(register: Register[Source]) -> None:
    """Register every source of this package."""
    from torghut_sources.alpaca.source import Alpaca
    from torghut_sources.bus import KafkaSource, MemorySource
    from torghut_sources.signal_store import ClickHouseSignals
    from torghut_sources.stored_signals import StoredSignals

    register("replay", Replay)
    register("alpaca", Alpaca)
    register("kafka", KafkaSource)
    register("memory", MemorySource)
    register("clickhouse-signals", ClickHouseSignals)
    register("stored-signals", StoredSignals)


@hookimpl
def register_sinks(register: Register[Sink]) -> None:
    """Register every sink of this package."""
    from torghut_sources.bus import KafkaSink, MemorySink

    register("kafka", KafkaSink)
    register("memory", MemorySink)


@hookimpl
def register_stages(register: Register[Stage]) -> None:
    """Register every stage of this package."""
    from torghut_sources.stages.indicators import Indicators
    from torghut_sources.stages.microbars import Microbars
    from torghut_sources.stages.resample import Resample

    register("microbars", Microbars)
    register("resample", Resample)
    register("indicators", Indicators)


@hookimpl
def register_indicators(register: Register[Indicator]) -> None:
    """Register every indicator of this package."""
    from torghut_sources.indicators import INDICATORS

    for name, place in INDICATORS.items():
        module, cls = place.split(":")
        register(name, getattr(import_module(f"torghut_sources.indicators.{module}"), cls))
