"""Random reloads while trading: whatever is applied, the books add up."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples

HEAD = """
version: 1
mode: {mode}
pipelines:
  trading:
    source: {{use: replay}}
    stages: [{{use: microbars}}]
    broker: {{use: simulated, params: {{latency_ms: {latency}}}}}
strategies:
"""

ENTRIES = st.fixed_dictionaries(
    {
        "symbols": st.sampled_from(["[ES]", "[BTC/USD]", "[ES, BTC/USD]"]),
        "on_remove": st.sampled_from(["freeze", "flatten", "handover"]),
        "enabled": st.sampled_from(["true", "true", "true", "false"]),
        "base_timeframe": st.sampled_from(["1Min", "1Min", "5Min"]),
        "params": st.sampled_from(
            ["{}", "{every: 2}", "{quantity: 3}", "{warmup: 3}", "{fail: raise}", "{every: 2, warmup: 2}", "{evry: 1}"]
        ),
    }
)
CATALOGS = st.dictionaries(st.sampled_from("abcd"), ENTRIES, max_size=4)
STEPS = st.lists(
    st.tuples(CATALOGS, st.integers(0, 3), st.booleans(), st.sampled_from(["sync", "sync", "merge"])), max_size=6
)


def text_of(catalog, latency, mode="sync"):
    lines = [
        f"  - {{name: {name}, use: flip, {', '.join(f'{key}: {value}' for key, value in entry.items())}}}\n"
        for name, entry in catalog.items()
    ]
    head = HEAD.format(mode=mode, latency=latency)
    return head + "".join(lines) if lines else head.replace("strategies:\n", "")


def check_books(loop):
    """The strategies' positions add up to the broker's, and each context counts its open orders."""
    engine = loop.engine
    theirs = {symbol: held.quantity for symbol, held in engine.generation.broker.positions().items()}
    ours, open_units = {}, {}
    for (_, symbol), position in engine.books.positions.items():
        ours[symbol] = ours.get(symbol, Decimal(0)) + position.quantity
    assert {symbol: held for symbol, held in ours.items() if held} == {
        symbol: held for symbol, held in theirs.items() if held
    }
    for working in engine.books.working.values():
        key = working.context.strategy_id, working.context.symbol
        open_units[key] = open_units.get(key, Decimal(0)) + working.open_quantity
    contexts = engine.books._contexts
    assert {key: context.working for key, context in contexts.items() if context.working} == {
        key: units for key, units in open_units.items() if units
    }
    for name, state in engine.roster.states().items():
        assert (state == "quarantined") == (name in engine.roster.quarantined)


@examples(150)
@given(first=CATALOGS, steps=STEPS, latency=st.sampled_from([0, 90_000]))
def test_books_add_up_whatever_is_applied(live_of, first, steps, latency):
    """Strategies are added, removed and disabled, fail and hand over, with open orders: no unit is lost or doubled."""
    first = {name: entry | {"params": "{}"} for name, entry in first.items()}
    loop = live_of(text_of(first, latency))
    loop.trade(2)
    for catalog, minutes, releases, mode in steps:
        status = loop.apply(text_of(catalog, latency, mode), releases=releases)
        assert status.is_good == ("{evry: 1}" not in [entry["params"] for entry in catalog.values()])
        check_books(loop)
        if minutes:
            loop.trade(minutes)
        check_books(loop)
        if mode == "sync" and status.is_good:
            assert {name for name, state in loop.engine.roster.states().items() if state != "closing"} == set(catalog)
