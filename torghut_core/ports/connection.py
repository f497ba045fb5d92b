"""What a plugin that connects to the outside is given, and how it reports why it cannot work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pydantic

from torghut_core.errors import without_secrets
from torghut_core.ports.plugin import Plugin

if TYPE_CHECKING:
    import pyarrow as pa


class Universe(ABC):
    """The symbols that are wanted now: those of the strategies, a list, or another program's; see `torghut_core.market_data`."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order; while the list cannot be fetched, the last known one."""

    @abstractmethod
    async def changed(self) -> None:
        """Wait until `symbols` differ from what they were when this was called."""


class SignalReader(ABC):
    """Reads the signal store as it grows."""

    @abstractmethod
    def signals_until(self) -> int | None:
        """The end of the newest signal's bar, which is when it could be known, ns; None where there are none; may wait.

        Raises
        ------
        StateError : the store does not answer.
        """

    @abstractmethod
    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int, until: int | None = None
    ) -> pa.Table:
        """Signals with their bars, the latest version of each key; may wait.

        Parameters
        ----------
        since : the wanted symbols, each with the time (ns) from which on its rows are wanted: by the end of their bars,
            ``window_end``, so that bars of every length come when they are known.
        after : (window_end, symbol, window_size, seq) of the last row of the page before; None for the first page.
        limit : rows at most, in order of that key.
        until : only rows whose ``window_end`` is before it, ns; None for all that there are.

        Returns
        -------
        Columns ``symbol, event_ts, window_size, seq, window_end, ingest_ts``, the values of ``ta_signals``, and the bar's
        ``o, h, l, c, v, vwap, count``, null where there is no such bar.

        Raises
        ------
        StateError : the store does not answer.
        """


class Connection(msgspec.Struct, frozen=True):
    """What a plugin that connects to the outside needs, and the catalog cannot say.

    `is_live` : real money: all three switches are set. Otherwise the venue's paper account, whatever the catalog says.
    `secret` : returns a secret by the name of its setting, from the environment or from the file that ``NAME_FILE`` names;
    raises `SettingsError` where there is neither. Read it in `connect`, and keep it out of every message.
    `universe` : the wanted symbols; `signals` : the signal store; `state` : a directory for files. Sources and sinks have
    these, brokers have None.
    """

    is_live: bool
    secret: Callable[[str], pydantic.SecretStr]
    universe: Universe | None = None
    signals: SignalReader | None = None
    state: Path | None = None


class Closed(msgspec.Struct, frozen=True):
    """Why a check fails: the `reason` with its fix, and its `error_class`, one of few (``auth``, ``connection-limit``)."""

    reason: str
    error_class: str

    def __post_init__(self) -> None:
        """Keep the words, which may be a server's, without our secrets."""
        msgspec.structs.force_setattr(self, "reason", without_secrets(self.reason))


class Connected(Plugin):
    """A plugin that connects to the outside: a broker, a source or a sink."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that `connect` asks for."""

    def connect(self, connection: Connection) -> None:
        """Keep what it needs; called once, before any other method. Does not wait for a network.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        """

    def close(self) -> None:
        """Close connections and end threads; closing twice is harmless."""
