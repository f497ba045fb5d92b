"""The signal store: microbars and signals in ClickHouse, embedded by default, a server by URL, or in memory.

`database` is what each of them can be asked, `open_signal_store` makes the one that is wanted. Nothing here computes a
signal; who writes and who reads is the caller's business.
"""

from torghut_core.signals.arrays import column, dictionary, mask, texts
from torghut_core.signals.database import Selection, SignalDatabase
from torghut_core.signals.failures import Remedy, StoreError
from torghut_core.signals.guardrails import Guardrails
from torghut_core.signals.memory import MemorySignalStore
from torghut_core.signals.open import is_embedded_installed, open_signal_store
from torghut_core.signals.schema import KEY, TABLES, ttl_setting

__all__ = [
    "KEY",
    "TABLES",
    "Guardrails",
    "MemorySignalStore",
    "Remedy",
    "Selection",
    "SignalDatabase",
    "StoreError",
    "column",
    "dictionary",
    "is_embedded_installed",
    "mask",
    "open_signal_store",
    "texts",
    "ttl_setting",
]
