"""The signal store: microbars and signals in ClickHouse, embedded by default, a server by URL, or in memory.

`database` is what each of them can be asked, `open_signal_store` makes the one that is wanted. Nothing here computes a
signal; who writes and who reads is the caller's business.
"""

from torghut_core.signals.database import Selection, SignalDatabase
from torghut_core.signals.memory import MemorySignalStore
from torghut_core.signals.open import open_signal_store

__all__ = ["MemorySignalStore", "Selection", "SignalDatabase", "open_signal_store"]
