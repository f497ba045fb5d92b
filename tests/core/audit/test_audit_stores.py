"""One suite for every audit store: memory, SQLite and Postgres."""

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from threading import Event
from uuid import UUID

import msgspec
import numpy as np
import pytest

from support.waiting import PATIENCE
from torghut_core.audit import MemoryAuditStore, SqlAuditStore, find_decision
from torghut_core.audit.rows import KEYS
from torghut_core.errors import LONGEST_TEXT, InputError, NotFoundError, StateError
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    Order,
    OrderEvent,
    OrderState,
    Outcome,
    Position,
    Purpose,
    Side,
    Verdict,
)
from torghut_core.ports import RiskContext


def test_nothing_is_read_before_commit(store, make):
    """A reader sees what is durable, and nothing else."""
    make.decide(store)
    assert store.decisions() == []
    store.commit()
    assert len(store.decisions()) == 1


def test_decision_is_kept_whole(store, make, clock):
    """Every field of a decision, its signal and its verdicts come back as they were recorded."""
    decision, _ = make.decide(store)
    store.commit()
    (row,) = store.decisions("paper-1")
    assert msgspec.convert(row.pop("inputs"), RiskContext) == make.inputs(decision)
    created_at = row.pop("created_at")
    assert make.START < created_at <= clock.now
    assert row == {
        "id": 1,
        "account": "paper-1",
        "strategy_id": "macd-rsi-default",
        "symbol": "BTC/USD",
        "event_ts": decision.event_ts,
        "decided_at": decision.decided_at,
        "action": "buy",
        "params": {"quantity": "1.50", "order_type": "market", "time_in_force": "day"},
        "rationale": "momentum up from weakness",
        "price": Decimal("25741.02"),
        "decision_hash": decision.decision_hash,
        "generation": 1,
        "status": "allowed",
        "verdicts": [
            {
                "rule": "cooldown",
                "outcome": "allow",
                "code": "cooldown",
                "value": "61",
                "limit": "60",
                "quantity": None,
                "highest_price": None,
            }
        ],
        "signal": {
            "symbol": "BTC/USD",
            "event_ts": "2026-01-05T14:30:01.000000001Z",
            "macd_hist": 0.125,
            "rsi14": None,
        },
        "executed_at": None,
    }


def test_inputs_are_explained_as_they_were_judged(store, make):
    """What risk judged by is given back with the decision: equal, and to the digit, once it is converted."""
    decision, _ = make.decide(store, denied=["max-notional"])
    store.commit()
    found = find_decision(store, decision.decision_hash)
    assert "inputs" not in found["decision"]
    assert found["inputs"]["limits"] == {
        "max_notional_per_trade": "1000.0",
        "max_position_pct_equity": None,
        "cooldown_seconds": 60,
    }
    assert found["inputs"]["orders"][0]["side"] == "sell"
    judged = msgspec.convert(found["inputs"], RiskContext)
    assert judged == make.inputs(decision)
    assert repr(judged) == repr(make.inputs(decision))


class Odd(msgspec.Struct):
    """What a broker's own code may put into its account."""

    number: object


def test_inputs_that_json_does_not_know_do_not_stop_the_commit(store, make):
    """A venue's own kind of value, and its broken text, are written down as the text that they have."""
    for n, value in enumerate([1j, np.float64(1.5), "\ud800", float("nan"), None]):
        decision = make.decision(n)
        store.record_decision(decision, {}, [], None, None if value is None else Odd(value))
    store.commit()
    numbers = [row["inputs"] and row["inputs"]["number"] for row in store.decisions()]
    assert numbers == ["1j", "1.5", "?", None, None]


def test_denied_decision_has_no_order(store, make):
    """What risk denied is written down with its reason, and no order."""
    make.decide(store, denied=["max-notional"])
    store.commit()
    assert [row["status"] for row in store.decisions()] == ["denied"]
    assert store.orders() == []


def test_intent_is_a_pending_order_before_any_report(store, make):
    """The intent is in the audit before the order leaves, so that a restart finds it."""
    _, intent = make.decide(store)
    store.commit()
    (row,) = store.orders("paper-1")
    assert (row["state"], row["client_order_id"]) == ("pending", intent.client_order_id)
    assert (row["quantity"], row["limit_price"], row["submitted_at"]) == (Decimal("1.50"), Decimal(25742), None)
    (order,) = store.recent_orders("paper-1", make.LATER)
    assert order.intent == intent
    assert order.state is OrderState.PENDING


def test_reports_move_the_order_on(store, make):
    """Each report is an event; the order has the state, quantity, price and fees after the last one."""
    _, intent = make.decide(store)
    make.accept(store, intent)
    store.commit()
    fill = make.execute(store, intent)
    store.commit()
    (order,) = store.orders("paper-1")
    assert (order["state"], order["filled_quantity"]) == ("filled", Decimal("1.50"))
    assert (order["average_price"], order["fees"]) == (Decimal("25742.17"), Decimal("3.861"))
    assert (order["submitted_at"], order["last_update_at"]) == (intent.decided_at + 5, fill.event_ts)
    events = store.rows("execution_events", account="paper-1")
    assert [event["event"] for event in events] == ["accept", "fill"]
    assert [event["execution_id"] for event in events] == [order["id"]] * 2
    assert events[1]["payload"]["position"] == {
        "quantity": "1.50",
        "average_price": "25742.1700",
        "realized_pnl": "0",
        "fees": "3.861",
    }
    assert store.recent_orders("paper-1", make.LATER) == []


