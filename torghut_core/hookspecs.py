"""Every extension point of Torghut, on one page.

A plugin is a Python module with one or more of these functions, marked ``@hookimpl`` and named in the package's entry
points under the group ``torghut``::

    [project.entry-points.torghut]
    acme-alpha = "acme_alpha"

Each function is called once, when the kernel starts or reloads, with a `register` function; it calls
``register(name, cls)`` for each of its plugins. A catalog uses these names in ``use:``. Nothing here is called while
events flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:  # a strategy author's import should not pay for the stage compiler
    from torghut_core.ports import Advisor, Broker, Indicator, Observer, RiskRule, Sink, Source, Strategy
    from torghut_core.stages.base import Stage

hookspec = pluggy.HookspecMarker("torghut")
hookimpl = pluggy.HookimplMarker("torghut")


P_contra = TypeVar("P_contra", contravariant=True)


class Register(Protocol[P_contra]):
    """The function that each hook is called with."""

    def __call__(self, name: str, cls: type[P_contra]) -> None:
        """Register the plugin `cls` under the `name` that catalogs give in ``use:``."""


@hookspec
def register_strategies(register: Register[Strategy]) -> None:
    """Register strategies: signals in, decisions out."""


@hookspec
def register_indicators(register: Register[Indicator]) -> None:
    """Register indicators: what strategies may have computed of each bar."""


@hookspec
def register_risk_rules(register: Register[RiskRule]) -> None:
    """Register risk rules: a decision in, a verdict out."""


@hookspec
def register_brokers(register: Register[Broker]) -> None:
    """Register brokers: orders out, reports in."""


@hookspec
def register_sources(register: Register[Source]) -> None:
    """Register sources: batches of events."""


@hookspec
def register_sinks(register: Register[Sink]) -> None:
    """Register sinks: events out, onto a bus."""


@hookspec
def register_stages(register: Register[Stage]) -> None:
    """Register stages: incremental computations over batches."""


@hookspec
def register_advisors(register: Register[Advisor]) -> None:
    """Register advisors: a second opinion that may veto or shrink a decision."""


@hookspec
def register_observers(register: Register[Observer]) -> None:
    """Register observers: notified of decisions, fills and generations."""


KINDS = {
    "strategy": "register_strategies",
    "indicator": "register_indicators",
    "risk rule": "register_risk_rules",
    "broker": "register_brokers",
    "source": "register_sources",
    "sink": "register_sinks",
    "stage": "register_stages",
    "advisor": "register_advisors",
    "observer": "register_observers",
}
"""Every kind of plugin, and the hook that registers it."""
