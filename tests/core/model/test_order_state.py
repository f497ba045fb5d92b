"""The order lifecycle: every pair of state and event, quantities, duplicates, and the picture in the docs."""

import itertools
import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torghut_core import IllegalTransition, apply_report, is_done
from torghut_core.model.order_state import TRANSITIONS, diagram
from torghut_core.model.trading import Fill, Intent, Order, OrderEvent, OrderState, Report, Side

S, E = OrderState, OrderEvent
WORKING = {S.ACCEPTED, S.PARTIALLY_FILLED, S.REPLACED, S.PENDING_CANCEL, S.PENDING_REPLACE}
UNANSWERED = {S.PENDING, S.SUBMITTED}
LIVE = WORKING | UNANSWERED

# What each event makes of an order of 10 units of which 4 are filled (0 in the states that know no fill), where the
# fill is of 1 unit; written out by hand, event by event, where the table is written state by state.
EXPECTED = {
    (S.PENDING, E.SUBMIT): S.SUBMITTED,
    **{(state, E.ACCEPT): S.ACCEPTED for state in UNANSWERED | {S.ACCEPTED}},
    **{(state, E.ACCEPT): state for state in WORKING - {S.ACCEPTED}},
    **{(state, E.FILL): S.PARTIALLY_FILLED for state in UNANSWERED | {S.ACCEPTED, S.PARTIALLY_FILLED, S.REPLACED}},
    **{(state, E.FILL): state for state in (S.PENDING_CANCEL, S.PENDING_REPLACE, S.CANCELED, S.EXPIRED)},
    **{(state, E.CANCEL): S.PENDING_CANCEL for state in LIVE - {S.PENDING_CANCEL}},
    **{(state, E.CANCELED): S.CANCELED for state in LIVE},
    (S.PENDING_CANCEL, E.CANCEL_REJECTED): S.PARTIALLY_FILLED,
    **{(state, E.REPLACE): S.PENDING_REPLACE for state in LIVE - {S.PENDING_CANCEL, S.PENDING_REPLACE}},
    **{(state, E.REPLACED): S.REPLACED for state in WORKING - {S.PENDING_CANCEL}},
    (S.PENDING_CANCEL, E.REPLACED): S.PENDING_CANCEL,
    (S.PENDING_REPLACE, E.REPLACE_REJECTED): S.PARTIALLY_FILLED,
    (S.PENDING_CANCEL, E.REPLACE_REJECTED): S.PENDING_CANCEL,
    **{(state, E.REJECTED): S.REJECTED for state in LIVE - {S.PARTIALLY_FILLED}},
    **{(state, E.EXPIRED): S.EXPIRED for state in LIVE},
    **{
        (state, event): state
        for state in (S.FILLED, S.CANCELED, S.EXPIRED)
        for event in (E.CANCEL_REJECTED, E.REPLACE_REJECTED)
    },
}


def order(state=S.ACCEPTED, filled="0", quantity="10"):
    intent = Intent(
        client_order_id="tg-1",
        decision_hash="",
        account="test",
        strategy_id="test",
        symbol="ES",
        side=Side.BUY,
        quantity=Decimal(quantity),
        decided_at=0,
    )
    made = Order(intent=intent, state=state, filled_quantity=Decimal(filled))
    if made.filled_quantity:
        made.average_price = Decimal("1640.25")
        made.fees = Decimal("0.40")
        made.fill_ids = ["first"]
    return made


def partly(state):
    filled = {S.PENDING: "0", S.SUBMITTED: "0", S.ACCEPTED: "0", S.REJECTED: "0", S.FILLED: "10"}
    return order(state, filled.get(state, "4"))


def fill(quantity="1", price="1641.25", fill_id="second"):
    return Fill(
        client_order_id="tg-1",
        fill_id=fill_id,
        symbol="ES",
        side=Side.BUY,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal("0.10"),
        event_ts=7,
    )