@pytest.mark.parametrize("commits_between", [False, True])
def test_first_fill_says_when_the_decision_was_executed(store, make, commits_between):
    """`executed_at` is the time of the first fill, whether or not the decision was committed before it."""
    _, intent = make.decide(store)
    first, second = make.fill(intent, "0.50", 1), make.fill(intent, "1.00", 2)
    if commits_between:
        store.commit()
    order = make.order(intent, OrderState.PARTIALLY_FILLED, "0.50")
    store.record_report("paper-1", order, make.report(intent, OrderEvent.FILL, first), Position())
    if commits_between:
        store.commit()
    order = make.order(intent, OrderState.FILLED, "1.50")
    store.record_report("paper-1", order, make.report(intent, OrderEvent.FILL, second), Position())
    store.commit()
    (row,) = store.decisions("paper-1")
    assert row["executed_at"] == first.event_ts


ENDS = (OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED)


@pytest.mark.parametrize("end", [*ENDS, "denied"])
def test_memory_does_not_grow_with_what_is_done(sqlite, make, end):
    """Of a decision and an order that are done no row stays in memory: it is the same after ten as after sixty of them."""

    gc.collect()
    gc.freeze()  # what other tests have left is not looked at

    def live(store, numbers):
        for n in numbers:
            _, intent = make.decide(store, n, denied=["max-notional"] if end == "denied" else ())
            store.commit()
            if end == OrderState.FILLED:
                make.execute(store, intent)
            elif intent is not None:
                report = make.report(intent, OrderEvent(end))
                store.record_report(intent.account, make.order(intent, end), report, Position())
            store.commit()
        gc.collect()
        return sum(type(each) is dict for each in gc.get_objects())

    with closing(SqlAuditStore(sqlite())) as store:
        before = live(store, range(10))
        assert live(store, range(10, 60)) - before < 25


@pytest.mark.parametrize("end", ENDS)
def test_late_fill_of_an_order_that_is_done_is_written_down(store, make, end):
    """A fill that comes many commits after the order was done is an event of it, and says when the decision was executed."""
    decision, intent = make.decide(store)
    store.record_report(intent.account, make.order(intent, end), make.report(intent, OrderEvent.CANCELED), Position())
    store.commit()
    for n in range(2, 5):
        make.trade(store, n)
        store.commit()
    fill = make.execute(store, intent)
    store.commit()
    (row,) = store.rows("trade_decisions", decision_hash=decision.decision_hash)
    assert row == store.decisions("paper-1")[0] | {"executed_at": fill.event_ts}
    (order,) = store.rows("executions", decision_hash=decision.decision_hash)
    assert (order["state"], order["filled_quantity"]) == ("filled", Decimal("1.50"))


def test_order_is_written_as_it_was_when_the_report_was_recorded(store, make):
    """An order that moves on between report and commit is not written down as it is later."""
    _, intent = make.decide(store)
    order = make.order(intent, OrderState.ACCEPTED)
    store.record_report("paper-1", order, make.report(intent, OrderEvent.ACCEPT), Position())
    order.state = OrderState.CANCELED
    store.commit()
    assert store.orders()[0]["state"] == "accepted"
    assert store.rows("execution_events")[0]["state"] == "accepted"


def fill_partly(store, make, intent, quantity, number, position, **whose):
    """Record a fill that leaves something open."""
    fill = make.fill(intent, quantity, number)
    order = make.order(intent, OrderState.PARTIALLY_FILLED, quantity)
    store.record_report(intent.account, order, make.report(intent, OrderEvent.FILL, fill), position, **whose)


@pytest.mark.parametrize("state", OrderState)
def test_open_orders_are_those_that_are_not_done(store, make, state):
    """A restart finds every order that may still work, one that was replaced too, and none that is done."""
    _, intent = make.decide(store)
    order = make.order(intent, state)
    store.record_report("paper-1", order, make.report(intent, OrderEvent.REPLACED), Position())
    store.commit()
    assert [found.state for found in store.recent_orders("paper-1", make.LATER)] == ([] if is_done(state) else [state])
    assert store.recent_orders("paper-2", make.LATER) == []


def test_order_comes_back_as_it_was(store, make):
    """An order that is read again after a restart is the one that was written, its fills' ids in order and its purpose."""
    decision = make.decision()
    intent = make.intent(decision, purpose=Purpose.FLATTEN)
    store.record_decision(decision, {}, [], intent)
    other, _ = make.trade(store, 2)
    held = Position(Decimal("1.00"), Decimal("25742.17"))
    for number, quantity in ((2, "0.50"), (1, "1.00")):
        fill_partly(store, make, intent, quantity, number, held)
        store.commit()
    expected = Order(
        intent=intent,
        state=OrderState.PARTIALLY_FILLED,
        venue_order_id="v-1",
        filled_quantity=Decimal("1.00"),
        average_price=Decimal("25742.1700"),
        fees=Decimal("3.861"),
        fill_ids=["f-2", "f-1"],
        updated_at=make.fill(intent, "1.00", 1).event_ts,
    )
    assert store.recent_orders("paper-1", make.LATER) == [expected]
    assert store.find_order("paper-1", intent.client_order_id) == expected
    assert store.find_order("paper-1", make.intent(other).client_order_id).fill_ids == ["f-1"]
    assert store.find_order("paper-2", intent.client_order_id) is None


