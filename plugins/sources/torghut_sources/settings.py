"""The settings of the TA pipeline that are defaults of its parameters: ``TA_*``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torghut_core import Environment


class TaSettings(Environment):
    """Defaults of parameters of stages, and of the sources that read a bus."""

    ta_max_out_of_order_ms: int = Field(
        default=2000, ge=0, le=3_600_000, description="how late a trade may arrive and still count, milliseconds"
    )
    ta_quote_stale_after_ms: int = Field(default=2000, ge=0, description="age at which a quote is stale, milliseconds")
    ta_auto_offset_reset: Literal["earliest", "latest"] = Field(
        default="earliest", description="where a partition that is new to the consumer group is read from"
    )