def report(event, **fields):
    if event is E.FILL:
        fields.setdefault("fill", fill())
    return Report(client_order_id="tg-1", event=event, event_ts=7, **fields)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_pair_leads_where_it_should_or_is_illegal(state, event):
    """Every pair of state and event gives the state written above, or raises and changes nothing."""
    subject = partly(state)
    before = msgspec.to_builtins(subject)
    if (state, event) in EXPECTED:
        assert apply_report(subject, report(event)) is True
        assert subject.state is EXPECTED[state, event]
        assert subject.updated_at == 7
    else:
        with pytest.raises(IllegalTransition) as caught:
            apply_report(subject, report(event))
        assert (caught.value.client_order_id, caught.value.state, caught.value.event) == ("tg-1", state, event)
        assert msgspec.to_builtins(subject) == before


def test_table_has_a_row_for_every_state():
    """No state is without its row, so that a lookup never fails with a KeyError."""
    assert set(TRANSITIONS) == set(S)


def test_done_states_lead_nowhere_but_to_done_ones():
    """From a state that is done no event leads back to work; from every other one some event leads on."""
    for state, events in TRANSITIONS.items():
        targets = {*events.values(), *([S.FILLED] if E.FILL in events else [])}
        if is_done(state):
            assert all(is_done(target) for target in targets)
        else:
            assert any(is_done(target) for target in targets)


@pytest.mark.parametrize("state", [state for state in S if E.FILL in TRANSITIONS[state]])
def test_fill_of_all_that_remains_is_filled(state):
    """Whatever was asked or said meanwhile, an order of which nothing remains is FILLED, after a cancel too."""
    subject = partly(state)
    apply_report(subject, report(E.FILL, fill=fill(subject.remaining)))
    assert subject.state is S.FILLED
    assert subject.remaining == 0


def test_fill_after_cancel_counts_and_leaves_the_order_canceled():
    """What filled before the venue took the order off is in its quantity, price and fees."""
    subject = order(S.CANCELED, "4")
    apply_report(subject, report(E.FILL, fill=fill("1", "1645.25")))
    assert (subject.state, subject.filled_quantity, subject.average_price, subject.fees) == (
        S.CANCELED,
        Decimal(5),
        Decimal("1641.25"),
        Decimal("0.50"),
    )


@pytest.mark.parametrize("event", [E.CANCEL_REJECTED, E.REPLACE_REJECTED])
def test_refused_request_of_unfilled_order_goes_back_to_accepted(event):
    """Without a fill there is nothing partial about it."""
    subject = order(S.PENDING_CANCEL if event is E.CANCEL_REJECTED else S.PENDING_REPLACE)
    apply_report(subject, report(event))
    assert subject.state is S.ACCEPTED


@pytest.mark.parametrize("quantity", ["10.00000001", "11"])
def test_overfill_is_refused(quantity):
    """More than was ordered is not filled, and nothing of it is booked."""
    subject = order()
    before = msgspec.to_builtins(subject)
    with pytest.raises(IllegalTransition, match=f"fill of {re.escape(quantity)} where 10 remains"):
        apply_report(subject, report(E.FILL, fill=fill(quantity)))
    assert msgspec.to_builtins(subject) == before


@pytest.mark.parametrize("quantity", ["0", "-1"])
def test_fill_of_nothing_is_refused(quantity):
    """A fill has a positive quantity."""
    subject = order(S.PARTIALLY_FILLED, "4")
    with pytest.raises(IllegalTransition):
        apply_report(subject, report(E.FILL, fill=fill(quantity)))
    assert subject.filled_quantity == 4


@pytest.mark.parametrize(
    "bad", [Report(client_order_id="tg-1", event=E.FILL, event_ts=7), report(E.ACCEPT, fill=fill())]
)
def test_fill_and_event_belong_together(bad):
    """A FILL without its fill, and a fill under another event, change nothing."""
    subject = order()
    with pytest.raises(IllegalTransition, match="fill"):
        apply_report(subject, bad)
    assert subject == order()


