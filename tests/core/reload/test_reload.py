"""What a reload changes, and what it leaves as it was."""

from decimal import Decimal

import pytest

from torghut_core.catalog import load_draft
from torghut_core.model.trading import Fill, OrderEvent, Report

HEAD = """
version: 1
pipelines:
  trading:
    broker: {use: simulated, params: {}}
    stages: [{use: microbars}]
    source: {use: replay}
"""
FLIP = "strategies:\n  - {name: a, use: flip, base_timeframe: 1Min, symbols: [ES]}\n"
TWO = FLIP + "  - {name: b, use: flip, base_timeframe: 1Min, symbols: [ES, BTC/USD], params: {every: 2}}\n"


def problems(live):
    return live.status.problems


def test_equivalent_catalog_is_no_new_generation(live):
    """Another order of keys, comments and quotes make no new generation."""
    loop = live(TWO)
    loop.trade()
    _, a, b = TWO.splitlines()
    other = "\n".join(["# edited", "strategies:", b.replace("BTC/USD", "'BTC/USD'"), a, ""])
    status = loop.apply("mode: sync\n" + HEAD + other)
    assert (status.outcome, status.problems, loop.engine.generation.number) == ("unchanged", [], 1)


def test_unchanged_entries_keep_instance_and_state(live):
    """A change of one strategy leaves the others' instances and their state as they are."""
    loop = live(TWO)
    loop.trade(3)
    a, b = (each.strategy for each in loop.engine.generation.strategies)
    loop.apply(HEAD + TWO.replace("every: 2", "every: 3"))
    after = {each.name: each.strategy for each in loop.engine.generation.strategies}
    assert after["a"] is a
    assert after["b"] is not b
    loop.trade(3)
    assert a.rows == {"ES": 6}


def test_unrelated_change_leaves_the_others_decisions(live):
    """Adding, changing and removing a strategy changes no decision of another one."""
    alone, beside = live(FLIP), live(FLIP)
    for other in (TWO, TWO.replace("every: 2", "every: 1"), FLIP):
        alone.trade(4), beside.trade(4)
        beside.apply(HEAD + other)
    alone.trade(4), beside.trade(4)
    assert alone.decisions("a") == beside.decisions("a")
    assert beside.decisions("b")


def test_decisions_carry_the_generation_that_made_them(live):
    """From the swap on, decisions have the new number; its row in the audit has diff, actor, outcome and code."""
    loop = live(FLIP)
    loop.trade(2)
    loop.apply(HEAD + FLIP.replace("[ES]}", "[ES], params: {quantity: 2}}"), actor="alice")
    loop.trade(2)
    assert [row["generation"] for row in loop.audit.decisions(loop.account)] == [1, 1, 2, 2]
    _, row = loop.audit.rows("catalog_generations")
    assert (row["actor"], row["outcome"]) == ("alice", "applied")
    (change,) = row["diff"]["changes"]
    assert change["name"] == "a"
    assert change["fields"][0]["key"] == "params.quantity"
    assert "code_digest" in row["content"]["strategies"][0]["code"]


@pytest.mark.parametrize(
    ("on_remove", "left", "working"),
    [("freeze", 1, "kept, and nothing trades it"), ("flatten", 0, "being closed")],
)
def test_removed_strategy_follows_on_remove(live, on_remove, left, working):
    """Its position is kept and not traded, or is closed with the next bar."""
    loop = live(TWO.replace("[ES, BTC/USD]", f"[ES], on_remove: {on_remove}"))
    loop.trade(3)
    assert loop.held("b") == 1
    loop.apply(HEAD + FLIP)
    assert loop.engine.roster.states().get("b") == ("closing" if on_remove == "flatten" else None)
    loop.trade(4)
    assert loop.held("b") == left
    assert "b" not in loop.engine.roster.states()
    assert [reason for *_, reason, _ in loop.decisions("b")][1:] == (
        ["its strategy is gone (on_remove: flatten)"] if on_remove == "flatten" else []
    )


