"""What a process serves while another one owns its state directory: probes, and who that is. It can open nothing there."""

from __future__ import annotations

from typing import Any, ClassVar

from torghut_core.execution.standby import ReplicaRole, standby_status
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.telemetry.metrics import MetricSpec
from torghut_core.timestamps import SYSTEM_CLOCK, Clock


class Waiting:
    """Implements `routes.probes.Probed` for a process that waits for its state directory: alive, and not ready."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()

    def __init__(self, directory: StateDirectory, clock: Clock = SYSTEM_CLOCK) -> None:
        self._directory = directory
        self._clock = clock

    @property
    def reason(self) -> str:
        """Whom it waits for."""
        directory = self._directory
        return (
            f"state directory {directory.path} is in use by {directory.owner}"
            " (this process takes over when that one ends; or give another --state)"
        )

    def health(self) -> list[str]:
        """See `Probed`."""
        return []

    def readiness(self) -> list[str]:
        """See `Probed`."""
        return [f"{ReplicaRole.STANDBY}: {self.reason}"]

    def gates(self) -> dict[str, str]:
        """See `Probed`."""
        return {str(ReplicaRole.STANDBY): self.reason}

    def error_class(self) -> str:
        """See `Probed`."""
        return "unknown"

    def metrics(self) -> dict[str, Any]:
        """See `Probed`."""
        return {}

    def status(self) -> dict[str, Any]:
        """What ``/trading/status`` of a process that stands by has, as far as it is known."""
        directory = self._directory
        standby = standby_status(self.reason, directory.owner, directory.owned_since, self._clock)
        return {"role": ReplicaRole.STANDBY, "standby": standby}