def test_recent_orders_are_open_or_were_updated_since(store, make):
    """News may still come of what was done a moment ago; the moment itself counts."""
    (_, old), (_, young) = make.trade(store, 1), make.trade(store, 2)
    _, working = make.decide(store, 3)
    store.commit()
    since = make.fill(young).event_ts
    numbers = [working.client_order_id]
    for moment, recent in ((since + 1, []), (since, [young]), (0, [old, young])):
        found = [order.intent.client_order_id for order in store.recent_orders("paper-1", moment)]
        assert found == [intent.client_order_id for intent in recent] + numbers


def test_more_orders_than_one_query_asks_for_have_their_fills(store, make, monkeypatch):
    """The fills of many orders are asked for in several queries, and each comes to its order."""
    monkeypatch.setattr("torghut_core.audit.sql._AT_ONCE", 2)
    intents = [make.trade(store, n)[1] for n in range(5)]
    make.execute(store, intents[2], number=2)
    store.commit()
    fills = {order.intent.client_order_id: order.fill_ids for order in store.recent_orders("paper-1", 0)}
    assert list(fills.values()) == [["f-1"], ["f-1"], ["f-1", "f-2"], ["f-1"], ["f-1"]]


KEY = ("macd-rsi-default", "BTC/USD")


def held(quantity):
    return Position(Decimal(quantity), Decimal("25742.1700"), Decimal("-1.5"), Decimal("0.10"))


def test_position_is_the_one_of_the_last_fill(store, make):
    """Each strategy's position in each symbol is what its newest fill left, flat ones too; other reports say nothing."""
    assert store.positions("paper-1") == {}
    _, intent = make.decide(store)
    _, other = make.decide(store, 2, symbol="ETH/USD", strategy_id="other")
    fill_partly(store, make, intent, "0.50", 1, held("0.50"))
    fill_partly(store, make, other, "0.50", 1, held("0"))
    store.commit()
    fill_partly(store, make, intent, "1.00", 2, held("1.50"))
    make.accept(store, intent)  # with a position that is none
    store.commit()
    assert store.positions("paper-1") == {KEY: held("1.50"), ("other", "ETH/USD"): held("0")}
    assert store.positions("paper-2") == {}


@pytest.mark.parametrize("commits_between", [False, True])
def test_position_is_the_last_of_fills_and_moves(store, make, commits_between):
    """Whichever was recorded last counts, fill or move, in the same commit as the one before it or in another."""
    _, intent = make.decide(store)
    for number in range(1, 5):
        fill_partly(store, make, intent, "0.10", number, held(f"{number}.1"))
        if commits_between:
            store.commit()
        if number == 3:
            continue
        store.record_position("paper-1", *KEY, held(f"{number}.2"), make.START + number, "adjusted")
        store.record_position("paper-1", "heir", "BTC/USD", held(f"{number}.3"), make.START + number, "handed over")
        if commits_between or number == 2:
            store.commit()
            assert store.positions("paper-1") == {KEY: held(f"{number}.2"), ("heir", "BTC/USD"): held(f"{number}.3")}
    fill_partly(store, make, intent, "0.10", 5, held("5.1"))
    store.record_account("paper-1", make.books(), {"BTC/USD": held("99")}, make.START + 9)  # the account's, nobody's
    store.commit()
    assert store.positions("paper-1") == {KEY: held("5.1"), ("heir", "BTC/USD"): held("4.3")}
    moves = store.rows("position_snapshots", strategy_id="heir")
    assert [(row["reason"], row["quantity"], row["at"]) for row in moves] == [
        ("handed over", Decimal(f"{number}.3"), make.START + number) for number in (1, 2, 4)
    ]


@pytest.mark.parametrize("commits_between", [False, True])
def test_fill_of_an_order_that_was_handed_over_is_its_heirs(store, make, commits_between):
    """The position in a fill belongs to whom the order was handed to; the strategy that sent it stays flat."""
    _, intent = make.decide(store)
    fill_partly(store, make, intent, "0.50", 1, held("0.50"))
    store.record_position("paper-1", *KEY, held("0"), make.START, "handed over to heir")
    store.record_position("paper-1", "heir", "BTC/USD", held("0.50"), make.START, "handed over")
    if commits_between:
        store.commit()
    fill_partly(store, make, intent, "1.50", 2, held("1.50"), strategy_id="heir")
    store.commit()
    assert store.positions("paper-1") == {KEY: held("0"), ("heir", "BTC/USD"): held("1.50")}
    fill_partly(store, make, intent, "0.25", 3, held("0.25"), strategy_id=KEY[0])
    store.commit()
    assert store.positions("paper-1")[KEY] == held("0.25")


