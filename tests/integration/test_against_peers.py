"""Strategies of the field here and in other frameworks: the same fills and the same money, or others by a rule that is stated.

`support.field_strategies` has the strategies; `support.run_backtrader`, `run_backtesting` and `run_nautilus` have them as they
are written there. What the peers did is recorded in tests/support/peer_results.json, so that no peer is needed to compare. Where
they are installed (`make .venv-rivals/stamp`), a proof runs them; `make docs` writes the record and docs/against-peers.md anew.
"""

import hashlib
import json
import subprocess
from collections import Counter
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest

from support import field_bars
from support.docs import DOCS, IS_RENEWED, ROOT, has_blocks, table, text_of
from support.field_strategies import (
    DAYS,
    MINUTES,
    SESSIONS,
    BracketBreakout,
    DualMomentum,
    LimitAtADiscount,
    Rule,
    SmaCross,
    StopBehindCloses,
    TrailingStop,
)
from torghut_core.research import backtest

RIVALS = ROOT / ".venv-rivals" / "bin" / "python"
SUPPORT = Path(field_bars.__file__).parent
RECORD = SUPPORT / "peer_results.json"
PAGE = DOCS / "against-peers.md"
PEERS = {"backtrader": "backtrader", "backtesting.py": "backtesting", "NautilusTrader": "nautilus"}
"""Each with the module of `support` that runs it."""
DISTRIBUTIONS = {"backtrader": "backtrader", "backtesting.py": "backtesting", "NautilusTrader": "nautilus_trader"}
CASH = 10_000_000
SERIES = {
    each: name for name, chosen in (("minutes", MINUTES), ("sessions", SESSIONS), ("days", DAYS)) for each in chosen
}


@cache
def bars_of(series):
    """The bars of each symbol."""
    return getattr(field_bars, series)()