def test_fill_of_a_strategy_that_is_long_gone_still_counts(live):
    """A fill of a strategy that was removed two generations ago changes its position and counts."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[ES]"))
    loop.trade(2)
    books = loop.engine.books
    (late,) = [number for number, each in books.working.items() if each.context.strategy_id == "b"]
    intent = books.working[late].order.intent
    loop.apply(HEAD + FLIP)
    loop.apply(HEAD + FLIP.replace("[ES]}", "[ES], params: {quantity: 2}}"))
    fill = Fill(
        client_order_id=late, fill_id="late", symbol="ES", side=intent.side, quantity=intent.quantity,
        price=Decimal(100), fee=Decimal(0), event_ts=loop.engine.books.now,
    )  # fmt: skip
    said = [Report(client_order_id=late, event=OrderEvent.FILL, event_ts=loop.engine.books.now, fill=fill)]
    gateway = loop.engine.gateway
    gateway._broker.updates = lambda: [said.pop()] if said else []
    gateway.apply_updates()
    assert loop.held("b") == 1
    assert loop.engine.totals.strategies["b"].fills == 1


def test_position_is_handed_over(live):
    """Another strategy in the symbol gets the position at its average price, and closes it as its own."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[ES], on_remove: handover").replace("every: 2", "every: 2, quantity: 3"))
    loop.trade(3)
    mine, theirs = loop.engine.books.positions["a", "ES"], loop.engine.books.positions["b", "ES"]
    assert theirs.quantity == 3
    loop.apply(HEAD + FLIP)
    assert (loop.held("b"), loop.held("a")) == (0, mine.quantity + 3)
    loop.trade(2)
    assert sum(position.quantity for position in loop.engine.generation.broker.positions().values()) == loop.held("a")


def test_handover_without_an_heir_keeps_the_position(live):
    """If no other strategy trades the symbol, the position is kept."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[BTC/USD], on_remove: handover"))
    loop.trade(3)
    loop.apply(HEAD + FLIP)
    loop.trade(3)
    assert loop.held("b", "BTC/USD") == 1


def test_symbol_taken_out_follows_on_remove_of_the_entry_that_stays(live):
    """Only the position in that symbol is closed; the strategy continues to trade the others."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[ES, BTC/USD], on_remove: flatten"))
    loop.trade(3)
    assert loop.held("b", "BTC/USD") == 1
    loop.apply(HEAD + TWO.replace("[ES, BTC/USD]", "[ES], on_remove: flatten"))
    loop.trade(3)
    assert loop.held("b", "BTC/USD") == 0
    assert loop.engine.roster.states()["b"] == "trading"


