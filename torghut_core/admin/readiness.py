"""Whether a process can make progress: checks, each passed, or failed for a reason, and since when.

Source, sink, store and universe each say in `gates()` what has to be so. Ready is when all of these checks pass. Not ready
is not dead: a process lives on while its venue is away, and its supervisor ends it only when that takes too long. Old data
never ends it: at night and at weekends nothing comes, and another process would receive no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import ClassVar

from torghut_core.boundary import from_plugins, new_context, reason_and_place
from torghut_core.ports import Closed
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

Checks = Callable[[], Mapping[str, Closed | None]]

NEVER_FATAL = frozenset({"freshness", "resume"})
"""Checks that never make the process unhealthy, only not ready."""

NO_KAFKA = frozenset(
    {"connecting", "joining", "unreachable", "unknown-topic", "unknown-topic-or-part", "unknown-partition", "timed-out"}
)
"""Classes of the check ``bus`` for which brokers or topics are not reached; for others, but ``auth``, records are refused."""

REMEMBERED = 1000
"""How many changes `Readiness.history` keeps."""


def ask_checks(checks: Checks) -> Mapping[str, Closed | None]:
    """The checks as they are now; a plugin that raises has failed one of them."""
    try:
        return new_context().run(checks)
    except from_plugins() as error:
        return {"plugin": Closed(f"its checks cannot be asked: {reason_and_place(error)}", "plugin")}


def readiness_class(name: str, closed: Closed) -> str:
    """The class of a check that fails, in the words that runbooks and alerts of a forwarder know.

    Examples
    --------
    >>> readiness_class("auth", Closed("end the other program", "connection-limit"))
    'alpaca_406_second_connection'
    """
    match name, closed.error_class:
        case "bus", "auth":
            return "kafka_auth"
        case "bus", "missing-records" | "misdated":
            return "unknown"
        case "bus", error_class:
            return "kafka_metadata" if error_class in NO_KAFKA else "kafka_produce"
        case "auth" | "subscription", "auth":
            return "alpaca_auth"
        case "auth" | "subscription", "connection-limit":
            return "alpaca_406_second_connection"
    return "unknown"


def readiness_switches(gates: Mapping[str, str]) -> dict[str, bool]:
    """Whether stream, Kafka and order updates are well, by the names of a forwarder's runbooks; {} where there are none.

    `gates` are the checks by name, each with the reason why it fails. What a process does not have holds nothing up.
    """
    if gates.keys().isdisjoint(("auth", "bus", "venue")):
        return {}
    return {
        "alpaca_ws": not (gates.get("auth") or gates.get("subscription")),
        "kafka": not gates.get("bus"),
        "trade_updates": not gates.get("venue"),
    }


class Readiness:
    """The checks of a process.

    Parameters
    ----------
    checks : what gives checks by name; of two that give the same one, a failed one counts.
    kill_after_s : not ready for so long is unhealthy, seconds; 0 for never.
    clock : where it asks for the time.

    Attributes
    ----------
    history : (seconds, names of the checks that fail) whenever that changed, the oldest first, at most `REMEMBERED`.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("ws_readyz_status", "1 while all checks pass: the process can make progress."),
        MetricSpec("ws_readyz_gate_status", "1 for each check that passes.", "gate"),
        MetricSpec("ws_readyz_error_class", "1 for each class of trouble for which a check fails.", "error_class"),
    )

    def __init__(self, *checks: Checks, kill_after_s: float = 0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._checks = checks
        self._kill_after_s = kill_after_s
        self._clock = clock
        self._lock = Lock()
        self._stuck_since: float | None = None
        self._logged: set[tuple[str, str]] = set()
        self.history: deque[tuple[float, tuple[str, ...]]] = deque(maxlen=REMEMBERED)

    def poll(self) -> dict[str, Closed | None]:
        """Every check as it is now, in alphabetical order; from any thread."""
        gates: dict[str, Closed | None] = {}
        for check in self._checks:
            for name, gate in ask_checks(check).items():
                gates[name] = gates.get(name) or gate
        closed = {name: gate for name, gate in sorted(gates.items()) if gate is not None}
        with self._lock:
            self._record(closed)
        return dict(sorted(gates.items()))

    def _record(self, closed: Mapping[str, Closed]) -> None:
        """Remember and log what has changed: each class of trouble once, until all checks pass again."""
        now, before = self._clock.monotonic(), self.history[-1][1] if self.history else None
        classes = {(name, gate.error_class) for name, gate in closed.items()}
        if tuple(closed) == before and classes <= self._logged:
            return
        self._logged = self._logged | classes if closed else set()
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

    def restart_grace(self) -> None:
        """Count the time that it is not ready from now on: until now it did not matter."""
        with self._lock:
            if self._stuck_since is not None:
                self._stuck_since = self._clock.monotonic()

    def reasons(self) -> list[str]:
        """Why it is not ready; empty when it is."""
        return [f"{name}: {gate.reason}" for name, gate in self.poll().items() if gate is not None]

    def error_class(self) -> str:
        """The `readiness_class` of the first check that fails, one that is not ``unknown`` first; "" where none fails."""
        classes = [readiness_class(name, gate) for name, gate in self.poll().items() if gate is not None]
        return next((each for each in classes if each != "unknown"), "unknown" if classes else "")

    def health(self) -> list[str]:
        """Why it is unhealthy: not ready for too long."""
        reasons, since = self.reasons(), self._stuck_since
        if not reasons or since is None or not self._kill_after_s:
            return []
        waited = self._clock.monotonic() - since
        if waited < self._kill_after_s:
            return []
        return [f"not ready for {waited:.0f} s (HEALTH_NOT_READY_KILL_AFTER_MS): {'; '.join(reasons)}"]

    def metrics(self) -> dict[str, Metric]:
        """The checks as numbers: 1 is passed, and ready."""
        gates = self.poll()
        classes = {gate.error_class for gate in gates.values() if gate is not None}
        return {
            "ws_readyz_status": float(not classes),
            "ws_readyz_gate_status": {name: float(gate is None) for name, gate in gates.items()},
            "ws_readyz_error_class": dict.fromkeys(sorted(classes), 1.0),
        }
