"""New code of a plugin replaces the old with its state, or the old code stays in use."""

import dataclasses

import pytest

from torghut_core import Outcome, RiskRule, Strategy, Verdict

HEAD = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}]
    broker: {use: simulated}
strategies:
"""
ONE = "  - {name: a, use: flip, base_timeframe: 1Min, symbols: [ES]}\n"
TWO = ONE + "  - {name: b, use: flip, base_timeframe: 1Min, symbols: [ES, BTC/USD], params: {every: 2}}\n"


@pytest.fixture
def coded(live, flip_host):
    """A loop, and a function that edits the code of its plugins."""

    def make(text, head=HEAD):
        hosts = [flip_host]

        def edit(digest, cls=None, kind="strategy", name="flip"):
            host = type(flip_host)()
            host.registry = {each: dict(named) for each, named in flip_host.registry.items()}
            before = host.registry[kind][name]
            host.registry[kind][name] = dataclasses.replace(before, cls=cls or before.cls, code_digest=digest)
            hosts.append(host)

        return live(text, head, load_host=lambda _allow, _before: hosts[-1]), edit

    return make


def strategy(loop, name="a"):
    return next(each.strategy for each in loop.engine.generation.strategies if each.name == name)


def flip(flip_host):
    return flip_host.registry["strategy"]["flip"].cls


def test_new_code_gets_the_state_of_the_old(coded, flip_host):
    """The new code loads a copy of what `save_state` returned: the old instance is unchanged."""

    class New(flip(flip_host)):
        """As before, in new code."""

    loop, edit = coded(ONE)
    loop.trade(3)
    old = strategy(loop)
    edit("new", New)
    assert loop.apply(HEAD + ONE).outcome == "applied"
    assert type(strategy(loop)) is New
    loop.trade(2)
    assert (strategy(loop).rows, old.rows) == ({"ES": 5}, {"ES": 3})


def test_same_decisions_by_reinstalled_code(coded):
    """The same code under another digest makes the same decisions."""
    (plain, _), (swapped, edit) = coded(TWO), coded(TWO)
    for number in range(4):
        plain.trade(3)
        swapped.trade(3)
        edit(f"build {number}")
        assert swapped.apply(HEAD + TWO).is_good
    assert [plain.decisions(name) for name in "ab"] == [swapped.decisions(name) for name in "ab"]


class Refuses(Strategy):
    state_version = 2

    def save_state(self):
        raise RuntimeError("no state for you")

    def on_signal(self, signal, context):
        return None


def test_state_that_is_not_taken_leaves_the_old_code(coded, flip_host):
    """If `load_state` raises, the strategy keeps the old code, the status says why, and other changes are applied."""

    class New(flip(flip_host)):
        state_version = 2

    loop, edit = coded(TWO)
    loop.trade(3)
    old = strategy(loop)
    edit("new", New)
    status = loop.apply(HEAD + TWO.replace("every: 2", "every: 3"))
    assert strategy(loop) is old
    assert type(strategy(loop, "b")) is New
    assert status.problems == [
        (
            "strategy 'a': the new code did not accept the state of the old: ValueError: New reads state version 2, not 1"
            " (the old code stays in use; edit the plugin)"
        )
    ]

    class Fixed(New):
        def load_state(self, state, version):
            self.rows = state["rows"]

    edit("fixed", Fixed)
    assert loop.apply(HEAD + TWO.replace("every: 2", "every: 3")).is_good
    assert strategy(loop) is not old


def test_state_that_is_not_given_leaves_the_old_code(coded):
    """If `save_state` of the old code raises, the old code stays in use."""
    loop, edit = coded(ONE)
    loop.trade(3)
    old = strategy(loop)
    old.save_state = Refuses.save_state.__get__(old)
    edit("new")
    assert "no state for you" in loop.apply(HEAD + ONE).problems[0]
    assert strategy(loop) is old
    assert loop.trade(3)


def test_state_version_lets_new_code_read_old_state(coded, flip_host):
    """`load_state` gets the version number of the code that saved."""
    versions = []

    class New(flip(flip_host)):
        state_version = 2

        def load_state(self, state, version):
            versions.append(version)
            self.rows = {symbol: rows + 100 for symbol, rows in state["rows"].items()}

    loop, edit = coded(ONE)
    loop.trade(3)
    edit("new", New)
    loop.apply(HEAD + ONE)
    assert (versions, strategy(loop).rows) == ([1], {"ES": 103})


@pytest.mark.parametrize("after", [0, 2])
def test_code_that_fails_in_its_first_rows_is_reverted(coded, flip_host, after):
    """The old code gets the rows that it missed, and decides as if the new code had never been there."""

    class New(flip(flip_host)):
        def on_signal(self, signal, context):
            if self.rows[signal.symbol] >= 3 + after:
                raise RuntimeError("first rows")
            return super().on_signal(signal, context)

    (plain, _), (loop, edit) = coded(TWO), coded(TWO)
    plain.trade(3)
    loop.trade(3)
    old = strategy(loop)
    edit("new", New)
    loop.apply(HEAD + TWO)
    number = loop.engine.generation.number
    plain.trade(5)
    loop.trade(5)
    assert loop.engine.reverted["a"] == ("new", "RuntimeError: first rows")
    assert not loop.engine.roster.quarantined
    loop.reloader.reject_reverted()
    status = loop.apply(HEAD + TWO)
    assert "strategy 'a': its first rows failed: RuntimeError: first rows" in status.problems[0]
    assert strategy(loop) is old
    plain.trade(3)
    loop.trade(3)
    assert plain.decisions("a") == loop.decisions("a")
    made = [row["generation"] for row in loop.audit.decisions(loop.account) if row["strategy_id"] == "a"]
    assert set(made) == ({1, number, number + 1} if after else {1, number + 1})


def test_code_that_returns_nonsense_in_its_first_rows_is_reverted(coded, flip_host):
    """New code that returns a wrong type is reverted, like code that raises."""

    class New(flip(flip_host)):
        def on_signal(self, signal, context):
            return "buy"

    loop, edit = coded(ONE)
    loop.trade(3)
    edit("new", New)
    loop.apply(HEAD + ONE)
    assert loop.trade(3)
    assert list(loop.engine.reverted) == ["a"]


def test_code_that_fails_after_its_trial_is_quarantined(coded, flip_host, monkeypatch):
    """After the trial the old code is gone, so the strategy is quarantined."""
    monkeypatch.setattr("torghut_core.trading.subscription.TRIAL_CALLS", 2)

    class New(flip(flip_host)):
        def on_signal(self, signal, context):
            if self.rows[signal.symbol] >= 6:
                raise RuntimeError("too late")
            return super().on_signal(signal, context)

    loop, edit = coded(ONE)
    loop.trade(3)
    edit("new", New)
    loop.apply(HEAD + ONE)
    loop.trade(6)
    assert list(loop.engine.roster.quarantined) == ["a"]


def test_changed_parameters_with_new_code_begin_anew(coded):
    """With other parameters the old state does not fit: the new instance starts with its own."""
    loop, edit = coded(ONE)
    loop.trade(3)
    edit("new")
    loop.apply(HEAD + ONE.replace("[ES]}", "[ES], params: {every: 2}}"))
    assert strategy(loop).rows == {}


class Counts(RiskRule):
    state = ("seen",)

    def __init__(self, params):
        super().__init__(params)
        self.seen = 0

    def check(self, decision, context):
        self.seen += 1
        return Verdict("counts", Outcome.ALLOW, "counts")


def test_rules_hand_their_state_over_too(coded):
    """New code of a rule gets the state of the old."""
    loop, edit = coded(ONE + "risk: [{use: cooldown}]\n")
    edit("counting", Counts, "risk rule", "cooldown")
    text = HEAD + ONE + "risk: [{use: cooldown, params: {}}]\n"
    loop.apply(text)
    loop.trade(3)
    edit("counting on", Counts, "risk rule", "cooldown")
    loop.apply(text)
    loop.trade(3)
    ((_, rule),) = loop.engine.generation.rules
    assert rule.seen == 6


def test_code_that_reads_other_columns_and_fails_is_reverted(coded, flip_host):
    """The rows of the trial lack the old code's columns, so the old code resumes with the next batch."""
    flipping = flip(flip_host)

    class Old(flipping):
        columns = ("rsi14",)

        def on_signal(self, signal, context):
            assert signal.rsi14 > 0
            return super().on_signal(signal, context)

    class New(flipping):
        columns = ("ema12",)

        def on_signal(self, signal, context):
            assert signal.ema12 > 0
            raise RuntimeError("first rows")

    loop, edit = coded(ONE)
    edit("old", Old)
    loop.apply(HEAD + ONE.replace("[ES]}", "[ES], enabled: true}"))
    loop.trade(3)
    edit("new", New)
    loop.apply(HEAD + ONE)
    loop.trade(3)
    assert list(loop.engine.reverted) == ["a"]
    assert not loop.engine.roster.quarantined
    assert loop.trade(3)
    loop.reloader.reject_reverted()
    assert "first rows" in loop.apply(HEAD + ONE).problems[0]
    assert loop.trade(3)


def test_limits_that_came_with_failing_code_stay(coded, flip_host):
    """Only the code is reverted; the limits of the same reload stay."""

    class New(flip(flip_host)):
        def on_signal(self, signal, context):
            raise RuntimeError("first rows")

    loop, edit = coded(ONE)
    loop.trade(3)
    edit("new", New)
    loop.apply(HEAD + ONE.replace("[ES]}", "[ES], cooldown_seconds: 7}"))
    loop.trade(1)
    (instance,) = loop.engine.generation.strategies
    assert (instance.limits.cooldown_seconds, type(instance.strategy)) == (7, flip(flip_host))
