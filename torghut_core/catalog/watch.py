"""Watching a catalog: each new content once, soon after the files stop changing.

What the operating system reports about files is only a hint: an update of a mounted ConfigMap never names the catalog's
file, an editor's save is two changes, and a watch silently reports nothing any more when its directory is replaced. So
every report means "read again", only the content that was read counts, and the catalog is also read every
`poll_seconds`. The watcher only makes it quick.
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
"""The texts of the catalog by file, as `catalog.load` takes them, or why they cannot be read."""

PATIENCE = 40
"""A catalog that never stops changing is used as it is after so many times `settle_seconds`."""


def directory_changes(path: Path) -> AsyncIterable[object]:
    """Yield whenever the operating system reports a change in the directory of a catalog.

    The directory and not the file: an update of a mounted ConfigMap exchanges its link ``..data``, and a watch of the
    file would end with the first one.
    """
    from watchfiles import awatch

    directory = path if path.is_dir() else path.parent
    # Without `watch_filter` a catalog below `.git`, `.venv` or the like would never be reported.
    return awatch(directory, watch_filter=None, recursive=False, debounce=100)


class CatalogWatch:
    """Yields the content of a catalog, and again whenever it changes.

    Parameters
    ----------
    path : the catalog: a file, or a folder of them.
    poll_seconds : seconds between two readings that do not wait for the watcher.
    settle_seconds : seconds for which a new content must have stayed the same.
    changes : the watcher: yields for a path whenever the catalog may have changed.
    read : the texts of the catalog at a path; raises `CatalogError`.

    Attributes
    ----------
    is_polling : whether the watcher is missing, failed or missed a change, so that changes are found every
        `poll_seconds`. It is started again, and this is False once it has reported something.
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
        """Yield the content of the catalog at once, and again whenever it is not what was yielded last.

        A catalog that cannot be read is a `CatalogError`, once for each reason; once readable again it is yielded, even if
        it has not changed. Writes in quick succession are one version, the last; a touch or a new mount of the same
        content is none. Ends when its task is canceled or the iterator is closed (`contextlib.aclosing`).
        """
        woken = asyncio.Event()
        listener = asyncio.create_task(self._watch(woken))
        is_poll = False
        last: object = None
        try:
            while True:
                version = await self._settled(last)
                if _content(version) != last:
                    if is_poll and not woken.is_set():  # perhaps it watches a directory that was replaced
                        self._fall_back_to_polling("it missed a change")
                        await _end(listener)
                        listener = asyncio.create_task(self._watch(woken))
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

    async def _watch(self, woken: asyncio.Event) -> None:
        while True:
            try:
                async for _ in self._changes(self._path):
                    if self.is_polling:
                        self.is_polling = False
                        logs.info("catalog watcher reports again", path=str(self._path))
                    woken.set()
                reason = "it ended"
            except Exception as error:  # whatever the watcher raised: the catalog is still read every `poll_seconds`
                reason = f"{type(error).__name__}: {error}"
            self._fall_back_to_polling(reason)
            await asyncio.sleep(self._poll_seconds)

    def _fall_back_to_polling(self, reason: str) -> None:
        if not self.is_polling:
            self.is_polling = True
            logs.warning(
                "catalog watcher failed, polling", path=str(self._path), reason=reason, seconds=self._poll_seconds
            )

    async def _settled(self, last: object) -> Version:
        """The content of the catalog, once two readings agree with no write between them, or it equals `last`."""
        version, written = await self._read_files()
        for _ in range(PATIENCE):
            if _content(version) == last:
                break
            await asyncio.sleep(self._settle_seconds)
            before = _content(version), written
            version, written = await self._read_files()
            if before == (_content(version), written):
                break
        return version

    async def _read_files(self) -> tuple[Version, list[int]]:
        """Read the content and when each file was written, in a thread: a slow disk does not block the loop."""

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
