"""`torghut run` is killed on the order path, while the venue misbehaves, and started again.

Meanwhile a person trades at the venue by hand. Afterwards there is exactly one venue order for each intent that left, fills
count once, and positions differ by what the person did and nobody accepted, and by nothing else.
A proof kills it 53 times, a hunt 530 times.
"""

import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPException

import pytest
from torghut_testing.alpaca import Fault

from support.effort import many
from torghut_core.model.trading import client_order_id

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "DOGE/USD", "AAVE/USD")
KILLS = many(12, quick=3)
"""How often it is killed in one history."""

ORDERS = {"method": "POST", "path": "/v2/orders"}
LOOK_UPS = {"method": "GET", "path": "/v2/orders:by_client_order_id"}

FAULTS = {
    "none": lambda _: None,
    "5xx before": lambda fake: fake.faults.add(Fault.server_error(503, times=3, **ORDERS)),
    "5xx after": lambda fake: fake.faults.add(Fault.server_error(500, after=True, times=3, **ORDERS)),
    "html before": lambda fake: fake.faults.add(Fault.html(502, times=3, **ORDERS)),
    "html after": lambda fake: fake.faults.add(Fault.html(504, after=True, times=3, **ORDERS)),
    "time-out before": lambda fake: fake.faults.add(Fault.timeout(times=2, **ORDERS)),
    "time-out after": lambda fake: fake.faults.add(Fault.timeout(after=True, times=2, **ORDERS)),
    "cut before": lambda fake: fake.faults.add(Fault.cut(times=3, **ORDERS)),
    "cut after": lambda fake: fake.faults.add(Fault.cut(after=True, times=3, **ORDERS)),
    "cut in the answer": lambda fake: fake.faults.add(Fault.cut(mid_body=True, times=3, **ORDERS)),
    "half the JSON": lambda fake: fake.faults.add(Fault.truncate(times=3, **ORDERS)),
    "slow drip": lambda fake: fake.faults.add(Fault.drip(0.002, times=3, **ORDERS)),
    "late before": lambda fake: fake.faults.add(Fault.delay(0.2, after=False, times=3, **ORDERS)),
    "late after": lambda fake: fake.faults.add(Fault.delay(0.2, after=True, times=3, **ORDERS)),
    "throttle": lambda fake: fake.faults.add(Fault.throttle(0.1, times=4, **ORDERS)),
    "refused": lambda fake: fake.faults.add(
        Fault.reject(403, {"code": 40310000, "message": "insufficient buying power"}, times=2, **ORDERS)
    ),
    "blind": lambda fake: (
        fake.faults.add(Fault.cut(after=True, times=3, **ORDERS)),
        fake.faults.add(Fault.server_error(503, times=6, **LOOK_UPS)),
    ),
    "unreachable": lambda fake: (fake.stop_listening(), fake.drop_connections()),
    "restart": lambda fake: fake.restart(),
    "stream cut": lambda fake: fake.stream.cut(),
    "stream mute": lambda fake: fake.stream.mute(),
    "stream double": lambda fake: fake.stream.duplicate(9),
    "stream disorder": lambda fake: fake.stream.reorder(2),
    "stream loss": lambda fake: fake.stream.drop(5),
    "stream late": lambda fake: fake.stream.delay(0.3, 5),
}
"""What is wrong with the venue when the process dies."""

POINTS = {
    "torghut_core.audit:SqlAuditStore.record_decision": 6,
    "torghut_core.audit:SqlAuditStore.commit": 8,
    "torghut_core.audit:SqlAuditStore.record_report": 10,
    "torghut_core.trading.gateway:VenueGateway.dispatch": 4,
    "torghut_core.trading.gateway:Gateway.apply_updates": 6,
    "torghut_core.trading.books:Books.apply_status": 6,
    "torghut_core.execution.executor:Executor.submit": 6,
    "torghut_core.execution.executor:Executor._submit": 6,
    "torghut_core.execution.executor:Executor._look_up": 3,
    "torghut_core.execution.executor:Executor._retry_delay": 3,
    "torghut_core.execution.executor:Executor._reject": 2,
    "torghut_core.execution.executor:Executor._publish": 8,
    "torghut_core.execution.executor:Executor.cancel": 2,
    "torghut_core.execution.executor:Executor.replace": 2,
    "torghut_core.trading.books:Books.open_leg": 4,
    "torghut_core.execution.permit:Permit.refusal": 6,
    "torghut_core.execution.venue:Venue._apply": 4,
    "torghut_brokers.alpaca.rest:Rest.post": 6,
    "torghut_brokers.alpaca.rest:Rest.get": 9,
    "torghut_brokers.alpaca.broker:Alpaca._receive": 8,
}
"""Where it dies, before or after, and at which time at most, counted from the first decision."""

