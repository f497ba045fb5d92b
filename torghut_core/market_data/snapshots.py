"""The states of stages, and of all that trades, on disk: a process that was killed resumes as if it had not been.

A snapshot holds states, of a lane's stages or of a run, and the cursor of the source at the same moment. It is written whole
or not at all, and carries its own checksum; the one before it is kept too, so that a damaged one costs a little work and
nothing else. Another process may take a lane over before its old owner knows: a snapshot is never replaced by one that is
behind it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias
from uuid import uuid4

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from torghut_core.errors import SettingsError, StateError
from torghut_core.telemetry import logs

FORMAT = b"torghut-snapshot-1\n"
LARGEST = 1 << 30
"""How many bytes a snapshot may have."""

ABANDONED = timedelta(hours=1)
"""A file that was begun so long ago, and is not complete, is of a process that was killed."""

_ARRAY = 1
_TUPLE, _SET, _DEQUE, _PAIRS, _NUMBER, _DECIMAL = range(2, 8)
"""Codes of the values that MessagePack lacks."""

_SMALL = 1 << 63
_DIGEST = 32


OnFailure: TypeAlias = Callable[[str, BaseException], None]
"""Called with the name of a plugin whose state cannot be saved or restored, and why."""


def reraise(_plugin: str, error: BaseException) -> NoReturn:
    """An `OnFailure` that raises the error."""
    raise error


class Snapshot(msgspec.Struct, frozen=True):
    """States, and where the source resumes.

    Attributes
    ----------
    states : of each instance, in order, its class, state version and state.
    cursor : of the source; of one lane `offsets` are how far each topic was read, if the source shares its lanes with others.
    at : loop time of the last event that is in the states, ns.
    """

    states: list[tuple[str, int, dict[str, Any]]]
    cursor: dict[str, Any]
    at: int

    def is_behind(self, other: Snapshot) -> bool:
        """Whether the other one has read further in a topic: a process that resumed from it has read at least as far in all."""
        mine, theirs = self.cursor.get("offsets", {}), other.cursor.get("offsets", {})
        return any(theirs[topic] > mine[topic] for topic in mine.keys() & theirs.keys())


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes: MessagePack with a checksum.

    Raises
    ------
    TypeError : a state holds something that is no plain value.
    """
    content = msgspec.msgpack.Encoder(enc_hook=_write_array).encode(snapshot)
    return FORMAT + hashlib.sha256(content).digest() + content


def decode(data: bytes) -> Snapshot:
    """The snapshot that `encode` made bytes of.

    Raises
    ------
    ValueError : it is no snapshot, or damaged.
    """
    content = data[len(FORMAT) + _DIGEST :]
    if not data.startswith(FORMAT) or hashlib.sha256(content).digest() != data[len(FORMAT) : len(FORMAT) + _DIGEST]:
        raise ValueError("it is no snapshot, or it is damaged")
    return _SNAPSHOT.decode(content)


def pack(state: Any) -> bytes:
    """A state of a plugin as bytes, from which `unpack` makes an equal one: plain values keep their types.

    Raises
    ------
    TypeError : it holds something that is no plain value.
    """
    return msgspec.msgpack.Encoder(enc_hook=_write_array).encode(_plain(state))


def unpack(data: bytes) -> Any:
    """The state that `pack` made bytes of."""
    return msgspec.msgpack.Decoder(ext_hook=_read_value).decode(data)


def _plain(value: Any) -> Any:
    """A value in words that MessagePack has."""
    kind = type(value)
    if kind in (str, float, bool, bytes, type(None)):
        return value
    if kind is int:
        return value if -_SMALL <= value < _SMALL else msgspec.msgpack.Ext(_NUMBER, str(value).encode())
    if kind is list:
        return [_plain(each) for each in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: _plain(each) for key, each in value.items()}
        return _ext(_PAIRS, [[key, each] for key, each in value.items()])
    if kind is Decimal:
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if kind is tuple:
        return _ext(_TUPLE, list(value))
    if kind is set:
        return _ext(_SET, list(value))
    if kind is deque:
        return _ext(_DEQUE, [value.maxlen, list(value)])
    if isinstance(value, (np.ndarray, np.generic)):
        return value
    raise TypeError(f"{kind.__name__} in a state is no plain value (use numbers, text, lists, dicts, arrays)")


def _ext(code: int, values: list[Any]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, pack(values))


def _read_value(code: int, data: memoryview) -> Any:
    if code == _ARRAY:
        return _read_array(code, data)
    if code == _NUMBER:
        return int(bytes(data))
    if code == _DECIMAL:
        return Decimal(bytes(data).decode())
    values = unpack(bytes(data))
    if code == _DEQUE:
        maxlen, items = values
        return deque(items, maxlen)
    return {_TUPLE: tuple, _SET: set, _PAIRS: dict}[code](values)


