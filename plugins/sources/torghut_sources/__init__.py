"""The signal sources and stages that come with Torghut."""

from __future__ import annotations

from torghut_core import Register, Source, hookimpl
from torghut_sources.replay import Replay


@hookimpl
def register_sources(register: Register[Source]) -> None:
    """Bring every source of this package."""
    register("replay", Replay)