def test_removed_and_listed_again_gets_its_position(live):
    """A frozen position is the strategy's again when it is listed again."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[ES]"))
    loop.trade(3)
    loop.apply(HEAD + FLIP)
    loop.trade(2)
    assert loop.held("b") == 1
    loop.apply(HEAD + TWO.replace("[ES, BTC/USD]", "[ES]"))
    loop.trade(3)
    assert loop.held("b") == 0


def test_merge_leaves_what_is_no_longer_listed(live):
    """Under `mode: merge` an unlisted strategy trades on."""
    loop = live(TWO)
    loop.trade(2)
    loop.apply("mode: merge\n" + HEAD + FLIP)
    assert loop.engine.roster.states() == {"a": "trading", "b": "trading"}
    assert "b" in [entry.name for entry in loop.engine.generation.catalog.strategies]


def test_restart_fields_stay_and_are_pending(live):
    """Source, stages and broker stay as they are; the status says what waits for a restart."""
    loop = live(FLIP)
    broker = loop.engine.generation.broker
    status = loop.apply(HEAD.replace("params: {}", "params: {cash: 5}") + FLIP)
    (change,) = status.pending
    assert (change["kind"], change["timing"], change["fields"][0]["key"]) == (
        "pipeline",
        "restart",
        "broker.params.cash",
    )
    assert loop.engine.generation.broker is broker
    assert not status.problems


def test_bars_change_when_the_strategy_is_flat(live):
    """A change of `base_timeframe` waits until the strategy has no position and no open order."""
    text = FLIP.replace("[ES]}", "[ES], params: {every: 3}}")
    loop = live(text)
    loop.trade(4)
    assert "a" in loop.engine.books.holding
    five = HEAD + text.replace("1Min", "5Min")
    status = loop.apply(five)
    assert [change["timing"] for change in status.pending] == ["when_flat"]
    assert loop.engine.generation.strategies[0].step_ns == 60 * 10**9
    assert not loop.reloader.can_resume
    loop.trade(3)
    assert "a" not in loop.engine.books.holding
    assert loop.reloader.can_resume
    status = loop.apply(five)
    assert not status.pending
    assert loop.engine.generation.strategies[0].step_ns == 300 * 10**9


def test_plan_that_a_new_position_has_outdated_is_made_anew(live):
    """A plan to change the bars of a flat strategy is not applied if the strategy has a position by then."""
    loop = live(FLIP.replace("[ES]}", "[ES], params: {every: 2}}"))
    draft = load_draft({"t": HEAD + FLIP.replace("1Min", "5Min").replace("[ES]}", "[ES], params: {every: 2}}")})
    plan = loop.reloader.plan(draft, loop.reloader.begin())
    loop.trade(3)
    assert "a" in loop.engine.books.holding
    assert not loop.reloader.apply(plan, "me")


def test_changed_parameters_warm_up_from_the_signal_store(live):
    """A new instance gets the last rows first, and trades at once; its decisions on those rows are dropped."""
    loop = live(FLIP)
    loop.trade(10)
    made = len(loop.decisions("a"))
    loop.apply(HEAD + FLIP.replace("[ES]}", "[ES], params: {warmup: 4}}"))
    (instance,) = loop.engine.generation.strategies
    assert instance.strategy.rows == {"ES": 5}
    assert len(loop.decisions("a")) == made
    assert loop.engine.roster.states() == {"a": "trading"}
    assert loop.trade(2)


def test_strategy_does_not_trade_before_it_is_warm(live):
    """With too little history its decisions are dropped until it has seen enough rows."""
    loop = live(FLIP)
    loop.trade(2)
    loop.apply(HEAD + TWO.replace("every: 2", "every: 1, warmup: 5"))
    assert loop.engine.roster.states()["b"] == "warming"
    loop.trade(3)
    assert loop.engine.roster.states()["b"] == "trading"
    assert loop.decisions("b") == []
    loop.trade(1)
    assert len(loop.decisions("b")) == 2


def test_rows_that_came_during_the_warm_up_are_shown(live):
    """Rows that the loop traded while the plan was made reach the new instance too, each once."""
    loop = live(FLIP)
    loop.trade(4)
    draft = load_draft({"t": HEAD + FLIP.replace("[ES]}", "[ES], params: {warmup: 2}}")})
    plan = loop.reloader.plan(draft, loop.reloader.begin())
    loop.trade(3)
    assert loop.reloader.apply(plan, "me")
    (instance,) = loop.engine.generation.strategies
    assert instance.strategy.rows == {"ES": 3 + 3}


def test_added_symbol_is_warmed_by_its_own_rows(live):
    """The same instance continues with its old symbols, and does not trade a new one before that is warm."""
    text = FLIP.replace("[ES]}", "[ES], params: {warmup: 2}}")
    loop = live(text)
    loop.trade(6)
    loop.apply(HEAD + text.replace("[ES]", "[ES, BTC/USD]"))
    loop.trade(2)
    assert {symbol for symbol, *_ in loop.decisions("a")} == {"ES"}
    loop.trade(1)
    assert {symbol for symbol, *_ in loop.decisions("a")} == {"ES", "BTC/USD"}


def test_single_bad_entry_keeps_its_last_good_version(live):
    """The others change; the status names the line; the next good file clears it."""
    loop = live(TWO)
    loop.trade(2)
    bad = TWO.replace("every: 2", "evry: 2").replace("[ES]}", "[ES], params: {quantity: 2}}")
    status = loop.apply(HEAD + bad)
    assert problems(loop) == [
        "trading.yaml:10:81: strategies[1].params.evry: unknown parameter of strategy 'flip' (did you mean 'every'?)"
    ]
    assert (status.outcome, status.is_good) == ("degraded", False)
    a, b = loop.engine.generation.strategies
    assert (a.params["quantity"], b.params["every"]) == ("2", 2)
    assert loop.trade(4)
    assert loop.apply(HEAD + TWO).is_good


def test_bad_new_entry_stays_out(live):
    """A new entry with an error has no last good version, so it is left out."""
    loop = live(FLIP)
    loop.apply(
        HEAD
        + TWO.replace(
            "use: flip, base_timeframe: 1Min, symbols: [ES, BTC", "use: flop, base_timeframe: 1Min, symbols: [ES, BTC"
        )
    )
    assert [each.name for each in loop.engine.generation.strategies] == ["a"]
    assert "no strategy is called 'flop'" in problems(loop)[0]


def test_entry_whose_name_cannot_be_read_removes_no_strategy(live):
    """An error in a name does not count as a removal, which would close positions."""
    loop = live(TWO.replace("[ES, BTC/USD]", "[ES], on_remove: flatten"))
    loop.trade(3)
    loop.apply(HEAD + TWO.replace("name: b", "nam: b"))
    assert loop.engine.roster.states() == {"a": "trading", "b": "trading"}
    assert loop.held("b") == 1


def test_two_entries_of_one_name_are_both_left_as_they_were(live):
    """It is unknown which of the two entries was meant, so neither is applied."""
    loop = live(TWO)
    loop.apply(HEAD + TWO.replace("name: b", "name: a"))
    a, b = loop.engine.generation.strategies
    assert (a.params["every"], b.params["every"]) == (1, 2)
    assert "another strategy is named" in problems(loop)[0]


def test_bad_rule_keeps_its_last_good_version_and_place(live):
    """A rule with an error stays as it was, in its place in the order."""
    risk = "risk: [{use: cooldown}, {use: max-notional, params: {quantity_step: 2}}]\n"
    loop = live(FLIP + risk)
    loop.apply(HEAD + FLIP + risk.replace("use: cooldown", "use: cooldown, params: {quantity_step: -1}"))
    assert [name for name, _ in loop.engine.generation.rules] == ["cooldown", "max-notional"]
    assert "strategies" not in problems(loop)[0]
    assert "risk[0].params.quantity_step" in problems(loop)[0]


def test_rule_whose_name_cannot_be_read_removes_no_rule(live):
    """An error in a rule's name removes no rule."""
    risk = "risk: [{use: cooldown}, {use: max-notional}]\n"
    loop = live(FLIP + risk)
    loop.apply(HEAD + FLIP + risk.replace("use: cooldown", "uses: cooldown"))
    assert sorted(name for name, _ in loop.engine.generation.rules) == ["cooldown", "max-notional"]