@pytest.mark.parametrize("commits_between", [False, True])
def test_an_order_stays_with_whom_it_was_handed_to(store, make, commits_between):
    """The next process finds it with its heir, and the positions as they were recorded last."""
    _, intent = make.decide(store)
    fill_partly(store, make, intent, "0.50", 1, held("0.50"))
    store.record_position("paper-1", *KEY, held("0"), make.START, "handed over to heir")
    store.record_position("paper-1", "heir", "BTC/USD", held("0.50"), make.START, "handed over")
    if commits_between:
        store.commit()
    store.record_owner("paper-1", intent.client_order_id, "heir")
    store.commit()
    assert [order.intent.strategy_id for order in store.recent_orders("paper-1", 0)] == ["heir"]
    fill_partly(store, make, intent, "1.00", 2, held("1.50"), strategy_id="heir")
    store.commit()
    assert store.positions("paper-1") == {KEY: held("0"), ("heir", "BTC/USD"): held("1.50")}


def test_orders_are_paged_and_chosen(store, make):
    """Orders are paged and chosen like every other row."""
    (first, _), (second, _) = make.trade(store, 1), make.trade(store, 2, symbol="ETH/USD")
    third, _ = make.decide(store, 3)
    store.commit()
    rows = store.orders("paper-1", newest_first=True)
    assert [row["decision_hash"] for row in rows] == [each.decision_hash for each in (third, second, first)]
    assert store.orders(newest_first=True, after=rows[0]["id"], limit=1) == rows[1:2]
    assert store.orders(symbol="ETH/USD", since=rows[1]["last_update_at"]) == rows[1:2]
    assert store.orders(symbol="ETH/USD", since=rows[1]["last_update_at"] + 1) == []
    assert rows[::-1] == store.orders()


def test_readers_in_other_threads_see_whole_commits(store, make):
    """While one thread writes, others read: newest first, no commit by half, none that is taken back."""
    commits, begun, over = 25, Event(), Event()

    def read():
        seen = 0
        while True:
            is_last = over.is_set()
            rows = store.orders("paper-1", newest_first=True)
            decisions = store.decisions("paper-1", newest_first=True, limit=3)
            positions = store.positions("paper-1")
            begun.set()
            numbers = [row["id"] for row in rows]
            assert numbers == sorted(numbers, reverse=True)
            assert len(rows) >= seen
            assert len(rows) % 2 == 0  # two orders in a commit
            assert {len(order.fill_ids) for order in store.recent_orders("paper-1", 0)} <= {1}
            seen = len(rows)
            if rows:
                assert decisions[0]["executed_at"] is not None
                assert find_decision(store, rows[0]["decision_hash"])["execution"]["state"] == "filled"
                assert positions.keys() == {KEY}
            if is_last:
                return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            assert begun.wait(PATIENCE)
            for n in range(commits):
                make.trade(store, 2 * n)
                make.trade(store, 2 * n + 1)
                store.commit()
        finally:
            over.set()
        assert [reader.result() for reader in readers] == [2 * commits] * 3


def test_order_that_only_the_venue_knows_is_kept(store, make):
    """A report of an order without a decision makes its row: a reconciler finds such orders."""
    intent = make.intent(make.decision())
    make.execute(store, intent)
    store.commit()
    assert [row["state"] for row in store.orders()] == ["filled"]
    assert store.decisions() == []


def test_decision_is_known_from_the_moment_it_is_recorded(store, make):
    """Nothing is sent twice: also what is not committed yet is known."""
    decision = make.decision()
    assert not store.is_known("paper-1", decision.decision_hash)
    make.decide(store)
    assert store.is_known("paper-1", decision.decision_hash)
    assert not store.is_known("paper-2", decision.decision_hash)


@pytest.mark.parametrize("is_committed", [False, True])
def test_decision_whose_order_is_at_the_venue_already_is_known(store, make, is_committed):
    """After a restart on an older database, an order that the venue had is not sent a second time."""
    decision = make.decision()
    intent = make.intent(decision)
    make.accept(store, msgspec.structs.replace(intent, decision_hash=""))  # the venue knows no hash of ours
    if is_committed:
        store.commit()
        store._known.clear()  # as in a new process; in memory there is none
    assert store.is_known("paper-1", decision.decision_hash) or (is_committed and isinstance(store, MemoryAuditStore))
    assert not store.is_known("paper-2", decision.decision_hash)
    assert not store.is_known("paper-1", make.decision(2).decision_hash)
    store.commit()
    assert len(store.orders()) == 1


def test_known_decision_is_refused(store, make):
    """A second decision with the hash of the first changes nothing and is an error that names it."""
    decision, _ = make.decide(store)
    with pytest.raises(StateError, match=f"{decision.decision_hash} of account paper-1 was recorded before"):
        make.decide(store)
    store.commit()
    assert len(store.decisions()) == 1


def test_same_hash_in_another_account_is_another_decision(store, make):
    """Decision hashes and order ids are unique in an account, not beyond it."""
    decision, intent = make.decide(store)
    other = make.decision(account="paper-2", decision_hash=decision.decision_hash)
    store.record_decision(other, make.signal(other), [], make.intent(other))
    store.commit()
    assert [row["account"] for row in store.decisions()] == ["paper-1", "paper-2"]
    assert {row["client_order_id"] for row in store.orders()} == {intent.client_order_id}


