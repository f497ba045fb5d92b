"""The state machine of a connection: no socket, no clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.alpaca.refusals import Policy
from torghut_sources.alpaca.session import NEVER, TABLE, Clocks, Event, Session, State

from torghut_core import Closed

GONE = Closed("gone", "disconnected")
CLOCKS = Clocks(answer_s=5, ping_s=10, stale_s=30, quiet_s=900, base_s=0.5, max_s=30, stable_s=60)


def session(*symbols, batch=200, chance=0.5, expects=lambda: True):
    return Session(
        symbols or ("A", "B"), batch=batch, now=0.0, clocks=CLOCKS, expects_data=expects, chance=lambda: chance
    )


def introduced(made, now=0.0):
    """Up to the first request for symbols."""
    made.attempt(now)
    made.opened(now)
    made.greeted(now)
    assert [request.kind for request in made.requests()] == ["auth"]
    made.authenticated(now)
    return made


def live(*symbols, now=0.0, **options):
    made = introduced(session(*symbols, **options), now)
    while asked := made.requests():
        made.subscribed(made.confirmed | set(asked[0].symbols), now)
    assert made.state is State.LIVE
    return made


CALLS = {
    Event.ATTEMPT: lambda made: made.attempt(0.0),
    Event.OPENED: lambda made: made.opened(0.0),
    Event.GREETED: lambda made: made.greeted(0.0),
    Event.AUTHENTICATED: lambda made: made.authenticated(0.0),
    Event.GAP: lambda made: made.gap(),
    Event.FILLED: lambda made: made.filled(),
    Event.LOST: lambda made: made.lost(GONE, 0.0),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", CALLS)
def test_every_pair_goes_where_the_table_says(state, event):
    """Each state and event leads where the table says; what is not in it changes nothing, or is the caller's error."""
    made = session()
    made._state = state
    expected = TABLE[state].get(event, state)
    if state is State.SUBSCRIBING and event is Event.GAP:
        expected = State.FILLING
    if event in (Event.ATTEMPT, Event.OPENED) and event not in TABLE[state]:
        with pytest.raises(RuntimeError, match="not possible"):
            CALLS[event](made)
    else:
        CALLS[event](made)
    assert made.state is expected


def test_introduction_asks_one_thing_at_a_time():
    """Keys are sent when the venue has greeted, symbols in batches, each after the answer to the one before."""
    made = introduced(session("A", "B", "C", batch=2))
    assert [request.symbols for request in made.requests()] == [("A", "B")]
    made.subscribed({"A", "B"}, 1.0)
    assert made.state is State.SUBSCRIBING
    assert made.gates(1.0)["subscription"] is not None
    assert [request.symbols for request in made.requests()] == [("C",)]
    made.subscribed({"A", "B", "C"}, 2.0)
    assert made.state is State.LIVE
    assert made.gates(2.0)["subscription"] is None


def test_symbols_left_out_are_requested_again_and_then_refused():
    """A symbol that the venue's list leaves out is asked for some more times, and then counts as refused."""
    made = introduced(session("A", "B"))
    asked = 0
    while requests := made.requests():
        asked += "B" in requests[0].symbols
        made.subscribed({"A"}, 0.0)
    assert asked == 3
    assert made.refused == {"B"}
    assert made.state is State.LIVE


@given(limit=st.integers(0, 12), count=st.integers(1, 12), batch=st.integers(1, 5))
def test_symbol_limit_is_used_up(limit, count, batch):
    """Whatever the limit, as many symbols are subscribed as it allows, and the others are refused."""
    symbols = [f"S{number:02}" for number in range(count)]
    made = introduced(session(*symbols, batch=batch))
    has, rounds = set(), 0
    while requests := made.requests():
        rounds += 1
        assert rounds < 100
        if len(has | set(requests[0].symbols)) > limit:
            made.too_many_symbols(0.0)
        else:
            has |= set(requests[0].symbols)
            made.subscribed(has, 0.0)
    assert made.state is State.LIVE
    assert len(made.confirmed) == min(limit, count)
    assert made.refused == set(symbols) - has
    assert (made.gates(0.0)["subscription"] is None) == (limit > 0)


