"""Sources and sinks: where events come from and where they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from torghut_core.errors import InputError
from torghut_core.model.market import Batch, Message
from torghut_core.ports.connection import Closed, Connected
from torghut_core.telemetry.metrics import Metric, MetricSpec


class LaneKeeper(ABC):
    """Keeps what was made of each lane (see `Batch.lane`), for sources whose lanes come and go."""

    @abstractmethod
    async def take(self, lane: str) -> dict[str, Any] | None:
        """The lane will be read from now on; give the cursor that was kept with its state, None where none was."""

    @abstractmethod
    async def leave(self, lane: str) -> None:
        """The lane will not be read any more: make durable what came of it. `Source.commit` is called before it returns.

        A lane that the source's `cursor` does not have any more is lost: of that one nothing is to be kept, as somebody
        else may have it already.
        """


class Endpoint(Connected):
    """An end of a pipeline, a source or a sink: it reports why it makes no progress, and its numbers."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()
    """Its metrics: what each is called, what it means, and by which label its numbers are told apart."""

    def gates(self) -> Mapping[str, Closed | None]:
        """What has to be so for it to make progress, by name; None where it is. Empty where nothing can be wrong."""
        return {}

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {}


class Source(Endpoint, ABC):
    """Where events come from: an asynchronous iterator of batches.

    A live one may lose its connection at any time: it finds it again by itself, fills the gap, and tells meanwhile by
    `gates` why nothing can be made of what it gives.
    """

    is_stored: ClassVar[bool] = False
    """What it gives was derived before and comes from the signal store, so it is not written there again."""

    is_recorded: ClassVar[bool] = False
    """It reads tapes: `torghut replay` uses it and sets its parameters `paths`, `speed`, `on_bad_row` and `follow`. It can
    wait, so the loop waits for the signal store and never skips a row that could not be stored."""

    has_lanes: ClassVar[bool] = False
    """Its batches are of lanes, which it asks `keeper` for. Only pipelines without a broker take such a source."""

    keeper: LaneKeeper | None = None
    """Set by the kernel, before `batches` is called, where it keeps the state of lanes."""

    @abstractmethod
    def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, positions running from 0 (or from the cursor's) without a gap.

        A live source gives a clock tick (a position without a row) when nothing comes for a while, but never while it
        knows of a gap: time must not pass over what is still to come.

        Raises
        ------
        TapeError : a bad file or row, with its place and fix.
        InputError : what the venue says for good, such as wrong keys.
        """

    def messages(self, size: int) -> AsyncIterator[list[Message]]:
        """Yield the same events as they travel, at most `size` at a time, for a pipeline that only forwards them.

        Events that have no columns (statuses, corrections) are among them.
        """
        del size
        raise InputError(f"{type(self).__name__} cannot be forwarded: it gives no messages (use another source)")

    def history(self, symbols: Sequence[str], since: int, until: int) -> AsyncIterator[list[Message]]:
        """Yield what happened from `since` up to, not including, `until` (ns), in order of time, for a back-fill.

        Raises
        ------
        VenueError : the venue does not answer.
        """
        del symbols, since, until
        raise InputError(f"{type(self).__name__} has no history (use another source)")

    def check(self) -> None:
        """Read what is recorded once, and raise as `batches` would, so that nothing is traded on a bad tape.

        Does nothing for a source that cannot be read twice.
        """

    @property
    def total(self) -> int | None:
        """Events to come in all, for a progress bar; None where nobody knows."""
        return None

    @property
    def skipped(self) -> dict[str, int]:
        """Rows left out by ``--on-bad-row skip``: reason (with the first place) -> count."""
        return {}

    def cursor(self) -> dict[str, Any]:
        """Plain values from which `seek` goes on after the last batch that was yielded; by lane where there are lanes."""
        return {}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Go on after the batch at which `cursor` was taken."""
        raise NotImplementedError(f"{type(self).__name__} cannot resume")

    def known_until(self) -> int | None:
        """The time, ns, up to which every event was given out; None where that is not known, as while there is a gap.

        A pipeline that forwards it tells it to those who derive: they close windows by it where nothing comes. A source that
        says it yields an empty list of messages when only time went on.
        """
        return None

    def commit(self, cursor: dict[str, Any]) -> None:
        """What came before this cursor is stored for good: where the source keeps that itself, it need not give it again."""


class Sink(Endpoint, ABC):
    """Where events go: a bus. It keeps their order. `close` may lose what was not flushed."""

    @abstractmethod
    async def send(self, messages: Sequence[Message]) -> None:
        """Take messages, in this order; waits while too much is under way, and never drops any.

        Raises
        ------
        StateError : the bus has refused something for good; it is named.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until everything taken is acknowledged.

        Raises
        ------
        StateError : it cannot be.
        """
