"""What a plugin is given that connects to the outside, and what it reports: why it cannot work, and its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pydantic

from torghut_core.ports.plugin import Plugin

if TYPE_CHECKING:
    import pyarrow as pa

    from torghut_core.environment import Environment


class Universe(ABC):
    """The symbols that are wanted now: of the strategies, a list, or another program's; see `torghut_core.market_data`."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order; the last list that is known while nobody can say."""

    @abstractmethod
    async def changed(self) -> None:
        """Wait until `symbols` are others than they were when this was called."""


class SignalReader(ABC):
    """Reads the signal store as it grows."""

    @abstractmethod
    def signals_until(self) -> int | None:
        """When the newest signal could be known, the end of its bar, ns; None where there are none; may wait.

        Raises
        ------
        StateError : the store does not answer.
        """

    @abstractmethod
    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int
    ) -> pa.Table:
        """Signals with their bars, each key once, the latest version of it; may wait.

        Parameters
        ----------
        since : the symbols that are wanted, each with the time (ns) from which its rows are: by the end of their bars,
            ``window_end``, so that bars of every length come when they are known.
        after : (window_end, symbol, window_size, seq) of the last row that is not wanted any more; None for all.
        limit : rows at most, in order of that key.

        Returns
        -------
        Columns ``symbol, event_ts, window_size, seq, window_end, ingest_ts``, the values of ``ta_signals``, and the bar's
        ``o, h, l, c, v, vwap, count``, null where there is no such bar.

        Raises
        ------
        StateError : the store does not answer.
        """


class Connection(msgspec.Struct, frozen=True):
    """What a plugin that reaches out needs, and cannot have from the catalog.

    `is_live` : real money: all three switches are set. Otherwise the venue's paper account, whatever the catalog says.
    `secret` : a secret by the name of its setting, from the environment or from the file that ``NAME_FILE`` names;
    raises `SettingsError` where neither is there. Read it when you connect, and keep it out of every message.
    `universe` : which symbols are wanted; `signals` : the signal store; `state` : a directory to keep things in. Sources
    and sinks have these, brokers have None.
    """

    is_live: bool
    secret: Callable[[str], pydantic.SecretStr]
    universe: Universe | None = None
    signals: SignalReader | None = None
    state: Path | None = None


class Closed(msgspec.Struct, frozen=True):
    """Why a gate is closed: `reason` with its fix in words, `error_class` in one of few (``auth``, ``connection-limit``)."""

    reason: str
    error_class: str


class Connected(Plugin):
    """A plugin that reaches out of the process: a broker, a source or a sink."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that `connect` asks for."""

    settings: ClassVar[tuple[type[Environment], ...]] = ()
    """What it reads of the environment; `torghut doctor` checks it."""

    def connect(self, connection: Connection) -> None:
        """Take what it needs; called once, before anything else is asked of it. Does not wait for a network.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        """

    def close(self) -> None:
        """Let go of connections and threads; closing twice is harmless."""
