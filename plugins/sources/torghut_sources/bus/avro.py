"""Encodes and decodes Avro by a schema registry, and waits for the registry where it does not answer.

Imported by `connect` only, as it imports an HTTP client.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torghut_core import AvroCodec, Closed, Envelope, InputError, Registry, RegistryError
from torghut_sources.bus.records import is_avro

T = TypeVar("T")

RETRY_SECONDS = (0.25, 15.0)
"""First and longest pause before the registry is asked again; drawn from 0 to that."""


class Avro:
    """Turns JSON into Avro and Avro into JSON. The registry is asked in a thread, until it answers.

    Parameters
    ----------
    registry : has the schemas.
    topic_of : gives the topic of a channel.

    Attributes
    ----------
    gate : why the registry does not give a schema that is needed; None where it does.

    Raises
    ------
    SettingsError : fastavro is not installed.
    """

    def __init__(self, registry: Registry, topic_of: Callable[[str], str]) -> None:
        self._registry = registry
        self._codec = AvroCodec(registry, topic_of)
        self._loaded: set[str] = set()
        self.gate: Closed | None = None

    def close(self) -> None:
        """Close the registry."""
        self._registry.close()

    async def encode(self, channel: str, value: bytes) -> bytes:
        """Encode a message of JSON as Avro.

        Raises
        ------
        InputError : the channel has no schema, or the message does not fit it.
        RegistryError : the schema is not registered, or access is denied.
        """
        await self.load(channel)
        return self.encoded(Envelope.decode(value))

    async def load(self, channel: str) -> None:
        """Get the schema of a channel; raises as `encode`."""
        if channel not in self._loaded:
            await self._retry(lambda: self._codec.load([channel]))
            self._loaded.add(channel)

    def encoded(self, envelope: Envelope[Any]) -> bytes:
        """Encode an envelope of a channel that was loaded; raises as `encode`."""
        return self._codec.encode(envelope)

    async def decode(self, values: Sequence[bytes | None]) -> tuple[list[bytes | None], dict[int, str]]:
        """Decode messages of Avro to JSON, others stay as they are; and why some cannot be read.

        Raises
        ------
        RegistryError : the registry refuses to answer.
        """
        return await self._retry(lambda: self._decode(values))

    def _decode(self, values: Sequence[bytes | None]) -> tuple[list[bytes | None], dict[int, str]]:
        readable, unreadable = list(values), {}
        for place, value in enumerate(values):
            if is_avro(value):
                try:
                    readable[place] = self._codec.decode(value or b"").encode()
                except InputError as error:
                    unreadable[place] = str(error)
                except RegistryError as error:
                    if error.error_class != "not-found":
                        raise
                    unreadable[place] = str(error)
                except Exception as error:  # whatever the bytes are
                    unreadable[place] = f"not an envelope: {type(error).__name__}: {error}"
        return readable, unreadable

    async def _retry(self, ask: Callable[[], T]) -> T:
        pause, longest = RETRY_SECONDS
        while True:
            try:
                answer = await asyncio.to_thread(ask)
            except RegistryError as error:
                self.gate = Closed(str(error), error.error_class)
                if not error.is_passing:
                    raise
                await asyncio.sleep(pause * random.random())
                pause = min(2 * pause, longest)
            else:
                self.gate = None
                return answer


def avro(topic_of: Callable[[str], str]) -> Avro | None:
    """Make a codec by the registry of ``SCHEMA_REGISTRY_URL``; None where that is not set.

    Raises
    ------
    SettingsError : a setting is wrong, or fastavro is not installed.
    """
    registry = Registry.from_environment()
    return None if registry is None else Avro(registry, topic_of)
