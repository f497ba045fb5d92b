"""Every extension point of torghut, on one page.

A plugin is a Python module with one or more of these functions, marked ``@hookimpl`` and named in the package's entry
points under the group ``torghut``::

    [project.entry-points.torghut]
    acme-alpha = "acme_alpha"

Each function is called once, when the kernel starts or reloads, with a `register` function; it calls
``register(name, cls)`` for every plugin that it brings. The names are what a catalog says in ``use:``. Nothing here is
called while events flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:  # a strategy author's import should not pay for the stage compiler
    from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Sink, Source, Strategy
    from torghut_core.stages.base import Stage

hookspec = pluggy.HookspecMarker("torghut")
hookimpl = pluggy.HookimplMarker("torghut")


P_contra = TypeVar("P_contra", contravariant=True)


class Register(Protocol[P_contra]):
    """What each hook is called with."""

    def __call__(self, name: str, cls: type[P_contra]) -> None:
        """Bring the plugin `cls` under the `name` that catalogs say in ``use:``."""


@hookspec
def register_strategies(register: Register[Strategy]) -> None:
    """Bring strategies: signals in, decisions out."""


@hookspec
def register_risk_rules(register: Register[RiskRule]) -> None:
    """Bring risk rules: a decision in, a verdict out."""


@hookspec
def register_brokers(register: Register[Broker]) -> None:
    """Bring brokers: orders out, reports in."""


@hookspec
def register_sources(register: Register[Source]) -> None:
    """Bring signal sources: batches of events."""


@hookspec
def register_sinks(register: Register[Sink]) -> None:
    """Bring sinks: events out, onto a bus."""


@hookspec
def register_stages(register: Register[Stage]) -> None:
    """Bring stages: incremental computations over batches."""


@hookspec
def register_advisors(register: Register[Advisor]) -> None:
    """Bring advisors: a second opinion that may veto or shrink."""


@hookspec
def register_observers(register: Register[Observer]) -> None:
    """Bring observers: they hear of decisions, fills and generations."""


KINDS = {
    "strategy": "register_strategies",
    "risk rule": "register_risk_rules",
    "broker": "register_brokers",
    "source": "register_sources",
    "sink": "register_sinks",
    "stage": "register_stages",
    "advisor": "register_advisors",
    "observer": "register_observers",
}
"""Every kind of plugin, and the hook that registers it."""