@given(failures=st.integers(1, 60), chance=st.floats(0, 1))
def test_back_off_is_bounded_and_grows(failures, chance):
    """The wait before the nth attempt is drawn from 0 to a ceiling that doubles up to its bound."""
    made, now = session(chance=chance), 0.0
    for number in range(failures):
        made.attempt(now)
        made.lost(GONE, now)
        assert made.deadline - now == pytest.approx(min(30, 0.5 * 2.0**number) * chance, abs=1e-6)
        now = made.deadline


@given(failures=st.integers(1, 60), chance=st.floats(0, 1))
def test_connection_limit_is_never_a_storm(failures, chance):
    """After 406 nothing is tried for 5 s at least, for half a minute at least in the end, for a minute at most."""
    made, now = session(chance=chance), 0.0
    for number in range(failures):
        made.attempt(now)
        made.lost(Closed("406", "connection-limit"), now, Policy.WAIT)
        wait = made.deadline - now
        assert 5 <= wait <= 60
        assert wait >= 30 or number < 4
        now = made.deadline


def test_only_a_stable_connection_ends_the_back_off():
    """A connection that is lost soon makes the next wait longer; one that gave data for a while makes it short."""
    made = session(chance=1.0)
    waits = []
    now = 0.0
    for lasts in (1, 1, 1, 100, 1):
        introduced(made, now)
        made.requests()
        made.subscribed({"A", "B"}, now)
        for second in range(lasts):
            made.received(now + second, is_data=True)
        now += lasts
        made.lost(GONE, now)
        made.filled()
        waits.append(made.deadline - now)
        now = made.deadline
    assert waits == [0.5, 1.0, 2.0, 0.5, 1.0]


@pytest.mark.parametrize("step", range(4))
def test_unanswered_introduction_is_given_up(step):
    """Whichever answer is missing, the connection is given up after its time."""
    made = session()
    calls = [made.attempt, made.opened, made.greeted, made.authenticated]
    for call in calls[: step + 1]:
        call(0.0)
    assert made.deadline == 5
    made.check_clocks(4.9)
    assert made.has_socket
    made.check_clocks(5.0)
    assert made.state is State.WAITING
    assert made.problem.error_class == "timeout"


def test_half_open_connection_is_given_up():
    """After silence a ping is sent; without a pong in time the connection is given up."""
    made = live()
    assert made.deadline == 10
    made.check_clocks(10.0)
    assert [request.kind for request in made.requests()] == ["ping"]
    made.check_clocks(19.9)
    assert made.has_socket
    made.check_clocks(20.0)
    assert made.problem.error_class == "half-open"


def test_mute_connection_is_given_up_though_it_answers():
    """Pongs without data are no data: after `stale_s` the connection is given up, and the gate closes before."""
    made = live()
    made.received(1.0, is_data=True)
    made.admitted(1.0)
    assert made.gates(20.0)["freshness"] is None
    for now in (11.0, 21.0, 30.9):
        made.check_clocks(now)
        made.ponged(now)
    assert made.has_socket
    assert made.deadline == 31
    assert made.gates(31.1)["freshness"].error_class == "stale"
    made.check_clocks(31.0)
    assert made.problem.error_class == "mute"
    assert made.gates(31.0)["backfill"] is not None


@pytest.mark.parametrize("expects", [True, False])
def test_data_that_cannot_be_used_is_not_fresh(expects):
    """Frames that come keep the connection; the gate checks whether any of them was usable, and says why not."""
    made = live(expects=lambda: expects)
    made.received(1.0, is_data=True)
    made.unusable("ahead of all clocks")
    gate = made.gates(1.0)["freshness"]
    assert (gate.reason, gate.error_class) == ("no data yet that can be used: ahead of all clocks", "unusable")
    made.admitted(2.0)
    assert made.gates(32.0)["freshness"] is None
    for now in (10.0, 20.0, 30.0, 32.0):
        made.received(now, is_data=True)
        made.unusable("a price of null")
        made.check_clocks(now)
    assert made.has_socket
    assert made.gates(32.0)["freshness"] is None
    assert made.gates(32.1)["freshness"].reason == "no data for 30 s that can be used: a price of null"
    made.admitted(33.0)
    assert made.gates(33.0)["freshness"] is None


