"""The executor: each outcome of a request, bounded retries, cancels that cross reports, threads that end."""

import threading
from decimal import Decimal
from random import Random

import pytest

from support.waiting import PATIENCE
from tests.core.execution.orders.conftest import run_one
from torghut_core.execution.executor import ATTEMPTS, DEADLINE, Executor
from torghut_core.model.trading import Order, OrderEvent, OrderState, OrderStatus, Report

E = OrderEvent


class Rig:
    """An executor without threads, whose tasks a test runs one by one."""

    def __init__(self, venue, clock, **options):
        self.venue, self.clock = venue, clock
        self.objection = ""
        self.asked = 0
        self.rung = 0
        self.executor = Executor(venue, self.permits, self.ring, threads=0, clock=clock, **options)

    def permits(self, intent):
        self.asked += 1
        return self.objection

    def ring(self):
        self.rung += 1

    def step(self):
        """Do the next task at the time when it is due; return whether there was one."""
        if not self.executor._queue:
            return False
        due = self.executor._queue[0][0]
        self.clock.pass_(max(0.0, due - self.clock.monotonic()))
        return run_one(self.executor)

    def run(self):
        """Do all tasks."""
        while self.step():
            assert len(self.venue.calls) < 1_000
        return self

    def calls(self, kind):
        return sum(1 for call, _ in self.venue.calls if call == kind)

    def heard(self):
        """Return the executor's own reports since the last call, in short; without the venue's."""
        self.venue.news.clear()
        return [short(news) for news in self.executor.updates()]


def short(news):
    if isinstance(news, OrderStatus):
        return f"is {news.order.state}"
    assert isinstance(news, Report)
    return f"{news.event}: {news.reason}" if news.reason else str(news.event)


@pytest.fixture
def rig(venue, clock):
    return Rig(venue, clock)


