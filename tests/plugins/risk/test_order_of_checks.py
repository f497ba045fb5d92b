"""The order of checks on the page on risk rules is the kernel's."""

import re
from pathlib import Path

from torghut_risk import NoShorts, WashTrade
from torghut_testing import decision, risk_context

from torghut_core.trading.gates import Gates
from torghut_core.trading.risk_engine import RiskEngine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "risk.md"
ROW = re.compile(r"^\| (\d+) \| `([a-z-]+)`", re.MULTILINE)


def test_gates_are_asked_in_the_order_of_the_page():
    """Each gate of the table speaks, in the table's order, and then the rules in the catalog's."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    gates = Gates(
        control="pause_entries",
        restriction="halt",
        unrecorded="disk full",
        unready="freshness: nothing for 40 s",
        unreconciled={"BTC/USD": "1 unit too many"},
    )
    context = risk_context()
    rules = [("wash-trade", WashTrade(WashTrade.Params())), ("no-shorts", NoShorts(NoShorts.Params()))]
    risk_engine = RiskEngine(gates, lambda _: "", [], rules, lambda *_: None)
    verdicts, *_ = risk_engine.judge(decision(), context.price_ts, lambda: context, is_enabled=True, is_allowed=True)
    assert [verdict.code for verdict in verdicts] == [*(code for _, code in rows), "wash-trade", "no-shorts"]
