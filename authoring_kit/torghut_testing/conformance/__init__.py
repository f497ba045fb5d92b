"""Conformance suites, one per kind of plugin: subclass, state the facts, inherit the tests."""

from torghut_testing.conformance.broker import BrokerConformance
from torghut_testing.conformance.risk_rule import RiskRuleConformance
from torghut_testing.conformance.sink import SinkConformance
from torghut_testing.conformance.source import LiveSourceConformance, SourceConformance
from torghut_testing.conformance.stage import StageConformance
from torghut_testing.conformance.strategy import StrategyConformance

__all__ = [
    "BrokerConformance",
    "LiveSourceConformance",
    "RiskRuleConformance",
    "SinkConformance",
    "SourceConformance",
    "StageConformance",
    "StrategyConformance",
]
