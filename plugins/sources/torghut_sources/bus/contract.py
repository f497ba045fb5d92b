"""The contract of a bus: topics that are partitioned logs, in memory or in Kafka."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

import msgspec

from torghut_core import Closed

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Offsets: TypeAlias = dict[str, int]
"""By topic of one partition number: the offset of the record that comes next."""

PAUSE = 0.001
"""Pause before a busy bus is asked again, seconds."""
NOT_CONNECTED = Closed("not connected yet (wait, or check the bus)", "connecting")


class Chunk(msgspec.Struct):
    """Records of one partition, in their order; `offsets`, `keys` and `values` are equally long.

    `at_end` : nothing followed them when they were read.
    """

    topic: str
    partition: int
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    at_end: bool = False


class Writer(ABC):
    """Appends to topics; a record's key decides its partition."""

    gate: Closed | None = NOT_CONNECTED

    @abstractmethod
    def put(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> bool:
        """Take a record, for the partition of its key or for a given one.

        False where it was not taken, because too many are not acknowledged yet.

        Raises
        ------
        StateError : the bus has refused this record, or one before it, for good.
        """

    @abstractmethod
    def pending(self) -> int:
        """Return how many records are taken and not acknowledged yet.

        Raises
        ------
        StateError : as `put`.
        """

    async def take(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """`put`, waiting for room."""
        while not self.put(topic, key, value, headers):  # noqa: ASYNC110 - the threads of a bus have no event loop
            await asyncio.sleep(PAUSE)

    @abstractmethod
    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; waits until the bus answers.

        Raises
        ------
        StateError : there is no such topic.
        """

    @abstractmethod
    def ends(self, partition: int) -> Offsets:
        """Return the offset after the last acknowledged record, of the topics to which this writer wrote in that partition."""

    async def everywhere(self, topic: str, value: Callable[[Offsets], bytes]) -> None:
        """Put a record into each partition of a topic, once everything before is acknowledged.

        Parameters
        ----------
        value : makes the record's value from the partition's `ends`.

        Raises
        ------
        StateError : as `put` and `partitions`.
        """
        await self.flush()
        for partition in range(await self.partitions(topic)):
            record = value(self.ends(partition))
            while not self.put(topic, b"", record, partition=partition):  # noqa: ASYNC110 - see above
                await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Wait until everything is acknowledged, for as long as it takes.

        Raises
        ------
        StateError : as `put`.
        """
        while self.pending():  # noqa: ASYNC110 - see above
            await asyncio.sleep(PAUSE)
        self.pending()  # the last of them may have been refused

    @property
    @abstractmethod
    def delivered(self) -> Mapping[str, int]:
        """Acknowledged records by topic."""

    @property
    @abstractmethod
    def failed(self) -> Mapping[str, int]:
        """Refused records by topic."""

    @property
    @abstractmethod
    def latencies(self) -> Sequence[float]:
        """Milliseconds from `put` to the acknowledgement, of some of the last records."""

    @abstractmethod
    def close(self) -> None:
        """Drop what is not acknowledged; closing twice is harmless."""


class Owner(ABC):
    """Receives the partitions that a reader is assigned. The same number in all topics is one partition here."""

    @abstractmethod
    async def take(self, starts: Mapping[int, Offsets]) -> Mapping[int, Offsets]:
        """Take partitions, with the offsets that the group committed; return the offsets to read from."""

    @abstractmethod
    async def leave(self, partitions: AbstractSet[int]) -> None:
        """Leave partitions: commit what is to be committed of them before this returns, soon."""

    @abstractmethod
    async def lose(self, partitions: AbstractSet[int]) -> None:
        """Lose partitions: they belong to others now, nothing is committed, and others read it again."""


class Reader(ABC):
    """A member of a group that shares the partitions of topics.

    Its owner's methods are called only while `read` or `stay` is awaited, one at a time.
    """

    gate: Closed | None = NOT_CONNECTED

    @property
    @abstractmethod
    def lag(self) -> Mapping[str, int]:
        """By topic, how many records of its partitions were not read yet, as far as that is known."""

    @abstractmethod
    async def read(self, limit: int, seconds: float, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        """Return the records of its partitions that are there, at most `limit`; waits for the first `seconds` at most.

        Nothing comes from the partitions that are `paused`.

        Raises
        ------
        InputError : topics that do not fit together, or that this user may not read.
        StateError : the next records are gone.
        """

    @abstractmethod
    async def stay(self, seconds: float) -> None:
        """Remain a member for so long without reading: the next `read` continues where the last one ended.

        Partitions that are revoked meanwhile are lost: a consumer that takes no records cannot commit the last ones either.

        Raises
        ------
        InputError, StateError : as `read`.
        """

    @abstractmethod
    def commit(self, partition: int, offsets: Offsets) -> None:
        """Commit that the group need not read again what is before `offsets`. Does not wait."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group, without asking the owner; closing twice is harmless."""


class Bus(ABC):
    """Makes writers and readers."""

    @abstractmethod
    def writer(self) -> Writer:
        """Make a writer. Does not wait."""

    @abstractmethod
    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """Make a member of a group, which starts `earliest` or `latest` where the group has committed nothing. Does not wait."""
