"""A generation: everything that trades from one reload to the next, built from a catalog and the plugins that it names.

Building opens nothing and starts nothing: sources and brokers are made here, and connected by those who run them.
"""

from torghut_core.generation.builder import LIMIT_RULES, build, risk_rules, validate, validate_pipelines
from torghut_core.generation.generation import (
    Generation,
    Made,
    StrategyInstance,
    hand_over,
    has_same_terms,
    strategy_row,
)

__all__ = [
    "LIMIT_RULES",
    "Generation",
    "Made",
    "StrategyInstance",
    "build",
    "hand_over",
    "has_same_terms",
    "risk_rules",
    "strategy_row",
    "validate",
    "validate_pipelines",
]
