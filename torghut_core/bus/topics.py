"""The topic of each channel, as the environment names it."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from torghut_core.environment import Environment
from torghut_core.errors import InputError

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]

NAMESPACE: Final = "torghut."
SIMULATED: Final = "sim."
"""Follows `NAMESPACE` in the names of topics for simulated data."""


class Topics(Environment):
    """Names of topics: ``TOPIC_TRADES`` and the others.

    Examples
    --------
    >>> topics = Topics()
    >>> topics.of("bars"), topics.of("trades", simulated=True)
    ('torghut.bars.1m.v1', 'torghut.sim.trades.v1')
    """

    topic_trades: TopicName = Field(default="torghut.trades.v1", description="topic of trades")
    topic_quotes: TopicName = Field(default="torghut.quotes.v1", description="topic of quotes")
    topic_bars_1m: TopicName = Field(default="torghut.bars.1m.v1", description="topic of the venue's bars")
    topic_status: TopicName = Field(
        default="torghut.status.v1", description="topic of halts, corrections and the like, and of time marks"
    )
    topic_trade_updates: TopicName = Field(default="torghut.trade-updates.v1", description="topic of order updates")
    topic_ta_microbars: TopicName = Field(default="torghut.ta.bars.1s.v1", description="topic of microbars")
    topic_ta_signals: TopicName = Field(default="torghut.ta.signals.v1", description="topic of signals")
    topic_ta_status: TopicName = Field(
        default="torghut.ta.status.v1", description="topic of the TA pipeline's heartbeat"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        settings: dict[str, str] = {}
        for setting in _FIELDS.values():
            name = getattr(self, setting)
            other = settings.setdefault(name, setting)
            if other != setting:
                both = f"{other.upper()} and {setting.upper()}"
                raise ValueError(f"{both} share a topic, {name} (give each its own)")
        return self

    def of(self, channel: str, simulated: bool = False) -> str:
        """The topic of a channel; `simulated` names another one, ``torghut.sim.`` instead of ``torghut.``.

        A name that does not begin with ``torghut.`` gets ``sim.`` in front.

        Raises
        ------
        InputError : there is no such channel.
        """
        field = _FIELDS.get(channel)
        if field is None:
            raise InputError(f"channel {channel!r} has no topic (use one of {', '.join(_FIELDS)})")
        name: str = getattr(self, field)
        if not simulated:
            return name
        bare = name.removeprefix(NAMESPACE)
        return f"{NAMESPACE if bare != name else ''}{SIMULATED}{bare}"


_FIELDS = {
    "trades": "topic_trades",
    "quotes": "topic_quotes",
    "bars": "topic_bars_1m",
    "status": "topic_status",
    "trade-updates": "topic_trade_updates",
    "microbars": "topic_ta_microbars",
    "signals": "topic_ta_signals",
    "ta-status": "topic_ta_status",
}
