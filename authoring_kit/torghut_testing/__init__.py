"""Conformance checks, fakes and builders for authors of Torghut plugins.

A plugin's test is a subclass that states facts and inherits the checks::

    class TestMacdRsi(StrategyConformance):
        strategy = MacdRsi

For tests of your own: `signal`, `context`, `decision`, `risk_context`, `intent`, `trade_batch` and `bar_batch` build
one object each with sensible defaults; `Rehearsal` is a loop small enough to read; `random_rows`, `random_bars`, `random_batch`,
`decisions`, `exits` and `risk_contexts` generate random input.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torghut_testing.builders import bar_batch, context, decision, intent, risk_context, signal, trade_batch
    from torghut_testing.conformance import (
        AdvisorConformance,
        BrokerConformance,
        IndicatorConformance,
        LiveSourceConformance,
        RiskRuleConformance,
        SinkConformance,
        SourceConformance,
        StageConformance,
        StrategyConformance,
    )
    from torghut_testing.generators import decisions, exits, random_bars, random_batch, random_rows, risk_contexts
    from torghut_testing.plain import plain_copy
    from torghut_testing.registration import registered
    from torghut_testing.strategy_loop import Rehearsal, Row

__all__ = [
    "AdvisorConformance",
    "BrokerConformance",
    "IndicatorConformance",
    "LiveSourceConformance",
    "Rehearsal",
    "RiskRuleConformance",
    "Row",
    "SinkConformance",
    "SourceConformance",
    "StageConformance",
    "StrategyConformance",
    "bar_batch",
    "context",
    "decision",
    "decisions",
    "exits",
    "intent",
    "plain_copy",
    "random_bars",
    "random_batch",
    "random_rows",
    "registered",
    "risk_context",
    "risk_contexts",
    "signal",
    "trade_batch",
]

_HOMES = {
    "builders": ("bar_batch", "context", "decision", "intent", "risk_context", "signal", "trade_batch"),
    "conformance": (
        "AdvisorConformance",
        "BrokerConformance",
        "IndicatorConformance",
        "LiveSourceConformance",
        "RiskRuleConformance",
        "SinkConformance",
        "SourceConformance",
        "StageConformance",
        "StrategyConformance",
    ),
    "generators": ("decisions", "exits", "random_bars", "random_batch", "random_rows", "risk_contexts"),
    "plain": ("plain_copy",),
    "registration": ("registered",),
    "strategy_loop": ("Rehearsal", "Row"),
}
"""Where each name lives: imported when it is first used, for only suites and generators need pytest and hypothesis."""


if not TYPE_CHECKING:  # else a type checker would take any name for one of this module

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
