"""When the account's day begins, and what equity was then."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers import Simulated
from torghut_testing import bar_batch

from support.generations import generation, instance, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import Outcome, Verdict
from torghut_core.ports import RiskRule, Strategy
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

HOUR = 3_600_000_000_000
START = 1_767_614_400_000_000_000  # 2026-01-05T12:00Z


class Newyorker(Simulated):
    """A broker whose account's day begins in New York."""

    day_zone = "America/New_York"


class Note(RiskRule):
    """Writes down what it is shown of the day."""

    def __init__(self):
        super().__init__(self.Params())
        self.seen = []

    def check(self, decision, context):
        self.seen.append((context.now, context.day_start_equity, context.day_low_equity))
        return Verdict("note", Outcome.ALLOW, "note")


class Swing(Strategy):
    """Holds one unit, and says something on every row."""

    def on_signal(self, signal, context):
        if context.is_flat:
            return context.buy(1, because="in")
        return context.buy("0.001", because="again")


def run(prices, cuts=(), broker=Newyorker):
    """Hourly bars from noon on, in pieces; what a rule was shown of each."""
    rows = [("ES", START + n * HOUR, price, price, price, price, 10.0) for n, price in enumerate(prices)]
    note = Note()
    made = generation(
        instance("swing", Swing(None), step_ns=HOUR),
        broker=broker(broker.Params(cash=Decimal(1000))),
        rules=[("note", note)],
    )
    engine = Engine(made, "test", MemoryAuditStore(), Gates(trading_enabled=True, price_max_age_ns=10**18))
    batch = bar_batch(rows, "1Hour")
    for cut in [*sorted(set(cuts)), None]:
        if cut is not None and not batch.start < cut < batch.stop:
            continue
        piece, batch = batch.split(cut) if cut is not None else (batch, None)
        engine.step(with_signals(piece))
    return note.seen


def test_day_begins_at_midnight_of_the_accounts_zone():
    """05:00 UTC in winter: a bar that ends then belongs to the new day, and equity is that of the bars before it."""
    prices = [100.0] * 8 + [90.0] * 8 + [80.0] * 4 + [70.0] * 10
    seen = {now: (began, low) for now, began, low in run(prices)}
    midnight = START + 17 * HOUR
    assert {began for now, (began, _) in seen.items() if now < midnight} == {Decimal(1000)}
    (after,) = {began for now, (began, _) in seen.items() if now >= midnight}
    assert after < 1000
    assert seen[midnight][1] <= after
    lows = [low for now, (_, low) in sorted(seen.items()) if now >= midnight]
    assert lows == sorted(lows, reverse=True)
    assert seen[midnight - HOUR][1] < 1000


def test_utc_is_the_default():
    """A broker that says nothing has its day begin at 00:00 UTC."""
    seen = run([100.0] * 6 + [90.0] * 10, broker=Simulated)
    assert {began for now, began, _ in seen if now < START + 12 * HOUR} == {Decimal(1000)}
    assert all(began < 1000 for now, began, _ in seen if now >= START + 12 * HOUR)


@given(
    st.lists(st.sampled_from([90.0, 100.0, 110.0]), min_size=30, max_size=60),
    st.sets(st.integers(1, 59), max_size=6),
)
def test_batches_change_nothing(prices, cuts):
    """However the stream is cut, also at midnight, a day begins with the same equity."""
    assert run(prices, cuts) == run(prices)
