"""The past of some symbols, fetched from a source into a tape."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from torghut_core.errors import InputError
from torghut_core.model.market import Message
from torghut_core.ports import Source
from torghut_core.timestamps import format_timestamp


class Backfill:
    """Fetches what happened in ``[since, until)``, ns, in order of time.

    Parameters
    ----------
    source : one with a `history`, connected.
    symbols : of which instruments.

    Attributes
    ----------
    events : how many were fetched, by channel.
    """

    def __init__(self, source: Source, symbols: Sequence[str], since: int, until: int) -> None:
        if until <= since:
            raise InputError(
                f"nothing lies between --start {format_timestamp(since)} and --end {format_timestamp(until)} "
                "(--start has to come first)"
            )
        self._source = source
        self._symbols = symbols
        self._since = since
        self._until = until
        self.events: Counter[str] = Counter()

    def to_tape(self, path: Path, on_progress: Callable[[int], None] = lambda _events: None) -> int:
        """Write a JSONL tape of envelopes, which appears whole or not at all; return its events.

        Raises
        ------
        InputError : the file cannot be written.
        VenueError : the source does not answer.
        """
        return asyncio.run(self._write(path, on_progress))

    async def _write(self, path: Path, on_progress: Callable[[int], None]) -> int:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            try:
                with part.open("wb") as file:
                    async with aclosing(self._messages()) as pages:
                        async for messages in pages:
                            file.writelines(message.value + b"\n" for message in messages)
                            on_progress(self.events.total())
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error} (choose another file)") from error
        return self.events.total()

    async def _messages(self) -> AsyncGenerator[list[Message], None]:
        async for messages in self._source.history(self._symbols, self._since, self._until):
            for message in messages:
                self.events[message.channel] += 1
            yield messages