def test_new_account_is_one_that_nothing_uses(store, make):
    """Labels count up from 1 over what was handed out and what is in use, committed or not."""
    assert [store.new_account("replay") for _ in range(3)] == ["replay-1", "replay-2", "replay-3"]
    make.decide(store, account="replay-4")
    store.record_cursor("replay-5", "tape", {})
    store.record_account("replay-6", make.books(), {}, make.START)
    assert store.new_account("replay") == "replay-7"
    assert store.new_account("paper") == "paper-1"


def test_generations_count_up(store):
    """A generation's number is known when it is recorded, and the row has it."""
    content = {"digest": "d1", "diff": None, "plugins": [], "id": UUID(int=7)}
    assert store.record_generation(content, "ops", "applied") == 1
    assert store.record_generation({"digest": "d2", "diff": {"added": ["x"]}}, "watch", "degraded") == 2
    store.commit()
    assert store.record_generation({"digest": "d3"}, "watch", "applied") == 3
    first, second = store.rows("catalog_generations")
    assert (first["number"], first["digest"], first["actor"], first["outcome"]) == (1, "d1", "ops", "applied")
    assert first["content"] == {"plugins": [], "id": "00000000-0000-0000-0000-000000000007"}
    assert (first["diff"], second["diff"]) == (None, {"added": ["x"]})


ENTRY = {
    "name": "macd-rsi-default",
    "use": "macd-rsi",
    "enabled": True,
    "base_timeframe": "1Min",
    "symbols": ["BTC/USD"],
    "params": {"rsi_buy": 35.0},
    "max_notional_per_trade": Decimal(1000),
    "cooldown_seconds": 60,
    "on_remove": "freeze",
}


def test_strategies_are_upserted(store):
    """A strategy has one row, with what its entry says now."""
    store.record_strategies([ENTRY], "merge")
    store.commit()
    store.record_strategies([ENTRY | {"symbols": ["ETH/USD"]}], "merge")
    store.commit()
    (row,) = store.rows("strategies")
    assert (row["name"], row["use"], row["enabled"], row["on_remove"]) == (
        "macd-rsi-default",
        "macd-rsi",
        True,
        "freeze",
    )
    assert row["symbols"] == ["ETH/USD"]
    assert row["params"] == {"rsi_buy": 35.0}
    assert row["limits"] == {"max_notional_per_trade": "1000", "cooldown_seconds": 60}


@pytest.mark.parametrize(("mode", "expected"), [("sync", [False, True]), ("merge", [True, True])])
@pytest.mark.parametrize("commits_between", [False, True])
def test_strategy_that_is_not_listed_is_disabled_by_sync_only(store, mode, expected, commits_between):
    """Mode sync disables what the catalog no longer lists; merge leaves it."""
    store.record_strategies([ENTRY | {"name": "a"}], "sync")
    if commits_between:
        store.commit()
    store.record_strategies([ENTRY | {"name": "b"}], mode)
    store.commit()
    assert [row["enabled"] for row in store.rows("strategies")] == expected


def test_strategy_that_did_not_change_is_not_written_again(store):
    """Reading the same catalog again leaves `updated_at` as it was."""
    store.record_strategies([ENTRY, ENTRY | {"name": "gone"}], "sync")
    store.record_strategies([ENTRY], "sync")
    store.commit()
    before = store.rows("strategies")
    store.record_strategies([ENTRY], "sync")
    store.commit()
    assert store.rows("strategies") == before


def test_books_are_a_row_of_the_account_and_one_of_each_position(store, make):
    """Cash and equity have a row without a symbol; each position has its own."""
    positions = {"BTC/USD": Position(Decimal("1.50"), Decimal("25742.17"), Decimal("-3.1"), Decimal("3.861"))}
    store.record_account("paper-1", make.books(), positions, make.START)
    positions.clear()
    store.commit()
    account, position = store.rows("position_snapshots", account="paper-1")
    assert (account["symbol"], account["cash"], account["equity"]) == (None, Decimal("61386.74"), Decimal("100000.00"))
    assert (position["symbol"], position["quantity"], position["realized_pnl"]) == (
        "BTC/USD",
        Decimal("1.50"),
        Decimal("-3.1"),
    )
    assert account["at"] == position["at"] == make.START
    assert store.rows("position_snapshots", symbol=None) == [account]


def test_cursor_is_the_last_one_recorded(store):
    """A source goes on after what was committed, each by itself."""
    assert store.cursor("paper-1", "kafka") is None
    store.record_cursor("paper-1", "kafka", {"offset": 7})
    store.record_cursor("paper-1", "alpaca", {"last": "x"})
    store.record_cursor("paper-1", "kafka", {"offset": 9})
    store.commit()
    store.record_cursor("paper-1", "kafka", {"offset": 11})
    assert store.cursor("paper-1", "kafka") == {"offset": 9}
    assert store.cursor("paper-1", "alpaca") == {"last": "x"}


def test_control_has_its_last_value_and_actor(store):
    """The kill switch is what it was turned to last, and says who did it."""
    assert store.control("kill", default=False) is False
    store.record_control("kill", {"on": True, "reason": "drill"}, "alice")
    store.commit()
    store.record_control("kill", {"on": False}, "bob")
    store.commit()
    assert store.control("kill") == {"on": False}
    assert [row["actor"] for row in store.rows("controls")] == ["bob"]


