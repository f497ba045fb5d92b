"""The signal store: microbars and signals in ClickHouse, embedded by default, a server by URL."""

from torghut_core.signals.store import MemorySignalStore, SignalDatabase, open_signal_store

__all__ = ["MemorySignalStore", "SignalDatabase", "open_signal_store"]
