"""The order of checks on the page on risk rules is the kernel's."""

import re
from decimal import Decimal
from pathlib import Path

from torghut_risk import NoShorts, WashTrade
from torghut_testing import decision, risk_context

from torghut_core import Bracket, Instrument
from torghut_core.trading.gates import Gates
from torghut_core.trading.risk_engine import RiskEngine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "risk.md"
LAST = ["no-shorts", "buying-power"]
ROW = re.compile(r"^\| (\d+) \| `([a-z-]+)`", re.MULTILINE)


def test_gates_are_asked_in_the_order_of_the_page():
    """Each gate of the table speaks, in the table's order, and then the rules in the catalog's."""
    rows = [row for row in ROW.findall(PAGE.read_text(encoding="utf-8")) if row[1] not in LAST]
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    gates = Gates(
        control="pause_entries",
        restriction="halt",
        unrecorded="disk full",
        unready="freshness: nothing for 40 s",
        unreconciled={"BTC/USD": "1 unit too many"},
    )
    context = risk_context(price=1, recent_price=100, instrument=Instrument(min_quantity=Decimal(2)))
    rules = [("wash-trade", WashTrade(WashTrade.Params())), ("no-shorts", NoShorts(NoShorts.Params()))]
    risk_engine = RiskEngine(gates, lambda _: "", [], rules, lambda *_: None)
    proposed = decision(is_close=True, bracket=Bracket(stop_loss=Decimal(1_000)))
    verdicts, *_ = risk_engine.judge(proposed, context.price_ts, lambda: context, is_enabled=True, is_allowed=True)
    assert [verdict.code for verdict in verdicts] == [*(code for _, code in rows), "wash-trade", "no-shorts"]


def test_kernel_has_the_last_word_on_what_rules_have_left():
    """Shorts and money are judged behind the rules, in the table's order, and cut to what the order closes."""
    assert [code for _, code in ROW.findall(PAGE.read_text(encoding="utf-8")) if code in LAST] == LAST
    context = risk_context(position=3, buying_power=0)
    risk_engine = RiskEngine(Gates(trading_enabled=True), lambda _: "", [], [], lambda *_: None)
    verdicts, quantity, _ = risk_engine.judge(
        decision("sell", 5), context.price_ts, lambda: context, is_enabled=True, is_allowed=True
    )
    assert [(verdict.code, verdict.quantity) for verdict in verdicts[-2:]] == [(code, 3) for code in LAST]
    assert quantity == 3