def test_lease_is_held_by_one_until_it_ends(store, clock):
    """A lease is taken by one holder, renewed by it, and free for others when it is given back or has run out."""
    assert store.take_lease("trading", "one", seconds=30)
    assert not store.take_lease("trading", "two", seconds=30)
    assert store.take_lease("trading", "one", seconds=30)
    clock.now += 31_000_000_000
    assert store.take_lease("trading", "two", seconds=30)
    assert not store.take_lease("trading", "two", seconds=0)
    assert store.take_lease("trading", "one", seconds=30)


def test_lease_is_free_from_the_moment_it_ends(store, clock):
    """A lease until t is another's to take at t, and not a nanosecond earlier."""
    assert store.take_lease("trading", "one", seconds=1)
    ends = store.rows("leases")[0]["expires_at"]
    clock.now = ends - 1_000_001  # it moves on by a millisecond when it is read
    assert not store.take_lease("trading", "two", seconds=1)
    clock.now = ends - 1_000_000
    assert store.take_lease("trading", "two", seconds=1)


def test_review_is_kept_with_its_decision(store, make):
    """What an advisor said is found with the decision, its details as JSON."""
    decision, _ = make.decide(store)
    verdict = Verdict("llm", Outcome.SHRINK, "shrink", "0.5", "", Decimal("0.75"))
    store.record_review("paper-1", decision.decision_hash, "llm", verdict, {"model": "m", "request": UUID(int=1)})
    store.commit()
    (review,) = find_decision(store, decision.decision_hash)["reviews"]
    assert (review["advisor"], review["outcome"], review["quantity"]) == ("llm", "shrink", "0.75")
    assert review["details"] == {"model": "m", "request": "00000000-0000-0000-0000-000000000001"}


def test_signal_with_odd_values_is_coerced(store, make):
    """A UUID or a Decimal in a signal becomes text: the production failure of a raw UUID in a JSON column."""
    decision = make.decision()
    signal = {"id": UUID(int=2), "price": Decimal("1.10"), "inf": float("inf"), "event_ts": "then"}
    store.record_decision(decision, signal, [], None)
    store.commit()
    assert store.decisions()[0]["signal"] == {
        "id": "00000000-0000-0000-0000-000000000002",
        "price": "1.10",
        "inf": None,
        "event_ts": "then",
    }


def test_value_that_json_cannot_hold_is_refused_when_it_is_recorded(store, make):
    """What cannot be written is refused at once, with its place, and the next commit works."""
    decision = make.decision()
    with pytest.raises(InputError, match=r"signal\.raw: a object cannot be written down as JSON"):
        store.record_decision(decision, {"raw": object()}, [], None)
    with pytest.raises(InputError, match=r"cursor\.parts\[1\]: a set"):
        store.record_cursor("paper-1", "tape", {"parts": [1, {2}]})
    make.decide(store)
    store.commit()
    assert len(store.decisions()) == 1


def test_money_that_is_no_decimal_is_refused_when_it_is_recorded(store, make):
    """A plugin's float does not wait in line to fail the commit of everybody else."""
    decision = make.decision()
    with pytest.raises(
        InputError, match=r"order of macd-rsi-default: 10\.5 is a float, and money is written down as Decimal"
    ):
        store.record_decision(decision, {}, [], make.intent(decision, limit_price=10.5))
    with pytest.raises(InputError, match=r"decision of macd-rsi-default: np.float64\(1\.0\) is a float64"):
        store.record_decision(make.decision(price=np.float64(1.0)), {}, [], None)
    intent = make.intent(decision)
    fill = msgspec.structs.replace(make.fill(intent), fee=0.1)
    report = make.report(intent, OrderEvent.FILL, fill)
    with pytest.raises(InputError, match=f"report of {intent.client_order_id}: 0.1 is a float"):
        store.record_report("paper-1", make.order(intent, OrderState.FILLED, "1.50"), report, Position())
    order = make.order(intent, OrderState.FILLED, "1.50")
    order.fees = 0
    with pytest.raises(InputError, match=f"report of {intent.client_order_id}: 0 is a int"):
        store.record_report("paper-1", order, make.report(intent, OrderEvent.FILL, make.fill(intent)), Position())
    with pytest.raises(InputError, match="position in ES: 2 is a int"):
        store.record_account("paper-1", make.books(), {"ES": Position(2)}, make.START)
    with pytest.raises(InputError, match="position in ES: 2 is a int"):
        store.record_position("paper-1", "s", "ES", Position(2), make.START, "adjusted")
    with pytest.raises(InputError, match=r"account paper-1: 1\.5 is a float"):
        store.record_account("paper-1", msgspec.structs.replace(make.books(), equity=1.5), {}, make.START)
    with pytest.raises(InputError, match=r"review by llm: 0\.5 is a float"):
        store.record_review("paper-1", "h", "llm", Verdict("llm", Outcome.SHRINK, "c", quantity=0.5), {})
    store.commit()
    assert all(store.rows(table) == [] for table in KEYS)


