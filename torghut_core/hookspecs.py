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

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:  # a strategy author's import should not pay for the stage compiler
    from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Source, Strategy
    from torghut_core.stages.base import Stage

hookspec = pluggy.HookspecMarker("torghut")
hookimpl = pluggy.HookimplMarker("torghut")


class RegisterStrategy(Protocol):
    def __call__(self, name: str, cls: type[Strategy]) -> None: ...


class RegisterRiskRule(Protocol):
    def __call__(self, name: str, cls: type[RiskRule]) -> None: ...


class RegisterBroker(Protocol):
    def __call__(self, name: str, cls: type[Broker]) -> None: ...


class RegisterSource(Protocol):
    def __call__(self, name: str, cls: type[Source]) -> None: ...


class RegisterStage(Protocol):
    def __call__(self, name: str, cls: type[Stage]) -> None: ...


class RegisterAdvisor(Protocol):
    def __call__(self, name: str, cls: type[Advisor]) -> None: ...


class RegisterObserver(Protocol):
    def __call__(self, name: str, cls: type[Observer]) -> None: ...


@hookspec
def register_strategies(register: RegisterStrategy) -> None:
    """Bring strategies: signals in, decisions out."""


@hookspec
def register_risk_rules(register: RegisterRiskRule) -> None:
    """Bring risk rules: a decision in, a verdict out."""


@hookspec
def register_brokers(register: RegisterBroker) -> None:
    """Bring brokers: orders out, reports in."""


@hookspec
def register_sources(register: RegisterSource) -> None:
    """Bring signal sources: batches of events."""


@hookspec
def register_stages(register: RegisterStage) -> None:
    """Bring stages: incremental computations over batches."""


@hookspec
def register_advisors(register: RegisterAdvisor) -> None:
    """Bring advisors: a second opinion that may veto or shrink."""


@hookspec
def register_observers(register: RegisterObserver) -> None:
    """Bring observers: they hear of decisions, fills and generations."""
