"""A strategy, rule or broker that fails or hangs affects no other strategy."""

import signal
import sys
import threading

import pytest

from torghut_core.plugin_host.running_plugin import label
from torghut_core.plugin_host.watchdog import Overrun

HEAD = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
strategies:
"""
GOOD = "  - {name: good, use: flip, base_timeframe: 1Min, symbols: [ES, BTC/USD], params: {every: 2}}\n"
BAD = "  - {name: bad, use: flip, base_timeframe: 1Min, symbols: [ES], params: {fail: %s}, on_remove: %s}\n"

REASONS = {
    "raise": "RuntimeError: no idea",
    "number": "TypeError: on_signal gave 1, not a Decision",
    "list": "ValueError: more than 10000 decisions within a minute",
    "nan": "TypeError: on_signal gave a decision with the amount NaN",
    "endless": "TypeError: on_signal gave a decision with the amount Infinity",
    "symbol": "TypeError: on_signal gave a decision on NOPE when it was shown ES",
    "float": "TypeError: on_signal gave a decision whose quantity is 1.5, not a Decimal",
}


@pytest.mark.parametrize("how", REASONS)
def test_strategy_is_quarantined_by_name_and_the_others_decide_the_same(live, how):
    """The reason is what it raised or returned; the other strategy's decisions are as if it did not exist."""
    alone, beside = live(GOOD, HEAD), live(GOOD + BAD % (how, "freeze"), HEAD)
    for _ in range(3):
        alone.trade()
        beside.trade()
    assert list(beside.engine.roster.quarantined) == ["bad"]
    assert beside.engine.roster.quarantined["bad"].startswith(REASONS[how])
    assert beside.engine.roster.states() == {"bad": "quarantined", "good": "trading"}
    assert alone.decisions("good") == beside.decisions("good")
    assert beside.troubles == 1


def test_million_decisions_are_too_many(live, monkeypatch):
    """A strategy with more decisions within a minute than any sensible one is quarantined."""
    monkeypatch.setattr("torghut_core.trading.engine.MAX_DECISIONS", 3)
    loop = live(BAD % ("always", "freeze"), HEAD)
    loop.trade(5)
    assert not loop.engine.roster.quarantined
    loop.engine.step(loop.batch(1, symbols=["ES"] * 4))
    assert loop.engine.roster.quarantined == {"bad": "ValueError: more than 3 decisions within a minute"}


@pytest.mark.parametrize(("on_remove", "left"), [("freeze", 1), ("flatten", 0)])
def test_positions_of_a_quarantined_strategy_follow_on_remove(live, on_remove, left):
    """Its position is kept, or closed with the next bars, as `on_remove` says."""
    loop = live(GOOD.replace("symbols: [ES, BTC/USD]", f"symbols: [ES], on_remove: {on_remove}"), HEAD)
    loop.trade(3)
    assert loop.held("good") == 1
    loop.engine.generation.strategies[0].strategy.rows = None  # the next row raises
    loop.trade(4)
    assert "good" in loop.engine.roster.quarantined
    assert loop.held("good") == left


def test_position_of_a_quarantined_strategy_is_handed_over(live):
    """Another strategy in the symbol gets the position."""
    both = GOOD + GOOD.replace("name: good", "name: heir").replace("every: 2", "every: 100")
    loop = live(both.replace("symbols: [ES, BTC/USD]", "symbols: [ES], on_remove: handover"), HEAD)
    loop.trade(3)
    loop.engine.generation.strategies[0].strategy.rows = None
    loop.trade(1)
    assert (loop.held("good"), loop.held("heir")) == (0, 1)


def test_next_good_generation_ends_the_quarantine(live):
    """With its parameters fixed it trades again, by a new instance."""
    loop = live(GOOD + BAD % ("raise", "freeze"), HEAD)
    loop.trade()
    loop.apply(HEAD + GOOD + (BAD % ('""', "freeze")))
    assert loop.engine.roster.states() == {"bad": "trading", "good": "trading"}
    loop.trade()
    assert loop.decisions("bad")


def test_operators_reload_ends_the_quarantine(live):
    """A reload by the operator gives it a new instance, even of the same catalog; one by the watcher does not."""
    loop = live(GOOD, HEAD)
    loop.trade(1)
    loop.engine.generation.strategies[0].strategy.rows = None
    loop.trade(1)
    loop.apply(HEAD + GOOD, releases=False)
    assert loop.engine.roster.states() == {"good": "quarantined"}
    loop.apply(HEAD + GOOD, releases=True)
    assert loop.engine.roster.states() == {"good": "trading"}


def test_quarantine_stays_over_changes_of_others(live):
    """A reload by the watcher that changes another strategy leaves it quarantined."""
    loop = live(GOOD + BAD % ("raise", "freeze"), HEAD)
    loop.trade()
    loop.apply(HEAD + GOOD.replace("every: 2", "every: 3") + BAD % ("raise", "freeze"), releases=False)
    assert loop.engine.roster.states()["bad"] == "quarantined"
    rows = loop.engine.totals.strategies["bad"].rows
    loop.trade()
    assert loop.engine.totals.strategies["bad"].rows == rows


