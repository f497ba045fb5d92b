"""Conformance checks, fakes and builders for authors of Torghut plugins.

A plugin's test is a subclass that states facts and inherits the checks::

    class TestMacdRsi(StrategyConformance):
        strategy = MacdRsi

For tests of your own: `signal`, `context`, `decision`, `risk_context`, `intent`, `trade_batch` and `bar_batch` build
one object each with sensible defaults; `Rehearsal` is a loop small enough to read; `random_rows`, `random_batch`,
`decisions`, `exits` and `risk_contexts` generate random input.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.conformance")  # before the import: a failed check shows its values

from torghut_testing.builders import (  # noqa: E402 - see above
    bar_batch,
    context,
    decision,
    intent,
    risk_context,
    signal,
    trade_batch,
)
from torghut_testing.conformance import (  # noqa: E402 - see above
    BrokerConformance,
    LiveSourceConformance,
    RiskRuleConformance,
    SinkConformance,
    SourceConformance,
    StageConformance,
    StrategyConformance,
)
from torghut_testing.generators import decisions, exits, random_batch, random_rows, risk_contexts  # noqa: E402 - see above
from torghut_testing.plain import plain_copy  # noqa: E402 - see above
from torghut_testing.registration import registered  # noqa: E402 - see above
from torghut_testing.strategy_loop import Rehearsal, Row  # noqa: E402 - see above

__all__ = [
    "BrokerConformance",
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
    "random_batch",
    "random_rows",
    "registered",
    "risk_context",
    "risk_contexts",
    "signal",
    "trade_batch",
]
