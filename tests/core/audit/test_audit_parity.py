"""All stores answer alike, whatever was recorded in whatever commits."""

from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torghut_core.audit import MemoryAuditStore, SqlAuditStore
from torghut_core.audit.rows import KEYS
from torghut_core.model.trading import OrderEvent, OrderState, Outcome, Position, Side, Verdict

accounts = st.sampled_from(["paper-1", "paper-2"])
numbers = st.integers(1, 4)
texts = st.text(st.characters(codec="utf-8"), max_size=5)
money = st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | money | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
contents = st.dictionaries(texts, json_values, max_size=3)
verdicts = st.lists(
    st.builds(Verdict, texts, st.sampled_from(Outcome), texts, texts, texts, st.none() | money), max_size=3
)
strategies = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc")},
        optional={"enabled": st.booleans(), "params": contents, "symbols": st.lists(texts, max_size=2), "limit": money},
    ),
    max_size=3,
    unique_by=lambda entry: entry["name"],
)
steps = st.one_of(
    st.tuples(st.just("decide"), numbers, accounts, st.booleans(), texts, st.none() | money, contents, verdicts),
    st.tuples(st.just("accept"), numbers, accounts),
    st.tuples(st.just("fill"), numbers, accounts, money, st.integers(1, 3)),
    st.tuples(st.just("cancel"), numbers, accounts, texts),
    st.tuples(
        st.just("books"), accounts, st.dictionaries(st.sampled_from(["ES", "BTC/USD"]), st.builds(Position, money))
    ),
    st.tuples(st.just("strategies"), strategies, st.sampled_from(["sync", "merge"])),
    st.tuples(st.just("generation"), contents, texts),
    st.tuples(st.just("control"), st.sampled_from(["kill", "note"]), json_values, texts),
    st.tuples(st.just("cursor"), accounts, contents),
    st.tuples(st.just("review"), numbers, accounts, contents),
    st.tuples(st.just("lease"), st.sampled_from(["one", "two"]), st.sampled_from([0, 0.002, 60])),
    st.tuples(st.just("new_account")),
    st.tuples(st.just("commit")),
)


def take(store, make, step):
    """Do one step, and give what the store answers."""
    kind, *given_ = step
    if kind == "decide":
        number, account, is_denied, because, price, signal, said = given_
        decision = make.decision(number, account, because=because, price=price, action=Side.SELL)
        if store.is_known(account, decision.decision_hash):
            return "known"
        return store.record_decision(decision, signal, said, None if is_denied else make.intent(decision))
    if kind in ("accept", "fill", "cancel"):
        number, account, *rest = given_
        intent = make.intent(make.decision(number, account))
        if kind == "accept":
            return make.accept(store, intent)
        if kind == "fill":
            return make.execute(store, intent, str(rest[0]), rest[1])
        order = make.order(intent, OrderState.CANCELED)
        report = make.report(intent, OrderEvent.CANCELED, reason=rest[0], venue_order_id="v-9")
        return store.record_report(account, order, report, Position())
    if kind == "books":
        return store.record_account(given_[0], make.books(), given_[1], make.START + 7)
    if kind == "strategies":
        return store.record_strategies(*given_)
    if kind == "generation":
        return store.record_generation(given_[0], given_[1], "applied")
    if kind == "control":
        return store.record_control(*given_)
    if kind == "cursor":
        return store.record_cursor(given_[0], "tape", given_[1])
    if kind == "review":
        number, account, details = given_
        said = Verdict("llm", Outcome.SHRINK, "less", quantity=Decimal("0.50"))
        return store.record_review(account, make.decision(number, account).decision_hash, "llm", said, details)
    if kind == "lease":
        return store.take_lease("trading", given_[0], given_[1])
    if kind == "new_account":
        return store.new_account("paper")
    return store.commit()


def answers(store):
    """Everything that can be asked of a store."""
    tables = {table: store.rows(table) for table in KEYS}
    decisions = tables["trade_decisions"]
    return {
        "tables": tables,
        "explained": [store.find_decision(row["decision_hash"]) for row in decisions],
        "called": store.decisions_called("tg-", 100),
        "fills": store.fills(),
        "denials": store.denials(),
        "open": store.open_orders("paper-1"),
        "last": store.last_account(),
        "kill": store.control("kill", "never"),
        "cursor": store.cursor("paper-1", "tape"),
        "known": [store.is_known("paper-1", row["decision_hash"]) for row in decisions],
        "newest": store.decisions("paper-1", limit=2, newest_first=True),
        "since": store.orders(since=1_767_623_402_000_000_002),
    }


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 30), ("postgres", 10)])
def test_database_answers_as_memory_does(request, make, kind, examples):
    """Any sequence of records and commits is read alike from memory and from a database, reopened or not."""
    fresh = request.getfixturevalue(kind)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(steps, max_size=25))
    def check(sequence):
        database = fresh()
        now = make.START
        memory, sql = MemoryAuditStore(lambda: now), SqlAuditStore(database, lambda: now)
        with closing(sql):
            for step in sequence:
                now += 1_000_000
                assert take(memory, make, step) == take(sql, make, step)
            assert answers(memory) == answers(sql)
        memory.commit()
        with closing(SqlAuditStore(database)) as again:
            assert answers(memory) == answers(again)
            assert again.verify() == []

    check()
