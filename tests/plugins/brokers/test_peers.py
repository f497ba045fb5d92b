"""docs/fills.md and the rules that its tests use are what the real NautilusTrader and backtrader do, run beside us.

They are in `.venv-rivals`, which `make .venv-rivals/stamp` makes; without it these tests are skipped.
"""

import json
import random
import subprocess
from pathlib import Path

import pytest

from support import run_peers
from support.docs import ROOT
from support.effort import many
from support.fills_page import NAMES, ROWS, events_of, terms_of
from support.peer_fills import Event, Terms, backtrader, nautilus

RIVALS = ROOT / ".venv-rivals" / "bin" / "python"
PEERS = {"nautilus_trader": ("NautilusTrader", nautilus), "backtrader": ("backtrader", backtrader)}

pytestmark = pytest.mark.skipif(
    not RIVALS.exists(), reason="NautilusTrader and backtrader are not installed (make .venv-rivals/stamp)"
)


TIMES_IN_FORCE = ["gtc", "ioc", "fok"]
STREAMS = {
    "backtrader": [(["bar"], ["gtc"])],
    "nautilus_trader": [
        (kinds, TIMES_IN_FORCE) for kinds in (["bar"], ["trade"], ["trade", "quote"], ["trade", "quote", "bar"])
    ],
}
"""The kinds of events of an order, and its times in force."""


def done_by(peer, orders):
    """What a peer does with each order: a list of (terms, seen, events)."""
    lines = [json.dumps({**terms._asdict(), "seen": seen, "events": events}) for terms, seen, events in orders]
    command = [str(RIVALS), str(Path(run_peers.__file__)), peer]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("peer", PEERS)
def test_page_says_what_they_do(peer):
    """A peer that is given the rows of the page does what its cells say."""
    head, _ = PEERS[peer]
    rows = [(name, row) for name, row in zip(NAMES, ROWS, strict=True) if row[head]]
    orders = [(terms_of(row["order"]), events_of(row["seen"]), events_of(row["events"])) for _, row in rows]
    expected = {name: row["torghut"] if row[head] == "=" else row[head] for name, row in rows}
    assert dict(zip(expected, done_by(peer, orders), strict=True)) == expected


def some_price(rng):
    return rng.randrange(188, 212) / 2


def some_event(rng, kinds):
    kind = rng.choice(kinds)
    if kind == "trade":
        return Event(kind, (some_price(rng),))
    if kind == "quote":
        bid = some_price(rng)
        return Event(kind, (bid, bid + rng.choice([0.5, 1, 2])))
    opened, closed, *others = (some_price(rng) for _ in range(4))
    return Event(kind, (opened, max(opened, closed, *others), min(opened, closed, *others), closed))


def some_order(rng, kinds, times_in_force):
    """(terms, seen, events): a market, limit, stop, stop-limit or trailing stop order, one to three events seen before."""
    prices = rng.choice([(), ("limit",), ("stop",), ("limit", "stop"), ("limit", "stop"), ("trail",), ("trail",)])
    terms = {name: rng.randrange(1, 16) / 2 if name == "trail" else some_price(rng) for name in prices}
    if not {"stop", "trail"} & set(prices):
        terms["time_in_force"] = rng.choice(times_in_force)
    seen = [some_event(rng, kinds) for _ in range(rng.randrange(1, 4))]
    if (
        "trail" in prices and seen[0].kind == "quote"
    ):  # NautilusTrader's run ends without a trade before: a row of the page
        seen[0] = some_event(rng, ["trade"])
    return Terms(rng.random() < 0.5, **terms), seen, [some_event(rng, kinds) for _ in range(rng.randrange(1, 8))]


@pytest.mark.examples
@pytest.mark.parametrize("peer", PEERS)
def test_random_orders_fill_by_the_rules_that_were_read(peer):
    """A peer fills random orders as its rules of `support.peer_fills` say, which torghut's fills are compared with."""
    rng, (_, rules) = random.Random(7), PEERS[peer]
    orders = [some_order(rng, *rng.choice(STREAMS[peer])) for _ in range(many(1000, quick=100))]
    for order, done in zip(orders, done_by(peer, orders), strict=True):
        assert rules(*order) == done, order