@cache
def rows():
    """All bars, as the peers get them."""
    columns = ["open", "high", "low", "close", "volume"]
    return {
        series: {
            symbol: [
                [at // 10**9, *values]
                for at, values in zip(
                    bars.index.as_unit("ns").asi8.tolist(), bars[columns].to_numpy().tolist(), strict=True
                )
            ]
            for symbol, bars in bars_of(series).items()
        }
        for series in dict.fromkeys(SERIES.values())
    }


def digest(values):
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def merged(fills):
    """Fills ``[bar, symbol, side, units, price]`` in order; those of one bar, side and price are one: two orders may be one trade."""
    units = Counter()
    for number, symbol, side, quantity, price in fills:
        units[number, symbol, side, price] += quantity
    return [
        [number, symbol, side, units[number, symbol, side, price], price]
        for number, symbol, side, price in sorted(units)
    ]


def worth(fills, series):
    """The account after all fills, with what is held at the last close."""
    cash, held = CASH, Counter()
    for _, symbol, side, quantity, price in fills:
        sign = 1 if side == "buy" else -1
        cash -= sign * quantity * price
        held[symbol] += sign * quantity
    return cash + sum(units * bars_of(series)[symbol]["close"].iloc[-1] for symbol, units in held.items())


@cache
def backtested(strategy, margin="1"):
    """Our fills, each with the type of its order, and the equity."""
    bars = bars_of(SERIES[strategy])
    frame = pd.concat([each.assign(symbol=symbol) for symbol, each in bars.items()]).rename_axis("event_ts")
    terms = {"*": {"asset_class": "crypto", "quantity_step": "1", "tick_size": "0.25", "margin": margin}}
    done = backtest(strategy, frame, cash=CASH, broker={}, instruments=terms)
    assert done.totals.failures == done.totals.denials == {}
    types = {row["client_order_id"]: str(row["order_type"]) for row in done.audit.orders(done.account)}
    place = {symbol: each.index.as_unit("ns").asi8.tolist().index for symbol, each in bars.items()}
    fills = [
        (
            [
                place[fill["symbol"]](fill["event_ts"]),
                fill["symbol"],
                str(fill["side"]),
                int(fill["quantity"]),
                float(fill["price"]),
            ],
            types[fill["client_order_id"]],
        )
        for fill in done.fills()
    ]
    return fills, float(done.result.final_equity)


def ours(strategy, margin="1"):
    return merged(fill for fill, _ in backtested(strategy, margin)[0])


def at_the_close_before(strategy):
    """Our fills, if a market order was filled at the price that was known when it came."""
    closes = {symbol: bars["close"].tolist() for symbol, bars in bars_of(SERIES[strategy]).items()}
    return merged(
        [fill[0] - 1, *fill[1:4], closes[fill[1]][fill[0] - 1]] if kind == "market" else fill
        for fill, kind in backtested(strategy)[0]
    )


RULE_1 = "[1](fills.md#the-rules-and-why)", at_the_close_before
OTHERS = {
    ("NautilusTrader", SmaCross): RULE_1,
    ("NautilusTrader", LimitAtADiscount): RULE_1,
    ("NautilusTrader", BracketBreakout): RULE_1,
    ("NautilusTrader", StopBehindCloses): RULE_1,
    ("backtrader", TrailingStop): ("[11](fills.md#the-rules-and-why)", lambda _: ours(StopBehindCloses)),
    ("backtrader", DualMomentum): ("[buying power](risk.md#buying-power)", partial(ours, margin="0.5")),
}
"""Where a peer fills otherwise: the rule, and what our fills would be by the peer's."""


def recorded():
    return json.loads(RECORD.read_text(encoding="utf-8"))


def fills_there(peer, strategy):
    """What a peer's fills are by our rules, or by its own where they are stated to be others."""
    _, fills = OTHERS.get((peer, strategy), ("", ours))
    return fills(strategy)


def entry(fills, equity):
    return {"fills": len(fills), "equity": f"{equity:.2f}", "digest": digest(fills)}


@pytest.mark.proof
@pytest.mark.skipif(not RIVALS.exists(), reason="the peers are not installed (make .venv-rivals/stamp)")
@pytest.mark.parametrize("peer", PEERS)
def test_what_is_recorded_is_what_they_do(peer):
    """Each peer is run: its fills are those that we expect of it, and the record says the same."""
    script = SUPPORT / f"run_{PEERS[peer]}.py"
    done = subprocess.run([RIVALS, script], input=json.dumps(rows()), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {name: (merged(fills), equity) for name, (fills, equity) in json.loads(done.stdout).items()}
    version = f"from importlib.metadata import version; print(version('{DISTRIBUTIONS[peer]}'))"
    asked = subprocess.run([RIVALS, "-c", version], capture_output=True, text=True, check=True)
    made = {"version": asked.stdout.strip(), "strategies": {name: entry(*each) for name, each in found.items()}}
    if IS_RENEWED:
        record = recorded() if RECORD.exists() else {}
        record |= {"bars": digest(rows()), peer: made}
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for strategy in SERIES:
        if strategy.__name__ in found:
            assert found[strategy.__name__][0] == fills_there(peer, strategy), strategy.__name__
    assert recorded()[peer] == made


@pytest.mark.parametrize(
    "strategy", [pytest.param(each, marks=pytest.mark.proof if issubclass(each, Rule) else ()) for each in SERIES]
)
def test_fills_and_equity_are_those_of_the_peers(strategy):
    """Every fill at the same bar, side, size and price, and the account to the cent; or those that a stated rule leads to."""
    record, compared = recorded(), 0
    assert record["bars"] == digest(rows()), "the bars are others than those that the peers had"
    assert f"{backtested(strategy)[1]:.2f}" == f"{worth(ours(strategy), SERIES[strategy]):.2f}"
    for peer in PEERS:
        if strategy.__name__ in record[peer]["strategies"]:
            fills = fills_there(peer, strategy)
            assert record[peer]["strategies"][strategy.__name__] == entry(fills, worth(fills, SERIES[strategy])), peer
            compared += 1
    assert compared


def shown(peer, strategy, record):
    """A cell: ``=``, or the peer's equity and the rule; empty where the peer is not asked."""
    theirs = record[peer]["strategies"].get(strategy.__name__)
    if theirs is None:
        return ""
    rule, _ = OTHERS.get((peer, strategy), ("", None))
    return f"{float(theirs['equity']):,.2f}: {rule}" if rule else "="


@pytest.mark.proof
def test_page_says_what_came_out():
    """A row for each strategy; `=` where all fills and the equity are the same."""
    record, lines = recorded(), []
    for strategy in SERIES:
        fills, equity = backtested(strategy)
        cells = [shown(peer, strategy, record) for peer in PEERS]
        lines.append(
            (
                f"`{strategy.__name__}`",
                strategy.__doc__.splitlines()[0].strip("."),
                str(len(fills)),
                f"{equity:,.2f}",
                *cells,
            )
        )
    peers = [f"{peer} {record[peer]['version']}" for peer in PEERS]
    has_blocks(PAGE, {"peers": table(("strategy", "what it does", "fills", "equity here", *peers), *lines)})
    assert len(lines) >= 20
    assert all(name in text_of(PAGE) for name in ("test_against_peers.py", "run_backtrader.py"))
