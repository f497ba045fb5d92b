"""Watching a catalog: each of its contents once, soon after it has come to rest.

What the operating system says about files is a hint and no more: an update of a mounted ConfigMap never names the
catalog's file, an editor's save is two changes, and a watch goes deaf without a word when its directory is replaced. So
every hint means "read again", what was read counts and not what happened, and the catalog is read every `poll_seconds`
as well. The hint only makes it quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from torghut_core.catalog.loading import read
from torghut_core.errors import CatalogError
from torghut_core.telemetry import logs

Version: TypeAlias = Mapping[str, str] | CatalogError
"""What was read: the texts of the catalog by file, as `catalog.load` takes them, or why they cannot be read."""

PATIENCE = 40
"""A catalog that is written without end is taken as it is after so many times `settle_seconds`."""


def directory_changes(path: Path) -> AsyncIterable[object]:
    """Something whenever anything changes in the directory of a catalog, as the operating system tells it.

    The directory and not the file: of a mounted ConfigMap the link ``..data`` is exchanged, and a watch of the file
    dies with the first one.
    """
    from watchfiles import awatch

    directory = path if path.is_dir() else path.parent
    # Without `watch_filter` a catalog below `.git`, `.venv` or the like would never be reported.
    return awatch(directory, watch_filter=None, recursive=False, debounce=100)


class CatalogWatch:
    """Tells what a catalog holds now, and whenever it holds something else.

    Parameters
    ----------
    path : the catalog: a file, or a folder of them.
    poll_seconds : how often it is read, whatever the watcher says.
    settle_seconds : how long a new content must have stayed the same before it counts.
    changes : the watcher: from a path, something for every time when the catalog may have changed.
    read : the texts of the catalog at a path; raises `CatalogError`.

    Attributes
    ----------
    is_polling : the watcher is missing, has died or has missed a change; changes are found every `poll_seconds`. It is
        started anew, and this is False again when it has reported something.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        poll_seconds: float = 10.0,
        settle_seconds: float = 0.05,
        changes: Callable[[Path], AsyncIterable[object]] = directory_changes,
        read: Callable[[Path], Mapping[str, str]] = read,
    ) -> None:
        self.is_polling = False
        self._path = Path(path)
        self._poll_seconds = poll_seconds
        self._settle_seconds = settle_seconds
        self._changes = changes
        self._read = read

    async def versions(self) -> AsyncGenerator[Version, None]:
        """Yield what the catalog holds, at once, and again whenever that is not what was yielded last.

        A catalog that cannot be read is a `CatalogError`, once for each reason; readable again, it is yielded also
        where it is what it was before. Writes in quick succession are one version, the last; a touch or a new mount of
        the same content is none. Ends when its task is canceled or the iterator is closed (`contextlib.aclosing`).
        """
        woken = asyncio.Event()
        listener = asyncio.create_task(self._listen(woken))
        is_poll = False
        last: object = None
        try:
            while True:
                version = await self._settled(last)
                if _content(version) != last:
                    if is_poll and not woken.is_set():  # the watcher is deaf, perhaps to a directory that is no more
                        self._note_polling("it missed a change")
                        await _end(listener)
                        listener = asyncio.create_task(self._listen(woken))
                    last = _content(version)
                    yield version
                try:
                    async with asyncio.timeout(self._poll_seconds):
                        await woken.wait()
                except TimeoutError:
                    is_poll = True
                else:
                    is_poll = False
                woken.clear()
        finally:
            await _end(listener)

    async def _listen(self, woken: asyncio.Event) -> None:
        while True:
            try:
                async for _ in self._changes(self._path):
                    if self.is_polling:
                        self.is_polling = False
                        logs.info("catalog watcher reports again", path=str(self._path))
                    woken.set()
                reason = "it ended"
            except Exception as error:  # whatever the watcher died of: the catalog is still read every `poll_seconds`
                reason = f"{type(error).__name__}: {error}"
            self._note_polling(reason)
            await asyncio.sleep(self._poll_seconds)

    def _note_polling(self, reason: str) -> None:
        if not self.is_polling:
            self.is_polling = True
            logs.warning(
                "catalog watcher failed, polling", path=str(self._path), reason=reason, seconds=self._poll_seconds
            )

    async def _settled(self, last: object) -> Version:
        """What the catalog holds, once two readings agree with no write between them, or it is what it was."""
        version, written = await self._reading()
        for _ in range(PATIENCE):
            if _content(version) == last:
                break
            await asyncio.sleep(self._settle_seconds)
            before = _content(version), written
            version, written = await self._reading()
            if before == (_content(version), written):
                break
        return version

    async def _reading(self) -> tuple[Version, list[int]]:
        """What the catalog holds, and when each of its files was written; a slow disk does not hold up the loop."""

        def read_now() -> tuple[Version, list[int]]:
            try:
                texts = self._read(self._path)
            except CatalogError as error:
                return error, []
            return texts, [_written(file) for file in texts]

        return await asyncio.to_thread(read_now)


def _written(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


def _content(version: Version) -> object:
    return str(version) if isinstance(version, CatalogError) else version


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
