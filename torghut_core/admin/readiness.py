"""Whether a process can make progress: gates, each open, or closed for a reason, and since when.

Source, sink, store and universe each say in `gates()` what has to be so. Ready is when all of them are open. Not ready is
not dead: a process lives on while its venue is away, and is ended by its supervisor only when that takes too long. Data
that is old never ends it: at night and at weekends nothing comes, and another process would hear no more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock

from torghut_core.ports import Closed, Metric
from torghut_core.telemetry import logs

Ask = Callable[[], Mapping[str, Closed | None]]

NEVER_FATAL = frozenset({"freshness"})
"""Gates that may be closed for as long as they like."""

REMEMBERED = 1000
"""So many changes are remembered."""


class Readiness:
    """The gates of a process.

    Parameters
    ----------
    asks : who is asked for gates; of two that name the same gate, a closed one counts.
    kill_after_s : not ready for so long is not alive, seconds; 0 for never.
    clock : monotonic seconds.

    Attributes
    ----------
    history : (seconds, names of the gates that are closed) whenever that changed, the oldest first, at most `REMEMBERED`.
    """

    def __init__(self, *asks: Ask, kill_after_s: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._asks = asks
        self._kill_after_s = kill_after_s
        self._clock = clock
        self._lock = Lock()
        self._stuck_since: float | None = None
        self._told: set[tuple[str, str]] = set()
        self.history: deque[tuple[float, tuple[str, ...]]] = deque(maxlen=REMEMBERED)

    def look(self) -> dict[str, Closed | None]:
        """Every gate as it is now, in alphabetical order; from any thread."""
        gates: dict[str, Closed | None] = {}
        for ask in self._asks:
            for name, gate in ask().items():
                gates[name] = gates.get(name) or gate
        closed = {name: gate for name, gate in sorted(gates.items()) if gate is not None}
        with self._lock:
            self._note(closed)
        return dict(sorted(gates.items()))

    def _note(self, closed: Mapping[str, Closed]) -> None:
        """Remember and log what has changed: each class of trouble once, until all gates are open again."""
        now, before = self._clock(), self.history[-1][1] if self.history else None
        classes = {(name, gate.error_class) for name, gate in closed.items()}
        if tuple(closed) == before and classes <= self._told:
            return
        self._told = self._told | classes if closed else set()
        if closed:
            logs.warning("not ready", **{name: gate.reason for name, gate in closed.items()})
        elif before:
            logs.warning("ready again")
        if tuple(closed) == before:
            return
        self.history.append((now, tuple(closed)))
        if closed.keys() <= NEVER_FATAL:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now

    def reasons(self) -> list[str]:
        """Why it is not ready; empty when it is."""
        return [f"{name}: {gate.reason}" for name, gate in self.look().items() if gate is not None]

    def health(self) -> list[str]:
        """Why it is to be ended: not ready for too long."""
        reasons, since = self.reasons(), self._stuck_since
        if not reasons or since is None or not self._kill_after_s:
            return []
        waited = self._clock() - since
        if waited < self._kill_after_s:
            return []
        return [f"not ready for {waited:.0f} s (HEALTH_NOT_READY_KILL_AFTER_MS): {'; '.join(reasons)}"]

    def metrics(self) -> dict[str, Metric]:
        """The gates as numbers: 1 is open, and ready."""
        gates = self.look()
        classes = {gate.error_class for gate in gates.values() if gate is not None}
        return {
            "ws_readyz_status": float(not classes),
            "ws_readyz_gate_status": {name: float(gate is None) for name, gate in gates.items()},
            "ws_readyz_error_class": dict.fromkeys(sorted(classes), 1.0),
        }
