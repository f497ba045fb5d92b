"""A generation: everything that trades from one reload to the next, built from a catalog and the plugins that it names.

Building opens nothing and starts nothing: sources and brokers are made here, and connected by those who run them.
"""

from torghut_core.generation.builder import build, risk_rules, rules_for, validate, validate_files, validate_pipelines
from torghut_core.generation.generation import (
    Generation,
    InstanceKey,
    Made,
    StrategyInstance,
    hand_over,
    has_same_terms,
    strategy_row,
)
from torghut_core.generation.instruments import catalog_warnings
from torghut_core.generation.recorded import tape_source, use_stored, use_tapes
from torghut_core.generation.states import load_states, save_states

__all__ = [
    "Generation",
    "InstanceKey",
    "Made",
    "StrategyInstance",
    "build",
    "catalog_warnings",
    "hand_over",
    "has_same_terms",
    "load_states",
    "risk_rules",
    "rules_for",
    "save_states",
    "strategy_row",
    "tape_source",
    "use_stored",
    "use_tapes",
    "validate",
    "validate_files",
    "validate_pipelines",
]
