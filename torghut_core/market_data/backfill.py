"""The past of some symbols, and their corporate actions, fetched from a source into a tape."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

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

    _write_whole(path, write)
    return events


def write_actions(path: Path, source: Source, symbols: Sequence[str], since: date, until: date) -> Counter[str]:
    """Write a CSV tape of the splits and dividends with an ex date in ``[since, until)``; it appears whole or not at all.

    Returns
    -------
    How many there are, by kind.

    Raises
    ------
    InputError : the file cannot be written, or the source has no corporate actions.
    VenueError : the source does not answer.
    """
    found: Counter[str] = Counter()

    async def write(file: BinaryIO) -> None:
        lines = ["symbol,ex_date,kind,ratio,amount,payable_date"]
        for action in await source.past_actions(symbols, since, until):
            kind = "split" if action.is_split else "cash_dividend"
            terms = f"{action.new:f}:{action.old:f}," if action.is_split else f",{action.dividend:f}"
            lines.append(f"{action.symbol},{action.ex_date},{kind},{terms},{action.payable_date or ''}")
            found[kind] += 1
        file.write("\n".join([*lines, ""]).encode())

    _write_whole(path, write)
    return found


def _write_whole(path: Path, write: Callable[[BinaryIO], Coroutine[Any, Any, None]]) -> None:
    """Let `write` fill a file, which appears whole or not at all."""
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