def test_closed_market_may_be_silent():
    """Where no data has to come a silent feed is fresh, and is opened again only after `quiet_s`."""
    made = live(expects=lambda: False)
    now = 0.0
    while made.has_socket:
        assert made.gates(now)["freshness"] is None
        now = made.deadline
        made.check_clocks(now)
        made.ponged(now)
        made.requests()
    assert 900 <= now <= 920
    assert made.problem.error_class == "mute"


@pytest.mark.parametrize("answers", [True, False])
def test_silence_before_the_opening_bell_does_not_count(answers):
    """From the open on a feed has `stale_s` to give data, however long it was silent before; then it is mute."""
    is_open = False
    made = live(expects=lambda: is_open)
    now = 0.0
    while now < 300:
        now = made.deadline
        made.check_clocks(now)
        made.ponged(now)
        made.requests()
    is_open, opened = True, now
    while made.has_socket:
        now = made.deadline
        if answers and now >= opened + 25:
            made.received(now, is_data=True)
            break
        made.check_clocks(now)
        made.ponged(now)
        made.requests()
    assert made.has_socket == answers
    if not answers:
        assert made.problem.error_class == "mute"
        assert 30 <= now - opened <= 40  # the bell is noticed at the next check of the deadlines


def test_own_pause_is_no_silence():
    """While the caller does not read nothing is overdue, and after that all deadlines restart."""
    made = live()
    made.pause(True, 5.0)
    assert made.deadline == NEVER
    made.check_clocks(500.0)
    made.pause(False, 500.0)
    made.check_clocks(509.0)
    assert made.has_socket
    assert made.requests() == []


def test_gap_is_open_until_it_was_filled():
    """From the loss on the gate `backfill` is closed: over reconnects, until the caller says that it is filled."""
    made = live()
    made.lost(GONE, 1.0)
    for now in (100.0, 200.0):
        assert made.gates(now)["backfill"] is not None
        introduced(made, now)
        assert [request.kind for request in made.requests()] == ["subscribe"]
        made.subscribed({"A", "B"}, now)
        assert made.state is State.FILLING
        if now == 100:
            made.lost(GONE, now)
    made.filled()
    assert made.state is State.LIVE
    assert all(gate is None for name, gate in made.gates(200.0).items() if name != "freshness")


def test_loss_before_any_subscription_is_no_gap():
    """Where nothing was subscribed nothing is missing."""
    made = introduced(session())
    made.lost(GONE, 0.0)
    assert made.gates(0.0)["backfill"] is None


def test_nothing_follows_a_stop():
    """After a final refusal there is no deadline, no request, no attempt."""
    made = live()
    made.lost(Closed("keys", "auth"), 1.0, Policy.STOP)
    assert made.state is State.STOPPED
    assert made.deadline == NEVER
    made.check_clocks(10**6)
    made.want(["C"], 10**6)
    assert made.requests() == []
    assert made.gates(10**6)["auth"] == Closed("keys", "auth")
    with pytest.raises(RuntimeError, match="not possible"):
        made.attempt(10**6)


def test_other_symbols_are_asked_for_on_the_same_connection():
    """Removed symbols are unsubscribed first, then new ones subscribed; the gate is closed meanwhile."""
    made = live("A", "B")
    made.want(["B", "C"], 1.0)
    assert made.gates(1.0)["subscription"] is not None
    assert [(request.kind, request.symbols) for request in made.requests()] == [("unsubscribe", ("A",))]
    made.subscribed({"B"}, 1.0)
    assert [(request.kind, request.symbols) for request in made.requests()] == [("subscribe", ("C",))]
    made.subscribed({"B", "C"}, 1.0)
    assert made.gates(1.0)["subscription"] is None
    assert made.state is State.LIVE