STARTS = {
    "torghut_core.execution.lease:Lease.acquire": 1,
    "torghut_core.audit:SqlAuditStore.commit": 2,
    "torghut_core.trading.books:Books.restore": 1,
    "torghut_core.execution.venue:Venue._apply": 1,
    "torghut_core.execution.reconciler:Reconciler._compare": 1,
    "torghut_core.execution.executor:Executor.resume": 1,
}
"""Where it dies while it starts."""


class Chaos:
    """One history of kills on one venue; `chance` decides everything."""

    def __init__(self, trader, seed):
        self.trader = trader
        self.fake = trader.fake
        self.chance = random.Random(seed)
        self.died = Counter()
        self.accepted = 0
        trader.write(broker={"timeout_seconds": 0.5, "stream_timeout_seconds": 1.0})

    def kill(self, fault):
        """One life: it starts, agrees with the venue, trades while `fault` is on, and dies."""
        trader, chance = self.trader, self.chance
        point = ""
        if chance.random() < 0.8:
            points, prefix = (STARTS, "start ") if chance.random() < 0.1 else (POINTS, "")
            target = chance.choice(list(points))
            point = f"{prefix}{target} {chance.choice(['before', 'after'])} {chance.randint(1, points[target])}"
        trader.env["KILL_AT"] = point
        trader.start(launcher=True)
        if trader.listens() and not point.startswith("start") and self.is_well():
            self.trade(fault)
        self.dies(point or "any time")

    def is_well(self):
        """Wait until it agrees with the venue; False where it died before, of bars that the life before has left."""
        try:
            self.trader.until(lambda: self.fake.listeners)
            self.trader.agrees()
            if self.chance.random() < 0.5:
                self.settles()
        except (OSError, HTTPException, AssertionError):
            with suppress(subprocess.TimeoutExpired):
                self.trader.process.wait(1)
            if self.trader.process.poll() is None:
                raise
            return False
        return True

    def trade(self, fault):
        """Orders of all kinds, in several symbols, while the venue misbehaves."""
        chance, trader = self.chance, self.trader
        for symbol in self.symbols(2):
            self.fake.venue.hold(symbol)
        FAULTS[fault](self.fake)
        for _ in range(chance.randint(1, 3)):
            word = chance.choice(["flip", "flip", "buy", "bid", "close", "guard", "guard", "raise"])
            trader.say(word, self.symbols(chance.randint(1, 4)))
            time.sleep(chance.uniform(0, 0.03))
            if chance.random() < 0.2:
                self.hand()

    def hand(self):
        """A person trades at the venue, without a word: adds units, or sells what is held, or half of it."""
        chance, (symbol,) = self.chance, self.symbols(1)
        held = self.trader.held.get(symbol, 0)
        self.trader.trade_by_hand(symbol, -held / chance.choice([1, 2]) if held and chance.random() < 0.7 else 1)

    def settles(self):
        """What a person did is accepted by the operator, or taken back."""
        trader = self.trader
        for symbol, quantity in trader.outside.items():
            if self.chance.random() < 0.5:
                trader.trade_by_hand(symbol, -quantity)
            else:
                self.accept(symbol)
        trader.agrees()

    def accept(self, symbol):
        """Accept a difference; where it dies before it answers, what is written down says whether it did."""
        self.accepted += 1
        because = f"by hand, {self.accepted}"
        try:
            self.trader.post("/trading/reconcile", {"accept": [symbol], "reason": because})
        except (OSError, HTTPException, AssertionError):
            if any((row["reason"] or "").endswith(because) for row in self.trader.rows("position_snapshots")):
                del self.trader.by_hand[symbol]
            raise
        del self.trader.by_hand[symbol]

    def symbols(self, count):
        return tuple(sorted(self.chance.sample(SYMBOLS, count)))

    def dies(self, how):
        """Wait for its end; where that does not come by itself, bring it about."""
        process = self.trader.process
        end = time.monotonic() + (1.5 if how != "any time" else self.chance.uniform(0, 0.3))
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        self.died["by itself" if process.poll() is not None else "from outside"] += 1
        process.kill()
        assert self.trader.ended() == -signal.SIGKILL, self.trader.log

    def heal(self):
        """The venue is well again; and moved on, while nobody looked."""
        fake, chance = self.fake, self.chance
        fake.listen_again()
        fake.faults.clear()
        fake.stream.clear()
        time.sleep(0.25)  # what was taken late is there: later than that is later than anybody waits
        for number, order in list(self.trader.working.items()):
            act = chance.random()
            if order["type"] == "market" and act < 0.3:
                fake.venue.fill(number, "0.5" if order["filled_qty"] == "0" else None)
            elif act < 0.4:
                fake.venue.cancel(number)
        for symbol in SYMBOLS:
            if chance.random() < 0.7:
                fake.venue.release(symbol)
        if chance.random() < 0.5:
            self.hand()

    def recovers(self):
        """It starts without harm; what is written down and the venue come to agree, and stay so."""
        self.trader.env["KILL_AT"] = ""
        self.trader.begin(launcher=True)
        self.trader.agrees()
        self.settles()
        assert self.trader.metric("lease_held") == 1


