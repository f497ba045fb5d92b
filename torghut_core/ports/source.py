"""Sources and sinks: where events come from and where they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar

from torghut_core.errors import InputError
from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.market import Batch, Message
from torghut_core.ports.connection import Closed, Connected
from torghut_core.telemetry.metrics import Metric, MetricSpec


class LaneKeeper(ABC):
    """Keeps the derived state of each lane (see `Batch.lane`), for sources whose lanes come and go."""

    @abstractmethod
    async def take(self, lane: str) -> dict[str, Any] | None:
        """The source begins to read the lane; return the cursor that was saved with its state, None where none was."""

    @abstractmethod
    async def leave(self, lane: str) -> None:
        """The source stops reading the lane: save its state. `Source.commit` is called before this returns.

        A lane that is no longer in the source's `cursor` is lost: its state must not be saved, because another process may
        have the lane already.
        """


class Endpoint(Connected):
    """An end of a pipeline, a source or a sink: it reports why it makes no progress, and its metrics."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()
    """Its metrics: name, meaning, and the label that distinguishes the numbers of one name."""

    def gates(self) -> Mapping[str, Closed | None]:
        """Checks by name: None where one passes, otherwise why it fails. Empty where nothing can fail."""
        return {}

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {}


class Source(Endpoint, ABC):
    """Where events come from: an asynchronous iterator of batches.

    A live one may lose its connection at any time: it reconnects by itself, fills the gap, and says in `gates` meanwhile
    why its data cannot be traded on.
    """

    is_stored: ClassVar[bool] = False
    """Its rows come from the signal store, so they are not written there again."""

    is_recorded: ClassVar[bool] = False
    """It reads tapes: `torghut replay` uses it and sets its parameters `paths`, `speed`, `on_bad_row` and `follow`. It can
    wait, so the loop waits for the signal store and never skips a row that could not be stored. With `is_stored`: it reads a
    window of the signal store, and `torghut replay --from-store` sets its parameters `symbols`, `since`, `until` and `limit`."""

    venue_calendars: ClassVar[Mapping[str, str]] = {}
    """The exchange calendars of what it carries, by symbol pattern, where it carries one venue; the catalog's `instruments` come
    first."""

    has_lanes: ClassVar[bool] = False
    """It reads lanes, and resumes each from what `keeper` saved. Only pipelines without a broker accept such a source."""

    keeper: LaneKeeper | None = None
    """Set by the kernel before it calls `batches`, if it saves the state of lanes."""

    @abstractmethod
    def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, positions running from 0 (or from the cursor's) without a gap.

        A live source yields a clock tick (a position without a row) when nothing comes for a while, but never while it
        knows of a gap: time must not advance past events that are still to come.

        Raises
        ------
        TapeError : a bad file or row, with its place and fix.
        InputError : a permanent refusal by the venue, such as wrong keys.
        """

    def messages(self, size: int) -> AsyncIterator[list[Message]]:
        """Yield the same events as messages, at most `size` at a time, for a pipeline that only forwards them.

        Events that have no columns (statuses, corrections) are included.
        """
        del size
        raise InputError(f"{type(self).__name__} cannot be forwarded: it gives no messages (use another source)")

    def history(self, symbols: Sequence[str], since: int, until: int) -> AsyncIterator[list[Message]]:
        """Yield the events from `since` up to, not including, `until` (ns), in order of time, for a back-fill.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        del symbols, since, until
        raise InputError(f"{type(self).__name__} has no history (use another source)")

    async def past_actions(self, symbols: Sequence[str], since: date, until: date) -> list[CorporateAction]:
        """Return the splits and dividends with an ex date from `since` up to, not including, `until`, in order, for a back-fill.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        del symbols, since, until
        raise InputError(f"{type(self).__name__} has no corporate actions (use another source)")

    def check(self) -> None:
        """Read the whole tape once, and raise as `batches` would, so that nothing is traded on a bad tape.

        Does nothing for a source that cannot be read twice.
        """

    @property
    def total(self) -> int | None:
        """How many events there are in all, for a progress bar; None where that is not known."""
        return None

    @property
    def skipped(self) -> dict[str, int]:
        """Rows left out by ``--on-bad-row skip``: reason (with the first place) -> count."""
        return {}

    def corporate_actions(self) -> Sequence[CorporateAction]:
        """The splits and dividends that it knows of, in any order: replays and backtests apply them on their ex dates.

        Raises
        ------
        TapeError : a bad tape of them.
        """
        return ()

    def cursor(self) -> dict[str, Any]:
        """Plain values from which `seek` resumes after the last batch that was yielded; by lane where there are lanes."""
        return {}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Resume after the batch at which `cursor` was taken."""
        raise NotImplementedError(f"{type(self).__name__} cannot resume")

    def known_until(self) -> int | None:
        """The time, ns, up to which every event was yielded; None where that is not known, as while there is a gap.

        A forwarder sends it to the processes that derive, which close windows by it when no event comes. A source that
        knows it yields an empty list of messages when only the time has advanced.
        """
        return None

    def commit(self, cursor: dict[str, Any]) -> None:
        """Everything before this cursor is durable: a source that keeps its own place need not yield it again."""


class Sink(Endpoint, ABC):
    """Where events go: a bus. It keeps their order. `close` may lose what was not flushed before."""

    @abstractmethod
    async def send(self, messages: Sequence[Message]) -> None:
        """Take messages, in this order; wait while too many are unacknowledged, and never drop any.

        Raises
        ------
        StateError : the bus has refused a message for good; the error names it.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until every message that was taken is acknowledged.

        Raises
        ------
        StateError : the bus has refused a message for good.
        """
