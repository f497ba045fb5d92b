"""What a run logs: every decision, order and fill in few numbers, never more lines than are allowed, and a line a minute."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing import decision
from torghut_testing.builders import intent

from torghut_core.audit import MemoryAuditStore
from torghut_core.execution import trading_log
from torghut_core.execution.trading_log import KINDS, MINUTE_S, TradingLog
from torghut_core.model.trading import Fill, Order, OrderEvent, Outcome, Position, Report, Side, Verdict
from torghut_core.telemetry import logs
from torghut_core.timestamps import Clock


@pytest.fixture(scope="module")
def rig():
    """A function that makes a log, with the lines that it logs and the function that passes time."""

    def make(monkeypatch, **pulse):
        lines, now = [], [0.0]
        monkeypatch.setattr(logs, "info", lambda event, **fields: lines.append((event, fields)))
        log = TradingLog(lambda: pulse, Clock(monotonic=lambda: now[0]))

        def wait(seconds):
            now[0] += seconds
            log.beat()

        return log, lines, wait

    return make


def recorded(fold):
    """The records that a store has, before they are committed."""
    store = MemoryAuditStore()
    fold(store)
    return store.recorded


def denied(number, strategy="one", code="cooldown"):
    verdict = Verdict("cooldown", Outcome.DENY, code, value="3 s")
    made = msgspec.structs.replace(decision(), strategy_id=strategy, decision_hash=f"{number:064d}", account="a")
    return recorded(lambda store: store.record_decision(made, {}, [verdict], None))


def allowed(number):
    made = msgspec.structs.replace(decision(), strategy_id="one", decision_hash=f"{number:064d}", account="a")
    sent = intent(f"tg-{number}", decision_hash=made.decision_hash)
    return recorded(lambda store: store.record_decision(made, {}, [], sent))


def reported(number, event):
    order, fill = Order(intent=intent(f"tg-{number}")), None
    if event is OrderEvent.FILL:
        fill = Fill(
            client_order_id=f"tg-{number}",
            fill_id="f",
            symbol="ES",
            side=Side.BUY,
            quantity=Decimal(1),
            price=Decimal(100),
            fee=Decimal(0),
            event_ts=0,
        )
    report = Report(client_order_id=f"tg-{number}", event=event, event_ts=0, fill=fill, reason="why")
    return recorded(lambda store: store.record_report("a", order, report, Position(), "one"))


def test_way_of_an_order_is_logged(rig, monkeypatch):
    """A decision, its order, its fill and another's end are a line each, with the ids that `explain` takes."""
    log, lines, _ = rig(monkeypatch)
    for records in (
        allowed(1),
        reported(1, OrderEvent.SUBMIT),
        reported(1, OrderEvent.ACCEPT),
        reported(1, OrderEvent.FILL),
        reported(2, OrderEvent.REJECTED),
    ):
        log.add(records)
    assert [event for event, _ in lines] == ["decision", "order", "fill", "order rejected"]
    assert lines[1][1]["client_order_id"] == lines[2][1]["client_order_id"] == "tg-1"
    assert (lines[2][1]["price"], lines[3][1]["reason"]) == ("100", "why")


def test_denials_are_a_line_for_the_first_and_a_number_a_minute(rig, monkeypatch):
    """Whatever is denied at every row costs one line, and its number by code is in the line of each minute."""
    log, lines, wait = rig(monkeypatch, role="trading")
    for number in range(500):
        log.add(denied(number))
    log.add(denied(500, code="kill-switch"))
    assert [(event, fields["codes"]) for event, fields in lines] == [
        ("denied", ["cooldown"]),
        ("denied", ["kill-switch"]),
    ]
    wait(MINUTE_S - 1)
    assert len(lines) == 2
    wait(1)
    event, fields = lines[-1]
    assert (event, fields["role"], fields["denied"]) == ("alive", "trading", {"cooldown": 500, "kill-switch": 1})
    log.add(denied(501))
    wait(MINUTE_S)
    assert lines[-1][1]["denied"] == {"cooldown": 1}
    wait(MINUTE_S)
    assert "denied" not in lines[-1][1]


def test_record_without_a_text_costs_its_line_alone(rig, monkeypatch):
    """A rule's verdict whose code cannot be counted stops neither the log nor the commit that it is called from."""
    log, lines, _ = rig(monkeypatch)
    told = []
    monkeypatch.setattr(logs, "error", lambda event, **fields: told.append((event, fields["kind"])))
    log.add(denied(1, code=["no", "code"]))
    log.add(denied(2))
    assert told == [("a record could not be logged", "decision")]
    assert [event for event, _ in lines] == ["denied"]


@given(st.lists(st.sampled_from(["allowed", "denied", "filled", "ended", "minute"]), max_size=150))
def test_lines_are_bounded_and_nothing_is_uncounted(rig, story):
    """In a minute no kind has more lines than allowed, and the numbers of the minute are those of what happened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trading_log, "LINES", 3)
        log, lines, wait = rig(patch)
        expected = dict.fromkeys(KINDS.values(), 0)
        for number, what in enumerate([*story, "minute"]):
            if what == "minute":
                wait(MINUTE_S)
                event, fields = lines[-1]
                assert event == "alive"
                assert {name: fields.get(name, 0) for name in expected} == expected
                assert len(lines) - 1 <= 3 * len(KINDS)
                lines.clear()
                expected = dict.fromkeys(KINDS.values(), 0)
            elif what == "allowed":
                log.add(allowed(number))
                expected["decisions"] += 1
                expected["orders"] += 1
            elif what == "denied":
                log.add(denied(number, strategy=f"s{number}"))
                expected["new_denials"] += 1
            else:
                log.add(reported(number, OrderEvent.FILL if what == "filled" else OrderEvent.EXPIRED))
                expected["fills" if what == "filled" else "orders_ended"] += 1