def is_one_order_per_intent(trader):
    """Every order at the venue is of one decision that is written down, or a leg of one, and no id is there twice."""
    decided = {client_order_id(row["decision_hash"]) for row in trader.rows("trade_decisions")}
    legs = {row["client_order_id"] for row in trader.rows("executions") if row["parent"]}
    there = [each["client_order_id"] for each in trader.fake.venue.orders()]
    there = [each for each in there if each not in trader.foreign]
    return set(there) <= decided | legs and len(there) == len(set(there))


def has_too_many_or_no_legs(trader):
    """Entries with a stop that have filled and got none, and symbols in which more stops are open than is held."""
    rows = trader.rows("executions")
    parents = {row["parent"] for row in rows}
    told = [
        each for each in rows if each["bracket"] and each["filled_quantity"] and each["client_order_id"] not in parents
    ]
    stops = Counter()
    for row in rows:
        if row["parent"] and row["client_order_id"] in trader.working:
            stops[row["symbol"]] += row["quantity"] - row["filled_quantity"]
    return told, [symbol for symbol, units in stops.items() if units > trader.held.get(symbol, 0)]


def live_through(trader, seed, kills):
    """So many lives and deaths, and one life that ends well."""
    chaos = Chaos(trader, seed)
    faults = []
    for _ in range(kills):
        if not faults:
            faults = chaos.chance.sample(list(FAULTS), len(FAULTS))
        chaos.kill(faults.pop())
        chaos.heal()
    chaos.recovers()
    assert is_one_order_per_intent(trader)
    assert has_too_many_or_no_legs(trader) == ([], [])
    assert trader.send() == 0
    assert trader.findings == []
    orders = f"{len(trader.fake.venue.orders())} orders, {len(trader.foreign)} of them by hand"
    legs = sum(bool(row["parent"]) for row in trader.rows("executions"))
    print(f"killed {kills} times: {dict(chaos.died)}, {orders}, {legs} legs, {chaos.accepted} differences accepted")  # noqa: T201 - for -rP


@pytest.mark.examples
@pytest.mark.parametrize("lane", [0, *(pytest.param(lane, marks=pytest.mark.proof) for lane in range(1, 4))])
def test_killed_anywhere_on_the_order_path_nothing_is_lost_and_nothing_doubled(make, fake, lane):
    """After each kill -9, at a point of the order path or at any time, under each fault of the venue: the books agree,
    and what a person traded at the venue meanwhile is all that differs."""
    live_through(make(fake), 1000 + lane, KILLS)


@pytest.mark.proof
def test_killed_on_postgres(make, fake, dsn):
    """The same with the books in Postgres, whose lock is free as soon as the process is dead."""
    live_through(make(fake, DB_DSN=dsn), 2000, many(5))
