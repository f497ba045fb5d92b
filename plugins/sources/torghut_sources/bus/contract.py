"""What a bus is: topics that are partitioned logs, whoever keeps them."""

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
"""Pause before a bus that is busy is asked again, seconds."""
NOT_CONNECTED = Closed("not connected yet (wait, or look at the bus)", "connecting")


class Chunk(msgspec.Struct):
    """Records of one partition, in their order; `offsets`, `keys` and `values` are equally long.

    `at_end` : there was nothing after them when they were read.
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

        False where it was not taken, because as many are under way as may be.

        Raises
        ------
        StateError : the bus has refused this record, or one before it, for good.
        """

    @abstractmethod
    def pending(self) -> int:
        """Records taken and not acknowledged yet.

        Raises
        ------
        StateError : as `put`.
        """

    async def take(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """`put`, waiting for room."""
        while not self.put(topic, key, value, headers):  # noqa: ASYNC110 - a bus' threads know of no event loop
            await asyncio.sleep(PAUSE)

    @abstractmethod
    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; waits for as long as the bus does not say.

        Raises
        ------
        StateError : there is no such topic.
        """

    @abstractmethod
    def ends(self, partition: int) -> Offsets:
        """The offset after the last record that is acknowledged, of topics to which this writer has written there."""

    async def everywhere(self, topic: str, value: Callable[[Offsets], bytes]) -> None:
        """Put a record into each partition of a topic, when everything before is acknowledged.

        Parameters
        ----------
        value : the record's, made of the partition's `ends`.

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
        """Let go of what is not acknowledged; closing twice is harmless."""


class Owner(ABC):
    """Is told which partitions a reader has. What is one number in all topics is one partition here."""

    @abstractmethod
    async def take(self, starts: Mapping[int, Offsets]) -> Mapping[int, Offsets]:
        """These partitions will be read from now on, where the group stands; give from where they shall be read."""

    @abstractmethod
    async def leave(self, partitions: AbstractSet[int]) -> None:
        """These will not be read any more; what is to be committed of them is committed before this returns, soon."""

    @abstractmethod
    async def lose(self, partitions: AbstractSet[int]) -> None:
        """These are not ours any more, whatever came of them: nothing is committed, and others read it again."""


class Reader(ABC):
    """A member of a group that shares the partitions of topics.

    Its owner's methods are awaited only while somebody awaits `read` or `stay`, one of them at a time.
    """

    gate: Closed | None = NOT_CONNECTED

    @property
    @abstractmethod
    def lag(self) -> Mapping[str, int]:
        """By topic, how many records of the own partitions were not read yet, as far as that is known."""

    @abstractmethod
    async def read(self, limit: int, seconds: float, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        """At most `limit` records of the own partitions, those that are there; waits for the first `seconds` at most.

        Nothing comes from the partitions that are `paused`.

        Raises
        ------
        InputError : topics that do not fit together, or that this user may not read.
        StateError : records that were to come next are gone.
        """

    @abstractmethod
    async def stay(self, seconds: float) -> None:
        """Remain a member for so long without reading: the next `read` goes on where the last one was.

        Partitions that are asked back meanwhile are lost: who cannot take records cannot say either what came of the last.

        Raises
        ------
        InputError, StateError : as `read`.
        """

    @abstractmethod
    def commit(self, partition: int, offsets: Offsets) -> None:
        """The group need not read what is before `offsets` again. Does not wait."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group, without asking the owner; closing twice is harmless."""


class Bus(ABC):
    """Makes writers and readers."""

    @abstractmethod
    def writer(self) -> Writer:
        """A new writer. Does not wait."""

    @abstractmethod
    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """A new member of a group, which begins `earliest` or `latest` where the group has not been. Does not wait."""
