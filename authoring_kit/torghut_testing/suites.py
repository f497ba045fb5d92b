"""Which conformance suite checks which kind of plugin, and the suites of a module's plugins."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torghut_core import Source
from torghut_testing import conformance
from torghut_testing.registration import registered

SUITES: Mapping[str, tuple[type[Any], str]] = {
    "register_strategies": (conformance.StrategyConformance, "strategy"),
    "register_indicators": (conformance.IndicatorConformance, "indicator"),
    "register_risk_rules": (conformance.RiskRuleConformance, "rule"),
    "register_brokers": (conformance.BrokerConformance, "broker"),
    "register_sources": (conformance.SourceConformance, "source"),
    "register_sinks": (conformance.SinkConformance, "sink"),
    "register_stages": (conformance.StageConformance, "stage"),
    "register_advisors": (conformance.AdvisorConformance, "advisor"),
}
"""By hook: the suite, and its attribute for the class under test."""


def suite_of(hook: str, name: str, cls: type[Any], **facts: Any) -> type[Any]:
    """A class of tests: the suite that checks `cls`, which `hook` registers as `name`, with attributes of the suite."""
    suite, attribute = SUITES[hook]
    if hook == "register_sources" and cls.connect is not Source.connect:
        suite = conformance.LiveSourceConformance
    title = "".join(word.capitalize() for word in name.replace(".", "-").replace("_", "-").split("-"))
    return type(f"Test{title}", (suite,), {attribute: cls, **facts})


def plugins_of(module: ModuleType) -> list[tuple[str, str, type[Any]]]:
    """What a module registers and a suite checks: hook, name and class."""
    return [(hook, name, cls) for hook in SUITES for name, cls in registered(module, hook).items()]
