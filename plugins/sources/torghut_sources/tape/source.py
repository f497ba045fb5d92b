"""The source `replay`: recorded tapes as one stream of events."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pydantic

from torghut_core import (
    SECOND,
    TIMEFRAMES,
    BarEnds,
    Batch,
    Calendars,
    CorporateAction,
    InputError,
    Message,
    Source,
    SymbolTable,
    event_messages,
    param,
)
from torghut_sources.tape.corporate_actions import read_actions
from torghut_sources.tape.formats import open_tape
from torghut_sources.tape.merge import merge
from torghut_sources.tape.repeats import Repeats
from torghut_sources.tape.tapes import Tape

TICK = 0.001
"""Shortest pause of a paced replay, seconds: events that are due within it come together."""
POLL = 0.02
"""Pause at the end of a followed tape before it is read again, seconds."""


class Replay(Source):
    """Play recorded tapes of trades, quotes and bars, merged in the order in which things became known.

    A trade or quote is known when it happened, a bar at its end. What two tapes have, as where they overlap, and a bar that
    is not newer than the last one of its series, are left out and counted. The stream depends on nothing but the tapes, not on
    the batch size nor on the speed, so a position is enough to resume from. To resume, the tapes are read again from the
    start: symbol numbers and the loop's time come from the events before the position.

    A tape that is followed gives the same stream while it grows as when it is complete, but never ends: the caller closes
    `batches`, or cancels its task. A line is given out as soon as it is complete; a file that is truncated, replaced or
    removed meanwhile is an error.

    Parameters
    ----------
    params : see `Params`.
    clock, sleep : monotonic time of a paced replay, and how it and a followed tape wait, seconds.
    """

    is_recorded: ClassVar[bool] = True

    class Params(Source.Params):
        """Parameters of a replay."""

        paths: list[str] = param([], help="files to play: .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz")
        speed: str = param("max", help="max, or a multiple of real time, like 1x or 60x")
        on_bad_row: Literal["fail", "skip"] = param("fail", help="stop at a bad row, or skip and count it")
        bar_step: str | None = param(
            None, help=f"length of the bars, if a tape does not show it: {', '.join(TIMEFRAMES)}"
        )
        calendars: Calendars = param(
            {}, help="exchange calendar by symbol pattern, first match counts, for the ends of daily bars; others: 24/7"
        )
        actions: list[str] = param(
            [], help="tapes of corporate actions, .csv or .jsonl: splits and dividends, applied on their ex dates"
        )
        follow: bool = param(
            False,
            help="wait for more at the end of the tape, as `tail -f` does: one tape, .csv or .jsonl, at speed max",
        )

        @pydantic.field_validator("speed")
        @classmethod
        def _check_speed(cls, speed: str) -> str:
            if speed != "max" and not (re.fullmatch(r"\d+(\.\d+)?x", speed, re.ASCII) and float(speed[:-1]) > 0):
                raise ValueError("use max, or a positive multiple like 1x or 60x")
            return speed

        @pydantic.field_validator("bar_step")
        @classmethod
        def _check_bar_step(cls, bar_step: str | None) -> str | None:
            if bar_step is not None and bar_step not in TIMEFRAMES:
                raise ValueError(f"use one of {', '.join(TIMEFRAMES)}")
            return bar_step

        @pydantic.field_validator("follow")
        @classmethod
        def _check_follow(cls, follow: bool, info: pydantic.ValidationInfo) -> bool:
            if follow and info.data.get("speed", "max") != "max":
                raise ValueError("a tape that is followed is read as it is written: use speed max, or leave out follow")
            return follow

    def __init__(
        self,
        params: Params,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(params)
        self._clock = clock
        self._sleep = sleep
        self._symbols = SymbolTable()
        self._tapes: list[Tape] = []
        self._position = 0

    def check(self) -> None:
        """Read every row once, so that a bad one stops the replay before it starts; no row, where bad ones are skipped.

        Of a followed tape it reads the rows that are there by now.

        Raises
        ------
        InputError : no tapes, or (`TapeError`) one that cannot be replayed, or with a bad row.
        """
        self._open()
        self.corporate_actions()
        if self.params.on_bad_row == "fail":
            symbols = SymbolTable()
            for tape in self._tapes:
                for stream in tape.streams(symbols):
                    for batch in stream:
                        if not len(batch):  # a followed tape ends here for now
                            break

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, positions running from 0 (or from the cursor's) without a gap.

        Never ends where the tape is followed.

        Raises
        ------
        InputError : as `check`, and at the first bad row unless such rows are skipped.
        """
        pace = None if self.params.speed == "max" else _Pace(float(self.params.speed[:-1]), self._clock, self._sleep)
        first, repeats = self._position, Repeats()
        for whole in self._events():
            given, batch = whole.split(max(first, whole.start))
            repeats.leave_out(given)
            while len(batch):
                count = min(size, len(batch) if pace is None else await pace.due(batch))
                ready, batch = batch.split(batch.start + count)
                repeats.leave_out(ready)
                ready.duplicates = len(ready) - len(ready.trades) - len(ready.quotes) - len(ready.bars)
                self._position = ready.stop
                yield ready
            if self.params.follow:  # other tasks run even while a tape grows faster than it is read
                await self._sleep(0 if len(whole) else POLL)

    async def messages(self, size: int) -> AsyncIterator[list[Message]]:
        """Yield the same events as messages, at most `size` at a time; see `event_messages`."""
        async for batch in self.batches(size):
            yield event_messages(batch)

    @property
    def total(self) -> int | None:
        """Rows of all tapes; None before `check`, and if one of them is text."""
        totals = [tape.total for tape in self._tapes if tape.total is not None]
        return sum(totals) if totals and len(totals) == len(self._tapes) else None

    @property
    def skipped(self) -> dict[str, int]:
        """Rows skipped: tape, reason and first place -> count."""
        return {
            f"{tape.path}: {reason}, first in {tape.UNIT} {skipped.first}": skipped.rows
            for tape in self._tapes
            for reason, skipped in tape.skipped.items()
        }

    def corporate_actions(self) -> list[CorporateAction]:
        """Return the splits and dividends of `actions`; see `Source.corporate_actions`."""
        return [action for path in self.params.actions for action in read_actions(Path(path))]

    def cursor(self) -> dict[str, Any]:
        """Return the position after the last batch that was yielded."""
        return {"position": self._position}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Resume from the position of `cursor`."""
        self._position = int(cursor["position"])

    def _open(self) -> None:
        """Open the tapes and check what can be checked without reading all rows."""
        if not self.params.paths:
            raise InputError("no tapes to replay: name them in `paths`, or on the command line")
        follow = self.params.follow
        if follow and len(self.params.paths) > 1:
            raise InputError(
                f"follow takes one tape, not {len(self.params.paths)}: their order would depend on when each was written "
                "(write one tape, or leave out follow)"
            )
        step = TIMEFRAMES.get(self.params.bar_step)
        skip = self.params.on_bad_row == "skip"
        ends = BarEnds(self.params.calendars)
        tapes = [open_tape(Path(path), skip=skip, step=step, follow=follow, ends=ends) for path in self.params.paths]
        for tape in tapes:
            tape.check()
        self._tapes = tapes

    def _events(self) -> Iterator[Batch]:
        """Return the merged stream from the start; a batch is empty where a followed tape ends for now."""
        if not self._tapes:
            self._open()
        streams = [(stream, tape.is_numbered) for tape in self._tapes for stream in tape.streams(self._symbols)]
        return merge([stream for stream, _ in streams], [is_numbered for _, is_numbered in streams])


class _Pace:
    """Waits until events are due: as far apart as they happened, divided by `speed`."""

    def __init__(self, speed: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._origin: tuple[float, int] | None = None

    async def due(self, batch: Batch) -> int:
        """Wait until at least the first event of `batch` is due; return how many are."""
        if self._origin is None:
            self._origin = self._clock(), int(batch.now[0])
        began, first = self._origin
        while True:
            reached = first + round((self._clock() - began) * self._speed * SECOND)
            count = int(np.searchsorted(batch.now, reached, side="right"))
            if count:
                return count
            await self._sleep(max((int(batch.now[0]) - reached) / SECOND / self._speed, TICK))
