"""docs/fills.md: what ends a position with a bracket, for both sides, and what others do, where they are installed."""

import json
import re
import subprocess

import pytest

from support import run_peers
from support.actions import START, buy, play, sell
from support.docs import DOCS, ROOT, text_of
from support.fills_page import events_of, rows_of, terms_of
from torghut_core.timestamps import MINUTE

STOP, PROFIT = 90, 110
PAGE = DOCS / "fills.md"
ROWS = rows_of(PAGE, "entry")
NAMES = [f"{row['entry']}, {row['events']}" for row in ROWS]
RIVALS = ROOT / ".venv-rivals" / "bin" / "python"
PEERS = {"backtesting.py": "backtesting.py", "backtrader": "backtrader", "NautilusTrader": "nautilus_trader"}


def ended(row, turn=lambda price: price):
    """What torghut does, as the table writes it; `turn` gives each price that it gets, and takes each that it gives back."""
    terms, is_turned = terms_of(row["entry"]), turn(1) != 1
    bars = []
    for event in (*events_of(row["seen"]), *events_of(row["events"])):
        opened, high, low, closed = map(turn, event.prices)
        bars.append((opened, max(high, low), min(high, low), closed))
    prices = {
        f"{name}_price": turn(price)
        for name, price in (("limit", terms.limit), ("stop", terms.stop))
        if price is not None
    }
    kind = next((name.removesuffix("_price") for name in prices), "market")
    entry = (sell if is_turned else buy)(1, order_type=kind, **prices, stop_loss=turn(STOP), take_profit=turn(PROFIT))
    _, engine, audit = play(bars, entry)
    exits = [each for each in audit.fills("test") if "-" in each["client_order_id"].removeprefix("tg-")]
    if not exits:
        assert len(engine.books.working) == 2, "the entry was not filled"
        return "open"
    (fill,) = exits
    leg = {"s": "stop", "p": "profit"}[fill["client_order_id"].rsplit("-", 1)[1][0]]
    return f"{leg} {turn(float(fill['price'])):g} @{(fill['event_ts'] - START) // MINUTE}"


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_table_is_what_happens(row):
    """Each row is what the simulated venue does, and the same holds for the other side."""
    assert ended(row) == row["torghut"]
    assert ended(row, lambda price: 200 - price) == row["torghut"]


@pytest.mark.skipif(not RIVALS.exists(), reason="the peers are not installed (make .venv-rivals/stamp)")
@pytest.mark.parametrize("peer", PEERS)
def test_page_says_what_the_others_do(peer):
    """A peer that is given the entries of the table does what its cells say."""
    rows = [row for row in ROWS if row[peer]]
    lines = [
        {
            **terms_of(row["entry"])._asdict(),
            "legs": [STOP, PROFIT],
            "seen": events_of(row["seen"]),
            "events": events_of(row["events"]),
        }
        for row in rows
    ]
    command = [str(RIVALS), run_peers.__file__, PEERS[peer]]
    done = subprocess.run(command, input="\n".join(map(json.dumps, lines)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [row["torghut"] if row[peer] == "=" else row[peer] for row in rows]
    assert [json.loads(line) for line in done.stdout.splitlines()] == said


def test_every_rule_of_legs_is_shown():
    """Each rule has a row, and each row a rule."""
    rules = re.findall(r"^- \*\*([a-z])\. ", text_of(PAGE), re.MULTILINE)
    assert {rule for row in ROWS for rule in row["rule"].split(", ")} == set(rules)