@pytest.fixture
def watched(live):
    """A loop whose plugins may take 50 ms of a batch."""
    assert threading.current_thread() is threading.main_thread()
    loop = live(GOOD + BAD % ('""', "freeze"), HEAD)
    dog = loop.engine.watchdog(0.05)
    with dog.installed():
        step = loop.engine.step

        def watched_step(batch):
            with dog.batch():
                step(batch)

        loop.engine.step = watched_step
        yield loop
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def spin(*_):
    while True:
        pass


def swallow(*_):
    while True:
        try:
            spin()
        except Exception:
            continue


def sleep(*_):
    threading.Event().wait(3600)


USED_UP, WAITED = "Overrun: it took more than 0.05 s of one batch", "Overrun: a call did not return within 0.5 s"


@pytest.mark.parametrize(
    ("hang", "reasons"), [(spin, {USED_UP, WAITED}), (swallow, {USED_UP, WAITED}), (sleep, {WAITED})]
)
def test_strategy_that_hangs_is_interrupted(watched, hang, reasons):
    """After its budget it is interrupted and quarantined, whatever it catches; the others trade on.

    What computes has used up its budget first, but on a machine that gives it less than a tenth of a core.
    """
    strategy = next(each.strategy for each in watched.engine.generation.strategies if each.name == "bad")
    strategy.on_signal = hang
    watched.apply(HEAD + GOOD + BAD.replace("symbols", "cooldown_seconds: 1, symbols") % ('""', "freeze"))
    watched.trade()
    assert watched.engine.roster.quarantined.keys() == {"bad"}
    assert watched.engine.roster.quarantined["bad"] in reasons
    assert watched.decisions("good")


def test_rule_that_hangs_denies(watched):
    """A rule without an answer in time denies, and the loop continues."""
    watched.apply(HEAD + GOOD + "risk: [{use: cooldown}]\n")
    ((_, rule),) = watched.engine.generation.rules
    rule.check = spin
    watched.engine._risk_engine._plugins = [("cooldown", label("rule", "cooldown"), rule.check)]
    watched.trade(2)
    assert "rule-failed" in watched.denied


def test_kernel_is_never_interrupted(watched):
    """An alarm in the kernel's own code raises nothing."""
    dog = watched.engine.watchdog(0.05)
    frame = sys._getframe()
    for _ in range(100):
        dog._check(signal.SIGALRM, frame)
    broker = watched.engine.generation.broker
    submit = broker.submit
    looks = []

    def slow_submit(intent):
        for _ in range(20):
            dog._check(signal.SIGALRM, sys._getframe())
        looks.append(intent)
        submit(intent)

    broker.submit = slow_submit
    watched.trade(3)
    assert looks
    assert not watched.engine.roster.quarantined


def test_time_of_the_broker_is_charged_to_no_strategy(watched):
    """If the simulated broker takes longer than a plugin's budget, no strategy is interrupted."""
    dog = watched.engine.watchdog(0.05)
    broker = watched.engine.generation.broker
    advance = broker.advance_to_report
    shown = []

    def slow_advance(batch, first, stop):
        for _ in range(20):
            dog._check(signal.SIGALRM, sys._getframe())
        shown.append(stop)
        return advance(batch, first, stop)

    broker.advance_to_report = slow_advance
    watched.trade(3)
    assert len(shown) > 1
    assert not watched.engine.roster.quarantined


def test_plugin_cannot_catch_an_overrun():
    """`except Exception` does not catch an overrun."""
    assert not issubclass(Overrun, Exception)


@pytest.mark.parametrize("on_remove", ["freeze", "flatten", "handover"])
def test_quarantine_does_not_depend_on_the_batch_size(live, on_remove):
    """A strategy that fails in the middle of a batch leaves the same books in batches of one and of many bars."""
    text = GOOD + GOOD.replace("name: good", "name: bad").replace(
        "every: 2}", f"every: 2, last: 7}}, on_remove: {on_remove}"
    )
    whole, parts = live(text, HEAD), live(text, HEAD)
    whole.trade(20)
    for _ in range(20):
        parts.trade(1)
    assert whole.engine.roster.quarantined == parts.engine.roster.quarantined != {}
    assert whole.engine.digest == parts.engine.digest
    assert whole.engine.books.positions == parts.engine.books.positions


@pytest.mark.parametrize("quantity", ["29999999999999999999999999999", "1e29", "1e-25"])
def test_amount_that_the_books_cannot_add_exactly_is_refused(live, quantity):
    """A strategy that asks for more digits than sums keep is quarantined, and the other trades on."""
    bad = f'  - {{name: bad, use: flip, base_timeframe: 1Min, symbols: [ES], params: {{quantity: "{quantity}"}}}}\n'
    loop = live(GOOD + bad, HEAD)
    loop.trade(3)
    assert "with the amount" in loop.engine.roster.quarantined["bad"]
    assert loop.engine.roster.states()["good"] == "trading"