def test_file_that_is_no_catalog_changes_nothing(live):
    """The running generation continues, and the status says why."""
    loop = live(FLIP)
    number = loop.engine.generation.number
    status = loop.apply("version: 1\nstrategies: [\n")
    assert (status.outcome, loop.engine.generation.number) == ("refused", number)
    assert loop.trade(4)


@pytest.mark.parametrize(
    ("on_invalid", "codes"), [("keep_last_good", set()), ("reduce_only", {"reduce-only"}), ("halt", {"halted"})]
)
def test_on_invalid_says_what_may_trade(live, on_invalid, codes):
    """Until the catalog is valid again, all orders are allowed, or exits only, or none."""
    loop = live(f"on_invalid: {on_invalid}\n" + FLIP)
    loop.trade(2)
    for _ in range(0 if loop.held("a") else 1):
        loop.trade(1)
    loop.apply("version: 2\n")
    assert loop.trade(4)
    denied = loop.denied & {"reduce-only", "halted"}
    assert denied == codes
    assert (loop.held("a") == 0) or on_invalid != "reduce_only"
    loop.apply(HEAD + f"on_invalid: {on_invalid}\n" + FLIP)
    assert loop.gates.restriction == ""


def test_rollback_is_a_reload_of_a_recorded_generation(live):
    """A generation's record is enough to restore its catalog."""
    from torghut_core.catalog import Catalog, Draft

    loop = live(TWO)
    loop.apply(HEAD + FLIP.replace("[ES]}", "[ES], params: {quantity: 2}}"))
    first = loop.audit.rows("catalog_generations")[0]["content"]
    draft = Draft(Catalog.from_record(first), [], {})
    assert loop.reloader.apply(loop.reloader.plan(draft, loop.reloader.begin()), "bob")
    assert loop.engine.generation.catalog.digest == first["catalog_digest"]
    assert [each.params["every"] for each in loop.engine.generation.strategies] == [1, 2]


def test_strategy_with_state_is_warmed_up_again_after_it_was_disabled(live):
    """While it was disabled it got no rows, so its state has a gap: a new instance gets the last rows."""
    text = FLIP.replace("[ES]}", "[ES], params: {warmup: 2}%s}")
    loop = live(text % "")
    loop.trade(4)
    loop.apply(HEAD + text % ", enabled: false")
    (asleep,) = (each.strategy for each in loop.engine.generation.strategies)
    loop.trade(6)
    assert asleep.rows == {"ES": 4}
    loop.apply(HEAD + text % "")
    (awake,) = (each.strategy for each in loop.engine.generation.strategies)
    assert awake is not asleep
    assert awake.rows == {"ES": 3}
    assert loop.trade(2)


def test_plan_that_was_given_up_is_not_applied(live):
    """Once a plan is given up, rows for its warm-up are no longer kept, so it would miss some."""
    loop = live(FLIP)
    loop.trade(2)
    draft = load_draft({"t": HEAD + FLIP.replace("[ES]}", "[ES], params: {warmup: 2}}")})
    plan = loop.reloader.plan(draft, loop.reloader.begin())
    loop.reloader.end()
    assert not loop.engine.roster.keeps_signals
    assert not loop.reloader.apply(plan, "me")
    assert loop.engine.generation.number == 1


def test_wrong_entry_of_a_disabled_strategy_is_no_generation(live):
    """Enabling a strategy with wrong parameters leaves it disabled, and makes no new generation."""
    text = FLIP.replace("[ES]}", "[ES], params: {warmup: %s}, enabled: %s}")
    loop = live(text % (2, "false"))
    loop.trade(3)
    status = loop.apply(HEAD + text % (-1, "true"))
    assert len(status.problems) == 1
    assert (loop.engine.generation.number, loop.engine.roster.states()) == (1, {"a": "disabled"})