@pytest.mark.parametrize("state", [state for state in S if state not in (S.PENDING, S.SUBMITTED, S.REJECTED)])
def test_second_report_of_a_fill_changes_nothing(state):
    """A fill that the order has seen changes nothing in any state, and `apply_report` returns False for it."""
    subject = order(state, "4")
    before = msgspec.to_builtins(subject)
    assert apply_report(subject, report(E.FILL, fill=fill(fill_id="first"))) is False
    assert msgspec.to_builtins(subject) == before


def test_last_fill_twice_is_no_overfill():
    """The report that completed the order may come again."""
    subject = order()
    assert apply_report(subject, report(E.FILL, fill=fill("10")))
    assert not apply_report(subject, report(E.FILL, fill=fill("10")))
    assert (subject.state, subject.filled_quantity) == (S.FILLED, 10)


def test_replaced_order_has_the_new_terms():
    """The report's intent becomes the order's, and what remains is counted from it."""
    subject = order(S.PENDING_REPLACE, "4")
    terms = msgspec.structs.replace(subject.intent, quantity=Decimal(6), limit_price=Decimal("1639.75"))
    apply_report(subject, report(E.REPLACED, intent=terms, venue_order_id="venue-2"))
    assert (subject.intent, subject.remaining, subject.venue_order_id) == (terms, 2, "venue-2")
    apply_report(subject, report(E.FILL, fill=fill("2")))
    assert subject.state is S.FILLED


def test_order_is_not_replaced_by_less_than_is_filled():
    """Terms under which nothing would remain are refused."""
    subject = order(S.PENDING_REPLACE, "4")
    terms = msgspec.structs.replace(subject.intent, quantity=Decimal(4))
    with pytest.raises(IllegalTransition, match="replaced by 4 where 4 is filled"):
        apply_report(subject, report(E.REPLACED, intent=terms))
    assert subject.remaining == 6


def test_venue_order_id_and_reason_are_kept_until_there_are_new_ones():
    """A report that does not repeat them does not wipe them out."""
    subject = order(S.SUBMITTED)
    apply_report(subject, report(E.ACCEPT, venue_order_id="venue-1", reason="queued"))
    apply_report(subject, report(E.CANCELED))
    assert (subject.venue_order_id, subject.reason) == ("venue-1", "queued")


@given(
    st.lists(
        st.tuples(st.decimals("0.00000001", "1000", places=8), st.decimals("0.01", "100000", places=2)),
        min_size=1,
        max_size=30,
    )
)
def test_average_price_is_weighted_by_quantity(parts):
    """After any fills, average price times quantity is what was paid, to some 20 digits."""
    total = sum(quantity for quantity, _ in parts)
    subject = order(quantity=str(total))
    for number, (quantity, price) in enumerate(parts):
        apply_report(subject, report(E.FILL, fill=fill(quantity, price, str(number))))
    paid = sum(quantity * price for quantity, price in parts)
    assert subject.state is S.FILLED
    assert abs(subject.average_price * total - paid) <= paid * Decimal("1e-20")
    assert subject.fees == Decimal("0.10") * len(parts)


@given(st.lists(st.sampled_from(E), max_size=12))
def test_random_reports_keep_the_order_sound(events):
    """However reports come, quantity stays within what was ordered, and FILLED means that nothing remains."""
    subject = order(S.PENDING)
    for number, event in enumerate(events):
        try:
            apply_report(
                subject, report(event, **({"fill": fill("3", fill_id=str(number))} if event is E.FILL else {}))
            )
        except IllegalTransition:
            continue
        assert 0 <= subject.filled_quantity <= subject.intent.quantity
        assert (subject.state is S.FILLED) == (subject.remaining == 0)
        assert subject.state is not S.ACCEPTED or not subject.filled_quantity


def test_picture_in_the_docs_is_the_table():
    """docs/order-lifecycle.md shows the table as it is; to fix it, paste what `diagram()` gives."""
    page = Path(__file__).resolve().parents[3] / "docs" / "order-lifecycle.md"
    shown = re.search(r"```mermaid\n(.*?)\n```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == diagram()


def test_page_explains_every_state():
    """No state is without its line in docs/order-lifecycle.md."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "order-lifecycle.md").read_text(encoding="utf-8")
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert {state for state in S if f"`{state}`" not in rows} == set()