def test_ids_and_words_of_plugins_may_be_anything_with_a_text(store, make):
    """A venue's id that is a UUID or a number, a rule's value from numpy, an action as text: all are written as text."""
    decision = make.decision(action="buy")
    verdicts = [Verdict("r", Outcome.ALLOW, "c", np.float64(1.5), Decimal("2.0"))]
    intent = make.intent(decision)
    store.record_decision(decision, {}, verdicts, intent)
    order = make.order(intent, OrderState.FILLED, "1.50")
    order.venue_order_id = UUID(int=4)
    fill = msgspec.structs.replace(make.fill(intent), fill_id=7)
    store.record_report("paper-1", order, make.report(intent, OrderEvent.FILL, fill, venue_order_id=9), Position())
    store.commit()
    (verdict,) = store.decisions()[0]["verdicts"]
    assert (verdict["outcome"], verdict["value"], verdict["limit"]) == ("allow", "1.5", "2.0")
    assert store.orders()[0]["venue_order_id"] == "00000000-0000-0000-0000-000000000004"
    (event,) = store.fills()
    assert (event["fill_id"], event["payload"]["venue_order_id"]) == ("7", "9")
    if hasattr(store, "verify"):
        assert store.verify() == []


def test_control_of_the_audit_itself_is_refused(store):
    """The head of the chain is not a switch that anybody turns."""
    with pytest.raises(InputError, match=r"'audit\.head' is reserved for the audit"):
        store.record_control("audit.head", None, "me")


def test_text_that_a_database_cannot_store_is_replaced(store, make):
    """NUL and lone surrogates, which a plugin may print into its reasons, do not stop the commit."""
    decision = make.decision(because="cross\x00ed \ud800")
    verdicts = [Verdict("r", Outcome.DENY, "r\ud800", "a\x00b")]
    store.record_decision(decision, make.signal(decision), verdicts, None)
    store.commit()
    (row,) = store.decisions()
    assert row["rationale"] == "cross\N{REPLACEMENT CHARACTER}ed ?"