def _write_array(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.fields is None and value.dtype.kind in "biuf":
        array = np.ascontiguousarray(value)
        head = msgspec.msgpack.encode((array.dtype.str, array.shape))
        return msgspec.msgpack.Ext(_ARRAY, len(head).to_bytes(2, "little") + head + array.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in the state of a stage is no plain value")


def _read_array(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown value of code {code}")
    length = int.from_bytes(data[:2], "little")
    dtype, shape = msgspec.msgpack.decode(data[2 : 2 + length])
    return np.frombuffer(data[2 + length :], dtype).reshape(shape).copy()


_SNAPSHOT = msgspec.msgpack.Decoder(Snapshot, ext_hook=_read_array)
"""Made here, and not in the threads that read: two that are the first to ask msgspec for a type end the process."""


class SnapshotStore:
    """Where snapshots are kept: a folder, or an object store by URI.

    Parameters
    ----------
    place : a path, or a URI that Arrow knows (``s3://bucket/folder``).

    Raises
    ------
    SettingsError : no such place, or one that cannot be reached.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        try:
            if "://" in place:
                self._files, self._folder = pafs.FileSystem.from_uri(place)
            else:
                self._files, self._folder = pafs.LocalFileSystem(), place
            self._files.create_dir(self._folder, recursive=True)
            self._remove_left()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SettingsError(
                f"TA_STATE_URL: {place}: {_first_line(error)} (name a folder or an s3:// address)"
            ) from error

    def save(self, name: str, snapshot: Snapshot) -> bool:
        """Keep a snapshot under a name, and the one before it as ``NAME.before``.

        Returns
        -------
        False where the one that is there is further: it stays.

        Raises
        ------
        StateError : it cannot be written; what was kept stays.
        """
        path, data = self._path(name), encode(snapshot)
        new = f"{path}.{uuid4().hex}.new"  # another process may save the same name just now
        kept, _ = self._newest(path)
        if kept is not None and snapshot.is_behind(kept):
            return False
        try:
            with self._files.open_output_stream(new) as file:
                file.write(data)
            self._sync(new)  # the source forgets what is committed, so a power cut must not lose this
            if self._type(path) == pafs.FileType.File:
                with suppress(FileNotFoundError):  # the other process has moved it meanwhile
                    self._files.move(path, f"{path}.before")
            self._files.move(new, path)
            self._sync(self._folder)
        except (pa.ArrowException, OSError) as error:
            raise StateError(f"{path}: {_first_line(error)} (free some space, or make it writable)") from error
        return True

    def load(self, name: str) -> Snapshot | None:
        """The newest snapshot of a name that can be read; None where none was ever kept.

        Raises
        ------
        StateError : there are snapshots, and none can be read.
        """
        kept, problems = self._newest(self._path(name))
        if kept is None and problems:
            raise StateError(f"{'; '.join(problems)} (remove them to start anew, with indicators that warm up again)")
        return kept

    def _remove_left(self) -> None:
        """Remove what a killed process had begun to write; a newer file may be one that another process writes now."""
        before = datetime.now(UTC) - ABANDONED
        for info in self._files.get_file_info(pafs.FileSelector(self._folder, allow_not_found=True)):
            if info.path.endswith(".new") and info.mtime is not None and info.mtime < before:
                with suppress(FileNotFoundError):
                    self._files.delete_file(info.path)

    def _newest(self, path: str) -> tuple[Snapshot | None, list[str]]:
        """The newest that can be read, and why a newer one could not."""
        problems: list[str] = []
        for each in (path, f"{path}.before"):  # between two moves only the second is there
            try:
                if (data := self._read(each)) is not None:
                    return decode(data), problems
            except (pa.ArrowException, OSError, ValueError, msgspec.DecodeError) as error:
                problems.append(f"{each}: {_first_line(error)}")
                logs.error("snapshot cannot be read", file=each, reason=_first_line(error))
        return None, problems

    def _read(self, path: str) -> bytes | None:
        """The content of a snapshot's file; None where there is none."""
        info = self._files.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            return None
        if info.type != pafs.FileType.File:
            raise ValueError("it is not a regular file")
        if info.size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        with self._files.open_input_stream(path) as file:
            return bytes(file.read())

    def _sync(self, path: str) -> None:
        """Flush a local file or folder to the disk; an object store does that by itself."""
        if isinstance(self._files, pafs.LocalFileSystem):
            place = os.open(path, os.O_RDONLY)
            try:
                os.fsync(place)
            finally:
                os.close(place)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name.replace('/', '_')}.snapshot"

    def _type(self, path: str) -> Any:
        return self._files.get_file_info(path).type


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
