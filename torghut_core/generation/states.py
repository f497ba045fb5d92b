"""The states of a generation's instances, to be kept over a restart of the process.

What an instance was made from is kept with its state: an entry of other parameters, or of another plugin, begins anew. New
code of a plugin gets the state of the old, as at a reload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torghut_core.boundary import call_method, from_plugins
from torghut_core.generation.generation import InstanceKey, Made
from torghut_core.market_data.snapshots import OnFailure, pack, unpack

KEPT = ("stage", "strategy", "risk rule", "advisor", "observer")
"""The kinds of plugins whose state is kept. Not sources, which have a cursor, and brokers, whose account has its own."""

TRIED = ("stage", "strategy", "risk rule")
"""Those of which a second instance can be made, to try a state on: it opens nothing."""


def save_states(
    instances: Mapping[InstanceKey, Made], but: Collection[str], on_failure: OnFailure
) -> list[tuple[str, int, dict[str, Any]]]:
    """The state of each instance, as `Snapshot.states` has them.

    Parameters
    ----------
    but : strategies whose state is not kept.
    on_failure : called with the name of an instance whose state cannot be saved, and why: it is left out.
    """
    states = []
    for place, made in instances.items():
        kind, name, number = place  # the watchdog reads `name`, see `Engine.CALLERS`
        if kind not in KEPT or (kind == "strategy" and name in but):
            continue
        try:
            state = pack(call_method(made.instance, "save_state"))
        except from_plugins() as error:  # it is the plugin's code and may raise anything
            on_failure(name, error)
            continue
        kept = {"kind": kind, "name": name, "number": number, "terms": made.terms, "state": state}
        states.append((type(made.instance).__name__, made.instance.state_version, kept))
    return states


def load_states(
    instances: Mapping[InstanceKey, Made], states: Iterable[tuple[str, int, dict[str, Any]]], on_failure: OnFailure
) -> set[InstanceKey]:
    """Give their states to the instances that were made from the same.

    Where a second instance can be made it gets the state first, so that the one in use is as it was where that raises.

    Parameters
    ----------
    on_failure : called with the name of an instance that does not take its state, and why: it begins anew.

    Returns
    -------
    The places of those that have their state.
    """
    loaded = set()
    for _, version, kept in states:
        place = kept["kind"], kept["name"], kept["number"]
        made = instances.get(place)
        if made is None or made.terms != kept["terms"]:
            continue
        try:
            if place[0] in TRIED:
                trial = made.plugin.create(made.plugin.parameters(made.params))
                call_method(trial, "load_state", unpack(kept["state"]), version)
            call_method(made.instance, "load_state", unpack(kept["state"]), version)
        except from_plugins() as error:  # it is the plugin's code and may raise anything
            on_failure(kept["name"], error)
            continue
        loaded.add(place)
    return loaded