def test_reasons_without_end_are_cut(store, make):
    """A strategy whose reasons are megabytes long, by mistake a whole table, does not fill the database."""
    decision = make.decision(because="long " * 1_000_000)
    store.record_decision(decision, make.signal(decision), [], None)
    store.commit()
    (row,) = store.decisions()
    assert row["rationale"] == "long " * (LONGEST_TEXT // 5)


@pytest.mark.parametrize(
    "text", ["1E+3", "-0", "0E-8", "1.10", "0.000000000000000001", "123456789012345678901234567890.1"]
)
def test_money_keeps_its_value_and_digits(store, make, text):
    """A decimal comes back equal, with as many digits behind the point."""
    decision = make.decision(price=Decimal(text))
    store.record_decision(decision, {}, [], None)
    store.commit()
    assert store.decisions()[0]["price"] == Decimal(text)
    assert find_decision(store, "1")["decision"]["price"] == f"{Decimal(text):f}".removeprefix("-")


def test_fills_carry_their_order(store, make):
    """A fill has what a report of trades needs, in the order in which fills came."""
    first, _ = make.trade(store, 1)
    make.decide(store, 2)
    second, _ = make.trade(store, 3, symbol="ETH/USD", action=Side.SELL)
    make.trade(store, 4, account="paper-2")
    store.commit()
    fills = store.fills("paper-1")
    assert [fill["decision_hash"] for fill in fills] == [first.decision_hash, second.decision_hash]
    assert [(fill["symbol"], fill["side"]) for fill in fills] == [("BTC/USD", "buy"), ("ETH/USD", "sell")]
    assert {
        (fill["strategy_id"], fill["quantity"], fill["price"], fill["fee"], fill["slippage"]) for fill in fills
    } == {("macd-rsi-default", Decimal("1.50"), Decimal("25742.17"), Decimal("3.861"), Decimal("1.15"))}
    assert len(store.fills()) == 3
    assert store.fills("paper-3") == []


def test_rows_are_paged_both_ways(store, make):
    """Pages join without a gap, from the oldest or from the newest."""
    for n in range(7):
        make.decide(store, n)
    store.commit()
    everything = store.decisions("paper-1")
    assert [row["event_ts"] for row in everything] == sorted(row["event_ts"] for row in everything)
    for newest_first in (False, True):
        pages, after = [], 0
        while page := store.decisions("paper-1", after=after, limit=3, newest_first=newest_first):
            pages += page
            after = page[-1]["id"]
        assert pages == (everything[::-1] if newest_first else everything)


def test_rows_are_chosen_by_time_and_value(store, make):
    """`since` takes the time itself in; any column can be asked for."""
    for n, symbol in enumerate(["BTC/USD", "ETH/USD", "BTC/USD"]):
        make.decide(store, n, symbol=symbol)
    store.commit()
    second = make.decision(1).event_ts
    assert [row["symbol"] for row in store.decisions(since=second)] == ["ETH/USD", "BTC/USD"]
    assert [row["symbol"] for row in store.decisions(since=second + 1)] == ["BTC/USD"]
    assert len(store.decisions(symbol="BTC/USD")) == 2


def test_unknown_table_is_named(store):
    """A table that is not there is an error that names those that are."""
    with pytest.raises(InputError, match=r"'fills'.*trade_decisions"):
        store.rows("fills")


def test_rows_that_are_read_can_be_changed_without_harm(store, make):
    """A reader gets copies."""
    make.decide(store)
    store.commit()
    store.decisions()[0].clear()
    assert store.decisions()[0]["account"] == "paper-1"


def test_closing_commits_and_is_harmless_twice(store, make):
    """`close` makes durable what was recorded."""
    make.decide(store)
    store.close()
    store.close()
    assert len(store.decisions()) == 1


def test_empty_commit_writes_nothing(store):
    """A commit without records is free, and leaves no trace."""
    store.commit()
    assert all(store.rows(table) == [] for table in KEYS)


def test_decision_is_found_by_all_its_names(store, make):
    """Its id, its hash, its order's id, and the beginning of either name the same decision."""
    make.decide(store, 1)
    decision, intent = make.trade(store, 2)
    store.commit()
    number = store.decisions()[1]["id"]
    for name in (
        str(number),
        decision.decision_hash,
        decision.decision_hash[:8],
        intent.client_order_id,
        intent.client_order_id[:11],
        f" {intent.client_order_id}-2"[:-2],
    ):
        assert find_decision(store, name)["decision"]["decision_hash"] == decision.decision_hash


def test_explanation_tells_everything_as_json(store, make):
    """Signal, parameters, code digest, verdicts with limits, order, events and fill: one object, as JSON has it."""
    plugin = {"name": "macd-rsi", "distribution": "acme", "version": "1.2", "code_digest": "c0de"}
    entry = {"name": "macd-rsi-default", "use": "macd-rsi", "version": ">=1", "params": {"rsi_buy": 35}}
    plugins = [plugin | {"kind": "stage", "code_digest": "other"}, plugin | {"kind": "strategy"}]
    rule = plugin | {"kind": "risk rule", "name": "cooldown", "code_digest": "ca5e"}
    plugins.append(rule)
    risk = [{"use": "cooldown", "version": None, "params": {"seconds": 60}}, {"use": "gone", "params": {}}]
    content = {"digest": "d1", "plugins": plugins, "strategies": [entry], "risk": risk}
    store.record_generation(content, "ops", "applied")
    decision, intent = make.trade(store)
    store.commit()
    found = find_decision(store, decision.decision_hash)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["decision"]["decided_at"] == "2026-01-05T14:30:02.000000001Z"
    assert found["decision"]["price"] == "25741.02"
    assert found["signal"]["macd_hist"] == 0.125
    assert [verdict["limit"] for verdict in found["verdicts"]] == ["60"]
    assert found["execution"]["client_order_id"] == intent.client_order_id
    assert found["execution"]["average_price"] == "25742.1700"
    assert [(event["event"], event["fill_id"], event["fee"]) for event in found["events"]] == [
        ("accept", None, None),
        ("fill", "f-1", "3.861"),
    ]
    generation = found["generation"]
    assert (generation["number"], generation["digest"], generation["actor"]) == (1, "d1", "ops")
    assert generation["plugins"] == plugins
    assert generation["strategy"] == entry | {"distribution": "acme", "version": "1.2", "code_digest": "c0de"}
    assert generation["risk"] == [risk[0] | {"distribution": "acme", "version": "1.2", "code_digest": "ca5e"}, risk[1]]


def test_explanation_of_a_denied_decision_has_no_order(store, make):
    """A denial is explained by its verdicts; a generation that nobody wrote down is none."""
    decision, _ = make.decide(store, denied=["max-notional"])
    store.commit()
    found = find_decision(store, decision.decision_hash)
    assert (found["execution"], found["events"], found["generation"]) == (None, [], None)
    assert [verdict["code"] for verdict in found["verdicts"] if verdict["outcome"] == "deny"] == ["max-notional"]


@pytest.mark.parametrize("name", ["", "zz", "999", "tg-zz", "9" * 30])
def test_decision_that_is_not_there_is_not_found(store, make, name):
    """The error says what was asked for."""
    make.decide(store)
    store.commit()
    with pytest.raises(NotFoundError, match=f"no decision matches '{name}'"):
        find_decision(store, name)


def test_ambiguous_name_tells_the_candidates(store, make):
    """The beginning of several names is an error that lists them, and says when there are more."""
    for n in range(7):
        make.decide(store, n)
    store.commit()
    with pytest.raises(NotFoundError, match=r"'tg-' is the beginning of several decisions: .*, and more") as caught:
        find_decision(store, "tg-")
    assert str(caught.value).count("macd-rsi-default") == 5


def test_decisions_that_change_an_order_are_found(store, make):
    """Those of this account and order alone: not one that only names it in its reason, nor one with a longer id."""
    _, intent = make.decide(store, 1)
    name = intent.client_order_id
    make.decide(store, 2, because=f'"replaces":"{name}"')
    make.decide(store, 3, replaces=f"{name}-2")
    make.decide(store, 4, replaces=name, denied=["max-notional"])
    make.decide(store, 6, account="paper-2", replaces=name)
    last, _ = make.decide(store, 5, replaces=name)
    store.commit()
    found = store.replacements("paper-1", name)
    assert [row["status"] for row in found] == ["denied", "allowed"]
    assert found == [row for row in store.decisions("paper-1") if row["params"].get("replaces") == name]
    assert found[-1]["decision_hash"] == last.decision_hash


def test_order_of_the_venue_alone_does_not_disturb_the_search(store, make):
    """An order without a decision is not a candidate."""
    make.execute(store, make.intent(make.decision()))
    store.commit()
    with pytest.raises(NotFoundError):
        find_decision(store, "tg-")