REFUSED = "rejected: buying-power: insufficient buying power"
SILENT = "canceled: not sent: the venue does not answer"
OUTCOMES = {
    # what goes wrong with submits; with look-ups; submits, look-ups; what is reported
    "accepted": ([], [], 1, 0, ["submit", "is accepted"]),
    "refused": (["refused"], [], 1, 0, ["submit", REFUSED]),
    "throttled": (["throttled", "throttled"], [], 3, 0, ["submit", "is accepted"]),
    "throttled for a time": ([7], [], 2, 0, ["submit", "is accepted"]),
    "throttled beyond the deadline": ([60, "lost"], [], 1, 0, ["submit", SILENT]),
    "not sent": (["not_sent", "not_sent"], [], 3, 0, ["submit", "is accepted"]),
    "answer lost": (["taken"], [], 1, 1, ["submit", "is accepted"]),
    "request lost": (["lost"], [], 2, 1, ["submit", "is accepted"]),
    "look-up fails too": (["lost"], ["lost", "throttled", "not_sent"], 2, 4, ["submit", "is accepted"]),
    "look-up comes too early": (["taken"], ["unseen"], 2, 2, ["submit", "is accepted"]),
    "plugin fails before": (["broken"], [], 2, 1, ["submit", "is accepted"]),
    "plugin fails after": (["broken_after"], [], 1, 1, ["submit", "is accepted"]),
    "plugin fails to look up": (["lost"], ["broken"], 2, 2, ["submit", "is accepted"]),
    "refused when it may be there": (["lost", "refused"], [], 2, 2, ["submit"]),
    "refused because it is there": (["taken", "refused"], ["unseen"], 2, 2, ["submit", "is accepted"]),
    "refused to be looked up": (["lost"], ["refused", "refused"], 1, 2, ["submit"]),
    "never sent": (["not_sent"] * 99, [], ATTEMPTS, 0, ["submit", "canceled: not sent: not-sent: no route"]),
    "always throttled": (
        ["throttled"] * 99,
        [],
        ATTEMPTS,
        0,
        ["submit", "canceled: not sent: throttled: too many requests"],
    ),
    "never answered": (["lost"] * 99, [], ATTEMPTS, None, ["submit"]),
    "never answered at all": (["taken"] * 99, ["lost"] * 999, 1, None, ["submit"]),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(rig, intent, name):
    """Each outcome leads to these numbers of submits and look-ups, to these reports, and to at most one order."""
    submits, finds, submitted, found, told = OUTCOMES[name]
    rig.venue.script["submit"].extend(submits)
    rig.venue.script["find"].extend(finds)
    rig.executor.submit(intent())
    began = rig.clock.now
    rig.run()
    assert rig.heard() == told
    assert rig.calls("submit") == submitted
    assert found is None or rig.calls("find") == found
    assert rig.venue.placed.total() <= 1
    assert (rig.clock.now - began) / 1e9 <= 2.5 * DEADLINE
    is_settled = len(told) > 1
    assert set(rig.executor.unresolved) == (set() if is_settled else {"tg-1"})
    assert rig.executor.is_idle
    assert rig.executor.is_under_way("ES") is not is_settled
    assert rig.rung >= len(told)


def test_duplicate_of_an_earlier_process_is_looked_up(rig, intent):
    """Where the venue has an order with this id, that one is reported, and there is no second one."""
    rig.venue.submit(intent())
    rig.executor.submit(intent())
    assert rig.run().heard() == ["submit", "is accepted"]
    assert (rig.calls("submit"), rig.calls("find"), rig.venue.placed.total()) == (2, 1, 1)


def test_request_that_lands_after_the_look_up_is_not_doubled(rig, intent):
    """If a request arrives after its time-out, it is the order, and the retry is refused as a duplicate."""
    rig.venue.script["submit"].append("late")
    rig.venue.after = lambda kind, number: rig.venue.land() if kind == "find" else None
    rig.executor.submit(intent())
    assert rig.run().heard() == ["submit", "is accepted"]
    assert rig.venue.placed == {"tg-1": 1}


def test_retry_after_is_kept(rig, intent):
    """A throttled request is retried after the seconds that the venue asks for."""
    rig.venue.script["submit"].append(7)
    rig.executor.submit(intent())
    began = rig.clock.now
    rig.run()
    assert 7e9 <= rig.clock.now - began < 8e9


@pytest.mark.parametrize(
    ("outcome", "told"), [("not_sent", ["submit", "canceled: not sent: halted"]), ("lost", ["submit"])]
)
def test_permission_is_asked_before_every_attempt(rig, intent, outcome, told):
    """An order that may no longer be sent is not retried; if it certainly was never sent, it is canceled."""
    rig.venue.script["submit"].append(outcome)
    rig.executor.submit(intent())
    rig.step()
    rig.objection = "halted"
    rig.run()
    assert rig.calls("submit") == 1
    assert rig.heard() == told
    assert rig.executor.counts["held_back"] == 1


def test_order_without_permission_is_never_sent(rig, intent):
    """Without permission the venue is not called, and no SUBMIT is reported."""
    rig.objection = "halted"
    rig.executor.submit(intent())
    assert rig.run().heard() == ["canceled: not sent: halted"]
    assert rig.venue.calls == []


def test_last_check_that_fails_sends_nothing(rig, intent):
    """If the check of the permission raises, the order is not sent, and the reconciler settles it."""

    def fail(intent):
        raise OSError("no control file")

    rig.executor.refusal = fail
    rig.executor.submit(intent())
    rig.run()
    assert rig.calls("submit") == 0


def test_cancel_before_the_order_was_sent(rig, intent):
    """An order that waits for a retry, and certainly was never sent, is canceled without a request to the venue."""
    rig.venue.script["submit"].append("not_sent")
    rig.executor.submit(intent())
    rig.step()
    rig.executor.cancel("tg-1")
    assert rig.run().heard() == ["submit", "canceled: not sent: canceled before it was sent"]
    assert rig.venue.calls == [("submit", "tg-1")]


def test_cancel_while_the_order_is_unanswered_waits_for_it(rig, intent):
    """An order that may be at the venue is looked up first, and then canceled there."""
    rig.venue.script["submit"].append("taken")
    rig.executor.submit(intent())
    rig.step()
    rig.executor.cancel("tg-1")
    rig.run()
    assert [kind for kind, _ in rig.venue.calls] == ["submit", "find", "cancel"]
    assert rig.venue.book["tg-1"].state is OrderState.CANCELED


def test_cancel_of_an_unknown_order_is_sent_all_the_same(rig):
    """The cancel of an order that the executor does not know is sent, since the venue may know it."""
    rig.executor.cancel("tg-9")
    assert rig.run().heard() == []
    assert rig.venue.calls == [("cancel", "tg-9")]


@pytest.mark.parametrize(
    ("script", "asked", "told"),
    [
        ([], 1, []),
        (["throttled", "lost", "not_sent", "broken"], 5, []),
        (["refused"], 1, ["cancel_rejected: buying-power: insufficient buying power"]),
        (["lost"] * 99, ATTEMPTS, ["cancel_rejected: unanswered: timed out"]),
        (["broken"] * 99, ATTEMPTS, ["cancel_rejected: unanswered: RuntimeError: a defect"]),
    ],
)
def test_cancel_is_retried_and_ends(rig, intent, script, asked, told):
    """A cancel is retried up to `ATTEMPTS` times, and then reported as rejected."""
    rig.executor.submit(intent())
    rig.run().heard()
    rig.venue.script["cancel"].extend(script)
    rig.executor.cancel("tg-1")
    assert rig.run().heard() == told
    assert rig.calls("cancel") == asked


def test_replace_passes_the_terms_on(rig, intent):
    """The new terms are sent to the venue, which reports them itself."""
    rig.executor.submit(intent())
    rig.executor.replace("tg-1", limit_price=Decimal(99))
    rig.run()
    order = rig.venue.book["tg-1"]
    assert (order.intent.limit_price, order.intent.quantity) == (Decimal(99), Decimal(10))
    assert rig.executor.counts["replaces"] == 1


def test_replace_that_is_refused_is_reported(rig):
    """A refused replace is reported, and the order stays open under its old terms."""
    rig.executor.replace("tg-9", limit_price=Decimal(99))
    assert rig.run().heard() == ["replace_rejected: not-replaceable: no such working order"]


def test_same_intent_twice_is_one_order(rig, intent):
    """The same intent submitted again, while it waits or after it was sent, is not sent again."""
    rig.executor.submit(intent())
    rig.executor.submit(intent())
    rig.run()
    rig.executor.submit(intent())
    rig.run()
    assert rig.calls("submit") == 1


def test_cancel_all_reaches_everything_that_may_be_open(rig, intent):
    """Open, unresolved and waiting orders, and those of an earlier process, are canceled; done ones are not."""
    for number in ("tg-works", "tg-done", "tg-unknown"):
        rig.executor.submit(intent(number))
        rig.venue.script["submit"].extend(["lost"] * (99 if number == "tg-unknown" else 0))
        rig.run()
        rig.venue.script["submit"].clear()
    rig.venue.end("tg-done", OrderState.CANCELED)
    rig.executor.updates()
    rig.executor.resume([Order(intent=intent("tg-before"))])
    rig.executor.submit(intent("tg-waits"))
    rig.executor.cancel_all()
    rig.run()
    canceled = {number for kind, number in rig.venue.calls if kind == "cancel"}
    assert canceled == {"tg-works", "tg-unknown", "tg-before", "tg-waits"}


def test_orders_of_an_earlier_process_are_never_sent_again(rig, intent):
    """They are unresolved until the venue shows them, and submitting one again sends nothing."""
    rig.executor.resume([Order(intent=intent()), Order(intent=intent("tg-2", "CL"), venue_order_id="venue-2")])
    rig.executor.submit(intent())
    rig.executor.submit(intent("tg-2", "CL"))
    rig.run()
    assert rig.venue.calls == []
    assert rig.executor.unresolved_symbols == {"tg-1": "ES"}
    assert rig.executor.is_under_way("ES")
    assert not rig.executor.is_under_way("CL")


def test_order_that_waits_for_a_retry_is_under_way_at_any_moment(rig, intent, monkeypatch):
    """Between two attempts an order never seems to be settled, or a cancel could overtake it."""
    seen = []
    put = rig.executor._put

    def watched(task, delay=0.0):
        if task.attempts:
            free = threading.Thread(target=lambda: seen.append(rig.executor._changed.acquire(blocking=False)))
            free.start()
            free.join()
        put(task, delay)

    monkeypatch.setattr(rig.executor, "_put", watched)
    rig.venue.script["submit"].append("not_sent")
    rig.executor.submit(intent())
    rig.run()
    assert seen == [False], "no other thread could look"


def test_own_report_comes_before_the_venues(rig, intent):
    """The report that an order was sent comes before the venue's statuses of it."""
    rig.executor.submit(intent())
    rig.run()
    assert [short(news) for news in rig.executor.updates()] == ["submit", "is accepted", "is accepted"]


# With threads.


class SlowVenue:
    """Holds requests back until `gate` is set."""

    def __init__(self, venue, *slow):
        self.slow = set(slow)
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        self.at_once = 0
        self.most = 0
        self.lock = threading.Lock()
        venue.before, venue.after = self.enter, self.leave

    def enter(self, kind, number):
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if not self.slow or number in self.slow:
            self.arrived.release()
            assert self.gate.wait(PATIENCE)

    def leave(self, kind, number):
        with self.lock:
            self.at_once -= 1

    def wait_for(self, requests):
        for _ in range(requests):
            assert self.arrived.acquire(timeout=PATIENCE)


@pytest.fixture
def threads():
    """Fail if a thread of an executor is left."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("executor-")]


class Heard:
    """Collects an executor's reports until there are enough."""

    def __init__(self):
        self.rung = threading.Semaphore(0)

    def until(self, executor, number):
        news = []
        while len(news) < number:
            assert self.rung.acquire(timeout=PATIENCE)
            news += [short(each) for each in executor.updates()]
        return news


@pytest.mark.usefixtures("threads")
def test_orders_are_sent_side_by_side(venue, intent):
    """While a request waits for its answer, others are sent, as many at once as there are threads."""
    slow = SlowVenue(venue)
    executor = Executor(venue, lambda _: "", backoff=0.001, threads=3)
    for number in range(5):
        executor.submit(intent(f"tg-{number}"))
    slow.wait_for(3)
    assert not executor.is_idle
    slow.gate.set()
    slow.wait_for(2)
    executor.close()
    assert slow.most == 3
    assert venue.placed.total() == 5


@pytest.mark.usefixtures("threads")
def test_requests_about_one_order_follow_each_other(venue, intent):
    """A cancel waits for the answer to its order, even if a thread is free."""
    slow = SlowVenue(venue, "tg-1")
    heard = Heard()
    executor = Executor(venue, lambda _: "", heard.rung.release, backoff=0.001, threads=2)
    executor.submit(intent())
    slow.wait_for(1)
    executor.cancel("tg-1")
    executor.submit(intent("tg-2"))
    heard.until(executor, 3)  # tg-1 is reported as sent, tg-2 is answered
    assert [kind for kind, number in venue.calls if number == "tg-1"] == ["submit"]
    slow.gate.set()
    slow.wait_for(1)
    executor.close()
    assert [kind for kind, number in venue.calls if number == "tg-1"] == ["submit", "cancel"]


@pytest.mark.usefixtures("threads")
def test_close_lets_requests_end_and_sends_nothing_more(venue, intent):
    """At `close` requests that were sent get their answers, and waiting ones are not sent."""
    slow = SlowVenue(venue)
    executor = Executor(venue, lambda _: "", backoff=0.001, threads=1)
    executor.submit(intent())
    executor.submit(intent("tg-2"))
    slow.wait_for(1)
    closing = threading.Thread(target=executor.close)
    closing.start()
    while not executor._is_closed:
        threading.Event().wait(0.001)
    slow.gate.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert venue.placed == {"tg-1": 1}
    assert [short(news) for news in executor.updates()][:2] == ["submit", "is accepted"]
    executor.close()


@pytest.mark.usefixtures("threads")
def test_retries_come_without_a_loop(venue, intent):
    """A thread retries by itself, and rings when there is a report."""
    venue.script["submit"].extend(["not_sent", "throttled", "lost", "broken"])
    heard = Heard()
    executor = Executor(venue, lambda _: "", heard.rung.release, backoff=0.001, threads=2)
    executor.submit(intent())
    assert heard.until(executor, 2)[:2] == ["submit", "is accepted"]
    executor.close()
    assert venue.placed == {"tg-1": 1}


@pytest.mark.usefixtures("threads")
def test_cancel_all_needs_no_loop(venue, intent):
    """Another thread may cancel all open orders while the loop does not read updates."""
    done = threading.Event()
    venue.after = lambda kind, number: done.set() if kind == "cancel" else None
    heard = Heard()
    executor = Executor(venue, lambda _: "", heard.rung.release, backoff=0.001, threads=1)
    executor.submit(intent())
    heard.until(executor, 2)
    guard = threading.Thread(target=executor.cancel_all)
    guard.start()
    guard.join(PATIENCE)
    assert done.wait(PATIENCE)
    executor.close()
    assert venue.book["tg-1"].state is OrderState.CANCELED


@pytest.mark.usefixtures("threads")
def test_many_orders_on_many_threads_through_many_faults(venue, intent):
    """At a venue that accepts the same id twice, no order is sent twice, and each has a known result in the end."""
    venue.refuses_duplicates = False
    faults = ["not_sent", "throttled", "taken", "lost", "broken", "broken_after", "accepted", "accepted"]
    random = Random(0)
    venue.script["submit"].extend(random.choices(faults, k=400))
    venue.script["find"].extend(random.choices(["accepted", "lost", "not_sent", "broken"], k=200))
    heard = threading.Event()
    executor = Executor(venue, lambda _: "", heard.set, backoff=0.0001, attempts=99, threads=8)
    numbers = {f"tg-{number}" for number in range(150)}
    for number in numbers:
        executor.submit(intent(number, f"S{number}"))
    shown = set()
    while shown != numbers:
        assert heard.wait(PATIENCE)
        heard.clear()
        for news in executor.updates():
            if isinstance(news, OrderStatus):
                shown.add(news.order.intent.client_order_id)
        executor.is_under_way("S0")
    executor.cancel_all()
    executor.close()
    assert venue.placed == dict.fromkeys(numbers, 1)
    assert not executor.unresolved
