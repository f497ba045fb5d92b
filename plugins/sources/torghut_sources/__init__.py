"""The signal sources and stages that come with Torghut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torghut_core import Register, Source, hookimpl
from torghut_sources.replay import Replay

if TYPE_CHECKING:  # who only reads tapes does not pay for the stage compiler
    from torghut_core.stages import Stage


@hookimpl
def register_sources(register: Register[Source]) -> None:
    """Bring every source of this package."""
    register("replay", Replay)


@hookimpl
def register_stages(register: Register[Stage]) -> None:
    """Bring every stage of this package."""
    from torghut_sources.stages.indicators import Indicators
    from torghut_sources.stages.microbars import Microbars
    from torghut_sources.stages.resample import Resample

    register("microbars", Microbars)
    register("resample", Resample)
    register("indicators", Indicators)
