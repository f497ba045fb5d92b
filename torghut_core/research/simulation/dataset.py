"""The events of a simulation's window, taken from its tapes once, with how much of the window they cover."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.boundary import SourceIterator
from torghut_core.bus.events import event_messages
from torghut_core.catalog import Catalog, Pipeline
from torghut_core.errors import StateError
from torghut_core.generation import build, tape_source
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Source
from torghut_core.research.simulation.plan import Plan
from torghut_core.research.stored.window import Window
from torghut_core.timestamps import MINUTE

_EVENTS = 65_536


class Dump(msgspec.Struct, frozen=True):
    """What was taken.

    Attributes
    ----------
    digest : of the plan that it was taken for.
    records, records_by_topic : how many events, and of each topic.
    sha256 : of the file.
    minutes, covered_minutes : of the session, and those of them with an event.
    first_event_ts, last_event_ts : ns; 0 where there is none.
    """

    digest: str
    records: int
    records_by_topic: dict[str, int]
    sha256: str
    minutes: int
    covered_minutes: int
    first_event_ts: int
    last_event_ts: int

    @property
    def coverage_ratio(self) -> float:
        """Share of the session's minutes with an event."""
        return self.covered_minutes / self.minutes if self.minutes else 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the ratio."""
        return msgspec.structs.asdict(self) | {"coverage_ratio": self.coverage_ratio}


def take_dump(plan: Plan, host: PluginHost, window: Window, *, force: bool = False) -> Dump:
    """Write the events of a window to ``source-dump.ndjson``; not again where that was done for the same plan.

    Raises
    ------
    TapeError : a bad tape.
    StateError : it cannot be written.
    """
    marker = plan.folder / "source-dump.replay-marker.json"
    if not force and (kept := _kept(marker, plan)) is not None:
        return kept
    entry = Pipeline.model_validate(
        {"source": {"use": tape_source(host), "params": {"paths": [str(tape) for tape in plan.manifest.tapes]}}}
    )
    catalog = Catalog.model_validate({"version": 1, "pipelines": {"dump": entry}})
    source = build(catalog, host, pipeline="dump").source
    assert source is not None
    source.check()
    try:
        dump = asyncio.run(_write(plan, source, window, plan.session or window))
        part = marker.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(dump))
        part.replace(marker)
        plan.bus_tape.parent.mkdir(exist_ok=True)
        plan.bus_tape.unlink(missing_ok=True)
        plan.bus_tape.hardlink_to(plan.dump)
    except OSError as error:
        raise StateError(
            f"{plan.folder}: {error.strerror or error} (free some space, or choose another output_root)"
        ) from error
    return dump


def _kept(marker: Path, plan: Plan) -> Dump | None:
    """The dump that is there, where it is this plan's and whole."""
    try:
        kept = msgspec.json.decode(marker.read_bytes(), type=Dump)
        with plan.dump.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, msgspec.DecodeError):
        return None
    return kept if kept.digest == plan.digest and kept.sha256 == found and plan.bus_tape.exists() else None


async def _write(plan: Plan, source: Source, window: Window, session: Window) -> Dump:
    records: Counter[str] = Counter()
    minutes: set[int] = set()
    sha = hashlib.sha256()
    first = last = 0
    part = plan.dump.with_suffix(".part")
    with part.open("wb") as file:
        async for batch in SourceIterator("tapes", lambda: source.batches(_EVENTS)):
            moments = batch.now[
                (batch.now >= window.since) & (batch.now <= window.until)
            ]  # the last bar is known at the end
            if not len(moments):
                if batch.now[0] > window.until:
                    break
                continue
            inner = moments[(moments >= session.since) & (moments <= session.until)]
            minutes.update(((inner.clip(session.since + 1) - 1) // MINUTE).tolist())
            first, last = first or int(moments[0]), int(moments[-1])
            low = batch.start + int(batch.now.searchsorted(window.since, "left"))
            high = batch.start + int(batch.now.searchsorted(window.until, "right"))
            inside = batch.split(high)[0] if high < batch.stop else batch
            inside = inside.split(low)[1] if low > batch.start else inside
            for message in event_messages(inside):
                line = message.value + b"\n"
                file.write(line)
                sha.update(line)
                records[plan.topics[message.channel]] += 1
    part.replace(plan.dump)
    return Dump(
        digest=plan.digest,
        records=records.total(),
        records_by_topic=dict(sorted(records.items())),
        sha256=sha.hexdigest(),
        minutes=-(-(session.until - session.since) // MINUTE),
        covered_minutes=len(minutes),
        first_event_ts=first,
        last_event_ts=last,
    )
