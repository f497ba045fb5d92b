"""The catalog that can trade next: what the files say now, with what has to stay as it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from torghut_core.catalog import Catalog, Draft, StrategyEntry, Use

Entry = TypeVar("Entry", bound=Use)


def settle(draft: Draft, running: Catalog, holding: Collection[str]) -> Catalog:
    """The catalog that can trade next: what `draft` says, with what has to stay as `running` has it.

    Pipelines and instruments stay. An entry that was left out stays as it was, and a strategy that holds something keeps its bars. Under
    `mode: merge`, and where the name of a wrong entry cannot be read, nothing that is no longer listed is taken out.

    Parameters
    ----------
    holding : strategies that hold a position or have an open order.
    """
    wanted = draft.catalog
    before = {entry.name: entry for entry in running.strategies}
    lost = {name for place, name in draft.left_out.items() if place.startswith("strategies")}
    stays_all = wanted.mode == "merge" or None in lost
    strategies = [_with_its_bars(entry, before.get(entry.name), holding) for entry in wanted.strategies]
    listed = {entry.name for entry in strategies}
    strategies += [_kept(entry) for name, entry in before.items() if name not in listed and (stays_all or name in lost)]
    return wanted.with_(
        pipelines=running.pipelines,
        instruments=running.instruments,
        strategies=tuple(strategies),
        risk=_settled("risk", draft, wanted.risk, running.risk),
        advisors=_settled("advisors", draft, wanted.advisors, running.advisors),
        observers=_settled("observers", draft, wanted.observers, running.observers),
    )


def unsettled(draft: Draft, settled: Catalog) -> Catalog:
    """What `settled` would be if nothing had to wait: with the pipelines and strategies that `draft` asks for."""
    wanted = {entry.name: entry for entry in draft.catalog.strategies}
    return settled.with_(
        pipelines=settled.pipelines if "pipelines" in draft.left_out else draft.catalog.pipelines,
        instruments=draft.catalog.instruments,
        strategies=tuple(wanted.get(entry.name, entry) for entry in settled.strategies),
    )


def changed_rows(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``strategies`` that are not as they were; those that are gone are disabled."""
    before = {row["name"]: row for row in old}
    gone = before.keys() - {row["name"] for row in new}
    changed = [row for row in new if before.get(row["name"]) != row]
    return changed + [before[name] | {"enabled": False} for name in sorted(gone)]


def _settled(key: str, draft: Draft, wanted: Sequence[Use], running: Sequence[Use]) -> tuple[Use, ...]:
    """A list of plugins in its order, with the running entries in the places of those that were left out."""
    left_out = {_index(place): use for place, use in draft.left_out.items() if place.startswith(f"{key}[")}
    if not left_out:
        return tuple(wanted)
    listed = Counter(entry.use for entry in wanted)
    spare: list[Use] = []
    for entry in running:
        if listed[entry.use]:
            listed[entry.use] -= 1
        else:
            spare.append(entry)
    placed = [(_index(entry.place), entry) for entry in wanted]
    for index, use in sorted(left_out.items()):
        for entry in [entry for entry in spare if use is None or entry.use == use]:
            spare.remove(entry)
            placed.append((index, _kept(entry)))
            if use is not None:
                break
    return tuple(entry for _, entry in sorted(placed, key=lambda each: each[0]))


def _index(place: str) -> int:
    found = re.search(r"\[(\d+)\]", place)
    return int(found[1]) if found else 0


def _kept(entry: Entry) -> Entry:
    """The entry as one of the running generation, that stands in no file."""
    return entry.moved("")


def _with_its_bars(entry: StrategyEntry, before: StrategyEntry | None, holding: Collection[str]) -> StrategyEntry:
    if before is None or before.base_timeframe == entry.base_timeframe or entry.name not in holding:
        return entry
    return entry.model_copy(update={"base_timeframe": before.base_timeframe})
