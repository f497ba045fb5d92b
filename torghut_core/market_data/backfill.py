"""The past of some symbols, fetched from a source into a tape."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from torghut_core.errors import InputError
from torghut_core.ports import Source


def write_tape(
    path: Path,
    source: Source,
    symbols: Sequence[str],
    since: int,
    until: int,
    on_progress: Callable[[int], None] = lambda _events: None,
) -> Counter[str]:
    """Write a JSONL tape of what happened in ``[since, until)``, ns, in order of time; it appears whole or not at all.

    Parameters
    ----------
    source : one with a `history`, connected.
    symbols : of which instruments.
    on_progress : called with the number of events so far.

    Returns
    -------
    How many events were fetched, by channel.

    Raises
    ------
    InputError : the file cannot be written.
    VenueError : the source does not answer.
    """
    events: Counter[str] = Counter()

    async def write(file: BinaryIO) -> None:
        async for messages in source.history(symbols, since, until):
            events.update(message.channel for message in messages)
            file.writelines(message.value + b"\n" for message in messages)
            on_progress(events.total())

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                asyncio.run(write(file))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error} (choose another file)") from error
    return events
