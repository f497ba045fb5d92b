"""Conformance suites, one per kind of plugin: subclass, state the facts, inherit the tests."""

import pytest

# Before the modules are imported: a failed check shows its values.
for _name in ("broker", "indicator", "plugin", "risk_rule", "sink", "source", "stage", "strategy"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from torghut_testing.conformance.broker import BrokerConformance  # noqa: E402 - see above
from torghut_testing.conformance.indicator import IndicatorConformance  # noqa: E402 - see above
from torghut_testing.conformance.risk_rule import AdvisorConformance, RiskRuleConformance  # noqa: E402 - see above
from torghut_testing.conformance.sink import SinkConformance  # noqa: E402 - see above
from torghut_testing.conformance.source import LiveSourceConformance, SourceConformance  # noqa: E402 - see above
from torghut_testing.conformance.stage import StageConformance  # noqa: E402 - see above
from torghut_testing.conformance.strategy import StrategyConformance  # noqa: E402 - see above

__all__ = [
    "AdvisorConformance",
    "BrokerConformance",
    "IndicatorConformance",
    "LiveSourceConformance",
    "RiskRuleConformance",
    "SinkConformance",
    "SourceConformance",
    "StageConformance",
    "StrategyConformance",
]
